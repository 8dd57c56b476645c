"""The tables of a walk as structured arrays, and what run.json has beside them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.analysis.weights import STATISTICS, growth
from wn.fit.midpoint import Midpoint
from wn.walking.places import TRAINING, Place, Spread
from wn.walking.results import (
    CROSSING,
    CURVE_COLUMNS,
    FIT,
    MIDPOINT_COLUMNS,
    SIGNAL_COLUMNS,
    WEIGHT_COLUMNS,
    failure_columns,
    structured,
)
from wn.walking.walk import Walk

RunCells = tuple[str | int, ...]  # cells that all rows of a run begin with: data set to backend
CLEAN = "clean"  # the phase and the name of the place of networks that are trained without noise
Fits = Sequence[tuple[str, Place, Midpoint]]


def curve_table(cells: RunCells, walk: Walk) -> NDArray[Any]:
    """A row for each point with a result."""
    rows = [
        (*cells, phase, place.site, place.name, sigma, repeat, correct, walk.images, correct / walk.images)
        for phase, place, repeat, counts in walk.curves()
        for sigma, correct in zip(counts.sigma.tolist(), counts.correct.sum(axis=1).tolist(), strict=True)
    ]
    return structured(rows, CURVE_COLUMNS)


def failure_table(cells: RunCells, walk: Walk) -> NDArray[Any]:
    """A row for each point without a result."""
    rows = []
    for (phase, place, repeat, sigma), reason in sorted(walk.failures.items()):
        where = walk.places[place]
        rows.append((*cells, walk.phases[phase], where.site, where.name, walk.sigma[sigma], repeat, reason))
    return structured(rows, failure_columns(max(map(len, walk.failures.values()), default=1)))


def midpoint_table(cells: RunCells, fits: Fits) -> NDArray[Any]:
    """A row for each phase and place."""
    rows = [
        (*cells, phase, place.site, place.name, *(getattr(fit, name) for name in (*FIT, *CROSSING)))
        for phase, place, fit in fits
    ]
    return structured(rows, MIDPOINT_COLUMNS)


def weight_table(cells: RunCells, walk: Walk) -> NDArray[Any]:
    """A row for each trained network, layer and epoch: clean networks first."""
    norm, clean_norm = STATISTICS.index("norm"), walk.clean_weights[..., STATISTICS.index("norm")]
    nowhere = (CLEAN, int(Spread.NOWHERE), CLEAN, 0.0)
    networks = [((*nowhere, repeat), walk.clean_weights[repeat]) for repeat in range(walk.repeats)]
    for place, repeat, s in np.ndindex(walk.weights.shape[:3]):
        where, sigma = walk.places[place], float(walk.sigma[s])
        head = (TRAINING, where.site, where.name, sigma, repeat)
        networks.append((head, walk.weights[place, repeat, s]))
    rows = []
    for (*of_point, repeat), values in networks:  # values: (E, L, S)
        relative = growth(values[..., norm], clean_norm[repeat])  # (E, L)
        rows += [
            (*cells, *of_point, repeat, layer, epoch + 1, *values[epoch, number], relative[epoch, number])
            for number, layer in enumerate(walk.layers)
            for epoch in range(len(values))
            if not np.isnan(values[epoch, number, norm])
        ]
    return structured(rows, WEIGHT_COLUMNS)


def signal_table(cells: RunCells, walk: Walk) -> NDArray[Any]:
    """A row for each point and noisy site."""
    names, rows = walk.setup.network.site_names, []
    for (phase, place, repeat, s), pairs in sorted(walk.power.items()):
        where = walk.places[place]
        head = (walk.phases[phase], where.site, where.name, float(walk.sigma[s]), repeat)
        rows += [(*cells, *head, site, names[site], power) for site, power in pairs]
    return structured(rows, SIGNAL_COLUMNS)


def by_group(walk: Walk) -> dict[str, list[str]]:
    """Correct answers by group of test images, from which intervals follow, as numbers apart by spaces.

    One text per clean network, and one per row of the table of curves.
    """
    rows = [row for *_, counts in walk.curves() for row in counts.correct.tolist()]
    found = {"clean": walk.clean_counts.correct.tolist(), "curves": rows}
    return {name: [" ".join(map(str, counts)) for counts in texts] for name, texts in found.items()}


def fit_record(phase: str, place: Place, fit: Midpoint) -> dict[str, Any]:
    """The parts of a fit beside the columns of the table of midpoints."""
    names = ("location", "floor", "dispersion", "interval", "standard_error", "measured_crossing")
    return {"phase": phase, "site": place.site} | {name: getattr(fit, name) for name in names}
