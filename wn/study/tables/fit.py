"""Midpoints of a study: one per curve, that is per setting, phase and place, over its repeats and σ."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.engine.groups import group_sizes
from wn.files.whole import StrPath
from wn.fit.intervals import Counts, accuracy_of, fit_curve
from wn.fit.midpoint import Midpoint
from wn.study.store.reader import Reader, Row
from wn.study.store.rows import unpacked_groups
from wn.study.store.writer import Store
from wn.study.tables.results import Table, as_array

NO_CLEAN = "the clean network is not finished"
NO_UNIT = "nothing is finished"

_PLACE = {
    "dataset": "text",
    "model": "text",
    "batch_norm": "text",
    "clamp_weights": "bool",
    "noise": "text",
    "ratio": "float",
    "repetitions": "text",
    "phase": "text",
    "site": "int",
    "site_name": "text",
}
MIDPOINTS = _PLACE | {
    "midpoint": "float",
    "ci_low": "float",
    "ci_high": "float",
    "slope": "float",
    "reached": "bool",
    "clean_accuracy": "float",
    "chance": "float",
    "reason": "text",
    "repeats": "int",
    "units": "int",
    "missing": "int",
    "curve": "text",
    "measured_crossing": "float",
    "interval": "text",
}

_ROW = "units.repeat, units.sigma, units.correct, units.total, {groups}, units.clean_key, units.status"
_UNITS = f"""
SELECT {_ROW} FROM units JOIN study ON study.unit = units.id WHERE units.curve = ? ORDER BY study.position
"""
_CLEAN = f"SELECT {_ROW} FROM units WHERE key = ? AND status = 'done'"
_GROUPS = "(SELECT groups.correct FROM groups WHERE groups.unit = units.id)"


class StudyCurve(NamedTuple):
    """A curve of the study: its id and that of its settings, digest, spec, classes, and where it is."""

    id: int
    settings: int
    digest: str
    spec: str
    classes: int
    dataset: str
    model: str
    batch_norm: str
    clamp_weights: bool
    noise: str
    ratio: float | None
    repetitions: str
    phase: str
    site: int
    site_name: str

    @property
    def place(self) -> Row:
        """The columns of _PLACE."""
        return self[-len(_PLACE) :]


class FittedCurve(NamedTuple):
    """A curve with its midpoint, from `units` finished units of `repeats` repeats; `missing` more are not."""

    curve: StudyCurve
    midpoint: Midpoint
    repeats: int
    units: int
    missing: int

    @property
    def row(self) -> Row:
        """The columns of MIDPOINTS."""
        found = self.midpoint
        numbers = (found.midpoint, found.ci_low, found.ci_high, found.slope)
        return (
            *self.curve.place,
            *map(_number, numbers),
            found.reached,
            _number(found.clean_accuracy),
            1 / self.curve.classes,
            found.reason,
            self.repeats,
            self.units,
            self.missing,
            self.curve.digest,
            _number(found.measured_crossing),
            found.interval,
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
    rows = store.rows(
        """SELECT curves.id, curves.settings, curves.digest, curves.spec, settings.classes, settings.dataset,
                  settings.model, settings.batch_norm, settings.clamp_weights, settings.noise, settings.ratio,
                  settings.repetitions, curves.phase, curves.site, curves.site_name
           FROM (SELECT curve, min(position) AS position FROM study CROSS JOIN units ON units.id = study.unit
                 GROUP BY curve) AS found
               JOIN curves ON curves.id = found.curve JOIN settings ON settings.id = curves.settings
           WHERE settings.noise != 'none' ORDER BY found.position"""
    )
    return [StudyCurve(*row) for row in rows]


def fitted(store: Reader, curve: StudyCurve) -> FittedCurve:
    """One curve of the study with its midpoint."""
    units = list(store.rows(_with_groups(store, _UNITS), (curve.id,)))
    done = [unit for unit in units if unit[-1] == "done"]
    clean = _clean_rows(store, sorted({unit[5] for unit in units if unit[5] is not None}))
    grouped = all(unit[4] is not None for unit in (*done, *clean))
    repeats = [
        _counts([unit for unit in done if unit[0] == repeat], grouped)
        for repeat in sorted({unit[0] for unit in done})
    ]
    chance, clean_counts = 1 / curve.classes, _counts(clean, grouped)
    if clean and repeats:
        found = fit_curve(repeats, clean_counts, chance, curve.phase, curve.noise)
    else:
        found = Midpoint.not_reached(NO_UNIT if clean else NO_CLEAN, chance, accuracy_of(clean_counts))
    return FittedCurve(curve, found, len(repeats), len(done), len(units) - len(done))


def _with_groups(store: Reader, query: str) -> str:
    return query.format(groups=_GROUPS if store.has_groups else "NULL")


def _clean_rows(store: Reader, keys: list[bytes]) -> list[Row]:
    """The rows of the clean networks that are finished."""
    query = _with_groups(store, _CLEAN)
    return [row for key in keys for row in store.rows(query, (key,))]


def _counts(units: list[Row], grouped: bool) -> Counts:
    """The points of one repeat of a curve, or clean networks, from rows of _UNITS."""
    sigma, correct, total = (np.array([unit[column] for unit in units]) for column in (1, 2, 3))
    if not grouped or not units:
        return Counts(sigma, correct, total)
    by_group = np.stack([unpacked_groups(unit[4], unit[3]) for unit in units])
    return Counts(sigma, by_group, np.stack([group_sizes(images) for images in total.tolist()]))


def _number(value: float) -> float | None:
    """Return a number, None for NaN."""
    return None if math.isnan(value) else value
