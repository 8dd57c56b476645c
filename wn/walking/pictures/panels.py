"""Small multiples: a panel for each site or setting, of one shape each, on shared axes."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wn.walking.pictures.drawing import GREY, LEGEND, RULE, TEXT, figure_of, literal, style
from wn.walking.pictures.scales import log_ticks, numbers, sigma_scale

Floats = NDArray[np.float64]

SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # of Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
MOST_COLUMNS = 4
PREDICTED: dict[str, Any] = {"color": "0.3", "linestyle": "--", "linewidth": 1.2}
WIDTH, HEIGHT = 2.75, 2.2  # of a panel, in inches
BEYOND = 1e9  # times a value: off every axis
ROW = 0.19  # inches of a row of the legend


class Line(NamedTuple):
    """A line of points (x, y), x ascending; low and high bound y if given."""

    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None


class Ends(NamedTuple):
    """A σ with its interval; NaN if it is not known."""

    sigma: float
    low: float
    high: float


class Expected(NamedTuple):
    """A predicted curve and the clean accuracy, or the reason why there is none."""

    line: Line | None
    clean: float
    reason: str


class Fitted(NamedTuple):
    """Measured accuracies at σ with the fitted logistic curve, of one phase at one place.

    The curve is floor + (clean − floor)/(1 + (σ/location)^slope), NaN where nothing was fitted; ci_low and
    ci_high bound its midpoint, 0 or inf where the data give no bound; crossing: where the accuracies
    themselves cross half-way; predicted: what theory expects.
    """

    measured: Line
    clean: float
    floor: float
    location: float
    slope: float
    midpoint: float
    ci_low: float
    ci_high: float
    crossing: Ends
    predicted: Line | None = None

    def at(self, sigma: Floats) -> Floats:
        """The fitted accuracy."""
        return self.floor + (self.clean - self.floor) / (1 + (sigma / self.location) ** self.slope)


Panels = Mapping[str, Mapping[str, Line]]  # lines by series, by the title of the panel


def series_style(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each series; told apart without colour too."""
    found = {}
    for index, name in enumerate(names):
        around, place = divmod(index, len(SERIES))
        colour, marker = SERIES[place], MARKERS[(place + around) % len(MARKERS)]
        line = LINES[around % len(LINES)]
        found[name] = {
            "color": colour,
            "marker": marker,
            "linestyle": line,
            "markersize": 3.5,
            "linewidth": 1.2,
        }
    return found


def fitted_curves(curves: Mapping[str, Mapping[str, Fitted]], chance: float) -> Figure:
    """Measured accuracies (points), the fitted logistic curve, and the midpoint's interval (band), by place.

    curves: by series (phase), by place. Clean accuracy and half-way are horizontal lines.
    """
    names = _series(curves)
    figure, panels = _grid(list(curves), "noise level σ", "accuracy")
    styles = series_style(names)
    for (place, axes), fits in zip(panels, curves.values(), strict=True):
        axes.set_title(place, fontsize=TEXT)
        _sigma_axis(axes, [fitted.measured.x for fitted in fits.values()], minor=False)
        for name, fitted in fits.items():
            _draw_fitted(axes, fitted, styles[name])
            _draw_crossing(axes, fitted.crossing, (fitted.clean + chance) / 2, styles[name]["color"])
            if fitted.predicted is not None:
                _draw_predicted(axes, fitted.predicted, styles[name]["color"])
        clean = next(iter(fits.values())).clean
        for level in (clean, chance, (clean + chance) / 2):
            axes.axhline(level, color=RULE, linestyle=":", linewidth=0.8, zorder=1)
        axes.set_ylim(-0.02, 1.04)
    dashed = any(fitted.predicted is not None for fits in curves.values() for fitted in fits.values())
    _legend(figure, styles | ({"predicted": PREDICTED} if dashed else {}))
    return figure


def predicted_curves(curves: Mapping[str, Expected], chance: float) -> Figure:
    """Predicted accuracies (dashed, with the band of their error) and the clean accuracy, by place.

    A place without a curve has the reason in its panel.
    """
    figure, panels = _grid(list(curves), "noise level σ", "accuracy")
    known = [expected.line.x for expected in curves.values() if expected.line is not None]
    for (place, axes), (line, clean, reason) in zip(panels, curves.values(), strict=True):
        axes.set_title(place, fontsize=TEXT)
        if known:
            _sigma_axis(axes, known)
        if line is not None:
            _draw_predicted(axes, line, SERIES[0])
        else:
            text = textwrap.fill(literal(reason), 34)
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=TEXT - 1)
        for level in (clean, chance, (clean + chance) / 2):
            axes.axhline(level, color=RULE, linestyle=":", linewidth=0.8, zorder=1)
        axes.set_ylim(-0.02, 1.04)
    return figure


