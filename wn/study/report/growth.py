"""Sections about what training under noise does to weights: their growth, and their share at the bounds."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from wn.analysis.weights import STATISTICS
from wn.study.report.found import Found, Setting, mean_line, trained
from wn.study.tables.fit import FittedCurve
from wn.study.tables.results import with_growth
from wn.walking.pictures.panels import Line, lines
from wn.walking.report.page import Picture, Section, Table

_UNITS = """
SELECT units.curve, units.sigma, own.layers, own.statistics, clean.layers, clean.statistics
FROM study CROSS JOIN units ON units.id = study.unit
    CROSS JOIN weights AS own ON own.unit = units.id
    CROSS JOIN units AS twin ON twin.key = units.clean_key
    CROSS JOIN weights AS clean ON clean.unit = twin.id
WHERE units.status = 'done' ORDER BY study.position
"""
GROWTH, AT_BOUND = len(STATISTICS), STATISTICS.index("at_bound")  # places among the statistics
SEEN = 0.001  # share of weights at ±1 that is worth a picture

_TEXT = (
    "Norm of a layer's weights after training under noise, over that of the same layer in the clean twin: "
    "the network of the same seed, trained without noise. A panel for each place of the noise, a line for "
    "each layer: the mean over repeats, and the band from the lowest to the highest. Above 1 the weights "
    "have grown."
)
_BOUND = (
    "Share of the weights of a layer with |w| ≥ 1. Clamping keeps weights within [−1, 1], so that under it "
    "this is how many are at an end."
)

Levels = dict[float, list[float]]  # by σ: a value for each repeat
Values = dict[tuple[str, str], Levels]  # by place and layer


def growth_sections(found: Found) -> Iterator[Section]:
    """Growth of weights, and weights at the bounds, of networks trained under noise."""
    units: dict[int, list[Any]] = {}
    for curve, sigma, *packed in found.store.rows(_UNITS):
        statistics = with_growth(*packed)
        last = statistics.values[-1].copy()  # (L, S + 1); of all epochs there may be gigabytes
        units.setdefault(curve, []).append((sigma, statistics.layers, last))
    grown, bound = list[Picture | Table](), list[Picture | Table]()
    for setting in found.settings:
        growth, share = _values(setting, units, GROWTH), _values(setting, units, AT_BOUND)
        if growth:
            grown += _parts(growth, setting, "‖w‖ / clean ‖w‖", 1.0)
        if any(max(map(max, levels.values())) > SEEN for levels in share.values()):
            bound += _parts(share, setting, "share of |w| ≥ 1", None)
    if grown:
        yield Section("Growth of weights", [_TEXT], grown)
    if bound:
        yield Section("Weights at ±1", [_BOUND], bound)


def _values(setting: Setting, units: dict[int, list[Any]], statistic: int) -> Values:
    """A statistic after the last epoch, by place and layer."""
    values: Values = {}
    for place, fit in trained(setting):
        for sigma, layers, last in units.get(fit.curve.id, ()):
            for layer, value in zip(layers, last[:, statistic].tolist(), strict=True):
                if np.isfinite(value):
                    values.setdefault((place, layer), {}).setdefault(sigma, []).append(value)
    return values


def _parts(values: Values, setting: Setting, what: str, level: float | None) -> Iterator[Picture | Table]:
    """A picture if there are several σ, and a table of the values at the largest σ up to the midpoint."""
    panels: dict[str, dict[str, Line]] = {}
    for (place, layer), levels in values.items():
        panels.setdefault(place, {})[layer] = mean_line(levels)
    if any(line.x.size > 1 for panel in panels.values() for line in panel.values()):
        figure = lines(panels, "noise level σ in training", what, log_y=level is not None, level=level)
        yield Picture(figure, f"{setting.title}: {what}, after the last epoch.")
    layers = list(dict.fromkeys(layer for _, layer in values))
    rows = [
        _row(fit, {x: values[place, x] for x in layers if (place, x) in values}, place, layers)
        for place, fit in trained(setting)
        if place in panels
    ]
    caption = f"{setting.title}: {what}, at the largest σ up to the midpoint in training"
    yield Table(caption, ("place of the noise", "σ", "accuracy", *layers), rows)


def _row(fit: FittedCurve, values: dict[str, Levels], place: str, layers: list[str]) -> list[Any]:
    """σ, accuracy, and the mean of each layer there: beyond the midpoint networks no longer learn."""
    levels = sorted({sigma for of_layer in values.values() for sigma in of_layer})
    below = [sigma for sigma in levels if not sigma > fit.midpoint.midpoint]  # all, if it is not reached
    sigma = max(below or levels[:1])
    accuracy = [point[-1] for point in fit.points if point[0] == sigma]
    means = [float(np.mean(values[x][sigma])) if sigma in values.get(x, {}) else None for x in layers]
    return [place, sigma, float(np.mean(accuracy)) if accuracy else None, *means]
