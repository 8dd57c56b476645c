"""The section about repetitions under a budget: accuracy by scheme, and differences to uniform ones."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from wn.analysis.intervals import accuracy, paired_difference
from wn.analysis.repetitions import GAINS, OPTIMAL, UNIFORM
from wn.study.report.found import Found, Setting
from wn.study.tables.words import are_single_draws
from wn.walking.pictures.panels import Line, Panels, lines
from wn.walking.pictures.scales import numbers
from wn.walking.places import INFERENCE, Spread
from wn.walking.report.curves import INTERVALS
from wn.walking.report.numbers import share
from wn.walking.report.page import Picture, Section, Table

_TEXT = (
    "Noise at every site at once, each site executed R times and averaged: the budget is the sum of all R, "
    "here as executions per site. The difference to uniform is that of accuracies at equal budget, in "
    "percentage points, paired by repeat: same network, same draws; its interval is Student's t over "
    "repeats. Where several schemes make the same map they share a row, and a point.",
    INTERVALS,
)
_OF_GAINS = (
    "The scheme gains goes by one backward pass through the clean networks, without any noise; the others, "
    "but for uniform, by midpoints that this study has measured.",
)
_COLUMNS = (
    "σ",
    "per site",
    "budget",
    "schemes",
    "accuracy [95 %]",
    "difference to uniform, points [95 %]",
    "repeats",
    "executions of each site",
)
PANEL = 5.0  # inches, of a picture of many schemes


class _Map(NamedTuple):
    """A map of repetitions at one σ: correct answers of total by repeat, and the settings of its curve."""

    settings: int
    sigma: float
    sites: int
    repetitions: tuple[int, ...]
    schemes: tuple[str, ...]
    correct: dict[int, tuple[int, int]]

    @property
    def budget(self) -> int:
        return sum(self.repetitions)


def budget_section(found: Found) -> tuple[Section | None, set[int]]:
    """Accuracy against budget by scheme at each σ, and the settings with one σ of which it has told all."""
    groups: dict[str, dict[float, list[_Map]]] = {}  # by network and noise, by σ
    for setting in found.settings:
        once = setting.curve._replace(repetitions="1", label="")
        drawn = ", executions as single draws" if are_single_draws(setting.curve) else ""
        by_sigma = groups.setdefault(f"{setting.network}: {found.words.noise(once)}{drawn}", {})
        for one in _maps(setting):
            by_sigma.setdefault(one.sigma, []).append(one)
    accuracies, differences = dict[str, dict[str, Line]](), dict[str, dict[str, Line]]()
    tables, told = list[Table](), set[int]()
    for title, by_sigma in groups.items():
        compared = {s: maps for s, maps in sorted(by_sigma.items()) if len({m.repetitions for m in maps}) > 1}
        rows = []
        for sigma, maps in compared.items():
            panel = f"{title}, σ = {numbers([sigma])[0]}"
            rows += [[sigma, *_row(one, maps)] for one in sorted(maps, key=lambda one: one.budget)]
            accuracies[panel] = _lines(maps, lambda one, _: _accuracy(one)[:1])  # bands would hide each other
            if of_others := _lines(maps, _difference):
                differences[panel] = of_others
            told |= {one.settings for one in maps}
        if rows:
            tables.append(Table(title, _COLUMNS, rows))
    if not tables:
        return None, set()
    per_site = "executions per site"
    parts: list[Picture | Table] = []
    if differences:
        what = "difference to uniform, points"
        lowest = lowest_shown(differences)
        figure = lines(differences, per_site, what, level=0.0, log_x=True, width=PANEL, lowest=lowest)
        caption = (
            "Difference to uniform at equal budget, with 95 % intervals: above 0 the scheme is better; what "
            "is far worse runs off the picture."
        )
        parts.append(Picture(figure, caption))
    figure = lines(accuracies, per_site, "accuracy", log_x=True, width=PANEL)
    parts += [Picture(figure, "Accuracy against budget by scheme."), *tables]
    whole = {
        setting.curve.settings for setting in found.settings if len(setting.fits) == 1 and setting.is_point
    }
    schemes = {scheme for panel in accuracies.values() for scheme in panel}
    text = _TEXT + (_OF_GAINS if GAINS in schemes else ())
    return Section("Accuracy against budget", text, parts), told & whole


def _maps(setting: Setting) -> Iterator[_Map]:
    """The map of repetitions of a setting, with noise at every site at inference, at each σ of its curve."""
    for fit in setting.fits:
        curve = fit.curve
        if (curve.site, curve.phase) != (Spread.GLOBAL, INFERENCE):
            continue
        sites = len(msgspec.json.decode(curve.spec)["factors"])
        repetitions = tuple(map(int, curve.repetitions.split()))
        repetitions = repetitions * sites if len(repetitions) == 1 else repetitions
        schemes = tuple(curve.label.split(", ")) if curve.label else ()
        if len(set(repetitions)) == 1 and UNIFORM not in schemes:
            schemes = (UNIFORM, *schemes)
        schemes = schemes or ("without a label",)
        by_sigma: dict[float, dict[int, tuple[int, int]]] = {}
        for sigma, repeat, correct, total, _ in fit.points:
            by_sigma.setdefault(sigma, {})[repeat] = correct, total
        for sigma, counts in by_sigma.items():
            yield _Map(curve.settings, sigma, sites, repetitions, schemes, counts)


def _accuracy(one: _Map) -> tuple[float, float, float]:
    return accuracy(*zip(*one.correct.values(), strict=True))


def _difference(one: _Map, maps: list[_Map]) -> tuple[float, float, float] | None:
    """The paired difference to uniform at the same budget, in points; None for uniform, and without it."""
    if UNIFORM in one.schemes:
        return None
    others = [other for other in maps if UNIFORM in other.schemes and other.budget == one.budget]
    both = [repeat for repeat in one.correct if others and repeat in others[0].correct]
    if not both:
        return None
    ours, theirs = ([100 * m.correct[r][0] / m.correct[r][1] for r in both] for m in (one, others[0]))
    return paired_difference(ours, theirs)


def _lines(maps: list[_Map], of: Callable[[_Map, list[_Map]], Sequence[float] | None]) -> dict[str, Line]:
    """A line for each scheme over executions per site.

    The optimal one comes first and on top, uniform last: colours stay the same without it.
    """
    points: dict[str, list[tuple[float, ...]]] = {}
    for one in sorted(maps, key=lambda one: one.budget):
        value = of(one, maps)
        for scheme in one.schemes if value is not None else ():
            points.setdefault(scheme, []).append((one.budget / one.sites, *(value or ())))
    order = sorted(points, key=lambda scheme: (scheme != OPTIMAL, scheme == UNIFORM))
    return {scheme: Line(*np.array(points[scheme]).T) for scheme in order}


def lowest_shown(panels: Panels) -> float | None:
    """Where a picture of differences ends below: twice as far from 0 as the best, None if none is above 0."""
    best = max(float(line.y.max()) for panel in panels.values() for line in panel.values())
    return -2 * best if best > 0 else None


def _row(one: _Map, maps: list[_Map]) -> list[Any]:
    difference, text = _difference(one, maps), None
    if difference is not None:
        ends = "" if np.isnan(difference[1]) else f" [{difference[1]:+.2f},\u00a0{difference[2]:+.2f}]"
        text = f"{difference[0]:+.2f}{ends}"
    return [
        one.budget / one.sites,
        one.budget,
        ", ".join(one.schemes),
        share(*_accuracy(one)),
        text,
        len(one.correct),
        " ".join(map(str, one.repetitions)),
    ]
