"""The picture of gains: √gain of every site beside the measured 1/midpoint, on a log scale."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wn.walking.pictures.panels import Line, by_category
from wn.walking.pictures.plots import in_words


def figure(table: NDArray[Any]) -> Figure:
    """Return √gain by site, and 1/midpoint times one constant with its interval where there is one.

    table: as `Gained.table`. The bars of gains are one standard error over images.
    """
    names = [f"{row['site']} {row['site_name']}" for row in table]
    c, sites = np.sqrt(table["gain"]), np.arange(len(table), dtype=float)
    error = _relative_error(table) * c / 2
    lines = {"√gain": Line(sites, c, c - error, c + error)}
    there = np.isfinite(table["scaled"])
    if there.any():
        k = (table["scaled"] * table["midpoint"])[there]
        with np.errstate(divide="ignore"):
            ends = [k / table[name][there] for name in ("ci_high", "ci_low")]
        lines["1/midpoint, times one constant"] = Line(sites[there], table["scaled"][there], *ends)
    title = ", ".join(in_words(*table[["dataset", "model", "batch_norm", "noise"]][0].tolist()))
    return by_category({title: lines}, names, "noise of the margin per σ", log_y=True)


def _relative_error(table: NDArray[Any]) -> NDArray[np.float64]:
    """The larger of the relative errors of both kinds: that of no other noise is larger."""
    with np.errstate(divide="ignore", invalid="ignore"):
        both = [table[f"{kind}_error"] / table[kind] for kind in ("additive", "multiplicative")]
    return np.asarray(np.nan_to_num(np.maximum(*both)))
