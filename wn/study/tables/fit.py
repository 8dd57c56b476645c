"""Midpoints of a study: one per curve, that is per setting, phase and place, over its repeats and σ."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from wn.basics.groups import group_sizes
from wn.engine.noise_spec import NoiseSpec
from wn.files.whole import StrPath
from wn.fit.intervals import Counts, fit_curve
from wn.fit.midpoint import NEVER_FALLS, Midpoint
from wn.study.declare.derived import MidpointsOf
from wn.study.declare.resolve import StudyNetwork
from wn.study.store.reader import CURVES, Reader, Row
from wn.study.store.rows import unpacked_groups
from wn.study.store.writer import Store
from wn.study.tables.labels import with_labels
from wn.study.tables.results import CURVE, CURVE_CELLS, Table, as_array
from wn.study.unit import MATRIX
from wn.walking.places import INFERENCE
from wn.walking.results import FIT

NO_CLEAN = "the clean network is not finished"
NO_SMALLEST = "the smallest σ is not finished"
NO_UNIT = "nothing is finished"

_COUNTS = dict.fromkeys(("repeats", "units", "missing"), "i8")
_REST = {"curve": "U", "measured_crossing": "f8", "interval": "U"}
_BOUNDS = dict.fromkeys(("crossing_low", "crossing_high"), "f8")
MIDPOINTS = CURVE | FIT | {"chance": "f8", "reason": "U"} | _COUNTS | _REST | _BOUNDS

_ROW = "units.sigma, units.repeat, units.correct, units.total, {groups}, units.clean_key, units.status"
_UNITS = f"""
SELECT {_ROW} FROM units JOIN study ON study.unit = units.id WHERE units.curve = ? ORDER BY study.position
"""
_CLEAN = f"SELECT {_ROW} FROM units WHERE key = ? AND status = 'done'"
_SPECS = "SELECT id, spec FROM settings"
_GROUPS = "(SELECT groups.correct FROM groups WHERE groups.unit = units.id)"


class _Unit(NamedTuple):
    """The columns of _ROW."""

    sigma: float
    repeat: int
    correct: int
    total: int
    groups: bytes | None
    clean_key: bytes | None
    status: str


class StudyCurve(NamedTuple):
    """A curve of the study: its id and that of its settings, digest, specs, classes, and where it is."""

    id: int
    settings: int
    digest: str
    spec: str
    settings_spec: str
    classes: int
    dataset: str
    model: str
    batch_norm: str
    clamp_weights: bool
    noise: str
    ratio: float | None
    repetitions: str
    order: str
    sigma_mul: float | None
    mean_mul: float | None
    mean_add: float | None
    distribution: str
    label: str
    phase: str
    site: int
    site_name: str
    sigma_train: float | None

    @property
    def chance(self) -> float:
        """The accuracy of a guess: 1/K of the catalogue's data, of the user's own as `Dataset.chance`."""
        own = msgspec.json.decode(self.settings_spec).get("own")
        return 1 / self.classes if own is None else float(own["chance"])

    @property
    def place(self) -> Row:
        """The columns of CURVE."""
        return self[-len(CURVE) :]


class FittedCurve(NamedTuple):
    """A curve with its midpoint, from finished units with these points; `missing` more are not finished.

    `levels` are the σ of all its units, ascending.
    """

    curve: StudyCurve
    midpoint: Midpoint
    points: list[Row]  # the columns of POINT
    missing: int
    levels: tuple[float, ...]

    @property
    def row(self) -> Row:
        """The columns of MIDPOINTS."""
        found = self.midpoint
        return (
            *self.curve.place,
            *(_number(getattr(found, name)) for name in FIT),
            self.curve.chance,
            found.reason,
            len({repeat for _, repeat, *_ in self.points}),
            len(self.points),
            self.missing,
            self.curve.digest,
            _number(found.measured_crossing),
            found.interval,
            *(_number(getattr(found, name)) for name in _BOUNDS),
        )


def fit(folder: StrPath) -> NDArray[Any]:
    """Return the midpoints of a study as a structured array, one row per curve in the order of the study.

    Curves are fitted from what is finished; `missing` says how many of their units are not.
    """
    with Store.read(folder) as store, store.snapshot():
        return as_array(midpoints(store))


def midpoints(store: Reader) -> Table:
    """The midpoint of each curve of the study, fitted when its row is asked for."""
    return Table(MIDPOINTS, (fitted(store, curve).row for curve in study_curves(store)))


def study_curves(store: Reader) -> list[StudyCurve]:
    """Return the curves under noise, in the order of the study."""
    with_labels(store)
    rows = store.rows(
        f"""SELECT curves.id, curves.settings, curves.digest, curves.spec, settings.spec, settings.classes,
                   {CURVE_CELLS}
            {CURVES} WHERE settings.noise != 'none' ORDER BY found.position"""
    )
    return [StudyCurve(*row) for row in rows]


def midpoints_of(store: Reader) -> MidpointsOf:
    """The midpoints that a study has found at inference, for the entries that wait for them.

    inf where accuracy never falls half-way; places whose curve gives no midpoint for another reason are left
    out.
    """
    settings = {number: msgspec.json.decode(text) for number, text in store.rows(_SPECS)}
    curves = [curve for curve in study_curves(store) if curve.phase == INFERENCE]

    def midpoints(network: StudyNetwork, clamp: bool, operator: NoiseSpec) -> dict[str, float]:
        key, noise = (
            (network.dataset, network.model, network.batch_norm, clamp),
            msgspec.to_builtins(operator),
        )
        found = {}
        for curve in curves:
            of_network = (curve.dataset, curve.model, curve.batch_norm, bool(curve.clamp_weights))
            if of_network == key and settings[curve.settings]["noise"] == noise:
                fit = fitted(store, curve).midpoint
                if fit.reached or fit.reason == NEVER_FALLS:
                    found[curve.site_name] = fit.midpoint if fit.reached else math.inf
        return found

    return midpoints


def fitted(store: Reader, curve: StudyCurve) -> FittedCurve:
    """One curve of the study with its midpoint.

    That of a matrix is about networks trained under noise: it is half-way from their own accuracy at the
    smallest σ to chance.
    """
    groups = _GROUPS if store.has_groups else "NULL"

    def rows(query: str, value: int | bytes) -> list[_Unit]:
        return [_Unit(*row) for row in store.rows(query.format(groups=groups), (value,))]

    units = rows(_UNITS, curve.id)
    done = [unit for unit in units if unit.status == "done"]
    if curve.phase == MATRIX:
        smallest = min(unit.sigma for unit in units)
        clean = [unit for unit in done if unit.sigma == smallest]
    else:
        clean_keys = sorted({unit.clean_key for unit in units if unit.clean_key is not None})
        clean = [unit for key in clean_keys for unit in rows(_CLEAN, key)]
    grouped = all(unit.groups is not None for unit in (*done, *clean))
    repeats = [
        _counts([unit for unit in done if unit.repeat == repeat], grouped)
        for repeat in sorted({unit.repeat for unit in done})
    ]
    unfinished = NO_SMALLEST if curve.phase == MATRIX else NO_CLEAN
    missing, even = NO_UNIT if clean else unfinished, curve.chance == 1 / curve.classes
    counts = _counts(clean, grouped)
    found = fit_curve(repeats, counts, curve.chance, curve.phase, curve.noise, missing, even)
    points: list[Row] = [(*unit[:4], unit.correct / unit.total) for unit in done]
    levels = sorted({unit.sigma for unit in units})
    return FittedCurve(curve, found, points, len(units) - len(done), tuple(levels))


def by_setting(curves: Sequence[StudyCurve]) -> list[list[StudyCurve]]:
    """Curves of the same settings together, settings in the order of their first curve."""
    found: dict[int, list[StudyCurve]] = {}
    for curve in curves:
        found.setdefault(curve.settings, []).append(curve)
    return list(found.values())


def _counts(units: list[_Unit], grouped: bool) -> Counts:
    """The points of one repeat of a curve, or clean networks."""
    sigma, correct, total = (
        np.array([getattr(unit, name) for unit in units]) for name in ("sigma", "correct", "total")
    )
    if not grouped or not units:
        return Counts(sigma, correct, total)
    by_group = np.stack([unpacked_groups(unit.groups or b"", unit.total) for unit in units])
    return Counts(sigma, by_group, np.stack([group_sizes(images) for images in total.tolist()]))


def _number(value: float) -> float | None:
    """Return a number, None for NaN."""
    return None if math.isnan(value) else value
