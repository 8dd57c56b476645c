"""The results of a study as tables: read as NumPy arrays, or exported as csv or Parquet.

`results` has what the study found, in the order of the study; the file is the same byte for byte however
often the study was killed and resumed, and in whatever order it was run. What differs from run to run is in
`provenance`: where and when each number was computed. Memory does not grow with the number of rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.analysis.binarisation import Binarisation
from wn.analysis.weights import STATISTICS, growth
from wn.basics.errors import WnError
from wn.study.store.reader import AT_ONCE, CURVES, Reader, Row
from wn.study.store.rows import WeightStatistics, unpacked, unpacked_groups
from wn.study.store.views import NOISE_CELLS, query
from wn.study.store.writer import Store
from wn.study.tables.labels import with_labels
from wn.walking.results import POINT

# Columns with their NumPy types; text, "U", is as wide as the longest
_SETTING = dict.fromkeys(("dataset", "model", "batch_norm"), "U") | {
    "clamp_weights": "?",
    "noise": "U",
    "ratio": "f8",
    "repetitions": "U",
    "order": "U",
    "sigma_mul": "f8",
    "mean_mul": "f8",
    "mean_add": "f8",
    "distribution": "U",
    "label": "U",
}
_PLACE = {"phase": "U", "site": "i8", "site_name": "U", "sigma_train": "f8"}  # the last in a matrix alone
CURVE = _SETTING | _PLACE
LABEL = "label(curves.id)"  # a function that `with_labels` defines
_CELLS = {name: f"settings.{name}" for name in _SETTING} | NOISE_CELLS | {"label": LABEL}
_CELLS |= {name: f"curves.{name}" for name in _PLACE}
CURVE_CELLS = ", ".join(_CELLS[name] for name in CURVE)
RESULTS = CURVE | POINT | {"signal_power": "f8", "seed": "u8", "epochs": "i8", "curve": "U", "key": "U"}
PROVENANCE = dict.fromkeys(("key", "backend", "machine", "versions", "commit"), "U") | {
    "seconds": "f8",
    "finished": "U",
}
SETTINGS = {"curve": "U", "spec": "U"}
SIGNAL = {"key": "U", "site": "i8", "power": "f8"}
GROUPS = {"key": "U", "correct_by_group": "U"}
BINARISATION = {"key": "U", "place": "U"} | dict.fromkeys((*Binarisation._fields, "pattern", "signs"), "f8")
WEIGHTS = {"key": "U", "layer": "U", "epoch": "i8"} | dict.fromkeys((*STATISTICS, "relative_norm"), "f8")
COLUMNS = RESULTS | PROVENANCE


class Table(NamedTuple):
    """The columns of a table with their types, and its rows; missing numbers are None."""

    columns: dict[str, str]
    rows: Iterator[Row]


def read_table(folder: Path, columns: Sequence[str] | None = None, **equal: Any) -> NDArray[Any]:
    """Return the finished units of a study as a structured array (N,), in the order of the study.

    `columns` are some of RESULTS (by default all of these) and PROVENANCE; `equal` restricts the rows to
    those with a value in a column, as in `noise="additive"`. Missing numbers are NaN. A row of all columns of
    RESULTS takes about 600 bytes.
    """
    with _selected(folder, columns, equal) as (size, dtype, rows):
        table = np.empty(size, dtype)
        for start in range(0, size, AT_ONCE):
            part = list(islice(rows, AT_ONCE))
            table[start : start + len(part)] = part
        return table


def read_chunks(
    folder: Path, columns: Sequence[str] | None = None, rows_at_once: int = 10_000, **equal: Any
) -> Iterator[NDArray[Any]]:
    """Yield the rows of `read_table` in structured arrays of at most `rows_at_once`."""
    with _selected(folder, columns, equal) as (_, dtype, rows):
        while part := list(islice(rows, rows_at_once)):
            yield np.array(part, dtype)


@contextmanager
def _selected(
    folder: Path, columns: Sequence[str] | None, equal: dict[str, Any]
) -> Iterator[tuple[int, np.dtype[Any], Iterator[Row]]]:
    """Give the number of rows, their dtype and the rows, all as of one moment."""
    names = list(RESULTS if columns is None else columns)
    for name in (*names, *equal):
        if name not in COLUMNS:
            raise WnError(f"unknown column {name!r}: allowed are {', '.join(COLUMNS)}")
    where = " AND ".join(["status = 'done'", *(f'"{name}" IS ?' for name in equal)])
    values = [str(value) if COLUMNS[name] in ("U", "u8") else value for name, value in equal.items()]
    with Store.read(folder) as store, store.snapshot():
        with_labels(store)
        view = f"({query('results', LABEL)})"
        ((size,),) = store.rows(f"SELECT count(*) FROM {view} WHERE {where}", values)
        dtype = np.dtype([(name, _dtype(store, name)) for name in names])
        rows = store.rows(f"SELECT {_quoted(names)} FROM {view} WHERE {where} ORDER BY position", values)
        places = [place for place, name in enumerate(names) if COLUMNS[name] == "u8"]
        yield size, dtype, (_with_integers(row, places) for row in rows)


def _dtype(store: Reader, column: str) -> str:
    """Return the dtype of a column; text is as wide as the longest in the store."""
    kind = COLUMNS[column]
    if kind != "U":
        return kind
    if column in ("key", "finished"):
        return {"key": "U64", "finished": "U20"}[column]
    table = "curves" if column in (*_PLACE, "curve", "label") else "settings"
    table = "environments" if column in PROVENANCE else table
    cell = "digest" if column == "curve" else _CELLS.get(column, f'"{column}"')
    ((longest,),) = store.rows(f"SELECT max(length({cell})) FROM {table}")
    return f"U{max(longest or 1, 1)}"


def _with_integers(row: Row, places: Sequence[int]) -> Row:
    """Return a row whose seeds, which SQLite keeps as text, are integers."""
    if not places:
        return row
    return tuple(int(value) if place in places else value for place, value in enumerate(row))


def as_array(table: Table) -> NDArray[Any]:
    """Return a table, which has to be small, as a structured array; text is as wide as the longest."""
    rows = list(table.rows)
    dtype = []
    for place, (name, kind) in enumerate(table.columns.items()):
        longest = max((len(row[place]) for row in rows), default=1) if kind == "U" else 0
        dtype.append((name, f"U{max(longest, 1)}" if kind == "U" else kind))
    return np.array(rows, dtype)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


# ---- tables to export -------------------------------------------------------------------------------------


def results(store: Reader, whole: bool = False) -> Table:
    """The results, one row per finished unit; with `whole` also of units that the study has no more."""
    return _of_units(store, RESULTS, whole)


def provenance(store: Reader, whole: bool = False) -> Table:
    """Place and time of each result's computation, row by row as `results`."""
    return _of_units(store, PROVENANCE, whole)


