"""The section about binarisation: activations at the noisy site, and weights, before and after training."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from wn.study.report.found import Found, Setting, mean_line
from wn.study.report.layers import TRAINED_SIGMA, Levels, Values, layer_parts, several_levels
from wn.study.tables.results import BINARISATION
from wn.walking.pictures.panels import Line, by_category, lines
from wn.walking.report.page import Picture, Section, Table

_WORDS = {
    "accuracy": "accuracy",
    "zeros": "share of zeros",
    "decided": "decided pairs",
    "spread": "spread of non-zeros",
    "bimodality": "bimodality",
    "pattern": "accuracy, pattern alone",
    "signs": "accuracy, random signs",
}
_OF_WEIGHTS = {"spread": "spread of non-zero weights", "bimodality": "bimodality of weights"}
_QUANTITIES = tuple(BINARISATION)[2:]
_UNITS = f"""
SELECT units.curve, {TRAINED_SIGMA}, units.repeat, lower(hex(units.key)), lower(hex(units.clean_key)),
       binarisation.place, CASE WHEN units.sigma = {TRAINED_SIGMA} THEN units.correct * 1.0 / units.total END,
       {", ".join(f"binarisation.{name}" for name in _QUANTITIES)}
FROM study CROSS JOIN units ON units.id = study.unit
    CROSS JOIN curves ON curves.id = units.curve
    CROSS JOIN binarisation ON binarisation.unit = units.id
