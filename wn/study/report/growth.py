"""Sections about what training under noise does to weights: their growth, and their share at the bounds."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.analysis.weights import STATISTICS
from wn.study.report.found import Found, Setting
from wn.study.report.layers import TRAINED_SIGMA, Values, layer_parts
from wn.study.tables.results import with_growth
from wn.walking.report.page import Picture, Section, Table

_UNITS = f"""
SELECT units.curve, {TRAINED_SIGMA}, units.repeat, own.layers, own.statistics, clean.layers, clean.statistics
FROM study CROSS JOIN units ON units.id = study.unit
    CROSS JOIN curves ON curves.id = units.curve
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
    "have grown. σ is always that of the training, and accuracy is under the same σ, where it was measured."
)
_BOUND = (
    "Share of the weights of a layer with |w| ≥ 1. Clamping keeps weights within [−1, 1], so that under it "
    "this is how many are at an end."
)


class _Network(NamedTuple):
    """A network trained under noise: its statistics after the last epoch, (L, S + 1)."""

    sigma: float
    repeat: int
    layers: tuple[str, ...]
    last: NDArray[np.float32]


def growth_sections(found: Found) -> Iterator[Section]:
    """Growth of weights, and weights at the bounds, of networks trained under noise."""
    networks: dict[int, list[_Network]] = {}  # by curve
    for curve, sigma, repeat, *packed in found.store.rows(_UNITS):
        statistics = with_growth(*packed)
        last = statistics.values[-1].copy()  # of all epochs there may be gigabytes
        networks.setdefault(curve, []).append(_Network(sigma, repeat, statistics.layers, last))
    grown, bound = list[Picture | Table](), list[Picture | Table]()
    for setting in found.settings:
        growth, share = _values(setting, networks, GROWTH), _values(setting, networks, AT_BOUND)
        if growth:
            grown += layer_parts(growth, setting, "‖w‖ / clean ‖w‖", 1.0)
        if any(max(map(max, levels.values())) > SEEN for of in share.values() for levels in of.values()):
            bound += layer_parts(share, setting, "share of |w| ≥ 1", None)
    if grown:
        yield Section("Growth of weights", [_TEXT], grown)
    if bound:
        yield Section("Weights at ±1", [_BOUND], bound)


def _values(setting: Setting, networks: dict[int, list[_Network]], statistic: int) -> Values:
    """A statistic after the last epoch, by place and layer; each network counts once."""
    values: Values = {}
    for trained in setting.trained:
        once = {
            (network.sigma, network.repeat): network
            for curve in trained.curves
            for network in networks.get(curve, ())
        }
        for network in once.values():
            for layer, value in zip(network.layers, network.last[:, statistic].tolist(), strict=True):
                if np.isfinite(value):
                    levels = values.setdefault(trained.place, {}).setdefault(layer, {})
                    levels.setdefault(network.sigma, []).append(value)
    return values
