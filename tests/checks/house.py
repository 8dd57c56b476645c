"""Count the parts of the package and the imports between them, and draw them:

    python -m tests.checks.house [--picture docs/developers/house.svg]

A part is a file or folder of wn/; an arrow says that one imports another. Prints the parts from the top down.
The picture shows no arrows to the ground, on which everything stands.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.test_imports import ORDER, Arrows, arrows, circle, house

FOLDER = "wn"
GROUND = 1  # floors on which everything stands
SPREAD, SHIFT, HEIGHT = 2.2, 1.0, 0.4  # between the boxes of a floor, of every other floor; of a box


def floors(folder: str = FOLDER) -> list[list[str]]:
    """The parts of a folder, floor by floor from the ground up."""
    return [row.split() for row in ORDER[folder]]


def back(pairs: Arrows, folder: str = FOLDER) -> list[tuple[str, str]]:
    """Arrows that do not point down."""
    level = {part: number for number, row in enumerate(floors(folder)) for part in row}
    return [(part, other) for part, other in pairs if level[other] >= level[part]]


def places(rows: Sequence[Sequence[str]]) -> dict[str, tuple[float, float]]:
    """The middle of each box: parts of a floor side by side, every other floor moved to the right."""
    return {
        part: (SPREAD * (place - (len(row) - 1) / 2) + SHIFT * (number % 2), float(number))
        for number, row in enumerate(rows)
        for place, part in enumerate(row)
    }


def draw(pairs: Arrows, path: Path) -> None:
    """Draw boxes and arrows as SVG; the same bytes for the same imports."""
    matplotlib.rcParams["svg.hashsalt"] = "wn"
    ground = [part for row in floors()[:GROUND] for part in row]
    rows = [[", ".join(ground)], *floors()[GROUND:]]
    at = places(rows)
    figure = Figure(figsize=(7, 0.9 * len(rows)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for part, other in sorted(pairs):
        if other not in ground and part in at:
            _arrow(axes, at[part], at[other])
    for part, (x, y) in at.items():
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "0.2"}
        axes.text(x, y, part, ha="center", va="center", fontsize=11, bbox=box)
    axes.set_xlim(-3.4, 3.4 + SHIFT)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow from the foot of a box to the head of another; long ones bend around what lies between."""
    bend = -0.18 if start[1] - end[1] > 1 else 0.0
    style = {"arrowstyle": "->", "color": "0.55", "lw": 0.9, "connectionstyle": f"arc3,rad={bend}"}
    axes.annotate("", (end[0], end[1] + HEIGHT / 2), (start[0], start[1] - HEIGHT / 2), arrowprops=style)


def main() -> int:
    """Print the parts, the number of arrows, and what is wrong with them; exit code 1 if anything is."""
    parser = argparse.ArgumentParser(prog="python -m tests.checks.house", description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path, help="where to draw them, as SVG")
    chosen = parser.parse_args()
    pairs = arrows(FOLDER, house())
    for row in reversed(floors()):
        for part in row:
            print(f"{part:10} → {', '.join(sorted(other for one, other in pairs if one == part))}")
    wrong = back(pairs), circle(pairs)
    print(
        f"{sum(map(len, floors()))} parts, {len(pairs)} arrows, {len(wrong[0])} back up, circles: {wrong[1]}"
    )
    if chosen.picture:
        draw(pairs, chosen.picture)
    return int(any(wrong))


if __name__ == "__main__":
    sys.exit(main())
