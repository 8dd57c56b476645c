"""The tables with a row for each finished unit, made fast: the common cells of a curve's units are read once.

Rows are tuples, as in the views of `wn.study.store.file`; lines are the same rows as csv.
"""

import csv
import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from wn.study.store.reader import Reader, Row

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
_BEFORE = """
SELECT settings.dataset, settings.model, settings.batch_norm, settings.clamp_weights, settings.noise,
    settings.ratio, settings.repetitions, curves.phase, curves.site, curves.site_name
FROM curves JOIN settings ON settings.id = curves.settings WHERE curves.id = ?"""
_AFTER = """
SELECT settings.seed, settings.epochs, curves.digest
FROM curves JOIN settings ON settings.id = curves.settings WHERE curves.id = ?"""
_ENVIRONMENT = 'SELECT backend, machine, versions, "commit" FROM environments WHERE id = ?'
_CLAMPED = 3  # the column of _BEFORE that is a truth value


class _SharedCells(NamedTuple):
    """Cells that many rows have in common, and the same as csv."""

    cells: Row
    text: str


def result_rows(store: Reader, whole: bool) -> Iterator[Row]:
    """Yield the rows of the table of results; with `whole` also of units that the study has no more."""
    before, after = _lookup(store, _BEFORE), _lookup(store, _AFTER)
    for curve, sigma, repeat, correct, total, power, key in store.rows(_RESULTS + _ORDER[whole]):
        own = (sigma, repeat, correct, total, correct / total, power)
        yield *before(curve).cells, *own, *after(curve).cells, key.hex()


def result_lines(store: Reader, whole: bool) -> Iterator[str]:
    """Yield the same rows as csv: floats as the shortest text that reads back the same."""
    before, after = _lookup(store, _BEFORE), _lookup(store, _AFTER)
    for curve, sigma, repeat, correct, total, power, key in store.rows(_RESULTS + _ORDER[whole]):
        signal = "" if power is None else repr(power)
        own = f"{sigma!r},{repeat},{correct},{total},{correct / total!r},{signal}"
        yield f"{before(curve).text},{own},{after(curve).text},{key.hex()}\n"


def provenance_rows(store: Reader, whole: bool) -> Iterator[Row]:
    """Yield the rows of the table of provenance, in the order of the results."""
    environment = _lookup(store, _ENVIRONMENT)
    for number, key, seconds, finished in store.rows(_PROVENANCE + _ORDER[whole]):
        yield key.hex(), *environment(number).cells, seconds, _moment(finished)


def provenance_lines(store: Reader, whole: bool) -> Iterator[str]:
    """Yield the same rows as csv."""
    environment = _lookup(store, _ENVIRONMENT)
    for number, key, seconds, finished in store.rows(_PROVENANCE + _ORDER[whole]):
        yield f"{key.hex()},{environment(number).text},{seconds!r},{_moment(finished)}\n"


def csv_line(cells: Row) -> str:
    """Return cells as a line of csv, without its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _lookup(store: Reader, query: str) -> Callable[[int], _SharedCells]:
    """A function from the id of a curve or environment to the cells that its rows share."""

    @lru_cache(REMEMBERED)
    def shared(number: int) -> _SharedCells:
        (cells,) = store.rows(query, (number,))
        return _SharedCells(cells, csv_line(_in_words(cells) if query == _BEFORE else cells))

    return shared


def _in_words(cells: Row) -> tuple[Any, ...]:
    """Return cells with true or false for the truth value."""
    clamped = "true" if cells[_CLAMPED] else "false"
    return *cells[:_CLAMPED], clamped, *cells[_CLAMPED + 1 :]


@lru_cache(REMEMBERED)
def _moment(finished: int) -> str:
    """Return a second since 1970 as text, in UTC."""
    return datetime.fromtimestamp(finished, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
