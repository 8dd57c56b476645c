"""The store of a study as everybody may read it, also while its driver writes it."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from wn.study.store import file as store_file
from wn.study.store.rows import StatusCount, Unfinished, key_bytes

AT_ONCE = 5000  # rows in memory
FETCHED = 500
Row = tuple[Any, ...]
# The curves of the study in its order, with their settings
CURVES = """
FROM (SELECT curve, min(position) AS position FROM study CROSS JOIN units ON units.id = study.unit
      GROUP BY curve) AS found
    JOIN curves ON curves.id = found.curve JOIN settings ON settings.id = curves.settings
"""


class Reader:
    """A study that is read. Close it, or use it as a context manager."""

    def __init__(self, folder: Path, db: sqlite3.Connection) -> None:
        self.folder, self.path, self._db = folder, folder / store_file.FILE, db

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def meta(self) -> dict[str, str]:
        """The record of the study as a whole: `created`, `wn` (the version), and the driver's entries."""
        return dict(map(tuple, self.rows("SELECT * FROM meta ORDER BY name")))

    @property
    def has_groups(self) -> bool:
        """Whether the file can have counts by group of images: those of older versions have no such table."""
        return bool(list(self.rows("SELECT 1 FROM sqlite_master WHERE name = 'groups'")))

    @property
    def has_binarisation(self) -> bool:
        """Whether the file can have binarisation: those of older versions have no such table."""
        return bool(list(self.rows("SELECT 1 FROM sqlite_master WHERE name = 'binarisation'")))

    def status(self) -> list[StatusCount]:
        """Count the units that the study has now, in its order."""
        counts = self.rows(
            """SELECT curves.phase, settings.dataset, settings.model, settings.noise,
                      sum(pending), sum(done), sum(failed), total(seconds)
               FROM (SELECT curve, min(position) AS position, sum(status = 'pending') AS pending,
                            sum(status = 'done') AS done, sum(status = 'failed') AS failed,
                            total(seconds) AS seconds
                     FROM study CROSS JOIN units ON units.id = study.unit GROUP BY curve) AS counts
                   JOIN curves ON curves.id = counts.curve
                   JOIN settings ON settings.id = curves.settings
               GROUP BY 1, 2, 3, 4 ORDER BY min(position)"""
        )
        return [StatusCount(*row) for row in counts]

    def pending(self) -> Iterator[Unfinished]:
        """Yield the units that are pending, in the order of the study; meanwhile units may be finished."""
        return self._units("pending")

    def pending_counts(self) -> Iterator[tuple[dict[str, Any], int, int]]:
        """Yield the spec of each curve with pending units, with one σ and repeat; their number; repeats."""
        counts = self.rows(
            """SELECT settings.spec, curves.spec, counts.sigma, counts.repeat, counts.number, counts.repeats
               FROM (SELECT curve, min(position) AS position, sigma, repeat, count(*) AS number,
                            count(DISTINCT repeat) AS repeats
                     FROM study CROSS JOIN units ON units.id = study.unit
                     WHERE units.status = 'pending' GROUP BY curve) AS counts
                   JOIN curves ON curves.id = counts.curve
                   JOIN settings ON settings.id = curves.settings
               ORDER BY counts.position"""
        )
        for settings, curve, sigma, repeat, number, repeats in counts:
            yield _spec(settings, curve, sigma, repeat), number, repeats

    def failures(self) -> Iterator[Unfinished]:
        """Yield the units that failed, in the order of the study."""
        return self._units("failed")

    def backends(self) -> list[str]:
        """Return with which backends units were computed, that of most units first."""
        query = """SELECT backend FROM units JOIN environments ON environments.id = units.environment
                   GROUP BY backend ORDER BY count(*) DESC, backend"""
        return [backend for (backend,) in self.rows(query)]

    def status_of(self, keys: Iterable[str]) -> dict[str, str]:
        """Return "pending", "done" or "failed" for those of the keys that the store knows."""
        query = "SELECT status FROM units WHERE key = ?"
        return {key: status for key in keys for (status,) in self.rows(query, (key_bytes(key),))}

    def rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """Yield the rows of a query, as of one moment; WnError in one line if the file can't be read."""
        with store_file.one_line(self.path):
            cursor = self._db.execute(query, values)
        while page := self._fetched(cursor):
            yield from page

    def define(self, name: str, function: Callable[[Any], Any]) -> None:
        """Let queries of this reader call a function of one value."""
        self._db.create_function(name, 1, function, deterministic=True)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Have all queries in this block see the store as it is at one moment."""
        with store_file.one_line(self.path):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")

    def _fetched(self, cursor: sqlite3.Cursor) -> list[Row]:
        with store_file.one_line(self.path):
            return cursor.fetchmany(FETCHED)

    def _units(self, status: str) -> Iterator[Unfinished]:
        """Yield the units of a status, page by page.

        Between the pages no query is open: under an open one the log of the writer only grows.
        """
        query = """SELECT study.position, units.key, units.clean_key, units.sigma, units.repeat,
                          (SELECT traceback FROM failures WHERE failures.id = units.failure),
                          settings.spec, curves.spec
                    FROM study CROSS JOIN units ON units.id = study.unit
                        CROSS JOIN curves ON curves.id = units.curve
                        CROSS JOIN settings ON settings.id = curves.settings
                    WHERE study.position > ? AND units.status = ?
                    ORDER BY study.position LIMIT ?"""
        last = -1
        while page := list(self.rows(query, (last, status, AT_ONCE))):
            for _, key, clean_key, sigma, repeat, traceback, settings, curve in page:
                spec = _spec(settings, curve, sigma, repeat)
                yield Unfinished(key.hex(), clean_key.hex() if clean_key else None, spec, traceback or "")
            last = page[-1][0]


def _spec(settings: str, curve: str, sigma: float, repeat: int) -> dict[str, Any]:
    """Return the spec of a unit, as JSON gives it, from the parts that the file has."""
    return {**_object(settings), **_object(curve), "sigma": sigma, "repeat": repeat}


@lru_cache(maxsize=64)
def _object(text: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(text)
    return found
