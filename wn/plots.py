"""Pictures of a walk: accuracy against σ for every site, and the midpoint of every site.

Figures are built without pyplot and without changing global settings, so that threads can draw side by side;
the same result gives the same bytes. Superscripts are Unicode: matplotlib's formula parser is not thread-safe.
"""

import gzip
import io
import math
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter
from matplotlib.transforms import blended_transform_factory
from numpy.typing import NDArray

from wn.errors import WnError
from wn.midpoint import ALREADY_BELOW, NEVER_FALLS
from wn.results import WalkResult

Floats = NDArray[np.float64]
Rows = NDArray[Any]  # rows of WalkResult.curves or WalkResult.midpoints

DOTS_PER_INCH = 150
TEXT, TITLE = 9, 11  # font sizes in points
GREY, RULE, GRID = "0.25", "0.45", "0.9"  # of levels' names, levels and grid

PHASE_TITLES = {"inference": "noise at inference only", "training": "noise in training and at inference"}
PHASE_COLOURS = {"inference": "#0072B2", "training": "#D55E00"}  # blue and vermillion of Okabe and Ito
PHASE_MARKERS = {"inference": "o", "training": "s"}
BATCH_NORM = {
    "none": "without batch norm",
    "sites": "with batch norm",
    "hidden": "with batch norm (no sites of its own)",
}

# Sites are ordered, so colour says how deep; marker and line say what kind of layer, which also tells
# neighbours apart in greyscale.
DEPTH_COLOURS = "viridis"
LIGHTEST = 0.88  # the rest of the map is too light on white
LAYER_STYLES = {
    "input": ("o", "-"),
    "conv": ("s", "-"),
    "fc": ("s", "-"),
    "bn": ("D", "--"),
    "relu": ("^", "-."),
    "pool": ("v", ":"),
    "avgpool": ("P", ":"),
    "logits": ("X", "-"),
}
OTHER_STYLES = (("o", "-"), ("D", "--"), ("^", "-."), ("v", ":"))

