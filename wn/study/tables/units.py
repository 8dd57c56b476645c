"""The tables with a row for each finished unit, made fast: the common cells of a curve's units are read once.

Rows are tuples, as in the views of `wn.study.store.file`; lines are the same rows as csv.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from wn.study.store.reader import Reader, Row
from wn.study.tables.results import CURVE, CURVE_CELLS, PROVENANCE, RESULTS, Table

REMEMBERED = 4000  # curves, which come again with every repeat

_ORDER = {
    False: "study CROSS JOIN units ON units.id = study.unit WHERE status = 'done' ORDER BY study.position",
    True: """units LEFT JOIN study ON study.unit = units.id WHERE status = 'done'
             ORDER BY study.position IS NULL, study.position, units.key""",
}
_RESULTS = """
SELECT units.curve, units.sigma, units.repeat, units.correct, units.total,
    (SELECT power FROM signal WHERE signal.unit = units.id
     AND signal.site = (SELECT site FROM curves WHERE curves.id = units.curve)), units.key FROM """
_PROVENANCE = "SELECT units.environment, units.key, units.seconds, units.finished FROM "
_OF_CURVE = "FROM curves JOIN settings ON settings.id = curves.settings WHERE curves.id = ?"
_BEFORE = f"SELECT {CURVE_CELLS} {_OF_CURVE}"
_AFTER = f"SELECT settings.seed, settings.epochs, curves.digest {_OF_CURVE}"
_ENVIRONMENT = 'SELECT backend, machine, versions, "commit" FROM environments WHERE id = ?'


class _SharedCells(NamedTuple):
    """Cells that many rows have in common, and the same as csv."""

    cells: Row
    text: str


def results(store: Reader, whole: bool = False) -> Table:
    """The results, one row per finished unit; with `whole` also of units that the study has no more."""
    before, after = _lookup(store, _BEFORE), _lookup(store, _AFTER)
    query = _RESULTS + _ORDER[whole]

    def rows() -> Iterator[Row]:
        for curve, sigma, repeat, correct, total, power, key in store.rows(query):
            own = (sigma, repeat, correct, total, correct / total, power)
            yield *before(curve).cells, *own, *after(curve).cells, key.hex()

    def lines() -> Iterator[str]:
        for curve, sigma, repeat, correct, total, power, key in store.rows(query):
            signal = "" if power is None else repr(power)
            own = f"{sigma!r},{repeat},{correct},{total},{correct / total!r},{signal}"
            yield f"{before(curve).text},{own},{after(curve).text},{key.hex()}\n"

    return Table(RESULTS, rows(), lines())


def provenance(store: Reader, whole: bool = False) -> Table:
    """Place and time of each result's computation, row by row as `results`."""
    environment, query = _lookup(store, _ENVIRONMENT), _PROVENANCE + _ORDER[whole]

    def rows() -> Iterator[Row]:
        for number, key, seconds, finished in store.rows(query):
            yield key.hex(), *environment(number).cells, seconds, _moment(finished)

    def lines() -> Iterator[str]:
        for number, key, seconds, finished in store.rows(query):
            yield f"{key.hex()},{environment(number).text},{seconds!r},{_moment(finished)}\n"

    return Table(PROVENANCE, rows(), lines())


def _lookup(store: Reader, query: str) -> Callable[[int], _SharedCells]:
    """A function from the id of a curve or environment to the cells that its rows share."""

    @lru_cache(REMEMBERED)
    def shared(number: int) -> _SharedCells:
        (cells,) = store.rows(query, (number,))
        text = io.StringIO()
        words = with_words(cells, truth_values(CURVE)) if query == _BEFORE else cells
        csv.writer(text, lineterminator="").writerow(words)
        return _SharedCells(cells, text.getvalue())

    return shared


def truth_values(columns: Mapping[str, str]) -> list[int]:
    """The places of the columns of truth values."""
    return [place for place, kind in enumerate(columns.values()) if kind == "?"]


def with_words(row: Row, places: Sequence[int]) -> list[Any]:
    """The cells of a row, with true and false for the truth values at these places."""
    cells = list(row)
    for place in places:
        cells[place] = "true" if cells[place] else "false"
    return cells


@lru_cache(REMEMBERED)
def _moment(finished: int) -> str:
    """Return a second since 1970 as text, in UTC."""
    return datetime.fromtimestamp(finished, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
