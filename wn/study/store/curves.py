"""Curves and their settings: what many units share is written once.

A grid of 635,000 units has a few thousand curves; with the whole spec in each row its file would be several
times as large.
"""

import hashlib
import sqlite3
from functools import lru_cache
from typing import Any

import msgspec

from wn.study.store.rows import OF_CURVE, OF_UNIT, UnitRow

REMEMBERED = 4000  # curves


class Curves:
    """Finds the curve of each unit within one transaction, and adds those that are new."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._id = lru_cache(REMEMBERED)(self._curve)

    def id_of(self, row: UnitRow) -> int:
        """Return the id of the curve that a unit belongs to."""
        return self._id(row.spec, row.classes)

    def _curve(self, text: bytes, classes: int) -> int:
        spec = {name: value for name, value in msgspec.json.decode(text).items() if name not in OF_UNIT}
        noise = spec.get("noise") or {"kind": "none"}
        settings_text = _text({name: value for name, value in spec.items() if name not in OF_CURVE})
        settings = self._added(
            "settings",
            digest=_digest(settings_text),
            classes=classes,
            **{name: spec[name] for name in ("dataset", "model", "batch_norm", "clamp_weights", "epochs")},
            seed=str(spec["seed"]),
            noise=noise["kind"],
            ratio=noise.get("ratio"),
            repetitions=_words(noise.get("repetitions", 1)),
            spec=settings_text,
        )
        curve_text = _text({name: value for name, value in spec.items() if name in OF_CURVE})
        return self._added(
            "curves",
            digest=_digest(settings_text + curve_text),
            settings=settings,
            **{name: spec[name] for name in ("phase", "site", "site_name")},
            sigma_train=spec.get("sigma_train"),
            spec=curve_text,
        )

    def _added(self, table: str, **values: Any) -> int:
        """Return the id of the row with this digest, which is added if need be."""
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self._db.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))
        found = self._db.execute(f"SELECT id FROM {table} WHERE digest = ?", (values["digest"],)).fetchone()
        return int(found[0])


def _words(repetitions: int | list[int]) -> str:
    return str(repetitions) if isinstance(repetitions, int) else " ".join(map(str, repetitions))


def _text(spec: dict[str, Any]) -> str:
    return msgspec.json.encode(spec, order="sorted").decode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
