"""Tables of predicted curves: predicted.csv, and the columns that midpoints.csv has more."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.walking.places import Place
from wn.walking.predicted.curves import Crossing, Predicted, crossing
from wn.walking.results import PREDICTED_COLUMNS, structured

CROSSING_NAMES = ("predicted_crossing", "predicted_low", "predicted_high", "predicted_by", "not_predicted")
Rows = NDArray[Any]


def predicted_table(cells: Sequence[str | int], predicted: Predicted) -> Rows:
    """A row for each predicted point; NaN where theory can't go."""
    rows = []
    for (phase, place, repeat), curve in sorted(predicted.curves.items()):
        where, method = predicted.places[place], ", ".join(curve.methods)
        head = (*cells, predicted.phases[phase], where.site, where.name)
        numbers = zip(predicted.sigma.tolist(), curve.accuracy.tolist(), curve.error.tolist(), strict=True)
        rows += [(*head, sigma, repeat, accuracy, error, method) for sigma, accuracy, error in numbers]
    return structured(rows, PREDICTED_COLUMNS)


def crossings(
    predicted: Predicted, wanted: Iterable[tuple[str, Place]], clean: Sequence[float], chance: float
) -> list[Crossing]:
    """The crossings at places in phases.

    Half-way is between chance and the clean accuracy on the images of the prediction or, for networks trained
    under noise, the `clean` one of each place.
    """
    found = []
    for (phase, place), measured in zip(wanted, clean, strict=True):
        curves = predicted.of(phase, place)
        own = float(np.mean([one.clean for one in curves])) if curves else np.nan
        found.append(crossing(predicted.sigma, curves, ((measured if np.isnan(own) else own) + chance) / 2))
    return found


def crossing_columns(found: Sequence[Crossing]) -> dict[str, str]:
    """The columns of crossings, whose reasons have the length that they need."""
    longest = max(1, *(len(one.reason) for one in found))
    kinds = ["f8", "f8", "f8", "U32", f"U{longest}"]
    return dict(zip(CROSSING_NAMES, kinds, strict=True))


def with_crossings(midpoints: Rows, found: Sequence[Crossing]) -> Rows:
    """The table of midpoints with five columns more: the predicted crossings."""
    table = np.zeros(len(midpoints), [*midpoints.dtype.descr, *crossing_columns(found).items()])
    for name in midpoints.dtype.names or ():
        table[name] = midpoints[name]
    for column, values in zip(CROSSING_NAMES, zip(*found, strict=True), strict=True):
        table[column] = values
    return table