def _of_units(store: Reader, columns: dict[str, str], whole: bool) -> Table:
    """Some columns of the finished units, in the order of the study; at the end those that it has no more."""
    with_labels(store)
    view, order = ("all_results", 'position IS NULL, position, "key"') if whole else ("results", "position")
    rows = (
        f"SELECT {_quoted(list(columns))} FROM ({query(view, LABEL)}) WHERE status = 'done' ORDER BY {order}"
    )
    return Table(columns, store.rows(rows))


def settings(store: Reader) -> Table:
    """The whole spec of each curve, apart from σ and repeat, as JSON."""
    rows = store.rows(f"SELECT curves.digest, settings.spec, curves.spec {CURVES} ORDER BY found.position")
    # Two JSON objects, neither of them empty, become one
    return Table(SETTINGS, ((digest, f"{shared[:-1]},{own[1:]}") for digest, shared, own in rows))


def signal(store: Reader) -> Table:
    """Mean of y² before the noise, one row per finished unit and noisy site."""
    rows = store.rows(
        """SELECT lower(hex(units.key)), signal.site, signal.power
           FROM study CROSS JOIN units ON units.id = study.unit CROSS JOIN signal ON signal.unit = units.id
           ORDER BY study.position, signal.site"""
    )
    return Table(SIGNAL, rows)


def groups(store: Reader) -> Table:
    """Correct answers by group of test images, image i in group i mod 64: numbers apart by spaces.

    One row per finished unit that was counted so; those of older versions were not.
    """
    rows = store.rows(
        """SELECT lower(hex(units.key)), units.total, groups.correct
           FROM study CROSS JOIN units ON units.id = study.unit CROSS JOIN groups ON groups.unit = units.id
           ORDER BY study.position"""
        if store.has_groups
        else "SELECT 0 WHERE false"
    )
    return Table(
        GROUPS, ((key, " ".join(map(str, unpacked_groups(packed, total)))) for key, total, packed in rows)
    )


def binarisation(store: Reader) -> Table:
    """The binarisation of trained networks, one row per network and place: a site, or a layer's weights."""
    names = ", ".join(f"binarisation.{name}" for name in list(BINARISATION)[1:])
    rows = store.rows(
        f"""SELECT lower(hex(units.key)), {names}
            FROM study CROSS JOIN units ON units.id = study.unit
                CROSS JOIN binarisation ON binarisation.unit = units.id
            ORDER BY study.position, place"""
        if store.has_binarisation
        else "SELECT 0 WHERE false"
    )
    return Table(BINARISATION, rows)


def weights(store: Reader) -> Table:
    """Statistics of the weights, one row per trained network, layer and epoch (from 1).

    relative_norm is the norm divided by that of the clean network of the same settings and repeat at the same
    epoch; it is missing until that one is finished.
    """
    rows = store.rows(
        """SELECT units.key, own.layers, own.statistics, clean.layers, clean.statistics
           FROM study CROSS JOIN units ON units.id = study.unit
               CROSS JOIN weights AS own ON own.unit = units.id
               LEFT JOIN units AS twin ON twin.key = coalesce(units.clean_key, units.key)
               LEFT JOIN weights AS clean ON clean.unit = twin.id
           ORDER BY study.position"""
    )
    return Table(WEIGHTS, (row for unit in rows for row in _weight_rows(*unit)))


def with_growth(
    names: str, packed: bytes, clean_names: str | None, clean_packed: bytes | None
) -> WeightStatistics:
    """Packed statistics and, as the last of each layer, the norm relative to that of the clean twin.

    NaN where there is no twin, or one of other layers and epochs.
    """
    own = unpacked(names, packed)
    values, norm = own.values, own.values[:, :, STATISTICS.index("norm")]  # (E, L, S) and (E, L)
    relative = np.full(norm.shape, np.nan)
    if clean_names is not None and clean_packed is not None:
        clean = unpacked(clean_names, clean_packed)
        if clean.layers == own.layers and clean.values.shape == values.shape:
            relative = growth(norm, clean.values[:, :, STATISTICS.index("norm")])
    together = np.concatenate([values, relative[:, :, None].astype(np.float32)], axis=2)  # (E, L, S + 1)
    return WeightStatistics(own.layers, together)


def _weight_rows(key: bytes, *packed: Any) -> Iterator[Row]:
    own = with_growth(*packed)
    numbers = own.values.astype(str).astype(np.float64)  # the shortest decimals that give the same float32
    for layer, name in enumerate(own.layers):
        for epoch, row in enumerate(numbers[:, layer].tolist(), 1):
            yield key.hex(), name, epoch, *(None if value != value else value for value in row)
