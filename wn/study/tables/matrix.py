"""The robustness matrix of a setting: accuracy under σ at inference of networks trained under others."""

from itertools import groupby
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wn.study.tables.fit import FittedCurve
from wn.study.unit import MATRIX
from wn.walking.pictures.panels import heat_maps
from wn.walking.pictures.scales import numbers

Floats = NDArray[np.float64]


class Matrices(NamedTuple):
    """Mean accuracy over repeats, for each place (σ of training, σ), NaN where nothing is finished.

    sigma_train (T,), sigma (S,): those of all places, ascending.
    """

    sigma_train: Floats
    sigma: Floats
    by_place: dict[str, Floats]


def matrices(fits: list[FittedCurve], names: list[str]) -> Matrices | None:
    """The matrices of the curves of one setting, whose places have these names; None if there are none."""
    named = [(name, found) for name, found in zip(names, fits, strict=True) if _has_matrix(found)]
    if not named:
        return None
    sigma_train = np.unique([found.curve.sigma_train for _, found in named]).astype(np.float64)
    sigma = np.unique([point[0] for _, found in named for point in found.points]).astype(np.float64)
    by_place = {name: np.full((len(sigma_train), len(sigma)), np.nan) for name, _ in named}
    for name, found in named:
        row = by_place[name][sigma_train == found.curve.sigma_train][0]
        for level, points in groupby(sorted(found.points, key=lambda point: point[0]), lambda p: p[0]):
            row[sigma == level] = np.mean([point[-1] for point in points])
        by_place[name][sigma_train == found.curve.sigma_train] = row
    return Matrices(sigma_train, sigma, by_place)


def _has_matrix(found: FittedCurve) -> bool:
    return found.curve.phase == MATRIX and bool(found.points)


def matrix_figure(found: Matrices) -> Figure:
    """A heat map for each place; frames on the diagonal, where σ is that of training."""
    y, x = ([float(f"{s:.3g}") for s in levels] for levels in (found.sigma_train, found.sigma))
    figure = heat_maps(found.by_place, x, numbers(y), "σ at inference", "σ of training", "accuracy")
    maps = figure.axes[: len(found.by_place)]
    for axes in maps:
        for row, level in enumerate(found.sigma_train):
            for column in np.flatnonzero(found.sigma == level):
                corner = column - 0.5, row - 0.5
                axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="white", linewidth=1.2))
    return figure
