"""What all pictures share: figures without pyplot, the style of axes, titles, and files that never change.

Figures are built without changing global settings, so that threads can draw side by side; the same tables
give the same bytes.
"""

import io
import re
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from wn.basics.errors import WnError
from wn.files.outputs import make_folder
from wn.files.whole import whole_file

DOTS_PER_INCH = 150
TEXT, TITLE = 9, 10  # font sizes in points
GREY, RULE, GRID, SHADE = "0.25", "0.45", "0.9", "0.93"  # of words, levels, grid and strips
LEGEND: dict[str, Any] = {"fontsize": TEXT, "title_fontsize": TEXT, "frameon": False}

_METADATA: dict[str, dict[str, None]] = {  # what would carry a date or a version
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
}


def literal(text: str) -> str:
    """Keep dollar signs out of the formula parser."""
    return text.replace("$", r"\$")


def figure_of(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    figure = Figure((width, height), DOTS_PER_INCH, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, x_label: str, y_label: str) -> None:
    """The style of all axes."""
    axes.set_xlabel(x_label, fontsize=TEXT)
    axes.set_ylabel(y_label, fontsize=TEXT)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=TEXT)
    axes.spines[["top", "right"]].set_visible(False)


def bytes_of(figure: Figure, kind: str) -> bytes:
    """The picture as a file of a kind ("png", …): the same bytes each time, but for kinds with a date."""
    options: dict[str, Any] = {"metadata": _METADATA[kind]} if kind in _METADATA else {}
    data = io.BytesIO()
    if kind == "svg":
        _draw_once(figure, data, **options)
        return _stable_ids(data.getvalue())
    figure.savefig(data, format=kind, dpi=DOTS_PER_INCH, facecolor="white", **options)
    return data.getvalue()


def _draw_once(figure: Figure, data: io.BytesIO, **options: Any) -> None:
    """Write what savefig writes as svg, which draws a figure twice: the first time to find its layout."""
    before = figure.canvas, figure.dpi
    try:
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(data, **options)
    finally:
        figure.set_canvas(before[0])
        figure.dpi = before[1]


def save(figure: Figure, path: Path) -> None:
    """Write a picture, whole or not at all, in the format of the suffix; WnError for another suffix."""
    kind = path.suffix.lower().removeprefix(".")
    kinds = figure.canvas.get_supported_filetypes()
    if kind not in kinds:
        allowed = ", ".join(f".{name}" for name in sorted(kinds))
        raise WnError(f"can't draw {path.name}: the suffix must be one of {allowed}")
    data = bytes_of(figure, kind)
    make_folder(path.parent)
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def _stable_ids(svg: bytes) -> bytes:
    """Number the random names in an svg file; matplotlib's own way is a global setting."""
    for number, name in enumerate(dict.fromkeys(re.findall(rb'id="(\w*[0-9a-f]{10})"', svg))):
        svg = re.sub(rb'(?<=["#])' + name + rb'(?=[")])', b"n%d" % number, svg)
    return svg
