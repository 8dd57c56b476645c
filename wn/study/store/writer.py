"""The store of a study: its units, their status and results. One process writes it.

`Store.create_or_open(DIR)` is for the driver; a second driver on the same folder is refused.
`Store.read(DIR)` is for everybody else, at any time; while a driver runs, on its machine.
The tables: `wn.study.store.file`.
"""

import math
import platform
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Self

import msgspec

from wn.basics.errors import WnError
from wn.basics.installed import __version__
from wn.files.whole import StrPath, as_path
from wn.study.store import file as store_file
from wn.study.store import lock as store_lock
from wn.study.store.curves import Curves
from wn.study.store.reader import AT_ONCE, Reader
from wn.study.store.rows import Environment, Result, UnitRow, key_bytes, packed, packed_groups

_PAGE = """
CREATE TEMP TABLE IF NOT EXISTS page (
    position INTEGER PRIMARY KEY, key BLOB, clean_key BLOB, curve INTEGER, sigma REAL, repeat INTEGER)
"""
_ADD_PAGE = (
    """INSERT INTO units (key, clean_key, curve, sigma, repeat)
       SELECT key, clean_key, curve, sigma, repeat FROM temp.page WHERE true ORDER BY position
       ON CONFLICT (key) DO NOTHING""",
    """INSERT INTO study
       SELECT page.position, units.id FROM temp.page CROSS JOIN units ON units.key = page.key
       WHERE true ORDER BY page.position
       ON CONFLICT (unit) DO NOTHING""",
    "DELETE FROM temp.page",
)
_FINISH_UNIT = """
UPDATE units SET status = 'done', failure = NULL,
    correct = ?, total = ?, seconds = ?, finished = ?, environment = ?
WHERE id = ?
"""


