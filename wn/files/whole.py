"""Files that appear whole or not at all: written beside their place, brought to disk, then renamed."""

import errno
import os
import re
import secrets
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wn.basics.errors import WnError

TOKEN = 4  # random bytes in a temporary name

StrPath = str | os.PathLike[str]


def as_path(value: Any, what: str = "a path") -> Path:
    """Return a path given as text or as an object of a path; WnError for anything else."""
    try:
        path = Path(value)
    except TypeError:
        path = None
    if path is None or "\0" in str(path):
        raise WnError(f"{what} is {value!r}: it must be a path, as text or as pathlib.Path")
    return path


@contextmanager
def whole_file(path: Path, replace: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it becomes `path` at once.

    An error or Ctrl-C inside the block leaves neither a half-written file nor the temporary one; an OSError
    names `path`. It is FileExistsError where a file is there that is not to be replaced.
    """
    with whole_files([path], replace=replace) as (temporary,), naming(path, temporary):
        yield temporary


@contextmanager
def whole_files(
    paths: Sequence[Path], stale: Sequence[Path] = (), replace: bool = True
) -> Iterator[list[Path]]:
    """Give temporary paths beside `paths`; when the block ends well, they take their places in this order.

    An error or Ctrl-C inside the block leaves everything as it was. While the files take their places, one
    quickly after the other, Ctrl-C waits; a killed process or a failing disk at that very moment may leave
    some old and some new. `stale` files are removed just before. Without `replace`, FileExistsError if one of
    the files is there, even if it has come to be so only now; no other is left then. Links are followed.
    """
    temporaries: list[Path] = []
    paths = [Path(os.path.realpath(path)) for path in paths]
    try:
        for path in paths:
            with naming(path):
                temporaries.append(_new_file(path))
        yield temporaries
        for path, temporary in zip(paths, temporaries, strict=True):
            with naming(path, temporary):
                _finish(path, temporary)
        with _uninterrupted():
            for path in stale:
                with suppress(OSError):  # a folder of that name, say: not what an earlier run left
                    path.unlink()
            (_replace if replace else _place)(paths, temporaries)
            for folder in {path.parent for path in paths}:
                _sync(folder)
    finally:
        for temporary in temporaries:
            with suppress(FileNotFoundError):
                temporary.unlink()


def write_text(path: Path, text: str, replace: bool = True) -> None:
    """Write a text file in UTF-8; errors as of `whole_file`."""
    with whole_file(path, replace) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _new_file(path: Path) -> Path:
    """Make an empty file beside `path`, with the permissions of any new file."""
    while True:
        temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(TOKEN)}{_suffix(path)}")
        with suppress(FileExistsError):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return temporary


def _finish(path: Path, temporary: Path) -> None:
    """Bring a written file to disk; OSError if it can't take the place of `path`."""
    _sync(temporary)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _replace(paths: Sequence[Path], temporaries: Sequence[Path]) -> None:
    for path, temporary in zip(paths, temporaries, strict=True):
        with naming(path, temporary):
            temporary.replace(path)


def _place(paths: Sequence[Path], temporaries: Sequence[Path]) -> None:
    """Give whole files their names, unless one of these is taken."""
    placed: list[Path] = []
    try:
        for path, temporary in zip(paths, temporaries, strict=True):
            with naming(path, temporary):
                _link(temporary, path)
            placed.append(path)
    except BaseException:
        for path in placed:
            path.unlink()
        raise


def _link(temporary: Path, path: Path) -> None:
    """Have a file appear under a second name; FileExistsError if that is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        temporary.replace(path)


def sweep(path: Path) -> None:
    """Remove half-written copies of a file, left by a killed process; nobody else may be writing the file."""
    left = re.compile(f"{re.escape(_prefix(path))}[0-9a-f]{{{2 * TOKEN}}}{re.escape(_suffix(path))}")
    with suppress(OSError):
        for entry in os.scandir(path.parent):
            if left.fullmatch(entry.name):
                os.unlink(entry)


def _prefix(path: Path) -> str:
    """The beginning of temporary names, short enough for a file whose own name is as long as may be."""
    return f".{path.stem[:40]}-"


def _suffix(path: Path) -> str:
    return path.suffix if len(path.suffix) <= 20 else ""


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():
            return  # Windows has no such thing for folders
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems that can't
            raise
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
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
