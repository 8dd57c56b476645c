"""The section of a report on predicted curves, and their picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wn.walking.pictures.drawing import save
from wn.walking.pictures.panels import Line, fitted_curves
from wn.walking.pictures.plots import Tables
from wn.walking.report.curves import PHASES, Curve, by_place, crossing_text, fitted_of, label
from wn.walking.report.numbers import with_interval
from wn.walking.report.page import Section, Table

_TEXT = (
    "The dashed lines are what theory expects of the accuracy on {images} test images, without drawing any "
    "noise; their bands are the estimate of the error. Compare crossings, measured and predicted: the "
    "midpoint is that of a logistic curve. Predictions are of fewer images than measurements, which moves "
    "them by the "
    "scatter of those images.",
    "Methods: exact where nothing but affine layers comes behind the noise; elsewhere Gaussian moments, "
    "corrected by conditioning on a few directions of the noise.",
)


def line_at(predicted: Any, phase: str, site: int) -> Line | None:
    """The mean of the repeats' predicted curves at a place, with its error; None where there is none."""
    rows = predicted[(predicted["phase"] == phase) & (predicted["site"] == site)]
    if not rows.size or not np.isfinite(rows["accuracy"]).any():
        return None
    sigma = np.unique(rows["sigma"])
    accuracy, error = (
        np.array([rows[name][rows["sigma"] == level].mean() for level in sigma])
        for name in ("accuracy", "error")
    )
    return Line(sigma, accuracy, accuracy - error, accuracy + error)


def plot_predicted(curves: Sequence[Curve], chance: float, path: Path) -> None:
    """Draw measured and predicted curves, a panel for each place, into a file."""
    fits = {
        place: {phase: fitted_of(one) for phase, one in row.items()}
        for place, row in by_place(curves).items()
    }
    save(fitted_curves(fits, chance), path)


def section(curves: Sequence[Curve], tables: Tables, run: Mapping[str, Any]) -> Section | None:
    """Predicted crossings beside measured ones; None where nothing was predicted."""
    if not tables.predicted.size:
        return None
    rows: list[list[Any]] = []
    for curve, row in zip(curves, tables.midpoints, strict=True):
        crossing, measured = row["predicted_crossing"], row["measured_crossing"]
        there = bool(np.isfinite(crossing))
        expected = with_interval(crossing, row["predicted_low"], row["predicted_high"]) if there else None
        ratio = float(crossing / measured) if there and curve.fit.reached else None
        why = str(row["predicted_by"]), str(row["not_predicted"])
        place = label(curve.site, curve.place)
        rows.append([place, PHASES[curve.phase], crossing_text(curve.fit), expected, ratio, *why])
    columns = ("place", "phase", "measured [95 %]", "predicted [error]", "ratio", "method", "why not")
    images = run.get("predicted", {}).get("images", "the first")
    paragraphs = [part.format(images=images) for part in _TEXT]
    return Section("Predicted", paragraphs, [Table("Crossings, measured and predicted", columns, rows)])
