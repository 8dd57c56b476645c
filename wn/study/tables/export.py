"""Write the tables of a study to files: csv, or Parquet with pyarrow."""

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from wn.basics.errors import WnError
from wn.files.outputs import claimed_for_writing
from wn.files.whole import StrPath, as_path, whole_files
from wn.study.store.writer import Store
from wn.study.tables import fit as table_fit
from wn.study.tables import results as table
from wn.study.tables.results import Table

FORMATS = ("csv", "parquet")
TABLES = ("results", "provenance", "settings", "signal", "weights", "groups", "midpoints")
DEFAULT_TABLES = ("results", "provenance")
ROWS_AT_ONCE = 50_000  # a row group of Parquet


def export(
    folder: StrPath,
    out: StrPath,
    format: str = "csv",  # noqa: A002 (the word that users know)
    tables: Sequence[str] = DEFAULT_TABLES,
    whole: bool = False,
) -> list[Path]:
    """Write tables of a study to files OUT/<table>.<format>, all of them or none, and return their paths.

    All tables show the same moment, also while a driver runs. With `whole`, results and provenance have also
    units that the study has no more. Raises WnError for an unknown format or table, without pyarrow for
    Parquet, and if a file can't be written.
    """
    if format not in FORMATS:
        raise WnError(f"unknown format {format!r}: allowed are {', '.join(FORMATS)}")
    for name in tables:
        if name not in TABLES:
            raise WnError(f"unknown table {name!r}: allowed are {', '.join(TABLES)}")
    write = _write_csv if format == "csv" else _parquet_writer()
    out = as_path(out)
    paths = [out / f"{name}.{format}" for name in dict.fromkeys(tables)]
    with Store.read(folder) as store, store.snapshot(), claimed_for_writing(out):
        makers: dict[str, Callable[[], Table]] = {
            "results": lambda: table.results(store, whole),
            "provenance": lambda: table.provenance(store, whole),
            "settings": lambda: table.settings(store),
            "signal": lambda: table.signal(store),
            "weights": lambda: table.weights(store),
            "groups": lambda: table.groups(store),
            "midpoints": lambda: table_fit.midpoints(store),
        }
        with whole_files(paths) as temporaries:
            for path, temporary in zip(paths, temporaries, strict=True):
                write(temporary, makers[path.stem]())
    return paths


def _write_csv(path: Path, source: Table) -> None:
    """Write a header and a line per row: floats as the shortest text that reads back the same, true/false."""
    bools = [place for place, kind in enumerate(source.columns.values()) if kind == "bool"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(source.columns)
        if source.lines is not None:
            file.writelines(source.lines)
            return
        writer.writerows(_with_words(source.rows, bools) if bools else source.rows)


def _with_words(rows: Iterator[tuple[Any, ...]], bools: Sequence[int]) -> Iterator[list[Any]]:
    """Yield rows with true and false for truth values."""
    for row in rows:
        cells = list(row)
        for place in bools:
            cells[place] = "true" if cells[place] else "false"
        yield cells


def _parquet_writer() -> Callable[[Path, Table], None]:
    """A function that writes Parquet; WnError if pyarrow is missing."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise WnError("Parquet needs pyarrow: pip install 'walking-noise[parquet]', or export csv") from None

    types = {
        "text": pyarrow.string(),
        "bool": pyarrow.bool_(),
        "int": pyarrow.int64(),
        "unsigned": pyarrow.uint64(),
        "float": pyarrow.float64(),
    }
    convert: dict[str, Callable[[Any], Any]] = {"bool": bool, "unsigned": int}

    def write(path: Path, source: Table) -> None:
        schema = pyarrow.schema([(name, types[kind]) for name, kind in source.columns.items()])
        repeating = [name for name in source.columns if name != "key"]
        with parquet.ParquetWriter(path, schema, use_dictionary=repeating) as writer:
            while rows := list(islice(source.rows, ROWS_AT_ONCE)):
                columns = [
                    pyarrow.array(map(convert[kind], column) if kind in convert else column, types[kind])
                    for kind, column in zip(source.columns.values(), zip(*rows, strict=True), strict=True)
                ]
                writer.write_batch(pyarrow.record_batch(columns, schema=schema))

    return write