class Store(Reader):
    """A study that is written, by one process and one thread of it."""

    def __init__(self, folder: Path, db: sqlite3.Connection, lock: store_lock.Lock) -> None:
        super().__init__(folder, db)
        self._lock = lock

    @classmethod
    def create_or_open(cls, folder: StrPath) -> Self:
        """Open the study in a folder for writing, or make one; its content stays.

        Raises WnError if another driver holds the folder (saying who), if it can't be written, and for a file
        that is damaged, no study, or of another version.
        """
        folder = as_path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WnError(f"{folder}: can't be a study's folder: {error.strerror}") from None
        lock = store_lock.Lock(folder)
        try:
            store = cls(folder, store_file.open_to_write(folder), lock)
            if "created" not in store.meta:
                created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
                store.write_meta({"created": created, "wn": __version__})
        except BaseException:
            lock.release()
            raise
        return store

    @staticmethod
    def read(folder: StrPath) -> Reader:
        """Open the study in a folder for reading; nothing is written.

        Raises WnError if there is none, for a file that is damaged, no study, or of another version, and
        while a driver on another machine writes it: part of its log is in that machine's memory.
        """
        folder = as_path(folder)
        holder = store_lock.holder(folder)
        if holder is not None and holder.host != platform.node():
            raise WnError(
                f"{folder}: {holder} is writing this study: read it there, or when the driver has ended"
            )
        return Reader(folder, store_file.open_to_read(folder))

    def close(self) -> None:
        """Close the file and let the next driver in."""
        super().close()
        self._lock.release()

    def add_units(self, units: Iterable[UnitRow], meta: Mapping[str, str] | None = None) -> int:
        """Make `units` the study's, in this order, and write `meta`; return the number of new ones.

        Units that are known keep their results. Those that the study had before and has no more
        stay in the file, but are not counted, run or exported. All is done or nothing; a unit that comes
        twice has its first place.
        """
        rows, position = iter(units), 0
        with self._transaction() as db:
            curves, before = Curves(db), self._count_units()
            db.execute("DELETE FROM study")
            db.execute(_PAGE)
            while page := list(islice(rows, AT_ONCE)):
                columns = (
                    (
                        place,
                        *map(key_bytes, (row.key, row.clean_key)),
                        curves.id_of(row),
                        row.sigma,
                        row.repeat,
                    )
                    for place, row in enumerate(page, position)
                )
                db.executemany("INSERT INTO temp.page VALUES (?, ?, ?, ?, ?, ?)", columns)
                for statement in _ADD_PAGE:
                    db.execute(statement)
                position += len(page)
            self._write_meta(meta or {})
            return self._count_units() - before

    def finish(self, results: Iterable[Result], environment: Environment) -> int:
        """Write the results of a task, all or none; return the number of units that this finished.

        Units that are done already keep what they have. Raises WnError for a unit that is not in the store.
        """
        with self._transaction():
            number = self._environment(environment)
            return sum(self._finish(result, number) for result in results)

    def fail(self, keys: Iterable[str], traceback: str) -> int:
        """Record that the units of a task failed; return their number. Finished units stay finished."""
        insert = "INSERT INTO failures (failed, traceback) VALUES (?, ?)"
        with self._transaction() as db:
            failure = db.execute(insert, (int(time.time()), traceback)).lastrowid
            return sum(self._fail(key, failure) for key in keys)

    def retry_failed(self) -> int:
        """Make the failed units of the study pending again; return their number."""
        with self._transaction() as db:
            changed = db.execute(
                """UPDATE units SET status = 'pending', failure = NULL
                   WHERE status = 'failed' AND id IN (SELECT unit FROM study)"""
            )
            used = "SELECT failure FROM units WHERE failure IS NOT NULL"
            db.execute(f"DELETE FROM failures WHERE id NOT IN ({used})")
            return changed.rowcount

    def write_meta(self, meta: Mapping[str, str]) -> None:
        """Write entries of the record of the study as a whole; others stay."""
        with self._transaction():
            self._write_meta(meta)

    def forget_meta(self, name: str) -> None:
        """Take an entry out of the record of the study, if it is there."""
        with self._transaction() as db:
            db.execute("DELETE FROM meta WHERE name = ?", (name,))

    # ---- parts of transactions ----------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Have all that is written in this block come about, or nothing."""
        with store_file.one_line(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # where SQLite has undone it already, or can't write
                    self._db.execute("ROLLBACK")
                raise

    def _write_meta(self, meta: Mapping[str, str]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())

    def _count_units(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM units").fetchone()[0])

    def _environment(self, environment: Environment) -> int:
        """Return the id of an environment, which is added if need be."""
        names = ("backend", "machine", "versions", '"commit"')
        values = msgspec.structs.astuple(environment)
        insert = f"INSERT OR IGNORE INTO environments ({', '.join(names)}) VALUES (?, ?, ?, ?)"
        select = f"SELECT id FROM environments WHERE {' AND '.join(f'{name} = ?' for name in names)}"
        self._db.execute(insert, values)
        return int(self._db.execute(select, values).fetchone()[0])

    def _unit(self, key: str) -> tuple[int, str]:
        """Return id and status of a unit."""
        found = self._db.execute("SELECT id, status FROM units WHERE key = ?", (key_bytes(key),)).fetchone()
        if found is None:
            raise WnError(f"{self.path}: has no unit {key}")
        return int(found[0]), str(found[1])

    def _finish(self, result: Result, environment: int) -> bool:
        """Write one result; return whether it was missing."""
        unit, status = self._unit(result.key)
        if status == "done":
            return False
        values = (result.correct, result.total, result.seconds, int(time.time()), environment, unit)
        self._db.execute(_FINISH_UNIT, values)
        powers = ((unit, site, power) for site, power in result.signal)
        self._db.executemany("INSERT INTO signal VALUES (?, ?, ?)", powers)
        found = result.weights is not None or bool(result.binarisation)
        first = found and not self._is_observed(unit)
        if first and result.weights is not None:
            self._db.execute("INSERT INTO weights VALUES (?, ?, ?)", (unit, *packed(result.weights)))
        if result.by_group:
            self._db.execute("INSERT INTO groups VALUES (?, ?)", (unit, packed_groups(result)))
        places = (
            (unit, found.place, *map(_number, (*found.values, found.pattern, found.signs)))
            for found in (result.binarisation if first else ())
        )
        self._db.executemany(f"INSERT INTO binarisation VALUES ({', '.join('?' * 8)})", places)
        return True

    def _is_observed(self, unit: int) -> bool:
        """Whether another unit of a matrix has the statistics of the same network."""
        found = self._db.execute(
            """SELECT 1 FROM units AS own CROSS JOIN curves ON curves.id = own.curve
                   CROSS JOIN units AS other ON other.curve = own.curve AND other.repeat = own.repeat
                   CROSS JOIN weights ON weights.unit = other.id
               WHERE own.id = ? AND curves.sigma_train IS NOT NULL LIMIT 1""",
            (unit,),
        )
        return found.fetchone() is not None

    def _fail(self, key: str, failure: int | None) -> bool:
        """Give a unit its failure; return whether it was not done."""
        unit, status = self._unit(key)
        if status == "done":
            return False
        self._db.execute("UPDATE units SET status = 'failed', failure = ? WHERE id = ?", (failure, unit))
        return True


def _number(value: float) -> float | None:
    """A number, None for NaN: SQLite has no NaN."""
    return None if math.isnan(value) else value
