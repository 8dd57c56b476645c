"""Write the tables of a study to files: csv, or Parquet with pyarrow."""

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from wn.basics.errors import WnError
from wn.files.outputs import claimed_for_writing
from wn.files.whole import StrPath, as_path, whole_files
from wn.study.store.reader import Row
from wn.study.store.writer import Store
from wn.study.tables import fit
from wn.study.tables import results as table
from wn.study.tables.results import Table

FORMATS = ("csv", "parquet")
DEFAULT_TABLES = ("results", "provenance")  # those that can also have units that the study has no more
_MAKERS: dict[str, Callable[..., Table]] = {
    "results": table.results,
    "provenance": table.provenance,
    "settings": table.settings,
    "signal": table.signal,
    "weights": table.weights,
    "groups": table.groups,
    "binarisation": table.binarisation,
    "midpoints": fit.midpoints,
}
TABLES = tuple(_MAKERS)
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
    with (
        Store.read(folder) as store,
        store.snapshot(),
        claimed_for_writing(out),
        whole_files(paths) as temporaries,
    ):
        for path, temporary in zip(paths, temporaries, strict=True):
            also = (whole,) if path.stem in DEFAULT_TABLES else ()
            write(temporary, _MAKERS[path.stem](store, *also))
    return paths


def _write_csv(path: Path, source: Table) -> None:
    """Write a header and a line per row: floats as the shortest text that reads back the same, true/false."""
    places = [place for place, kind in enumerate(source.columns.values()) if kind == "?"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(source.columns)
        writer.writerows(_with_words(source.rows, places) if places else source.rows)


def _with_words(rows: Iterator[Row], places: Sequence[int]) -> Iterator[list[Any]]:
    """Yield rows with true and false for the truth values at these places."""
    for row in rows:
        cells = list(row)
        for place in places:
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
        "U": pyarrow.string(),
        "?": pyarrow.bool_(),
        "i8": pyarrow.int64(),
        "u8": pyarrow.uint64(),
        "f8": pyarrow.float64(),
    }
    convert: dict[str, Callable[[Any], Any]] = {"?": bool, "u8": int}

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
