"""The tables of a walk as structured arrays, and what run.json has beside them."""

from typing import Any

import numpy as np

from wn.fit.midpoint import Midpoint
from wn.walking.curves import CleanResult, Curve, Failure
from wn.walking.places import Place
from wn.walking.results import CURVE_COLUMNS, MIDPOINT_COLUMNS, failure_columns


def by_group(clean: list[CleanResult], curves: list[Curve]) -> dict[str, list[str]]:
    """Correct answers by group of test images, from which intervals follow, as numbers apart by spaces.

    One text per clean network, and one per row of the table of curves.
    """
    rows = [row for curve in curves if curve.by_group is not None for row in curve.by_group.tolist()]
    found = {"clean": [result.by_group for result in clean], "curves": rows}
    return {name: [" ".join(map(str, counts)) for counts in texts] for name, texts in found.items()}


def fit_record(phase: str, place: Place, fit: Midpoint) -> dict[str, Any]:
    """What a fit has beside the columns of the table of midpoints."""
    names = ("location", "floor", "dispersion", "interval", "standard_error", "measured_crossing")
    return {"phase": phase, "site": place.site} | {name: getattr(fit, name) for name in names}


def curve_table(prefix: tuple[str | int, ...], curves: list[Curve]) -> Any:
    rows = [
        (
            *prefix,
            curve.phase,
            curve.place.site,
            curve.place.name,
            float(sigma),
            curve.repeat,
            int(correct),
            curve.total,
            int(correct) / curve.total,
        )
        for curve in curves
        for sigma, correct in zip(curve.sigma, curve.correct, strict=True)
    ]
    return np.array(rows, CURVE_COLUMNS)


def failure_table(prefix: tuple[str | int, ...], failures: list[Failure]) -> Any:
    rows = [
        (*prefix, found.phase, found.place.site, found.place.name, found.sigma, found.repeat, found.reason)
        for found in failures
    ]
    return np.array(rows, failure_columns(max((len(found.reason) for found in failures), default=1)))


def midpoint_table(prefix: tuple[str | int, ...], fits: list[tuple[str, Place, Midpoint]]) -> Any:
    rows = [
        (
            *prefix,
            phase,
            place.site,
            place.name,
            fit.midpoint,
            fit.ci_low,
            fit.ci_high,
            fit.slope,
            fit.reached,
            fit.clean_accuracy,
        )
        for phase, place, fit in fits
    ]
    return np.array(rows, MIDPOINT_COLUMNS)
