"""The pages of the claims: their tables and pictures are made of committed tables, by this script alone.

    python -m tests.checks.claim_pages gather STUDY NAME    # a finished study → docs/claims/tables/NAME.*.csv
    python -m tests.checks.claim_pages                      # tables → pictures and blocks of docs/claims/*.md
    python -m tests.checks.claim_pages --check              # exit code 1 if a page is not up to date

A block of a page stands between `<!-- made: KIND NAME … -->` and `<!-- end -->`: KIND is a function below,
NAME a study whose tables were gathered. Pictures carry digests of what they show (`drawn.py`).
"""

import argparse
import csv
import math
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tests.checks.claims import CLAIMS, Rows, interval, number, tables_of
from tests.checks.drawn import Drawn, drawn
from wn.study.report.budgets import lowest_shown
from wn.study.tables.export import export
from wn.walking.pictures.panels import Line, by_category, lines

PAGES = Path(__file__).parents[2] / "docs" / "claims"
TABLES = PAGES / "tables"
BLOCK = re.compile(r"(<!-- made: (\S+) (\S+)([^\n]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
KEPT = {  # columns that the pages need
    "midpoints": (
        "model batch_norm clamp_weights noise ratio phase site site_name midpoint ci_low ci_high reason "
        "clean_accuracy repeats"
    ),
    "results": (
        "key model batch_norm clamp_weights noise phase site site_name label repetitions sigma repeat "
        "correct total accuracy"
    ),
    "weights": "key layer epoch at_bound relative_norm",
    "binarisation": "key place zeros decided spread bimodality pattern signs",
}
MODELS = {"mlp-64": "MLP", "lenet5": "LeNet-5"}
BATCH_NORM = {"none": "without batch norm", "sites": "with batch norm"}
PHASES = {"inference": "trained clean", "training": "trained under the noise", "clean": "clean"}
CLAMPED = {"false": "", "true": ", weights clamped"}


# ---- from a study to tables -----------------------------------------------------------------------------


def gather(study: Path, name: str) -> None:
    """Keep what the pages need of a study's tables: of weights the last epoch, keys as numbers."""
    with tempfile.TemporaryDirectory() as folder:
        export(study, folder, tables=list(KEPT))
        found = tables_of(Path(folder))
    short = {row["key"]: str(place) for place, row in enumerate(found["results"])}
    last = max((int(row["epoch"]) for row in found["weights"]), default=0)
    found["weights"] = [row for row in found["weights"] if int(row["epoch"]) == last]
    TABLES.mkdir(parents=True, exist_ok=True)
    for table, columns in KEPT.items():
        rows = [row | {"key": short.get(row.get("key", ""), "")} for row in found[table]]
        path = TABLES / f"{name}.{table}.csv"
        path.unlink(missing_ok=True)
        if rows:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns.split(), extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows({key: _short(value) for key, value in row.items()} for row in rows)


def _short(text: str) -> str:
    """A number with six digits."""
    try:
        return f"{float(text):.6g}" if "." in text or "e" in text else text
    except ValueError:
        return text


def gathered(name: str) -> dict[str, Rows]:
    """The kept tables of a study."""
    found: dict[str, Rows] = {table: [] for table in KEPT}
    for table in KEPT:
        path = TABLES / f"{name}.{table}.csv"
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                found[table] = list(csv.DictReader(file))
    return found


# ---- blocks ---------------------------------------------------------------------------------------------


def network(row: dict[str, str]) -> str:
    """A network in words."""
    return f"{MODELS[row['model']]} {BATCH_NORM[row['batch_norm']]}{CLAMPED[row['clamp_weights']]}"


def midpoints(name: str, page: "Page", *_: str) -> str:
    """A picture and a table of midpoints by site for each network and noise, clean and trained under it."""
    groups: dict[str, dict[str, dict[str, dict[str, str]]]] = defaultdict(lambda: defaultdict(dict))
    for row in gathered(name)["midpoints"]:
        if row["site"] != "-1":
            title = f"{network(row)}, {row['noise']} noise"
            groups[title][f"{row['site']} {row['site_name']}"][row["phase"]] = row
    text = []
    for number_of, (title, sites) in enumerate(groups.items()):
        panel = {}
        for phase in dict.fromkeys(phase for phases in sites.values() for phase in phases):
            rows = [phases.get(phase) for phases in sites.values()]
            panel[PHASES[phase]] = _points(rows, "midpoint", "ci_low", "ci_high")
        what = ({title: panel}, list(sites), "midpoint noise level σ")
        file, caption = f"{name}-midpoints-{number_of}", f"Midpoints: {title}"
        text.append(page.picture(file, caption, by_category, *what, log_y=True))
        columns = ["site", *(PHASES[phase] for phase in next(iter(sites.values())))]
        text.append(
            _table(columns, [[site, *map(_midpoint, phases.values())] for site, phases in sites.items()])
        )
    return "\n\n".join(text)


def _points(rows: Sequence[dict[str, str] | None], *columns: str) -> Line:
    """Values with intervals; ends that are open, 0 and infinite, are left out."""
    values = [[math.nan if row is None else number(row, name) for name in columns] for row in rows]
    y, low, high = np.array(values).T
    low, high = np.where(low > 0, np.fmin(low, y), y), np.where(np.isfinite(high), np.fmax(high, y), y)
    return Line(np.arange(len(rows), dtype=float), y, low, high)


def _midpoint(row: dict[str, str]) -> str:
    if not row["midpoint"]:
        return f"not reached: {row['reason']}"
    return f"{number(row, 'midpoint'):.3g} [{number(row, 'ci_low'):.3g}, {number(row, 'ci_high'):.3g}]"


def growth(name: str, page: "Page", *_: str) -> str:
    """A picture of ‖w‖ relative to the clean twin against σ, by site of the noise and layer."""
    tables = gathered(name)
    units = {row["key"]: row for row in tables["results"]}
    found: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list))))
    for row in tables["weights"]:
        unit = units[row["key"]]
        if unit["phase"] == "training":
            site = f"{unit['site']} {unit['site_name']}"
            found[network(unit)][site][row["layer"]][float(unit["sigma"])].append(
                number(row, "relative_norm")
            )
    text = []
    for number_of, (title, sites) in enumerate(found.items()):
        panels = {site: {layer: _band(levels) for layer, levels in of.items()} for site, of in sites.items()}
        what = (panels, "noise level σ", "‖w‖ / clean ‖w‖")
        file, caption = f"{name}-growth-{number_of}", f"Growth of weights: {title}"
        text.append(page.picture(file, caption, lines, *what, log_y=True, level=1))
    return "\n\n".join(text)


