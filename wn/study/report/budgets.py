"""Sections about repetitions under a budget, and about published figures."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from wn.analysis.intervals import accuracy, paired_difference
from wn.analysis.repetitions import GAINS, UNIFORM
from wn.study.report.found import Found, Setting
from wn.walking.pictures.panels import Line, lines
from wn.walking.pictures.scales import numbers
from wn.walking.places import INFERENCE, Spread
from wn.walking.report import published
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
    """A setting with one map of repetitions at one σ: correct answers of total by repeat."""

    setting: Setting
    sigma: float
    sites: int
    repetitions: tuple[int, ...]
    schemes: tuple[str, ...]
    correct: dict[int, tuple[int, int]]

    @property
    def budget(self) -> int:
        return sum(self.repetitions)


def budget_section(found: Found) -> tuple[Section | None, set[int]]:
    """Accuracy against budget by scheme, and the settings of which it has told all."""
    groups: dict[tuple[str, float], list[_Map]] = {}
    for setting in found.settings:
        one = _map(setting)
        if one is not None:
            once = setting.curve._replace(repetitions="1", label="")
            groups.setdefault((f"{setting.network}: {found.words.noise(once)}", one.sigma), []).append(one)
    groups = {key: maps for key, maps in groups.items() if len({one.repetitions for one in maps}) > 1}
    if not groups:
        return None, set()
    accuracies, differences = dict[str, dict[str, Line]](), dict[str, dict[str, Line]]()
    tables = []
    for (network, sigma), maps in groups.items():
        title = f"{network}, σ = {numbers([sigma])[0]}"
        rows = [_row(one, maps) for one in sorted(maps, key=lambda one: one.budget)]
        tables.append(Table(title, _COLUMNS, rows))
        accuracies[title] = _lines(maps, lambda one, _: _accuracy(one)[:1])  # bands would hide each other
        of_others = _lines(maps, _difference)
        if of_others:
            differences[title] = of_others
    per_site = "executions per site"
    parts: list[Picture | Table] = []
    if differences:
        what = "difference to uniform, points"
        figure = lines(differences, per_site, what, level=0.0, log_x=True, width=PANEL)
        caption = "Difference to uniform at equal budget, with 95 % intervals: above 0 the scheme is better."
        parts.append(Picture(figure, caption))
    figure = lines(accuracies, per_site, "accuracy", log_x=True, width=PANEL)
    parts += [Picture(figure, "Accuracy against budget by scheme."), *tables]
    whole = (one.setting for maps in groups.values() for one in maps if len(one.setting.fits) == 1)
    told = {setting.curve.settings for setting in whole}
    by_gains = any(GAINS in one.schemes for maps in groups.values() for one in maps)
    return Section("Accuracy against budget", _TEXT + (_OF_GAINS if by_gains else ()), parts), told


def _map(setting: Setting) -> _Map | None:
    """A setting as a map of repetitions: noise at every site, one σ, at inference; None if it is another."""
    place = (Spread.GLOBAL, INFERENCE)
    curves = [fit for fit in setting.fits if (fit.curve.site, fit.curve.phase) == place and fit.points]
    if len(curves) != 1 or not setting.is_point:
        return None
    curve = curves[0].curve
    sites = len(msgspec.json.decode(curve.spec)["factors"])
    repetitions = tuple(map(int, curve.repetitions.split()))
    repetitions = repetitions * sites if len(repetitions) == 1 else repetitions
    schemes = tuple(setting.curve.label.split(", ")) if setting.curve.label else ()
    if len(set(repetitions)) == 1 and UNIFORM not in schemes:
        schemes = (UNIFORM, *schemes)
    schemes = schemes or ("without a label",)
    correct = {repeat: (right, total) for _, repeat, right, total, _ in curves[0].points}
    return _Map(setting, curves[0].levels[0], sites, repetitions, schemes, correct)


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
    """A line for each scheme over executions per site; uniform last: colours stay the same without it."""
    points: dict[str, list[tuple[float, ...]]] = {}
    for one in sorted(maps, key=lambda one: one.budget):
        value = of(one, maps)
        for scheme in one.schemes if value is not None else ():
            points.setdefault(scheme, []).append((one.budget / one.sites, *(value or ())))
    order = sorted(points, key=lambda scheme: scheme == UNIFORM)
    return {scheme: Line(*np.array(points[scheme]).T) for scheme in order}


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


# ---- published figures ------------------------------------------------------------------------------------


def published_section(found: Found) -> Section | None:
    """Published midpoints against those of this study, where it has the networks they are of."""
    cases: dict[str, published.Reproduced] = {}
    for setting in found.settings:
        curve = setting.curve
        usual = not curve.clamp_weights and curve.repetitions == "1" and not found.words.options(curve)
        at = (curve.dataset, curve.model, curve.batch_norm, curve.noise, INFERENCE)
        if not usual or not published.is_published(*at):
            continue
        spec = msgspec.json.decode(curve.settings_spec)
        images = f"{spec.get('train_limit') or 'all'} / {spec.get('test_limit') or 'all'}"
        fits = {one.place: one.fit for one in setting.curves if one.phase == INFERENCE and one.levels > 1}
        empty = published.Reproduced(setting.network, curve.batch_norm, spec["epochs"], images, {})
        known = cases.get(setting.network, empty)
        cases[setting.network] = known._replace(midpoints={**known.midpoints, **fits})
    return published.section(list(cases.values()))
