"""The result of a walk: plain tables, and the files that carry them."""

import csv
import errno
import io
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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


TABLES = ("curves.csv", "midpoints.csv", "run.json")
PICTURES = ("curves.png", "midpoints.png")
FILES = (*TABLES, *PICTURES)

Writer = Callable[[Path], None]


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
        """Write the tables, then the pictures; the folder is made if need be. Returns the paths.

        Raises OSError, which names the file, if one can't be written; tables do not depend on the pictures.
        """
        return self.save_tables(folder) + self.save_pictures(folder)

    def save_tables(self, folder: Path) -> list[Path]:
        """Write curves.csv, midpoints.csv and run.json: all or none, short of a crash of the machine.

        The record and the pictures of an earlier run go before its tables are replaced, so that no picture
        stands beside the tables of another run and no record beside tables that are not its own.
        """
        writers: tuple[Writer, ...] = (
            lambda path: _write_csv(path, self.curves),
            lambda path: _write_csv(path, self.midpoints),
            lambda path: _write_json(path, self.run),
        )
        stale = [folder / name for name in ("run.json", *PICTURES)]
        return _save([folder / name for name in TABLES], writers, stale)

    def save_pictures(self, folder: Path) -> list[Path]:
        """Draw curves.png and midpoints.png: both or none, short of a crash of the machine."""
        from wn import plots  # matplotlib is slow to import and needed here only

        writers: tuple[Writer, ...] = (
            lambda path: plots.plot_curves(self, path),
            lambda path: plots.plot_midpoints(self, path),
        )
        return _save([folder / name for name in PICTURES], writers)


def _save(paths: list[Path], writers: tuple[Writer, ...], stale: Sequence[Path] = ()) -> list[Path]:
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    with whole_files(paths, stale) as temporaries:
        for path, temporary, write in zip(paths, temporaries, writers, strict=True):
            with _naming(path, temporary):
                write(temporary)
    return paths


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it becomes `path` at once.

    An error or Ctrl-C inside the block leaves neither a half-written file nor the temporary one; an OSError
    names `path`.
    """
    with whole_files([path]) as (temporary,), _naming(path, temporary):
        yield temporary


@contextmanager
def whole_files(paths: Sequence[Path], stale: Sequence[Path] = ()) -> Iterator[list[Path]]:
    """Give temporary paths beside `paths`; when the block ends well, they take their places in this order.

    An error or Ctrl-C inside the block leaves everything as it was. While the files take their places, one
    quickly after the other, Ctrl-C waits; a killed process or a failing disk at that very moment may leave
    some old and some new. `stale` files are removed just before.
    """
    temporaries: list[Path] = []
    try:
        for path in paths:
            with _naming(path):
                handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
                temporaries.append(Path(name))
                os.close(handle)
        yield temporaries
        for path, temporary in zip(paths, temporaries, strict=True):
            with _naming(path, temporary):
                _finish(path, temporary)
        with _uninterrupted():
            for path in stale:
                with suppress(OSError):  # a folder of that name, say: not what an earlier run left
                    path.unlink()
            for path, temporary in zip(paths, temporaries, strict=True):
                with _naming(path, temporary):
                    temporary.replace(path)
    finally:
        for temporary in temporaries:
            with suppress(FileNotFoundError):
                temporary.unlink()


def _finish(path: Path, temporary: Path) -> None:
    """Bring a written file to disk; OSError if it can't take the place of `path`."""
    temporary.chmod(0o666 & ~_umask())
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


@contextmanager
def _naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Have an OSError name the file that was to be written, where it names none or the temporary one."""
    try:
        yield
    except OSError as error:
        if temporary is not None and error.filename not in (None, str(temporary), temporary):
            raise  # about some other file
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done; only the main thread gets it, and only there it matters."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None
    if before is None:
        yield
        return
    held: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            signal.raise_signal(signal.SIGINT)


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
