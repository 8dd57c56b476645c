"""The pictures of a walk on axes of the user's own."""

from typing import Any

from wn.basics.errors import WnError
from wn.walking.pictures import plots

KINDS = ("midpoints", "curves")


def draw(tables: plots.Tables, kind: str, phase: str | None, ax: Any) -> Any:
    """Draw midpoints by site, or the curves of a phase, on axes, or on new ones of pyplot; return them."""
    if kind not in KINDS:
        raise WnError(f"kind is {kind!r}: allowed are {', '.join(KINDS)}")
    there = list(dict.fromkeys([*tables.curves["phase"].tolist(), *tables.failures["phase"].tolist()]))
    if phase is not None and (kind == "midpoints" or phase not in there):
        allowed = "none, since midpoints are of all" if kind == "midpoints" else ", ".join(there)
        raise WnError(f"phase is {phase!r}: allowed are {allowed}")
    if ax is None:
        from matplotlib import pyplot  # which a notebook shows; pictures on disk do without

        _, ax = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    if not hasattr(ax, "errorbar"):
        raise WnError(f"ax is {type(ax).__name__}: it must be axes of Matplotlib")
    if kind == "midpoints":
        plots.midpoints_on(ax, tables)
    else:
        plots.curves_on(ax, tables, phase or there[0])
    return ax
