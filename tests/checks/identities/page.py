"""The blocks and pictures of the page, made of the committed tables."""

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from wn.walking.pictures.drawing import bytes_of
from wn.walking.pictures.panels import Line, by_category, lines

PAGE = Path(__file__).parents[3] / "docs" / "theory" / "identities.md"
TABLES = PAGE.parent / "tables"
BLOCK = re.compile(r"(<!-- made: (\S+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

Pictures = dict[str, bytes]


def kept(name: str) -> list[dict[str, str]]:
    """The rows of a committed table."""
    with (TABLES / f"identities.{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def slope_table(name: str, pictures: Pictures) -> str:
    """Measured slope, and the shares of it that theory gives."""
    several = {row["site"] for row in kept(name)} != {"input"}
    columns = [
        "network",
        *(["site", "noise"] if several else ["images"]),
        "σ",
        "measured",
        "trace alone",
        "with kinks",
    ]
    rows = []
    for row in kept(name):
        measured, error, trace, kinks = (float(row[k]) for k in ("measured", "error", "trace", "kinks"))
        where = [row["site"], row["noise"]] if several else [row["images"]]
        shares = (f"{part / measured:.3f}" for part in (trace, trace + kinks))
        rows.append(
            [row["network"], *where, f"{float(row['sigma']):.3g}", f"{measured:.4g} ± {error:.2g}", *shares]
        )
    return markdown(columns, rows)


def slope_picture(name: str, pictures: Pictures) -> str:
    """Measured rise over σ against σ, and theory's."""
    panels: dict[str, dict[str, Line]] = {}
    for row in kept(name):
        panels.setdefault(f"{row['network']}, {row['images']} images", {})
    for title, panel in panels.items():
        rows = [r for r in kept(name) if f"{r['network']}, {r['images']} images" == title]
        values = {
            key: np.array([float(r[key]) for r in rows])
            for key in ("sigma", "measured", "error", "trace", "kinks")
        }
        sigma, measured, error = values["sigma"], values["measured"], values["error"]
        panel["measured"] = Line(sigma, measured, measured - 2 * error, measured + 2 * error)
        panel["trace and kinks"] = Line(sigma, values["trace"] + values["kinks"])
        panel["trace alone"] = Line(sigma, values["trace"])
    figure = lines(panels, "noise level σ at the input", "(E L − L)/σ²", log_y=True, width=4.5)
    return picture(
        figure, f"identities-{name}", "Rise of the loss per σ²: measured, and theory for small σ", pictures
    )


def site_picture(name: str, pictures: Pictures) -> str:
    """The shares of the measured slope, by site."""
    text = []
    for title in dict.fromkeys(row["network"] for row in kept(name)):
        rows = [row for row in kept(name) if row["network"] == title and row["noise"] != "weights"]
        places = list(dict.fromkeys(row["site"] for row in rows))
        panels = {}
        for kind in ("additive", "multiplicative"):
            of = {row["site"]: row for row in rows if row["noise"] == kind}
            x = np.arange(len(places), dtype=float)
            shares = {
                label: np.array(
                    [sum(float(of[s][k]) for k in keys) / float(of[s]["measured"]) for s in places]
                )
                for label, keys in (("trace alone", ["trace"]), ("trace and kinks", ["trace", "kinks"]))
            }
            bars = np.array([2 * float(of[s]["error"]) / abs(float(of[s]["measured"])) for s in places])
            panels[f"{title}, {kind}"] = {
                label: Line(x, y, y * (1 - bars), y * (1 + bars)) for label, y in shares.items()
            }
        figure = by_category(panels, places, "theory / measured", level=1)
        short = re.sub(r"\W+", "-", title.lower())
        text.append(
            picture(
                figure, f"identities-{name}-{short}", f"Theory over measurement by site: {title}", pictures
            )
        )
    return "\n\n".join(text)


def smoothed_table(name: str, pictures: Pictures) -> str:
    """Traces of networks trained under noise."""
    columns = [
        "trained under σ",
        "test accuracy, clean",
        "test loss, clean",
        "trace, additive",
        "trace, multiplicative",
    ]
    rows = [
        [row["sigma"], f"{float(row['accuracy']):.3f}", *(f"{float(row[k]):.3g}" for k in list(row)[2:])]
        for row in kept(name)
    ]
    return markdown(columns, rows)


def gradient_table(name: str, pictures: Pictures) -> str:
    """Signal and noise of gradients."""
    columns = ["epochs", "noise", "site", "σ", "batch", "signal", "images", "draws", "signal/noise"]
    keys = ("signal", "images", "draws", "ratio")
    return markdown(
        columns,
        [
            [
                *(row[k] for k in ("epochs", "noise", "site", "sigma", "batch")),
                *(f"{float(row[k]):.3g}" for k in keys),
            ]
            for row in kept(name)
        ],
    )


def pathwise_table(name: str, pictures: Pictures) -> str:
    """The slope of the expected loss, and mean gradients."""
    columns = ["noise", "slope of E L", "shared draws", "z", "fresh draws", "z"]
    rows = []
    for row in kept(name):
        values = {key: float(value) for key, value in row.items() if key != "noise"}
        cells = [row["noise"], f"{values['slope']:.5f}"]
        for draws in ("shared", "fresh"):
            mean, error = values[draws], values[f"{draws}_error"]
            cells += [f"{mean:.5f} ± {error:.5f}", f"{(mean - values['slope']) / error:+.1f}"]
        rows.append(cells)
    return markdown(columns, rows)


BLOCKS: dict[str, Callable[[str, Pictures], str]] = {
    f.__name__: f
    for f in (slope_table, slope_picture, site_picture, smoothed_table, gradient_table, pathwise_table)
}


def picture(figure: Figure, name: str, caption: str, pictures: Pictures) -> str:
    """Keep a picture, and return its line in Markdown."""
    pictures[f"{name}.png"] = bytes_of(figure, "png")
    return f"![{caption}]({name}.png)"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows))


def made() -> tuple[str, Pictures]:
    """The page with its blocks made anew, and its pictures."""
    pictures: Pictures = {}

    def block(found: re.Match[str]) -> str:
        head, kind, name, end = found.groups()
        return f"{head}\n{BLOCKS[kind](name, pictures)}\n\n{end}"

    return BLOCK.sub(block, PAGE.read_text(encoding="utf-8")), pictures