WHERE units.status = 'done' ORDER BY units.sigma = {TRAINED_SIGMA}, study.position
"""  # of several units of a matrix's network that on the diagonal is the last
MOST_LEVELS = 5  # σ > 0 of a place in a table: pictures have all

_TEXT = (
    "What becomes binary in networks trained under noise at a place. Activations there: the share of "
    "zeros; the share of pairs (unit, class) that are almost always on or off; the spread of the values "
    "that are not zero, 0 if all have one size; their bimodality, 1 for two values, 5/9 for uniform ones; "
    "the accuracy when only the pattern of zeros and non-zeros is kept, and when signs are drawn at "
    "random. σ is that of the training; at σ = 0 stands the clean network of the same seed. Lines are "
    "means over repeats, bands and bars go from the lowest to the highest.",
    "A network of a matrix is evaluated under the σ of its training too, or, where the matrix has none like "
    "it, under its first σ: then it has no accuracy here, and those with the pattern and with random signs "
    "are under that first σ.",
)


class _Seen(NamedTuple):
    """A network with its σ of training, repeat, and clean twin; `places` has the quantities of _WORDS."""

    sigma: float
    repeat: int
    twin: str | None
    places: dict[str, tuple[float | None, ...]]


def binarisation_section(found: Found) -> Section | None:
    """Binarisation of activations and weights, if the study observes it."""
    if not found.store.has_binarisation:
        return None
    networks: dict[str, _Seen] = {}
    of_curves: dict[int, dict[str, _Seen]] = {}
    for curve, sigma, repeat, key, twin, place, *values in found.store.rows(_UNITS):
        network = networks.setdefault(key, _Seen(sigma, repeat, twin, {}))
        network.places[place] = tuple(values)
        of_curves.setdefault(curve, {})[key] = network
    parts: list[Picture | Table] = []
    for setting in found.settings:
        seen = {
            one.place: _with_twins([of_curves.get(curve, {}) for curve in one.curves], networks)
            for one in setting.trained
        }
        parts += _activations(setting, seen)
        parts += _weights(setting, seen)
    text = _TEXT if any(setting.matrices for setting in found.settings) else _TEXT[:1]
    return Section("Binarisation", text, parts) if parts else None


def _with_twins(curves: list[dict[str, _Seen]], networks: dict[str, _Seen]) -> list[_Seen]:
    """The networks of some curves, each once, and their clean twins at σ = 0."""
    once: dict[tuple[float, int], _Seen] = {}
    for network in (network for curve in curves for network in curve.values()):
        once[network.sigma, network.repeat] = network
        clean = networks.get(network.twin or "")
        if clean is not None:
            once.setdefault((0.0, network.repeat), clean._replace(sigma=0.0))
    return list(once.values())


def _levels(seen: Iterable[_Seen], place: str) -> dict[str, Levels]:
    """Each quantity of a place by σ, with a value for each repeat."""
    found: dict[str, Levels] = {}
    for network in seen:
        for name, value in zip(_WORDS, network.places.get(place, ()), strict=False):
            if value is not None and np.isfinite(value):
                found.setdefault(name, {}).setdefault(network.sigma, []).append(value)
    return found


# ---- activations ------------------------------------------------------------------------------------------


def _activations(setting: Setting, seen: dict[str, list[_Seen]]) -> Iterator[Picture | Table]:
    """A picture over σ, or over places where there is one σ, and a table of places and σ."""
    found = {one.place: _levels(seen[one.place], one.site_name) for one in setting.trained}
    found = {place: levels for place, levels in found.items() if levels}
    if not found:
        return
    if any(several_levels(levels) for of_place in found.values() for levels in of_place.values()):
        panels = {
            place: {_WORDS[name]: mean_line(levels) for name, levels in of_place.items()}
            for place, of_place in found.items()
        }
        figure = lines(panels, "noise level σ in training", "share or coefficient")
    else:
        figure = by_category(_by_quantity(found), list(found), "share or coefficient")
    yield Picture(figure, f"{setting.title}: activations at the place of the noise.")
    rows = [row for place, of_place in found.items() for row in _rows(place, of_place)]
    some = any(len(_noisy(of_place)) > MOST_LEVELS for of_place in found.values())
    which = "some σ of training, the largest among them" if some else "σ of training"
    caption = f"{setting.title}: activations at the place of the noise, by {which}; means over repeats"
    yield Table(caption, ("place", "σ", *_WORDS.values()), rows)


def _by_quantity(found: dict[str, dict[str, Levels]]) -> dict[str, dict[str, Line]]:
    """A panel for each quantity, over places: networks trained clean, and under the one σ of each place."""
    panels: dict[str, dict[str, Line]] = {}
    for name, words in _WORDS.items():
        for series, is_noisy in (("trained clean", False), ("trained under noise", True)):
            points = [
                (float(index), np.mean(values), np.min(values), np.max(values))
                for index, of_place in enumerate(found.values())
                for sigma, values in of_place.get(name, {}).items()
                if (sigma > 0) == is_noisy
            ]
            if points:
                panels.setdefault(words, {})[series] = Line(*np.array(points).T)
    return panels


def _noisy(of_place: dict[str, Levels]) -> list[float]:
    return sorted({sigma for levels in of_place.values() for sigma in levels if sigma > 0})


def _rows(place: str, of_place: dict[str, Levels]) -> Iterator[list[Any]]:
    """A row for σ = 0, and for at most MOST_LEVELS others, evenly from the smallest to the largest."""
    noisy = _noisy(of_place)
    chosen = np.unique(np.linspace(0, len(noisy) - 1, min(len(noisy), MOST_LEVELS)).round().astype(int))
    for sigma in (0.0, *(noisy[index] for index in chosen)):
        values = [of_place.get(name, {}).get(sigma) for name in _WORDS]
        if any(values):
            yield [place, sigma, *(float(np.mean(found)) if found else None for found in values)]


# ---- weights ----------------------------------------------------------------------------------------------


def _weights(setting: Setting, seen: dict[str, list[_Seen]]) -> Iterator[Picture | Table]:
    """Spread and bimodality of each layer's weights."""
    for name, what in _OF_WEIGHTS.items():
        values: Values = {}
        for one in setting.trained:
            places = dict.fromkeys(place for network in seen[one.place] for place in network.places)
            for layer in (place for place in places if place.endswith(".weight")):
                levels = _levels(seen[one.place], layer).get(name)
                if levels:
                    values.setdefault(one.place, {})[layer.removesuffix(".weight")] = levels
        if values:
            yield from layer_parts(values, setting, what, None)