def _band(levels: dict[float, list[float]]) -> Line:
    sigma = sorted(levels)
    mean, low, high = (np.array([of(levels[s]) for s in sigma]) for of in (np.mean, np.min, np.max))
    return Line(np.array(sigma), mean, low, high)


def singles(name: str, page: "Page", *_: str) -> str:
    """Accuracy at the one σ of each site: mean and interval over repeats."""
    groups: Any = defaultdict(lambda: defaultdict(list))
    for row in gathered(name)["results"]:
        groups[network(row)][f"{row['site']} {row['site_name']}"].append(number(row, "accuracy"))
    text = []
    for number_of, (title, sites) in enumerate(groups.items()):
        clean = sites.pop("-3 clean")
        found = {site: interval(values) for site, values in sites.items()}
        values = np.array(list(found.values())).T
        line = Line(np.arange(len(found), dtype=float), *values)
        what = ({title: {"under the noise": line}}, list(found), "accuracy")
        file, caption = f"{name}-accuracy-{number_of}", f"Accuracy: {title}; dotted: clean"
        text.append(page.picture(file, caption, by_category, *what, level=float(np.mean(clean))))
        rows = [["clean", _interval(interval(clean))], *([site, _interval(x)] for site, x in found.items())]
        text.append(_table(["noise at", "accuracy [95 %]"], rows))
    return "\n\n".join(text)


def clamped(name: str, page: "Page", *_: str) -> str:
    """Accuracy under the noise of training with free and with clamped weights, at each σ of both."""
    found: Any = defaultdict(lambda: defaultdict(list))
    for row in gathered(name)["results"]:
        if row["phase"] == "training":
            key = f"{row['site']} {row['site_name']}", float(row["sigma"])
            found[key][row["clamp_weights"]].append(number(row, "accuracy"))
    rows = [
        [site, f"{sigma:.3g}", *(_interval(interval(kinds[kind])) for kind in ("false", "true"))]
        for (site, sigma), kinds in sorted(
            found.items(), key=lambda item: (int(item[0][0].split()[0]), item[0][1])
        )
        if len(kinds) == 2
    ]
    return _table(["noise at", "σ", "free: accuracy [95 %]", "clamped"], rows)


def binarisation(name: str, page: "Page", *_: str) -> str:
    """What becomes binary: of activations at each site, clean and after training under the noise there."""
    tables = gathered(name)
    units = {row["key"]: row for row in tables["results"]}
    names = ("zeros", "decided", "spread", "bimodality", "pattern", "signs")
    found: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in tables["binarisation"]:
        unit = units[row["key"]]
        values = [number(row, column) for column in names]
        found[network(unit)][row["place"]][unit["phase"]].append([number(unit, "accuracy"), *values])
    text = []
    for title, places in found.items():
        rows = []
        for place, phases in places.items():
            if place.endswith(".weight"):
                continue
            for phase, values in sorted(phases.items()):
                means = np.mean(values, axis=0)
                rows.append([place, PHASES[phase], *("" if math.isnan(x) else f"{x:.3f}" for x in means)])
        columns = [
            "site",
            "network",
            "accuracy",
            "zeros",
            "decided pairs",
            "spread",
            "bimodality",
            "pattern",
            "signs",
        ]
        text.append(f"**{title}**\n\n{_table(columns, rows)}")
    return "\n\n".join(text)


