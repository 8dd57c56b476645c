"""The result of a walk: plain tables, and the files that carry them."""

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

_RUN = [("dataset", "U32"), ("model", "U32"), ("batch_norm", "U16"), ("noise", "U16"), ("phase", "U16")]
_SITE = [("site", "i8"), ("site_name", "U32")]  # site −1 is "global", −2 "mapped"

CURVE_COLUMNS = np.dtype(
    [
        *_RUN,
        *_SITE,
        ("sigma", "f8"),
        ("repeat", "i8"),
        ("correct", "i8"),
        ("total", "i8"),
        ("accuracy", "f8"),
    ]
)
MIDPOINT_COLUMNS = np.dtype(
    [
        *_RUN,
        *_SITE,
        ("midpoint", "f8"),
        ("ci_low", "f8"),
        ("ci_high", "f8"),
        ("slope", "f8"),
        ("reached", "?"),
        ("clean_accuracy", "f8"),
    ]
)


@dataclass(frozen=True, eq=False)
class WalkResult:
    """What a walk found, as NumPy structured arrays: one field per column of the csv files.

    `curves`: one row per phase, site, σ and repeat; accuracy = correct/total.
    `midpoints`: one row per phase and site; midpoint, ci_low and ci_high (95 %) in units of σ, NaN where the
    midpoint is not reached; clean_accuracy is the pooled accuracy of the networks trained without noise.
    `reasons`: for each row of `midpoints` why it is not reached, "" if it is.
    `run`: everything needed to repeat the run.
    """

    curves: NDArray[Any]
    midpoints: NDArray[Any]
    reasons: tuple[str, ...]
    run: dict[str, Any] = field(repr=False)

    def save(self, folder: Path) -> list[Path]:
        """Write curves.csv, midpoints.csv, run.json and both pictures: all of them, or none.

        The folder is made if need be. Returns the paths; raises OSError if the files can't be written.
        """
        from wn import plots  # matplotlib is slow to import and needed here only

        folder.mkdir(parents=True, exist_ok=True)
        writers: dict[str, Callable[[Path], None]] = {
            "run.json": lambda path: _write_json(path, self.run),
            "curves.csv": lambda path: _write_csv(path, self.curves),
            "midpoints.csv": lambda path: _write_csv(path, self.midpoints),
            "curves.png": lambda path: plots.plot_curves(self, path),
            "midpoints.png": lambda path: plots.plot_midpoints(self, path),
        }
        with ExitStack() as files:  # left in reverse: run.json, which tells whose results these are, is last
            for name, write in writers.items():
                write(files.enter_context(whole_file(folder / name)))
        return [folder / name for name in writers]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it becomes `path` at once.

    An error or Ctrl-C inside the block leaves neither a half-written file nor the temporary one.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_csv(path: Path, table: NDArray[Any]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.dtype.names or ())
    writer.writerows([_cell(value) for value in row] for row in table.tolist())
    path.write_text(text.getvalue(), encoding="utf-8")


def _cell(value: Any) -> Any:
    """Return a csv cell: the shortest text that gives the same float again, nothing for NaN, true/false."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "" if value != value else repr(value)
    return value


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
