"""Pictures of tables: accuracy against σ for every site, and the midpoint of every site.

Figures are built without pyplot and without changing global settings, so that threads can draw side by side;
the same result gives the same bytes. Exponents are Unicode: matplotlib's formula parser is not thread-safe.
"""

import math
import re
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import blended_transform_factory
from numpy.typing import NDArray

from wn.files.whole import StrPath, as_path
from wn.fit.midpoint import ALREADY_BELOW, NEVER_FALLS
from wn.walking.pictures.drawing import (
    GREY,
    LEGEND,
    RULE,
    SHADE,
    TEXT,
    figure_of,
    literal,
    save,
    style,
)
from wn.walking.pictures.scales import log_ticks, numbers, sigma_scale
from wn.walking.pictures.sites import Rows, Sites, head, labels_of, sites_in, sites_of

Floats = NDArray[np.float64]

STRIP = 0.08  # height of the strip of sites not reached, of the axis
BARS: dict[str, Any] = {"linestyle": "none", "markersize": 5, "elinewidth": 1.3, "capsize": 3, "zorder": 3}


class _Phase(NamedTuple):
    title: str
    colour: str
    marker: str


PHASES = {  # blue and vermillion of Okabe and Ito
    "inference": _Phase("noise at inference only", "#0072B2", "o"),
    "training": _Phase("noise in training and at inference", "#D55E00", "s"),
}
BATCH_NORM = {"none": "without batch norm", "sites": "with batch norm", "hidden": "batch norm without sites"}