def budgets(name: str, page: "Page", *_: str) -> str:
    """Accuracy against budget: differences of the schemes to uniform, in points, in pairs by repeat."""
    sites = {"sites": 11, "none": 8}
    found: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in gathered(name)["results"]:
        numbers = [int(n) for n in row["repetitions"].split()] if row["label"] else []
        total = numbers[0] * sites[row["batch_norm"]] if len(numbers) == 1 else sum(numbers)
        for label in filter(None, row["label"].split(", ")):
            found[network(row)][label][total].append(number(row, "accuracy"))
    panels: dict[str, dict[str, Line]] = defaultdict(dict)
    tables = []
    for title, schemes in found.items():
        others = sorted(
            (label for label in schemes if label != "uniform"), key=lambda label: (label != "optimal", label)
        )
        points = {label: _to_uniform(schemes[label], schemes["uniform"]) for label in others}
        budget = np.array(sorted(schemes["uniform"]), dtype=float)
        for label, of_scheme in points.items():
            panels[title][label] = Line(
                budget, np.array([of_scheme[total][0] for total in sorted(of_scheme)])
            )
        rows = [
            [total, f"{np.mean(schemes['uniform'][total]):.4f}", *(_signed(points[x][total]) for x in others)]
            for total in sorted(schemes["uniform"])
        ]
        tables.append(f"**{title}**\n\n{_table(['budget', 'uniform: accuracy', *others], rows)}")
    what = (panels, "budget: executions of all sites", "difference to uniform, points")
    caption = "Accuracy against budget, relative to uniform repetitions; what is far worse runs off"
    options = {"log_x": True, "level": 0, "width": 5.5, "lowest": lowest_shown(panels)}
    picture = page.picture(f"{name}-budgets", caption, lines, *what, **options)
    return "\n\n".join([picture, *tables])


def _to_uniform(scheme: Any, uniform: Any) -> dict[int, tuple[float, float, float]]:
    """Differences of accuracies at equal budget in points: mean and interval over pairs by repeat."""
    return {
        total: interval(100 * (a - b) for a, b in zip(values, uniform[total], strict=True))
        for total, values in scheme.items()
    }


def _signed(values: tuple[float, float, float]) -> str:
    mean, low, high = values
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def findings(name: str, page: "Page", claim: str = "", *_: str) -> str:
    """What the check of a claim finds in the tables, a line each."""
    found = CLAIMS[claim](gathered(name))
    return "\n".join(f"- {one.word}: {one.text}" for one in found)


def _interval(values: tuple[float, float, float]) -> str:
    mean, low, high = values
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines_of = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in lines_of)


BLOCKS: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (midpoints, growth, singles, clamped, binarisation, budgets, findings)
}


# ---- pages ----------------------------------------------------------------------------------------------


class Page:
    """A page with the pictures that its blocks draw."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pictures: dict[str, Drawn] = {}

    def picture(
        self, name: str, caption: str, draw: Callable[..., Figure], *what: Any, **options: Any
    ) -> str:
        """Keep a picture that a function draws, and return its line in Markdown."""
        self.pictures[f"{name}.png"] = drawn(draw, *what, **options)
        return f"![{caption}]({name}.png)"

    def made(self) -> str:
        """The text of the page with its blocks made anew."""

        def block(found: re.Match[str]) -> str:
            head, kind, name, rest, end = found.groups()
            return f"{head}\n{BLOCKS[kind](name, self, *rest.split())}\n\n{end}"

        return BLOCK.sub(block, self.path.read_text(encoding="utf-8"))


def stale(write: bool) -> list[str]:
    """The pages and pictures that are not what their tables give; with `write` all are made anew."""
    found, of_pages = [], set[str]()
    for path in sorted(PAGES.glob("c*.md")):
        page = Page(path)
        text = page.made()
        if text != path.read_text(encoding="utf-8"):
            found.append(path.name)
        found += [name for name, picture in page.pictures.items() if not picture.is_in(PAGES / name)]
        of_pages |= set(page.pictures)
        if write:
            path.write_text(text, encoding="utf-8")
            for name, picture in page.pictures.items():
                (PAGES / name).write_bytes(picture.png())
    for path in sorted(PAGES.glob("*.png")):
        if path.name not in of_pages:  # of no page any more
            found.append(path.name)
            if write:
                path.unlink()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Gather tables of a study, or make the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("gather", nargs="*", metavar="gather STUDY NAME", help="keep the tables of a study")
    parser.add_argument("--check", action="store_true", help="only say which pages are not up to date")
    chosen = parser.parse_args(arguments)
    if chosen.gather:
        _, study, name = chosen.gather
        gather(Path(study), name)
        return 0
    found = stale(write=not chosen.check)
    for name in found:
        print(f"docs/claims/{name}: {'is not up to date' if chosen.check else 'made, or taken away'}")
    return 1 if found and chosen.check else 0


if __name__ == "__main__":
    sys.exit(main())
