"""The section about binarisation: activations at the noisy site, and weights, before and after training."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from wn.study.report.found import Found, Setting, mean_line, trained
from wn.study.tables.fit import FittedCurve
from wn.study.tables.results import BINARISATION
from wn.walking.pictures.panels import Line, lines
from wn.walking.report.page import Picture, Section, Table

_QUANTITIES = tuple(BINARISATION)[2:]
_WORDS = {
    "zeros": "share of zeros",
    "decided": "decided pairs",
    "spread": "spread of non-zeros",
    "bimodality": "bimodality",
    "pattern": "accuracy with the pattern alone",
    "signs": "accuracy with random signs",
}
_UNITS = f"""
SELECT units.curve, units.sigma, lower(hex(units.key)), lower(hex(units.clean_key)), binarisation.place,
       {", ".join(f"binarisation.{name}" for name in _QUANTITIES)}
FROM study CROSS JOIN units ON units.id = study.unit CROSS JOIN binarisation ON binarisation.unit = units.id
WHERE units.status = 'done' ORDER BY study.position
"""
_TEXT = (
    "What becomes binary in networks trained under noise at a place. Activations there: the share of "
    "zeros; the share of pairs (unit, class) that are almost always on or off; the spread of the values "
    "that are not zero, 0 if all have one size; their bimodality, 1 for two values, 5/9 for uniform ones; "
    "the accuracy when only the pattern of zeros and non-zeros is kept, and when signs are drawn at "
    "random. At σ = 0 stands the clean network of the same seed. Lines are means over repeats, bands go "
    "from the lowest to the highest.",
)


class _Seen(NamedTuple):
    """What was seen in one network: the values by place, and the key of its clean twin."""

    sigma: float
    twin: str | None
    places: dict[str, tuple[float | None, ...]]


def binarisation_section(found: Found) -> Section | None:
    """Binarisation of activations and weights, if the study observes it."""
    if not found.store.has_binarisation:
        return None
    networks: dict[str, _Seen] = {}
    of_curves: dict[int, dict[str, _Seen]] = {}
    for curve, sigma, key, twin, place, *values in found.store.rows(_UNITS):
        network = networks.setdefault(key, _Seen(sigma, twin, {}))
        network.places[place] = tuple(values)
        of_curves.setdefault(curve, {})[key] = network
    parts: list[Picture | Table] = []
    for setting in found.settings:
        parts += _parts(setting, networks, of_curves)
    return Section("Binarisation", _TEXT, parts) if parts else None


def _parts(
    setting: Setting, networks: dict[str, _Seen], of_curves: dict[int, dict[str, _Seen]]
) -> Iterator[Picture | Table]:
    """A picture if there are several σ; tables of clean networks and of those at the largest σ."""
    panels: dict[str, dict[str, Line]] = {}
    rows, weights = [], dict[str, list[tuple[float, ...]]]()
    for place, fit in trained(setting):
        seen = of_curves.get(fit.curve.id, {}).values()
        with_site = [network for network in seen if fit.curve.site_name in network.places]
        if not with_site:
            continue
        found = _lines(with_site, fit.curve.site_name, networks)
        panels[place] = {"accuracy": _accuracy(fit)} | found
        rows.append([place, *_cells(found, with_site)])
        for layer, values in _weights(with_site, networks):
            weights.setdefault(layer, []).append(values)
    if not rows:
        return
    if any(line.x.size > 1 for panel in panels.values() for line in panel.values()):
        figure = lines(panels, "noise level σ in training", "share or coefficient")
        yield Picture(figure, f"{setting.title}: activations at the place of the noise.")
    columns = ("place", "σ", *(f"{_WORDS[name]}, clean → noisy" for name in _QUANTITIES))
    yield Table(f"{setting.title}: activations, clean and at the largest σ", columns, rows)
    if weights:
        columns = ("layer", "spread, clean", "spread, noisy", "bimodality, clean", "bimodality, noisy")
        caption = f"{setting.title}: weights, clean and at the largest σ, from place to place of the noise"
        yield Table(caption, columns, [[layer, *_ranges(values)] for layer, values in weights.items()])


def _lines(seen: list[_Seen], site: str, networks: dict[str, _Seen]) -> dict[str, Line]:
    """Each quantity against σ, with the clean twins at σ = 0."""
    found: dict[str, Line] = {}
    for index, name in enumerate(_QUANTITIES):
        levels: dict[float, list[float]] = {}
        for network in seen:
            _add(levels, network.sigma, network.places[site][index])
        for twin in {network.twin: None for network in seen}:
            clean = networks.get(twin or "")
            _add(levels, 0.0, clean.places.get(site, (None,) * len(_QUANTITIES))[index] if clean else None)
        if levels:
            found[_WORDS[name]] = mean_line(levels)
    return found


def _accuracy(fit: FittedCurve) -> Line:
    """Accuracy as it is, with that of clean networks at σ = 0."""
    levels: dict[float, list[float]] = {}
    for sigma, *_, accuracy in fit.points:
        _add(levels, sigma, accuracy)
    _add(levels, 0.0, fit.midpoint.clean_accuracy)
    return mean_line(levels)


def _add(levels: dict[float, list[float]], sigma: float, value: float | None) -> None:
    if value is not None and np.isfinite(value):
        levels.setdefault(sigma, []).append(value)


def _cells(panel: dict[str, Line], seen: list[_Seen]) -> list[Any]:
    largest = max(network.sigma for network in seen)
    cells: list[Any] = [largest]
    for name in _QUANTITIES:
        line = panel.get(_WORDS[name])
        at = {} if line is None else dict(zip(line.x.tolist(), line.y.tolist(), strict=True))
        cells.append(" → ".join(f"{at[s]:.3f}" if s in at else "?" for s in (0.0, largest)) if at else None)
    return cells


def _weights(seen: list[_Seen], networks: dict[str, _Seen]) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Layer by layer: spread and bimodality, clean and noisy, of the networks at the largest σ."""
    largest = max(network.sigma for network in seen)
    for network in seen:
        clean = networks.get(network.twin or "")
        if network.sigma != largest or clean is None:
            continue
        for layer in (place for place in network.places if place.endswith(".weight")):
            pairs = zip(clean.places.get(layer, ()), network.places[layer], strict=False)
            values = dict(zip(_QUANTITIES, pairs, strict=False))
            if values:
                cells = (*values["spread"], *values["bimodality"])
                yield layer, tuple(np.nan if value is None else value for value in cells)


def _ranges(values: list[tuple[float, ...]]) -> list[str]:
    """The lowest and the highest of each column."""
    columns = np.array(values, np.float64).T
    return [
        f"{np.nanmin(column):.3f} … {np.nanmax(column):.3f}" if np.isfinite(column).any() else ""
        for column in columns
    ]