# Sites are ordered, so colour says how deep; marker and line say what kind of layer, which also tells
# neighbours apart in greyscale.
DEPTH_COLOURS = "viridis"
LIGHTEST = 0.83  # the rest of the map is too light on white
LAYERS = {"input": "o -", "bn": "D --", "relu": "^ -.", "pool": "v :", "avgpool": "P :", "logits": "X -"}
LINEAR = "s -"  # and convolution
LINE: dict[str, Any] = {"linewidth": 1.2, "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.4}

FAILED: dict[str, Any] = {"marker": "x", "linestyle": "none", "markersize": 5, "zorder": 4}


class Tables(NamedTuple):
    """Tables to draw, as structured arrays, and the run in words.

    curves: phase, site, site_name, sigma, repeat, accuracy, a row for each point; failures: the first four, a
    row for each point without a result. midpoints: phase, site, site_name, midpoint, ci_low, ci_high,
    reached, clean_accuracy; reasons: one for each of these rows. chance in (0, 1), None if unknown.
    predicted: phase, site, sigma, repeat, accuracy, error; with rows there, midpoints has the predicted
    crossings.
    """

    curves: Rows
    midpoints: Rows
    reasons: tuple[str, ...]
    failures: Rows
    chance: float | None
    words: tuple[str, ...]
    predicted: Rows = np.zeros(0)


def in_words(dataset: str, model: str, batch_norm: str, noise: str) -> tuple[str, ...]:
    """A run in words."""
    kind = BATCH_NORM.get(batch_norm, f"batch norm {batch_norm}")
    return dataset, model, kind, "no noise" if noise == "none" else f"{noise} noise"


def plot_curves(tables: Tables, path: StrPath) -> None:
    """Draw accuracy against σ, one line per site and one panel per phase, into a file.

    The suffix of `path` chooses the format (.png, .pdf, .svg, …). The file appears whole or not at all, and
    is the same byte for byte every time, except in formats that carry the date (.ps, .eps, .svgz). Raises
    WnError for another suffix and for tables without curves.
    """
    save(curves_figure(tables), as_path(path))


def plot_midpoints(tables: Tables, path: StrPath) -> None:
    """Draw the midpoint of every site, with its confidence interval, into a file.

    Sites whose midpoint is not reached are hollow markers in a strip at the edge beyond which it lies.
    Formats and errors as for `plot_curves`.
    """
    save(midpoints_figure(tables), as_path(path))


# --- accuracy against σ ----------------------------------------------------------------------------------


def curves_figure(tables: Tables) -> Figure:
    """Return the figure of `plot_curves`: the mean over repeats, and a band from the lowest to the highest.

    Points without a result are marked with × near the σ axis. Clean accuracy, chance and half-way between
    them are horizontal lines; without `chance` the last two are left out. Raises WnError without curves.
    """
    rows, failed = tables.curves, tables.failures
    sites = sites_of(tables.curves, tables.failures)
    phases = [phase for phase in PHASES if phase in rows["phase"] or phase in failed["phase"]]
    styles = _line_styles(sites)
    columns = math.ceil(len(sites) / 16)
    legend = columns * (0.75 + 0.075 * max(map(len, sites)))
    panel = 4.4 + 0.04 * len(sites)
    figure = figure_of(1.6 + len(phases) * panel + legend, 0.6 + panel)
    panels: list[Axes] = list(figure.subplots(1, len(phases), sharey=True, squeeze=False)[0])
    for axes, phase in zip(panels, phases, strict=True):
        _curves_on(axes, tables, phase, sites, styles, first=axes is panels[0])
    panels[0].set_ylim(-0.02, 1.04)
    _draw_levels(panels, tables)
    keys = {label: Line2D([], [], **styles[label]) for label in sites}
    if failed.size:
        keys["no result"] = Line2D([], [], color=GREY, **FAILED)
    place: dict[str, Any] = {"loc": "outside right center", "ncols": columns, "handlelength": 3.2}
    figure.legend([*keys.values()], [*keys], title="noise site", **place, **LEGEND)
    repeats = len(np.unique(rows["repeat"]))
    band = " (line: mean of the repeats, band: lowest to highest)" if repeats > 1 else ""
    head(figure, f"Accuracy against noise level{band}", tables.words, repeats)
    return figure


def curves_on(axes: Axes, tables: Tables, phase: str) -> None:
    """Draw the curves of one phase on axes of the user's own, with their key."""
    sites = sites_of(tables.curves, tables.failures)
    styles = _line_styles(sites)
    _curves_on(axes, tables, phase, sites, styles, first=True)
    axes.set_ylim(-0.02, 1.04)
    _draw_levels([axes], tables, named=False)
    axes.legend([Line2D([], [], **styles[label]) for label in sites], list(sites), **LEGEND)


def _curves_on(
    axes: Axes, tables: Tables, phase: str, sites: Sites, styles: dict[str, dict[str, Any]], first: bool
) -> None:
    """Draw the curves of one phase, and where it has no result."""
    rows, failed = (some[some["phase"] == phase] for some in (tables.curves, tables.failures))
    labels, labels_failed = labels_of(rows), labels_of(failed)
    style(axes, "noise level σ", "accuracy on the test images" if first else "")
    axes.set_title(PHASES[phase].title, fontsize=TEXT + 1)
    sigma_scale(axes, np.unique([*rows["sigma"], *failed["sigma"]]))
    for index, (label, site) in enumerate(sites.items()):
        _draw_curve(axes, rows[labels == label], site, index, styles[label])
        height = 0.01 + 0.06 * index / len(sites)  # those of several sites beside each other
        _draw_failed(axes, failed[labels_failed == label], site, height, styles[label]["color"])


def _draw_curve(axes: Axes, rows: Rows, site: int, index: int, look: dict[str, Any]) -> None:
    """Draw mean and range over repeats at one site; on dense grids not every point has a marker."""
    if not rows.size:
        return
    sigma = np.unique(rows["sigma"])
    repeats = [rows["accuracy"][rows["sigma"] == value] for value in sigma]
    low, mean, high = (np.array([of(values) for values in repeats]) for of in (np.min, np.mean, np.max))
    if rows.size > sigma.size:
        axes.fill_between(sigma, low, high, color=look["color"], alpha=0.15, linewidth=0, zorder=2)
    every = max(1, sigma.size // 12) if sigma.size > 25 else 1
    marked = slice(index % every, None, every)  # neighbours are marked at different σ
    axes.plot(sigma, mean, **look, markevery=marked, gid=f"site{site}", zorder=3)


def _draw_failed(axes: Axes, rows: Rows, site: int, height: float, colour: Any) -> None:
    """Mark the σ at which a site has no result, near the bottom of the axis."""
    if rows.size:
        sigma = np.unique(rows["sigma"])
        where = blended_transform_factory(axes.transData, axes.transAxes)
        y = np.full(sigma.size, height)
        axes.plot(sigma, y, transform=where, color=colour, gid=f"failed{site}", **FAILED)


def _line_styles(sites: Sites) -> dict[str, dict[str, Any]]:
    """The style of each site, by its label: colour by depth, marker and line by kind of layer."""
    colours = matplotlib.colormaps[DEPTH_COLOURS](np.linspace(0, LIGHTEST, max(len(sites), 2)))
    styles = {}
    for colour, (label, site) in zip(colours.tolist(), sites.items(), strict=False):
        kind = re.sub(r"^\d+ |[\d_]+$", "", label)
        marker, line = LAYERS.get(kind, LINEAR).split()
        styles[label] = dict(LINE, color=colour if site >= 0 else "black", marker=marker, linestyle=line)
    return styles


def _draw_levels(panels: list[Axes], tables: Tables, named: bool = True) -> None:
    """Draw clean accuracy, chance and half-way; their names at the right make room for each other."""
    clean, chance = tables.midpoints["clean_accuracy"], tables.chance
    known = clean[np.isfinite(clean)].tolist()
    levels: list[tuple[float, str, str]] = [(known[0], "clean", "--")] if known else []
    if chance is not None:
        levels += [(chance, "chance", "-.")]
        levels += [((known[0] + chance) / 2, "half-way", ":")] if known else []
    beside = blended_transform_factory(panels[-1].transAxes, panels[-1].transData)
    y = -math.inf
    for level, name, line in sorted(levels):
        for axes in panels:
            axes.axhline(level, color=RULE, linestyle=line, linewidth=1, zorder=1, gid=name)
        y = max(level, y + 0.04)
        look: dict[str, Any] = {"transform": beside, "va": "center", "color": GREY, "fontsize": TEXT - 1}
        if named:
            panels[-1].text(1.015, y, f"{name} {level:.3f}", **look)


# --- midpoints by site -----------------------------------------------------------------------------------


class _EdgeMarker(NamedTuple):
    """The marker of a midpoint that is not reached: an arrow at an edge of the axis, 0 bottom and 1 top."""

    marker: str
    edge: float
    text: str


def midpoints_figure(tables: Tables) -> Figure:
    """Return the figure of `plot_midpoints`: σ on a log scale against the sites in the order of the network.

    Intervals without a bound (0 or inf) run off the axis. Raises WnError if there are no midpoints.
    """
    sites = sites_in(labels_of(tables.midpoints), tables.midpoints["site"])
    figure = figure_of(max(6.4, 1.4 + 0.36 * len(sites)), 4.6 + 0.075 * max(map(len, sites)))
    handles = _midpoints_on(figure.subplots(), tables, figure.get_figwidth() - 1)
    figure.legend(handles=handles, loc="outside lower center", **LEGEND)
    head(figure, "Midpoint noise level by site", tables.words, len(np.unique(tables.curves["repeat"])))
    return figure


def midpoints_on(axes: Axes, tables: Tables) -> None:
    """Draw the midpoints on axes of the user's own, with their key."""
    inches = axes.bbox.width / axes.figure.dpi
    axes.legend(handles=_midpoints_on(axes, tables, inches), **LEGEND)


def _midpoints_on(axes: Axes, tables: Tables, width: float) -> list[Any]:
    """Draw the midpoints on axes of a width in inches; return the handles of a key."""
    rows, labels = tables.midpoints, labels_of(tables.midpoints)
    sites = sites_in(labels, rows["site"])
    phases = [phase for phase in PHASES if phase in rows["phase"]]
    reasons = np.array(tables.reasons, dtype=object)
    sigma = np.unique(tables.curves["sigma"][tables.curves["sigma"] > 0])
    up_to = "" if tables.failures.size or not sigma.size else f" (σ up to {numbers(sigma.tolist())[-1]})"
    missing = {reason: _missing(reason, sigma, up_to) for reason in dict.fromkeys(reasons[~rows["reached"]])}
    places = _places(sites)
    style(axes, "noise site", "midpoint noise level σ")
    edges = {mark.edge for mark in missing.values()}
    ends = _midpoint_ends(rows, sigma)
    axes.set_yscale("log")
    axes.set_ylim(_with_strips(ends, edges))
    log_ticks(axes.yaxis, *ends)
    for edge in edges:
        shape: dict[str, Any] = {"transform": axes.transAxes, "color": SHADE, "linewidth": 0, "zorder": 0}
        axes.add_patch(Rectangle((0, edge * (1 - STRIP)), 1, STRIP, **shape))
    handles: list[Any] = []
    for index, phase in enumerate(phases):
        shift = 0.3 * (index - (len(phases) - 1) / 2)
        mine = rows["phase"] == phase
        x = np.array([places[label] for label in labels[mine].tolist()]) + shift
        handles.append(_draw_midpoints(axes, x, rows[mine], phase))
        for reason, mark in missing.items():
            _draw_missing(axes, x[~rows["reached"][mine] & (reasons[mine] == reason)], mark, phase)
        if tables.predicted.size:
            handles += _draw_crossings(axes, x, rows[mine], phase)
    for mark in dict.fromkeys(missing.values()):
        handles.append(Line2D([], [], label=mark.text, **_hollow(mark, GREY)))
    _site_ticks(axes, places, width)
    return handles


def _draw_midpoints(axes: Axes, x: Floats, rows: Rows, phase: str) -> ErrorbarContainer:
    """Draw the midpoints reached, with intervals, joined where sites follow each other; return the key."""
    bottom, top = axes.get_ylim()
    title, colour, marker = PHASES[phase]
    middle = np.where(rows["reached"], rows["midpoint"], np.nan)
    walked = rows["site"] >= 0
    axes.plot(x[walked], middle[walked], color=colour, linewidth=0.8, alpha=0.45, zorder=2)
    # The axis clips what is drawn beyond it; infinite bars can't be drawn.
    below = middle - np.clip(rows["ci_low"], bottom / 10, middle)
    above = np.clip(rows["ci_high"], middle, top * 10) - middle
    points = axes.errorbar(x, middle, [below, above], color=colour, marker=marker, **BARS)
    points.set_label(f"{title}, with 95 % confidence interval")
    points[0].set_gid(f"midpoints-{phase}")
    return points


def _draw_crossings(axes: Axes, x: Floats, rows: Rows, phase: str) -> list[ErrorbarContainer]:
    """Draw the crossings, measured (filled) and predicted (open), beside each other; return their keys."""
    bottom, top = axes.get_ylim()
    drawn = []
    for shift, name, ends, word, face in (
        (0.08, "measured_crossing", "crossing", "crossing, measured", PHASES[phase].colour),
        (0.14, "predicted_crossing", "predicted", "crossing, predicted, and its error", "white"),
    ):
        low, high = rows[f"{ends}_low"], rows[f"{ends}_high"]
        there = np.isfinite(rows[name])
        middle = np.where(there, rows[name], np.nan)
        below, above = middle - np.clip(low, bottom / 10, middle), np.clip(high, middle, top * 10) - middle
        look: dict[str, Any] = {"color": PHASES[phase].colour, "marker": "D", "markerfacecolor": face}
        points = axes.errorbar(x + shift, middle, [below, above], **look, **BARS | {"markersize": 3.5})
        points.set_label(word)
        drawn.append(points)
    return drawn


def _draw_missing(axes: Axes, x: Floats, mark: _EdgeMarker, phase: str) -> None:
    """Draw hollow markers in the strip at the edge of the axis."""
    where = blended_transform_factory(axes.transData, axes.transAxes)
    y = np.full(x.size, mark.edge + (0.5 - mark.edge) * STRIP)
    axes.plot(x, y, transform=where, gid=f"missing-{phase}", **_hollow(mark, PHASES[phase].colour))


def _hollow(mark: _EdgeMarker, colour: str) -> dict[str, Any]:
    look = {"color": colour, "marker": mark.marker, "linestyle": "none"}
    return look | {"markersize": 7, "markerfacecolor": "white", "markeredgewidth": 1.3}


def _missing(reason: str, sigma: Floats, up_to: str) -> _EdgeMarker:
    if reason == NEVER_FALLS:
        return _EdgeMarker("^", 1, f"not reached: never falls half-way{up_to}")
    if reason == ALREADY_BELOW:
        return _EdgeMarker("v", 0, f"not reached: already below half-way at σ = {numbers(sigma.tolist())[0]}")
    return _EdgeMarker("X", 0, f"not reached: {literal(reason)}")


def _midpoint_ends(rows: Rows, sigma: Floats) -> tuple[float, float]:
    """Return the σ to show, a decade at least: all that was reached or, if nothing, all that was measured."""
    values = sigma if sigma.size else np.ones(1)
    shown = rows[rows["reached"]]
    if shown.size:
        values = shown["midpoint"]
        # An interval widens the axis by a decade at most; beyond that its bar runs off.
        ends = [np.clip(shown[name], values.min() / 10, values.max() * 10) for name in ("ci_low", "ci_high")]
        values = np.concatenate([values, *ends])
    low, high = math.log10(np.nanmin(values)), math.log10(np.nanmax(values))
    widen = max(0.04 * (high - low), (1 - high + low) / 2)  # less than a decade would enlarge mere scatter
    return 10 ** max(low - widen, -300.0), 10 ** min(high + widen, 300.0)


def _with_strips(ends: tuple[float, float], edges: set[float]) -> tuple[float, float]:
    """Return the limits of a log axis with a strip below (0) and above (1) its ends where asked for."""
    low, high = math.log10(ends[0]), math.log10(ends[1])
    strip = STRIP * (high - low) / (1 - len(edges) * STRIP)
    return 10 ** (low - strip * (0 in edges)), 10 ** (high + strip * (1 in edges))


def _places(sites: Sites) -> dict[str, float]:
    """The position of each site, by its label; global and mapped noise stand apart from the walk."""
    walked = sum(site >= 0 for site in sites.values())
    apart = (0.5 if site < 0 < walked else 0.0 for site in sites.values())
    return {label: index + gap for index, (label, gap) in enumerate(zip(sites, apart, strict=True))}


def _site_ticks(axes: Axes, places: dict[str, float], width: float) -> None:
    crowded = 0.08 * max(map(len, places)) > 0.95 * width / len(places)  # inches
    turn: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(list(places.values()), list(places), **turn)
    side = max(0.6, (5 - len(places)) / 2)  # phases of a lonely site stay close together
    axes.set_xlim(-side, max(places.values()) + side)