def _draw_fitted(axes: Axes, fitted: Fitted, look: dict[str, Any]) -> None:
    x, y, low, high = fitted.measured
    points = look | {"linestyle": "none"}
    bars = None if low is None or high is None else _lengths(y, low, high)
    axes.errorbar(x, y, bars, elinewidth=0.8, zorder=3, **points)
    positive = x[x > 0]
    if not np.isfinite(fitted.location) or not positive.size:
        return
    sigma = np.geomspace(positive[0], positive[-1], 200)
    width = 1.2 if fitted.predicted is None else 0.5  # room for the predicted curve
    axes.plot(sigma, fitted.at(sigma), color=look["color"], linewidth=width, zorder=2)
    left, right = axes.get_xlim()
    band = max(fitted.ci_low, left), min(fitted.ci_high, right)
    if band[0] < band[1]:
        axes.axvspan(*band, color=look["color"], alpha=0.18, linewidth=0, zorder=0)
    if left < fitted.midpoint < right:
        axes.axvline(fitted.midpoint, color=look["color"], linewidth=0.8, zorder=1)


def _draw_predicted(axes: Axes, predicted: Line, colour: str) -> None:
    """A dashed line, with the band of its error."""
    x, y, low, high = predicted
    axes.plot(x, y, color=colour, linestyle="--", linewidth=1.2, zorder=2)
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0, zorder=1)


def _draw_crossing(axes: Axes, crossing: Ends, half: float, colour: str) -> None:
    """A small open diamond on half-way, with its interval."""
    left, right = axes.get_xlim()
    if not left < crossing.sigma < right:
        return
    low, high = max(crossing.low, left), min(crossing.high, right)
    ends = [[crossing.sigma - low], [high - crossing.sigma]]
    look: dict[str, Any] = {"marker": "D", "markersize": 3, "markerfacecolor": "white", "elinewidth": 0.8}
    axes.errorbar([crossing.sigma], [half], xerr=ends, color=colour, zorder=4, **look)


