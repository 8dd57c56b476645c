"""What `wn gains` prints: gains by site, the map of repetitions, and what gains do not say."""

import math

import numpy as np
from rich.console import Console
from rich.text import Text

from wn.cli.plain import PlainTable, printable
from wn.walking.gains.gained import Gained

CANNOT = (
    "Gains say which sites want repetitions, not how much noise the network tolerates: "
    "midpoints guessed from gains alone were 35 % to four times too high."
)
_OFF = "; off: 1/midpoint, times one constant for all sites, against c"


def print_gains(console: Console, found: Gained) -> None:
    """Print a row for each site, and beside gains the midpoints if there are some."""
    rows, run = found.table, found.run
    first, measured = rows[0], bool(np.isfinite(rows["scaled"]).any())
    networks = f"{run['networks']} networks, " if run["networks"] > 1 else ""
    kinds = ("additive", "multiplicative")
    error = max(np.nanmax(rows[f"{kind}_error"] / rows[kind]) for kind in kinds)
    table = PlainTable(
        title=f"Gains c²: {first['dataset']}, {first['model']}, batch norm {first['batch_norm']}",
        caption=f"{networks}{run['images']} images, standard errors up to {100 * error:.0f} %; share and R: "
        f"of {first['noise']} noise, {run['budget']} executions{_OFF if measured else ''}",
    )
    table.add_numbers("site")
    table.add_column("name")
    table.add_numbers("additive", "multiplicative", "share", "R")
    if measured:
        table.add_numbers("midpoint", "off")
    for row in rows:
        both = (f"{row[kind]:.3g}" for kind in kinds)
        cells = [str(row["site"]), printable(row["site_name"]), *both]
        cells += [f"{100 * row['share']:.1f} %", str(row["repetitions"])]
        table.add_row(*cells, *(_beside(row) if measured else []))
    console.print(table)
    flag = ",".join(map(str, found.repetitions))
    console.print(Text(f"Repetitions: wn walk --where global -R {flag}"), soft_wrap=True)
    console.print(Text(CANNOT))


def _beside(row: np.void) -> list[str]:
    """The midpoint, and by how much 1/midpoint, times the one constant, is above √gain."""
    if not math.isfinite(row["midpoint"]) or not row["gain"]:
        return ["not reached" if not math.isfinite(row["midpoint"]) else f"{row['midpoint']:.3g}", ""]
    above = row["scaled"] / math.sqrt(row["gain"]) - 1
    return [f"{row['midpoint']:.3g}", f"{100 * above:+.0f} %"]