_METADATA: dict[str, dict[str, None]] = {  # what would carry a date or a version
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def plot_curves(result: WalkResult, path: Path) -> None:
    """Draw accuracy against σ, one line per site and one panel per phase, into a file.

    The suffix of `path` chooses the format (.png, .pdf, .svg, …); all but .ps and .eps, which carry the date,
    come out byte for byte the same every time. Raises WnError for another suffix or a result without curves.
    """
    _save(curves_figure(result), path)


def plot_midpoints(result: WalkResult, path: Path) -> None:
    """Draw the midpoint of every site, with its confidence interval, into a file.

    Sites whose midpoint is not reached are hollow arrows at the edge beyond which it lies. Format and errors
    as for `plot_curves`.
    """
    _save(midpoints_figure(result), path)


# --- accuracy against σ ----------------------------------------------------------------------------------


def curves_figure(result: WalkResult) -> Figure:
    """Return the figure of `plot_curves`: the mean over repeats, and a band from the lowest to the highest.

    Clean accuracy, chance and half-way between them are horizontal lines; the last two need `run["chance"]`,
    a number in (0, 1), and are left out without it. Raises WnError if the result has no curves.
    """
    rows = _filled(result.curves, "curves")
    sites, phases = _sites(rows), _phases(rows)
    styles = _line_styles(sites)
    columns = -(-len(sites) // 16)
    legend = columns * (0.75 + 0.075 * max(len(label) for label in sites.values()))
    panel = 4.4 + 0.04 * len(sites)
    figure = _figure(1.6 + len(phases) * panel + legend, 0.6 + panel)
    panels: list[Axes] = list(figure.subplots(1, len(phases), sharey=True, squeeze=False)[0])
    levels = _levels(result)
    for axes, phase in zip(panels, phases, strict=True):
        in_phase = rows[rows["phase"] == phase]
        axes.set_title(_phase_title(phase), fontsize=TEXT + 1)
        _style(axes)
        _sigma_scale(axes, np.unique(in_phase["sigma"]))
        for level, line in levels.values():
            axes.axhline(level, color=RULE, linestyle=line, linewidth=1, zorder=1)
        for index, site in enumerate(sites):
            _draw_curve(axes, in_phase[in_phase["site"] == site], site, index, styles[site])
        axes.set_xlabel("noise level σ", fontsize=TEXT)
    panels[0].set_ylim(-0.02, 1.04)
    panels[0].set_ylabel("accuracy on the test images", fontsize=TEXT)
    _name_levels(panels[-1], {name: level for name, (level, _) in levels.items()})
    handles = [Line2D([], [], **styles[site]) for site in sites]
    figure.legend(
        handles,
        list(sites.values()),
        loc="outside right center",
        ncols=columns,
        title="noise site",
        fontsize=TEXT,
        title_fontsize=TEXT,
        handlelength=3.2,
        frameon=False,
    )
    _head(figure, "Accuracy against noise level", rows, len(np.unique(rows["repeat"])))
    return figure


def _draw_curve(axes: Axes, rows: Rows, site: int, index: int, style: dict[str, Any]) -> None:
    """Draw mean and range over repeats at one site; on dense grids not every point has a marker."""
    sigma, place = np.unique(rows["sigma"], return_inverse=True)
    mean = np.bincount(place, rows["accuracy"]) / np.bincount(place)
    low, high = np.full(sigma.size, np.inf), np.full(sigma.size, -np.inf)
    np.minimum.at(low, place, rows["accuracy"])
    np.maximum.at(high, place, rows["accuracy"])
    if rows.size > sigma.size:
        axes.fill_between(sigma, low, high, color=style["color"], alpha=0.2, linewidth=0, zorder=2)
    every = max(1, sigma.size // 12) if sigma.size > 25 else 1
    marked = slice(index % every, None, every)  # neighbours are marked at different σ
    axes.plot(sigma, mean, **style, markevery=marked, gid=f"site{site}", zorder=3)


def _line_styles(sites: dict[int, str]) -> dict[int, dict[str, Any]]:
    """Return how each site is drawn: colour by depth, marker and line by kind of layer."""
    colours = matplotlib.colormaps[DEPTH_COLOURS](np.linspace(0, LIGHTEST, max(len(sites), 2)))
    styles = {}
    for index, (site, label) in enumerate(sites.items()):
        kind = re.sub(r"^\d+ |[\d_]+$", "", label)
        marker, line = LAYER_STYLES.get(kind, OTHER_STYLES[index % len(OTHER_STYLES)])
        styles[site] = {
            "color": tuple(colours[index].tolist()) if site >= 0 else "black",
            "marker": marker,
            "linestyle": line,
            "linewidth": 1.2,
            "markersize": 5.0,
            "markeredgecolor": "white",
            "markeredgewidth": 0.4,
        }
    return styles


def _levels(result: WalkResult) -> dict[str, tuple[float, str]]:
    """Return the accuracies that the fit refers to, by name, and the lines they are drawn with."""
    levels = {}
    known = result.midpoints["clean_accuracy"][np.isfinite(result.midpoints["clean_accuracy"])]
    if known.size:
        levels["clean"] = (float(known[0]), "--")
    chance = result.run.get("chance")
    if isinstance(chance, float) and 0 < chance < 1:
        if levels:
            levels["half-way"] = ((levels["clean"][0] + chance) / 2, ":")
        levels["chance"] = (chance, "-.")
    return levels


def _name_levels(axes: Axes, levels: dict[str, float]) -> None:
    """Write each level's name beside the panel, moved up where two would overlap."""
    floor = -math.inf
    for name, level in sorted(levels.items(), key=lambda item: item[1]):
        floor = max(level, floor + 0.04)
        where = blended_transform_factory(axes.transAxes, axes.transData)
        text = f"{name} {level:.3f}"
        axes.text(1.015, floor, text, transform=where, va="center", color=GREY, fontsize=TEXT - 1)


# --- midpoints by site -----------------------------------------------------------------------------------


class _Missing(NamedTuple):
    """How a reason for "not reached" is drawn: an arrow at an edge of the axis, 0 bottom and 1 top."""

    marker: str
    edge: float
    text: str


def midpoints_figure(result: WalkResult) -> Figure:
    """Return the figure of `plot_midpoints`: σ on a log scale against the sites in the order of the network.

    Interval ends of 0 and inf (no bound) run off the axis. Raises WnError if the result has no midpoints.
    """
    rows = _filled(result.midpoints, "midpoints")
    sites, phases = _sites(rows), _phases(rows)
    reasons = np.array(result.reasons, dtype=object)
    sigma = np.unique(result.curves["sigma"])
    sigma = sigma[sigma > 0]
    missing = {reason: _missing(reason, sigma) for reason in dict.fromkeys(reasons[~rows["reached"]])}
    places = _places(list(sites))
    figure = _figure(max(6.4, 1.4 + 0.36 * len(sites)), 5.2)
    axes = figure.subplots()
    _style(axes)
    axes.set_yscale("log")
    axes.set_ylim(_midpoint_limits(rows, sigma, {mark.edge for mark in missing.values()}))
    _log_ticks(axes.yaxis, *axes.get_ylim())
    handles = []
    for index, phase in enumerate(phases):
        shift = 0.3 * (index - (len(phases) - 1) / 2)
        mine = rows["phase"] == phase
        x = np.array([places[site] for site in rows["site"][mine].tolist()]) + shift
        colour = PHASE_COLOURS.get(phase, "black")
        handles.append(_draw_midpoints(axes, x, rows[mine], phase, colour))
        for reason, mark in missing.items():
            _draw_missing(axes, x[~rows["reached"][mine] & (reasons[mine] == reason)], mark, phase, colour)
    for mark in dict.fromkeys(missing.values()):
        handles.append(Line2D([], [], label=mark.text, **_hollow(mark, GREY)))
    _site_ticks(axes, places, sites)
    axes.set_xlabel("noise site", fontsize=TEXT)
    axes.set_ylabel("midpoint noise level σ", fontsize=TEXT)
    figure.legend(handles=handles, loc="outside lower center", ncols=1, fontsize=TEXT, frameon=False)
    _head(figure, "Midpoint noise level by site", rows, len(np.unique(result.curves["repeat"])))
    return figure


def _draw_midpoints(axes: Axes, x: Floats, rows: Rows, phase: str, colour: str) -> Line2D:
    """Draw the midpoints reached, with intervals, joined where sites follow each other; return the key."""
    bottom, top = axes.get_ylim()
    middle = np.where(rows["reached"], rows["midpoint"], np.nan)
    # Bars are drawn a little beyond the axis where there is no bound, and clipped by it.
    low = np.clip(rows["ci_low"], bottom / 10, middle)
    high = np.clip(rows["ci_high"], middle, top * 10)
    style = {"color": colour, "marker": PHASE_MARKERS.get(phase, "D"), "markersize": 5.5}
    walked = rows["site"] >= 0
    axes.plot(x[walked], middle[walked], color=colour, linewidth=0.8, alpha=0.45, zorder=2)
    bars = {"elinewidth": 1.3, "capsize": 3, "zorder": 3}
    reached = np.isfinite(middle)
    spread = [(middle - low)[reached], (high - middle)[reached]]
    if reached.any():
        points = axes.errorbar(x[reached], middle[reached], spread, linestyle="none", **style, **bars)[0]
        points.set_gid(f"midpoints-{phase}")
    label = f"{_phase_title(phase)}, with 95 % confidence interval"
    return Line2D([], [], linestyle="none", label=label, **style)


def _draw_missing(axes: Axes, x: Floats, mark: _Missing, phase: str, colour: str) -> None:
    """Draw hollow markers just inside the edge of the axis."""
    if x.size:
        where = blended_transform_factory(axes.transData, axes.transAxes)
        y = np.full(x.size, 0.035 + 0.93 * mark.edge)
        axes.plot(x, y, transform=where, gid=f"missing-{phase}", zorder=4, **_hollow(mark, colour))


def _hollow(mark: _Missing, colour: str) -> dict[str, Any]:
    return {
        "color": colour,
        "linestyle": "none",
        "marker": mark.marker,
        "markersize": 7.0,
        "markerfacecolor": "white",
        "markeredgewidth": 1.3,
    }


def _missing(reason: str, sigma: Floats) -> _Missing:
    if reason == NEVER_FALLS and sigma.size:
        return _Missing("^", 1, f"not reached: never falls half-way (σ up to {_number(sigma[-1])})")
    if reason == ALREADY_BELOW and sigma.size:
        return _Missing("v", 0, f"not reached: already below half-way at the smallest σ ({_number(sigma[0])})")
    return _Missing("X", 0, f"not reached: {reason or 'no reason given'}")


def _midpoint_limits(rows: Rows, sigma: Floats, edges: set[float]) -> tuple[float, float]:
    """Return the ends of the σ axis: all that was reached or, if nothing was, the σ measured."""
    values = np.concatenate([rows[name][rows["reached"]] for name in ("midpoint", "ci_low", "ci_high")])
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        values = sigma if sigma.size else np.ones(1)
    low, high = math.log10(values.min()), math.log10(values.max())
    widen = max(0.0, 1 - (high - low)) / 2  # at least a decade: less would enlarge mere scatter
    low, high = low - widen, high + widen
    pad = 0.04 * (high - low)
    below, above = (pad * (3 if edge in edges else 1) for edge in (0, 1))  # room for the arrows
    return 10 ** max(low - below, -300.0), 10 ** min(high + above, 300.0)


def _places(sites: list[int]) -> dict[int, float]:
    """Return the position of each site; global and mapped noise stand apart from the walk."""
    walked = sum(site >= 0 for site in sites)
    return {site: index + (0.5 if site < 0 < walked else 0.0) for index, site in enumerate(sites)}


def _site_ticks(axes: Axes, places: dict[int, float], sites: dict[int, str]) -> None:
    crowded = sum(len(label) + 2 for label in sites.values()) > 70
    turn: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(list(places.values()), list(sites.values()), **turn)
    axes.set_xlim(-0.6, max(places.values()) + 0.6)


# --- what both share -------------------------------------------------------------------------------------


def _filled(rows: Rows, name: str) -> Rows:
    if not rows.size:
        raise WnError(f"nothing to draw: the result has no {name}")
    return rows


def _sites(rows: Rows) -> dict[int, str]:
    """Return the label of each site, in the order of the network; global, then mapped noise at the end."""
    names = dict(zip(rows["site"].tolist(), rows["site_name"].tolist(), strict=True))
    ordered = sorted(names, key=lambda site: (site < 0, abs(site)))
    return {site: _literal(f"{site} {names[site]}" if site >= 0 else names[site]) for site in ordered}


def _phases(rows: Rows) -> list[str]:
    present = dict.fromkeys(rows["phase"].tolist())
    return [phase for phase in PHASE_TITLES if phase in present] + [p for p in present if p not in PHASE_TITLES]


def _phase_title(phase: str) -> str:
    return PHASE_TITLES.get(phase, _literal(phase))


def _literal(text: str) -> str:
    """Keep dollar signs out of the formula parser."""
    return text.replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _style(axes: Axes) -> None:
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=TEXT)
    axes.spines[["top", "right"]].set_visible(False)


def _head(figure: Figure, title: str, rows: Rows, repeats: int) -> None:
    """Write the title, and below it the run in words, broken to the width of the figure."""
    first = {name: str(rows[name][0]) for name in ("dataset", "model", "batch_norm", "noise")}
    words = [
        first["dataset"],
        first["model"],
        BATCH_NORM.get(first["batch_norm"], f"batch norm {first['batch_norm']}"),
        "no noise" if first["noise"] == "none" else f"{first['noise']} noise",
        "1 repeat" if repeats == 1 else f"{repeats} repeats",
    ]
    letters = int(figure.get_figwidth() * 10.5)
    lines = [title, *textwrap.wrap(" · ".join(words), letters)]
    figure.suptitle(_literal("\n".join(lines)), fontsize=TITLE)


def _sigma_scale(axes: Axes, sigma: Floats) -> None:
    """Scale the x axis as the grid is spaced: linear or log; where a log grid has a 0, it stands apart."""
    positive = sigma[sigma > 0]
    if not _spans_decades(sigma):
        pad = 0.04 * (sigma[-1] - sigma[0]) or 0.5 * (sigma[-1] or 1.0)
        axes.set_xlim(sigma[0] - pad, sigma[-1] + pad)
        return
    low, high = float(positive[0]), float(positive[-1])
    decades = math.log10(high / low)
    pad = 10 ** (0.04 * decades)
    if positive.size == sigma.size:
        axes.set_xscale("log")
        axes.set_xlim(low / pad, high * pad)
        _log_ticks(axes.xaxis, *axes.get_xlim())
        return
    axes.set_xscale("symlog", linthresh=low, linscale=max(0.5, 0.12 * decades))
    axes.set_xlim(-0.3 * low, high * pad)
    _log_ticks(axes.xaxis, low / 1.001, high * pad, first=[0.0])


def _spans_decades(sigma: Floats) -> bool:
    """Whether σ wants a log scale: a factor of 10 or more, and not evenly spaced."""
    positive = sigma[sigma > 0]
    if positive.size < 2 or positive[-1] / positive[0] < 10:
        return False
    steps = np.diff(sigma)
    return sigma.size < 3 or bool(np.ptp(steps) > 1e-6 * steps.max())


def _log_ticks(axis: Axis, low: float, high: float, first: list[float] | None = None) -> None:
    """Label at most about 8 round values: 1, 2 and 5 in each decade, decades, or every few decades."""
    decades = np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    step = -(-len(decades) // 8)
    digits = [1, 2, 5] if len(decades) <= 3 else [1]
    major = [digit * 10.0**k for k in decades.tolist() if k % step == 0 for digit in digits]
    minor = [digit * 10.0**k for k in decades.tolist() for digit in (range(1, 10) if step == 1 else [1])]
    inside: Callable[[list[float]], list[float]] = lambda values: [v for v in values if low <= v <= high]  # noqa
    ticks = [*(first or []), *inside(major)]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter([_number(value) for value in ticks]))
    axis.set_minor_locator(FixedLocator(sorted(set(inside(minor)) - set(ticks))))
    axis.set_minor_formatter(NullFormatter())


def _number(value: float) -> str:
    """Return a number in few letters: 0.01, 25, 10⁶, 3.2·10⁻⁵."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}"
    digits, exponent = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else f"{value:.2e}".split("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return power if float(digits) == 1 else f"{float(digits):g}·{power}"


def _save(figure: Figure, path: Path) -> None:
    kind = path.suffix.lower().lstrip(".")
    kinds = sorted(set(figure.canvas.get_supported_filetypes()) - {"pgf"})  # pgf needs LaTeX
    if kind not in kinds:
        raise WnError(f"can't draw {path.name}: the suffix must be one of {', '.join('.' + k for k in kinds)}")
    packed = kind == "svgz"  # matplotlib would write the time into it
    kind = "svg" if packed else kind
    options: dict[str, Any] = {"metadata": _METADATA[kind]} if kind in _METADATA else {}
    data = io.BytesIO()
    figure.savefig(data, format=kind, dpi=DOTS_PER_INCH, facecolor="white", **options)
    content = _stable_ids(data.getvalue()) if kind == "svg" else data.getvalue()
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)


def _stable_ids(svg: bytes) -> bytes:
    """Number the random names in an svg file; matplotlib's own way is a global setting."""
    for number, name in enumerate(dict.fromkeys(re.findall(rb'id="(\w*[0-9a-f]{10})"', svg))):
        svg = re.sub(rb'(?<=["#])' + name + rb'(?=[")])', b"n%d" % number, svg)
    return svg
