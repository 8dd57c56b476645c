"""Load, download and check the data sets by name."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pooch

from wn.basics.errors import DataError, first_line
from wn.data.contents import check_contents, origin
from wn.data.dataset import EQUAL, Dataset
from wn.data.locate import (
    VARIABLE,
    cache_folder,
    candidates,
    check_named,
    foreign,
    locate,
    others,
    search_folders,
    variable,
)
from wn.data.sets.entries import ENTRIES, entry_of
from wn.data.sets.entry import DataFile, Entry
from wn.files.whole import StrPath, as_path

log = logging.getLogger("wn")
_announce = ContextVar("_announce", default=True)  # whether unknown content is named

_TIMEOUT = 30  # seconds without an answer before the next mirror is tried


@dataclass(frozen=True)
class FileStatus:
    """The result of `check` for one file: not `ok` if it is missing, unreadable or another one."""

    name: str
    path: Path | None
    ok: bool
    status: str


def listing() -> list[Entry]:
    """All known data sets, in the order in which they are listed."""
    return list(ENTRIES.values())


@contextmanager
def unannounced() -> Iterator[None]:
    """Have `load` say nothing of unknown content in this block: somebody else has said it."""
    before = _announce.set(False)
    try:
        yield
    finally:
        _announce.reset(before)


def load(name: str, data_dir: StrPath | None = None) -> Dataset:
    """Load a data set by name; it is downloaded where none of the folders searched holds it.

    Searched are `data_dir`, $WN_DATA (both with their subfolder `name`), the folder of Debian's package and
    the download cache. Valid files that are not known are taken as they are, and one line of the logger "wn"
    names them; what is known to be something else is refused: see docs/data.md.
    Raises WnError for an unknown name and DataError, naming files and folders, for missing or wrong files,
    those of another data set, and the same images in training and test.
    """
    entry, folder = entry_of(name), _path(data_dir)
    given = foreign(entry, folder)
    if given:
        raise DataError(given)
    located = locate(entry, folder)
    if located:
        layout, paths = located.layout, located.found
    else:
        layout, paths = entry.layouts[0], _download(entry, cache_folder(entry), folder)
    note = "" if entry.bundled else check_contents(entry, layout, paths)
    train, test = entry.read(entry, paths)
    if np.array_equal(train.images, test.images):
        raise DataError(f"{paths[0].parent}: {name}: the training and the test images are the same")
    if note and _announce.get():
        log.warning("%s", note)
    return Dataset(name, entry.classes, train, test, entry.recipe, str(paths[0].parent), guess=EQUAL)


def fetch(
    name: str, data_dir: StrPath | None = None, progress: Callable[[str], Any] | None = None
) -> tuple[Path, ...]:
    """The files of a data set, downloaded to `data_dir`/`name` (default: the cache) if they are not there.

    `progress`, called with a file name before it is downloaded, returns a progress bar as pooch uses them: an
    object with an attribute total and methods update(bytes), reset() and close().
    A folder is made only where something is downloaded to it.
    Raises WnError for an unknown name and DataError where the download fails.
    """
    entry = entry_of(name)
    folder = _path(data_dir)
    located = locate(entry, folder if folder and folder.exists() else None)
    if located:
        return located.found
    if folder is not None:
        _make_folder(folder)
    return _download(entry, folder / name if folder else cache_folder(entry), folder, progress)


def check(name: str, data_dir: StrPath | None = None) -> list[FileStatus]:
    """Compare the files that `load` would take first with the checksums of the original ones.

    Raises WnError for an unknown name and DataError for a folder that does not exist; missing, unreadable and
    differing files are reported, not raised.
    """
    entry = entry_of(name)
    folder = _path(data_dir)
    check_named(entry, folder)
    located = next(candidates(entry, folder), None)
    if located is None:
        searched = search_folders(entry, folder)
        given = foreign(entry, folder) or foreign(entry, variable())
        hints = [*others(entry, searched), *([given] if given else [])]
        status = "; ".join([f"missing in {', '.join(map(str, searched))}", *hints])
        return [FileStatus(file.name, None, False, status) for file in entry.layouts[0]]
    return [_status(entry, file, path) for file, path in zip(located.layout, located.paths, strict=True)]


def _status(entry: Entry, file: DataFile, path: Path | None) -> FileStatus:
    if path is None:
        return FileStatus(file.name, None, False, "missing")
    if not (file.sha256 or file.md5):
        return FileStatus(file.name, path, True, "there; no checksum is known for it")
    try:
        found = origin(file, path)
    except DataError as error:
        return FileStatus(file.name, path, False, str(error))
    if found == (entry.name, file.name):
        return FileStatus(file.name, path, True, "original")
    why = f"it is {found}" if found else "its checksum differs"
    return FileStatus(file.name, path, False, f"not the original: {why}")


def _download(
    entry: Entry, folder: Path, data_dir: Path | None, progress: Callable[[str], Any] | None = None
) -> tuple[Path, ...]:
    """All files of the first layout; DataError names the places searched and the way to get them."""
    layout = entry.layouts[0]
    try:
        return tuple(_download_file(entry, file, folder, progress) for file in layout)
    except DataError as error:
        tried = "; ".join(str(tried) for tried in search_folders(entry, data_dir))
        names = ", ".join(file.name for file in layout)
        given = foreign(entry, variable())
        reason = f"{given}; {error}" if given else str(error)
        get = f"{entry.how_to_get}; or " if entry.how_to_get else ""
        raise DataError(
            f"{entry.name}: the files {names} (also without .gz) are in none of the folders {tried}, "
            f"and the download failed ({reason}). To get them: {get}copy them from {entry.source}; "
            f"then name their folder with --data-dir or ${VARIABLE}"
        ) from None


def _download_file(entry: Entry, file: DataFile, folder: Path, progress: Callable[[str], Any] | None) -> Path:
    """One file from the first mirror that delivers it with the right checksum."""
    pooch.get_logger().setLevel("ERROR")  # it would say what the error or the progress bar says
    reasons = []
    for mirror in entry.mirrors:
        try:
            fetched = pooch.retrieve(
                mirror + file.name,
                known_hash=f"md5:{file.md5}",
                fname=file.name,
                path=folder,
                downloader=pooch.HTTPDownloader(
                    progressbar=progress(file.name) if progress else False, timeout=_TIMEOUT
                ),
            )
        except (OSError, ValueError) as error:
            reasons.append(f"{urlsplit(mirror).netloc}: {_reason(error)}")
        else:
            return Path(fetched)
    raise DataError("; ".join(reasons) or "it has no download source")


def _reason(error: Exception) -> str:
    """The reason of a failed download, briefly; pooch passes on the errors of requests and of the disk."""
    if isinstance(error, ValueError):
        return "another checksum"
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    if hasattr(error, "request"):  # an error of requests, whose own words are long
        return "no answer in time" if "Timeout" in type(error).__name__ else "no connection"
    return first_line(error)


def _path(data_dir: StrPath | None) -> Path | None:
    return None if data_dir is None else as_path(data_dir, "the data folder").expanduser()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be used as a folder: {error.strerror or error}") from None
