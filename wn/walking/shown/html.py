"""Results as HTML in a notebook: a table, and a picture beside it."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from wn.walking.report.numbers import with_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from wn.walking.pictures.plots import Tables

_WIDTH = 720  # pixels of a picture at most


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; all texts are taken literally."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(_text(cell))}</td>' for cell in row)}</tr>" for row in rows)
    head_and_body = f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>"
    return f"<table><caption>{escape(caption)}</caption>{head_and_body}</table>"


def picture(figure: "Figure", alt: str) -> str:
    """A picture as part of the page."""
    from wn.walking.pictures.drawing import bytes_of  # matplotlib is slow to import and needed here only

    data = b64encode(bytes_of(figure, "png")).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" style="max-width: {_WIDTH}px">'


def of_walk(tables: "Tables") -> str:
    """Midpoints with their intervals, a row for each site and a column for each phase, and their picture."""
    from wn.walking.pictures import plots

    rows = tables.midpoints
    phases = list(dict.fromkeys(rows["phase"].tolist()))
    cells = {
        (int(row["site"]), str(row["phase"])): _midpoint(row, reason)
        for row, reason in zip(rows, tables.reasons, strict=True)
    }
    places = dict.fromkeys(zip(rows["site"].tolist(), rows["site_name"].tolist(), strict=True))
    body = [
        (site if site >= 0 else "", name, *(cells.get((site, phase), "") for phase in phases))
        for site, name in places
    ]
    clean = f"clean accuracy {float(rows['clean_accuracy'][0]):.4f}"
    chance = "" if tables.chance is None else f", chance {tables.chance:.4g}"
    caption = f"Midpoint σ [95 % interval]: {', '.join(tables.words)}; {clean}{chance}"
    head = ("site", "name", *phases)
    return table(caption, head, body) + picture(plots.midpoints_figure(tables), "midpoints by site")


def _midpoint(row: Any, reason: str) -> str:
    if not row["reached"]:
        return f"not reached: {reason}"
    return with_interval(float(row["midpoint"]), float(row["ci_low"]), float(row["ci_high"]))


def _text(cell: Any) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
