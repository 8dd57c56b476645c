"""What a study has found, as the sections of its report take it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan
from typing import NamedTuple

import numpy as np

from wn.engine.noise_spec import MIXED
from wn.study.store.reader import Reader
from wn.study.tables.fit import FittedCurve, StudyCurve, by_setting, fitted, study_curves
from wn.study.tables.matrix import Matrices, matrices
from wn.study.tables.plot import sites_of
from wn.study.tables.words import Words, with_labels_of
from wn.study.unit import MATRIX
from wn.walking.pictures.panels import Line
from wn.walking.places import TRAINING
from wn.walking.report.curves import PHASES, Curve, label


class Setting(NamedTuple):
    """A network under an operator of noise: words, curves with fits, and what reports draw."""

    curve: StudyCurve  # the first, with the labels of all
    network: str
    noise: str
    fits: list[FittedCurve]  # without those of a matrix
    curves: list[Curve]
    matrices: Matrices | None
    trained: list["Trained"]

    @property
    def title(self) -> str:
        """Network and noise."""
        return f"{self.network}: {self.noise}"

    @property
    def chance(self) -> float:
        """The accuracy of a guess."""
        return self.curve.chance

    @property
    def is_point(self) -> bool:
        """Whether each place has one σ."""
        return all(len(fit.levels) == 1 for fit in self.fits)


class Trained(NamedTuple):
    """The networks trained under noise at a place, whose weights and activations are looked at.

    Those of a matrix are the networks of the phase "training": each σ of training is a curve of its own.
    `accuracy` is under the σ of training, by it, with a number for each repeat, where that was measured;
    `midpoint` is NaN without the phase "training".
    """

    place: str  # as titles have it
    site_name: str
    curves: list[int]
    midpoint: float
    accuracy: dict[float, list[float]]


class Found(NamedTuple):
    """A study that is read, and its settings in their order."""

    store: Reader
    words: Words
    settings: list[Setting]


def found_in(store: Reader) -> Found:
    """Read and fit the curves of a study."""
    curves = study_curves(store)
    words = Words(curves)
    return Found(store, words, [_setting(store, words, group) for group in by_setting(curves)])


def _setting(store: Reader, words: Words, group: list[StudyCurve]) -> Setting:
    first, sites = with_labels_of(group), sites_of(group)
    everything = [fitted(store, curve) for curve in group]
    matrix = matrices(everything, [name for _, name in sites])
    fits = [fit for fit in everything if fit.curve.phase != MATRIX]
    curves = [
        Curve(fit.curve.phase, site, place, fit.points, fit.midpoint)
        for fit, (site, place) in zip(everything, sites, strict=True)
        if fit.points and fit.curve.phase in PHASES
    ]
    trained = _trained(everything, sites)
    return Setting(first, words.network(first), words.noise(first), fits, curves, matrix, trained)


def _trained(fits: list[FittedCurve], sites: list[tuple[int, str]]) -> list[Trained]:
    """The networks trained under noise, by place, in the order of the network."""
    by_place: dict[tuple[int, str], list[FittedCurve]] = {}
    for site, fit in zip(sites, fits, strict=True):
        if fit.curve.phase in (TRAINING, MATRIX):
            by_place.setdefault(site, []).append(fit)
    found = []
    for site in sorted(by_place, key=lambda site: (site[0] < 0, abs(site[0]))):
        here = by_place[site]
        midpoints = [fit.midpoint.midpoint for fit in here if fit.curve.phase == TRAINING]
        accuracy: dict[float, dict[int, float]] = {}  # by σ of training and repeat
        for fit in here:
            for sigma, repeat, _, _, value in fit.points:
                if fit.curve.phase == TRAINING or sigma == fit.curve.sigma_train:
                    accuracy.setdefault(sigma, {})[repeat] = value
        levels = {sigma: list(values.values()) for sigma, values in accuracy.items()}
        curves = [fit.curve.id for fit in here]
        found.append(Trained(label(*site), here[0].curve.site_name, curves, (*midpoints, nan)[0], levels))
    return found


def of_phase(setting: Setting, phase: str) -> Iterator[tuple[str, FittedCurve]]:
    """The curves of a phase with their places as titles have them, in the order of the network."""
    sites = sites_of([fit.curve for fit in setting.fits])
    pairs = zip(sites, setting.fits, strict=True)
    for (site, name), fit in sorted(pairs, key=lambda pair: (pair[0][0] < 0, abs(pair[0][0]))):
        if fit.curve.phase == phase:
            yield label(site, name), fit


def mean_line(levels: Mapping[float, Sequence[float]]) -> Line:
    """Means of the values at each σ, with the lowest and highest where there are several."""
    sigma = sorted(levels)
    columns = [np.array([of(levels[value]) for value in sigma]) for of in (np.mean, np.min, np.max)]
    several = any(len(values) > 1 for values in levels.values())
    return Line(np.array(sigma), *(columns if several else columns[:1]))


def by_network(settings: Iterable[Setting]) -> Mapping[str, list[Setting]]:
    """Settings by network, in words."""
    found: dict[str, list[Setting]] = {}
    for setting in settings:
        found.setdefault(setting.network, []).append(setting)
    return found


def is_mixed(setting: Setting) -> bool:
    """Whether its noise has an amplitude and a ratio."""
    return setting.curve.noise in MIXED and setting.curve.ratio is not None