def lines(
    panels: Panels,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    level: float | None = None,
    log_x: bool | None = None,
    width: float = WIDTH,
    lowest: float | None = None,
) -> Figure:
    """Lines by series in a panel for each key, the first on top; x is σ unless `log_x` says.

    `level` is a horizontal rule; what is below `lowest` runs off the picture.
    """
    names = _series(panels)
    figure, grid = _grid(list(panels), x_label, y_label, width, most_columns=max(1, int(12 // width)))
    styles = series_style(names)
    values = [line.y[np.isfinite(line.y)] for of_panel in panels.values() for line in of_panel.values()]
    for (title, axes), of_panel in zip(grid, panels.values(), strict=True):
        axes.set_title(title, fontsize=TEXT)
        if log_x is None:
            _sigma_axis(axes, [line.x for line in of_panel.values()])
        elif log_x:
            x = np.concatenate([line.x for line in of_panel.values()])
            axes.set_xscale("log")
            axes.set_xlim(x.min() / 1.1, x.max() * 1.1)
            log_ticks(axes.xaxis, *axes.get_xlim())
        for name, line in of_panel.items():
            axes.plot(line.x, line.y, **styles[name], zorder=3 - 0.01 * names.index(name))
            if line.low is not None and line.high is not None:
                axes.fill_between(
                    line.x, line.low, line.high, color=styles[name]["color"], alpha=0.18, linewidth=0
                )
        if level is not None:
            axes.axhline(level, color=RULE, linestyle=":", linewidth=0.9, zorder=1)
    if log_y:
        _log_y([axes for _, axes in grid], np.concatenate(values) if values else np.ones(1))
    elif lowest is not None:
        grid[0][1].set_ylim(bottom=max(lowest, grid[0][1].get_ylim()[0]))
    _legend(figure, styles)
    return figure


def by_category(
    panels: Panels, categories: Sequence[str], y_label: str, log_y: bool = False, level: float | None = None
) -> Figure:
    """Points by category (x of each line: its number), series side by side."""
    names = _series(panels)
    width = max(WIDTH + 1.5, 0.9 + 0.3 * len(categories))
    figure, grid = _grid(list(panels), "", y_label, width=width, most_columns=max(1, int(12 // width)))
    styles = series_style(names)
    for (title, axes), of_panel in zip(grid, panels.values(), strict=True):
        axes.set_title(title, fontsize=TEXT)
        for index, (name, line) in enumerate(of_panel.items()):
            x = line.x + 0.5 * (index - (len(of_panel) - 1) / 2) / max(len(of_panel), 2)
            look = styles[name] | {"linestyle": "none"}
            axes.errorbar(x, line.y, _bars(line, log_y), elinewidth=0.9, zorder=3, **look)
        axes.set_xticks(range(len(categories)), categories, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.7, len(categories) - 0.3)
        if level is not None:
            axes.axhline(level, color=RULE, linestyle=":", linewidth=0.9, zorder=1)
    if log_y:
        values = [line.y for of_panel in panels.values() for line in of_panel.values()]
        _log_y([axes for _, axes in grid], np.concatenate(values) if values else np.ones(1))
    _legend(figure, styles)
    return figure


def _bars(line: Line, log_y: bool) -> Floats | None:
    """The lengths of error bars (2, N); infinite ones can't be drawn, and run off a log axis."""
    if line.low is None or line.high is None:
        return None
    low, high = line.low, line.high
    if log_y:
        low, high = np.maximum(low, line.y / BEYOND), np.minimum(high, line.y * BEYOND)
    return _lengths(line.y, low, high)


def _lengths(y: Floats, low: Floats, high: Floats) -> Floats:
    """The lengths of bars (2, N) from y; not below 0: the mean of equal values is beside them by rounding."""
    return np.maximum([y - low, high - y], 0)


def heat_maps(
    panels: Mapping[str, Floats],
    x: Sequence[float],
    y: Sequence[str],
    x_label: str,
    y_label: str,
    what: str,
) -> Figure:
    """A map of values in [0, 1] for each key, (len(y), len(x)); NaN is left white. Colour bar: `what`.

    x are numbers, and y texts of them.
    """
    figure, grid = _grid(list(panels), x_label, y_label)
    colours = matplotlib.colormaps["viridis"]
    image = None
    for (title, axes), values in zip(grid, panels.values(), strict=True):
        axes.set_title(title, fontsize=TEXT)
        axes.grid(False)
        image = axes.imshow(values, origin="lower", aspect="auto", vmin=0, vmax=1, cmap=colours)
        _few_ticks(axes.set_xticks, numbers(list(x)), 45)
        _few_ticks(axes.set_yticks, list(y), 0)
    if image is not None:
        bar = figure.colorbar(image, ax=[axes for _, axes in grid], shrink=0.8)
        bar.set_label(what, fontsize=TEXT)
        bar.ax.tick_params(labelsize=TEXT)
    return figure


def _few_ticks(ticks: Any, labels: list[str], rotation: int) -> None:
    step = max(1, math.ceil(len(labels) / 8))
    ticks(range(0, len(labels), step), labels[::step], rotation=rotation)


def _series(panels: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for of_panel in panels.values() for name in of_panel))


def _grid(
    titles: Sequence[str],
    x_label: str,
    y_label: str,
    width: float = WIDTH,
    most_columns: int = MOST_COLUMNS,
) -> tuple[Figure, list[tuple[str, Axes]]]:
    """A figure with a panel for each title, labels at the left and at the bottom."""
    columns = min(len(titles), most_columns)
    rows = math.ceil(len(titles) / columns)
    figure = figure_of(0.4 + columns * width, 0.7 + rows * HEIGHT)
    axes: Any = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for row, column in np.ndindex(rows, columns):
        lowest = (row + 1) * columns + column >= len(titles)
        style(axes[row, column], x_label if lowest else "", y_label if column == 0 else "")
    flat = axes.ravel().tolist()
    for unused in flat[len(titles) :]:
        unused.set_visible(False)
    return figure, list(_titled(titles, flat, int(width * 14)))


def _titled(titles: Sequence[str], axes: Sequence[Axes], letters: int) -> Iterator[tuple[str, Axes]]:
    """Titles wrapped to panels of a width of `letters`."""
    for title, one in zip(titles, axes, strict=False):
        yield literal("\n".join(textwrap.wrap(title, letters))), one


def _sigma_axis(axes: Axes, sigma: Sequence[Floats], minor: bool = True) -> None:
    values = np.unique(np.concatenate(list(sigma))) if sigma else np.ones(1)
    if values.size:
        sigma_scale(axes, values, minor)


def _log_y(axes: Sequence[Axes], values: Floats) -> None:
    good = values[np.isfinite(values) & (values > 0)]
    low, high = (float(good.min()), float(good.max())) if good.size else (1.0, 1.0)
    middle, half = math.log10(low * high) / 2, max(0.15, math.log10(high / low) * 0.55)
    ends = 10 ** (middle - half), 10 ** (middle + half)
    for one in axes:
        one.set_yscale("log")
        one.set_ylim(ends)
        log_ticks(one.yaxis, *ends)


def _legend(figure: Figure, styles: Mapping[str, dict[str, Any]]) -> None:
    if len(styles) < 2 and not any(styles):
        return
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=name, **look) for name, look in styles.items()]
    width = 0.7 + 0.075 * max(map(len, styles))  # inches, of the longest
    columns = max(1, min(len(handles), int(figure.get_figwidth() // width)))
    rows = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + ROW * (rows - 1))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, labelcolor=GREY, **LEGEND)
