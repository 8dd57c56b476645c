"""Places for results: checked and claimed before the work, and replaced where one can't be had."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

from wn.basics.errors import WnError
from wn.files.claims import Claimed, claim
from wn.files.whole import StrPath, sweep

PATIENCE = 60.0  # seconds: others that only save have a folder for moments
ATTEMPTS = 100
OTHER = "choose another --out"

T = TypeVar("T")


class AlreadyThere(WnError):
    """A file may not be replaced."""

    def __init__(self, path: StrPath) -> None:
        super().__init__(f"{path} exists: {OTHER}, or --overwrite")


# ---- checked before the work ------------------------------------------------------------------------------


def check_folder(folder: Path) -> None:
    """Raise WnError unless files can be written to the folder, or it can be made."""
    there = _existing(folder)
    _check_link(there)
    if not os.path.isdir(there):
        raise WnError(f"{there} is a file, not a folder: {OTHER}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise WnError(f"{there} is not writable: {OTHER}")


def check_file(path: Path, overwrite: bool) -> None:
    """Raise WnError if the file can't be written, or is there already and may not be replaced."""
    if os.path.isdir(path):
        raise WnError(f"{path} is a folder: --out must name a file")
    _check_link(_existing(path))
    if os.path.exists(path) and not overwrite:
        raise AlreadyThere(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise WnError(f"{path} is a device, a pipe or the like, not a file: {OTHER}")
    check_folder(path.parent)


def _check_link(path: Path) -> None:
    if os.path.islink(path) and not os.path.exists(path):
        raise WnError(f"{path} is a link to {os.readlink(path)}, which is not there: {OTHER}")


def _existing(folder: Path) -> Path:
    """Return the folder or the nearest above it that is there, be it as a link; WnError for bad names."""
    for part in (folder, *folder.absolute().parents):
        try:
            os.lstat(part)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise WnError(f"{folder}: {error.strerror or error}: {OTHER}") from None
        return part
    raise WnError(f"{folder}: no folder above it is there: {OTHER}")


# ---- claimed ----------------------------------------------------------------------------------------------


@contextmanager
def claimed_folder(folder: Path, patience: float = 0.0, new: bool = False) -> Iterator[Callable[[], bool]]:
    """Make a folder if need be and claim it; yield a function: does the claim still stand?

    Folders that were made go again if they are empty at the end. Raises Claimed if another run has it for
    all of `patience` seconds, FileExistsError if it is there and is to be `new`, and OSError if nothing can
    be written there.
    """
    made: list[Path] = []
    with ExitStack() as stack:
        stack.callback(_remove_empty, made)
        for attempt in count():
            _make(folder, made, new)
            try:
                standing = stack.enter_context(claim(folder, True, patience))
                break
            except FileNotFoundError:  # one who had made it has removed it just now
                if attempt == ATTEMPTS:
                    raise
        yield standing


@contextmanager
def claimed_for_writing(folder: Path) -> Iterator[None]:
    """Make and claim a folder for the moments that writing takes; WnError if that, or the writing, fails."""
    try:
        with claimed_folder(folder, PATIENCE):
            yield
    except OSError as error:
        raise WnError(f"{error.filename or folder}: can't be written: {error.strerror or error}") from None


@contextmanager
def folder_beside(
    folder: Path, mine: Callable[[Path], bool] = lambda path: False
) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """Make and claim the first of FOLDER-2, FOLDER-3, … that does not exist, or is `mine`.

    Gives its path, and what tells whether the claim still stands.
    """
    with ExitStack() as stack:
        for path in beside(folder):
            there = os.path.lexists(path)
            if there and not (path.is_dir() and mine(path)):
                continue
            with suppress(Claimed, FileExistsError):
                standing = stack.enter_context(claimed_folder(path, new=not there))
                break
        yield path, standing


@contextmanager
def claimed_file(path: Path, overwrite: bool) -> Iterator[Path]:
    """Claim a file that is to be written, and make its folder; give its path, links followed.

    Raises WnError if it is there and not to be replaced, or can't be written, and Claimed if another run
    writes it.
    """
    check_file(path, True)
    target = Path(os.path.realpath(path))
    made: list[Path] = []
    with ExitStack() as stack:
        stack.callback(_remove_empty, made)
        _make(target.parent, made)
        stack.enter_context(claim(target, False))
        check_file(path, overwrite)
        sweep(target)
        yield target


def beside(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield PATH-2, PATH-3, …; the number stands before the suffix of a file."""
    path = Path(os.path.abspath(path))  # "." has no name of its own
    for number in count(2):
        yield path.parent / f"{path.name.removesuffix(suffix)}-{number}{suffix}"


def _make(folder: Path, made: list[Path], new: bool = False) -> None:
    """Make a folder and those above it that are missing; `made` is told which."""
    missing = [folder] if new else []
    missing += [part for part in (folder, *folder.parents) if not part.exists() and part not in missing]
    for part in reversed(missing):
        try:
            part.mkdir()
            made.append(part)
        except FileExistsError:  # made by another meanwhile, or a file
            if (new and part == folder) or not part.is_dir():
                raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; NotADirectoryError if a file is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None


def _remove_empty(folders: list[Path]) -> None:
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()


# ---- after the work ---------------------------------------------------------------------------------------


def write_or_rescue(folder: Path, write: Callable[[Path], T]) -> tuple[T, str]:
    """Write results to a folder or, where that fails, to a new one in the system's temporary folder.

    Returns what `write` does, and what was wrong with the folder, "" if nothing. Raises the first error if
    nothing can be written there either.
    """
    try:
        return write(folder), ""
    except (OSError, WnError) as error:
        try:
            return write(Path(tempfile.mkdtemp(prefix="wn-"))), words_of(error)
        except (OSError, WnError):
            raise error from None


def words_of(error: Exception) -> str:
    """Return an error in one line, that of the system with the file that it is about."""
    if isinstance(error, OSError):
        return f"{error.filename or 'system'}: {error.strerror or error}"
    return str(error)
