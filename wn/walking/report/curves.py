"""Accuracies at σ as reports have them: means over repeats with intervals, fitted curves, and their texts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from wn.analysis.intervals import FEWEST_REPEATS, Interval, accuracy
from wn.fit.midpoint import Midpoint
from wn.walking.pictures.panels import Ends, Fitted, Floats, Line, by_category, fitted_curves
from wn.walking.report.numbers import share, with_interval
from wn.walking.report.page import Picture, Section, Table

ON_DISK = "on disk"  # in the place of a phase: networks at inference of whose training a walk knows no more
PHASES = {"inference": "trained clean", ON_DISK: "network on disk", "training": "trained under noise"}

_INTERVALS = (
    f"Intervals of accuracies are 95 % intervals: Student's t over repeats where there are {FEWEST_REPEATS} "
    "or more, which holds the scatter between {}; else Wilson's for the test images of one network, which "
    "does not."
)
INTERVALS = _INTERVALS.format("networks")
INTERVALS_ON_DISK = _INTERVALS.format("draws of the noise, and that between the networks of the file")
HOW_TO_READ = (
    "A panel for each place of the noise: points are mean accuracies with their intervals, the line is the "
    "fitted logistic curve in log σ, its vertical line the midpoint, and the shaded band the 95 % interval "
    "of the midpoint. Dotted levels are clean accuracy, half-way and chance. The small open diamond on "
    "half-way, with its interval, is where the points themselves cross it. Where there is no line the "
    "midpoint is not reached."
)
CROSSINGS = (
    "Midpoints are those of a logistic curve, as the published figures are. The crossing is the σ at which "
    "the measured accuracies themselves fall through half-way, with no curve between them: compare this one "
    "with theory."
)


class Curve(NamedTuple):
    """The accuracies of a place in a phase: rows (σ, repeat, correct, total, …), and the fit."""

    phase: str
    site: int
    place: str
    points: Sequence[Sequence[Any]]
    fit: Midpoint
    predicted: Line | None = None

    @property
    def levels(self) -> int:
        """The number of σ that are measured."""
        return len({point[0] for point in self.points})


def line_of(points: Sequence[Sequence[Any]]) -> Line:
    """Mean accuracies by σ with their intervals; points are rows (σ, repeat, correct, total, …)."""
    levels = sorted({point[0] for point in points})
    found = [accuracy_at(points, sigma) for sigma in levels]
    columns = [np.array(values, np.float64) for values in zip(*found, strict=True)] or [np.zeros(0)] * 3
    return Line(np.array(levels, np.float64), *columns)


def accuracy_at(points: Sequence[Sequence[Any]], sigma: float) -> Interval:
    """The mean accuracy at a σ with its interval."""
    here = [point for point in points if point[0] == sigma]
    return accuracy([point[2] for point in here], [point[3] for point in here])


def fitted_of(curve: Curve) -> Fitted:
    """A curve as `fitted_curves` draws it."""
    fit = curve.fit
    names = ("floor", "location", "slope", "midpoint", "ci_low", "ci_high")
    crossing = Ends(fit.measured_crossing, fit.crossing_low, fit.crossing_high)
    values = {name: getattr(fit, name) for name in names}
    return Fitted(
        line_of(curve.points), fit.clean_accuracy, **values, crossing=crossing, predicted=curve.predicted
    )


def label(site: int, place: str) -> str:
    """A place as titles have it: "3 relu1", or "global"."""
    return f"{site} {place}" if site >= 0 else place


def by_place(curves: Sequence[Curve]) -> dict[str, dict[str, Curve]]:
    """Curves by place, in the order of the network, and by phase in words."""
    found: dict[str, dict[str, Curve]] = {}
    for curve in sorted(curves, key=lambda curve: (curve.site < 0, abs(curve.site))):
        found.setdefault(label(curve.site, curve.place), {})[PHASES[curve.phase]] = curve
    return found


def curves_picture(curves: Sequence[Curve], chance: float, caption: str) -> Picture | None:
    """Small multiples of all curves with several σ; None if there is none."""
    drawn = by_place([curve for curve in curves if curve.levels > 1])
    if not drawn:
        return None
    fits = {place: {phase: fitted_of(one) for phase, one in row.items()} for place, row in drawn.items()}
    return Picture(fitted_curves(fits, chance), caption)


def midpoint_table(curves: Sequence[Curve], caption: str) -> Table:
    """A row for each place, with midpoint and interval of each phase."""
    rows = by_place(curves)
    phases = [phase for phase in PHASES.values() if any(phase in row for row in rows.values())]
    both = len(phases) == 2
    cells = []
    for place, row in rows.items():
        fits = [row[phase].fit if phase in row else None for phase in phases]
        reached = [fit.midpoint for fit in fits if fit is not None and fit.reached]
        gain = [reached[1] / reached[0] if len(reached) == 2 else None] if both else []
        cells.append([place, *map(midpoint_text, fits), *gain, *map(crossing_text, fits)])
    crossings = [f"crossing, {phase} [95 %]" for phase in phases]
    columns = ("place", *(f"{phase} [95 %]" for phase in phases), *(["gain"] if both else []), *crossings)
    return Table(caption, columns, cells)


def midpoint_text(fit: Midpoint | None) -> str | None:
    """A midpoint with its interval, or why there is none."""
    if fit is None:
        return None
    if not fit.reached:
        return f"not reached: {fit.reason}"
    return with_interval(fit.midpoint, fit.ci_low, fit.ci_high)


def crossing_text(fit: Midpoint | None) -> str | None:
    """The σ at which the measured accuracies cross half-way, with its interval; None if there is none."""
    if fit is None or not fit.reached:
        return None
    return with_interval(fit.measured_crossing, fit.crossing_low, fit.crossing_high)


def bounds(line: Line) -> tuple[Floats, Floats]:
    """The bounds of a line; the line itself where it has none."""
    return line.y if line.low is None else line.low, line.y if line.high is None else line.high


def joined(x: Floats, lines: Sequence[Line]) -> Line:
    """Lines of one point each as one, at x."""
    low, high = zip(*map(bounds, lines), strict=True)
    return Line(x, np.concatenate([line.y for line in lines]), np.concatenate(low), np.concatenate(high))


def points_section(
    panels: Mapping[str, Mapping[str, Sequence[Curve]]],
    chance: float,
    title: str,
    text: Sequence[str],
    intervals: str = INTERVALS,
) -> Section:
    """Accuracies where each place has one σ, by series in panels; tables of places × series."""
    every = [curve for series in panels.values() for curves in series.values() for curve in curves]
    places = list(by_place(every))
    drawn: dict[str, dict[str, Line]] = {}
    tables = []
    for panel, series in panels.items():
        lines, cells = dict[str, Line](), {place: dict[str, str]() for place in places}
        for name, curves in series.items():
            found = {label(one.site, one.place): line_of(one.points) for one in curves}
            x = np.array([float(places.index(place)) for place in found])
            lines[name] = joined(x, list(found.values()))
            for place, line in found.items():
                cells[place][name] = share(float(line.y[0]), *(float(end[0]) for end in bounds(line)))
        drawn[panel] = lines
        rows = [[place, *(row.get(name) for name in lines)] for place, row in cells.items() if row]
        tables.append(Table(f"{panel}: accuracy [95 %]", ("place", *lines), rows))
    caption = "Accuracy by place, with 95 % intervals; the dotted line is chance."
    figure = by_category(drawn, places, "accuracy", level=chance)
    return Section(title, [*text, intervals], [Picture(figure, caption), *tables])
