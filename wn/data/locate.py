"""The places of a data set's files: an explicit folder, $WN_DATA, Debian's folder, the download cache."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pooch

from wn.basics.errors import DataError
from wn.data.contents import origin
from wn.data.sets.entries import MINI_FOLDER
from wn.data.sets.entry import DataFile, Entry

VARIABLE = "WN_DATA"


@dataclass(frozen=True)
class Located:
    """A folder that holds files of a data set; `paths` follows `layout`, None where a file is missing."""

    folder: Path
    layout: tuple[DataFile, ...]
    paths: tuple[Path | None, ...]

    @property
    def complete(self) -> bool:
        return None not in self.paths

    @property
    def missing(self) -> list[str]:
        return [file.name for file, path in zip(self.layout, self.paths, strict=True) if path is None]

    @property
    def found(self) -> tuple[Path, ...]:
        return tuple(path for path in self.paths if path is not None)


def cache_folder(entry: Entry) -> Path:
    """The folder to which a data set is downloaded where no other is named."""
    return Path(pooch.os_cache("wn")) / entry.name


def search_folders(entry: Entry, data_dir: Path | None = None) -> list[Path]:
    """All folders that are searched, in order, whether they exist or not."""
    named = [folder for _, root in _named(entry, data_dir) for folder in _within(root, entry)]
    return [*named, *_own_folders(entry)]


def locate(entry: Entry, data_dir: Path | None = None) -> Located | None:
    """The first folder that holds the data set, or None.

    A folder named by the user or by Debian that holds only some of the files is an error, so that another
    folder's files are not taken silently; an unfinished download counts as absent. Files that are known to be
    another data set's (MNIST and FashionMNIST use the same names) are passed over, but a folder named by the
    user in which nothing else is found is an error too, and so is one that does not exist.
    Raises DataError.
    """
    named = _named(entry, data_dir)
    check_named(entry, data_dir)
    for _, root in named:
        located = _first(entry, _within(root, entry))
        if located:
            return located
        other = next(others(entry, _within(root, entry)), None)
        if other:
            raise DataError(other)
    return _first(entry, _own_folders(entry))


def check_named(entry: Entry, data_dir: Path | None = None) -> None:
    """Raise DataError where `data_dir` or $WN_DATA name a folder that does not exist."""
    for where, root in _named(entry, data_dir):
        if not os.path.isdir(root):
            hint = ", but a file: name the folder in which it lies" if os.path.isfile(root) else ""
            raise DataError(f"{where}: {root} is not a folder{hint}")


def candidates(entry: Entry, data_dir: Path | None = None) -> Iterator[Located]:
    """The searched folders, in order, with a file of the data set and without another data set's files."""
    return _held(entry, search_folders(entry, data_dir))


def others(entry: Entry, folders: list[Path]) -> Iterator[str]:
    """A line for each of the folders that holds another data set, under the same file names."""
    for folder in folders:
        located = look_into(folder, entry)
        if located is not None and _owner(located, entry) != entry.name:
            yield f"{folder} holds {_owners(located)}, not {entry.name}"


def look_into(folder: Path, entry: Entry) -> Located | None:
    """The layout of which `folder` holds most files (the first of equals), or None if it holds none."""
    candidates = [
        Located(folder, layout, tuple(_existing(folder, file) for file in layout)) for layout in entry.layouts
    ]
    best = max(candidates, key=lambda located: (located.complete, len(located.found)))
    return best if best.found else None


def foreign(entry: Entry, root: Path | None) -> str:
    """A line if a folder named by the user holds the data set in a form that is not read, and in no other.

    "" otherwise, also for folders that hold nothing of it.
    """
    if root is None or entry.bundled or any(look_into(folder, entry) for folder in _within(root, entry)):
        return ""
    for folder in _within(root, entry):
        for name, what in entry.foreign:
            if os.path.exists(folder / name):
                return f"{folder / name}: {what}"
    return ""


def variable() -> Path | None:
    """The folder named by $WN_DATA."""
    value = os.environ.get(VARIABLE, "")
    return Path(value) if value else None


def _existing(folder: Path, file: DataFile) -> Path | None:
    for name in file.names:
        if os.path.isfile(folder / name):  # unlike Path.is_file, False where the folder may not be read
            return folder / name
    return None


def _named(entry: Entry, data_dir: Path | None) -> list[tuple[str, Path]]:
    """The folders named by the user, and where each is named."""
    named = (("data folder", data_dir), (f"${VARIABLE}", variable()))
    return [(where, root) for where, root in named if root is not None and not entry.bundled]


def _within(root: Path, entry: Entry) -> list[Path]:
    return [root / sub for sub in ("", entry.name, *entry.folders)]


def _own_folders(entry: Entry) -> list[Path]:
    """The folders that are searched without being named by the user."""
    if entry.bundled:
        return [MINI_FOLDER]
    return [*([Path(entry.system)] if entry.system else []), cache_folder(entry)]


def _first(entry: Entry, folders: list[Path]) -> Located | None:
    for located in _held(entry, folders):
        if located.complete:
            return located
        if located.folder != cache_folder(entry):
            raise DataError(
                f"{located.folder}: holds only a part of {entry.name}: missing {', '.join(located.missing)}"
            )
    return None


def _held(entry: Entry, folders: list[Path]) -> Iterator[Located]:
    for folder in folders:
        located = look_into(folder, entry)
        if located is not None and _owner(located, entry) == entry.name:
            yield located


def _owner(located: Located, entry: Entry) -> str:
    """The data set to which the last file (the smallest one) belongs by its content, `entry` if unknown."""
    path, file = located.paths[-1], located.layout[-1]
    if path is None or not file.sha256:
        return entry.name
    try:
        found = origin(file, path)
    except DataError:
        return entry.name  # reading it says what is wrong
    return found.dataset if found else entry.name


def _owners(located: Located) -> str:
    """The data sets to which the files belong, for a sentence."""
    found: dict[str, None] = {}
    for file, path in zip(located.layout, located.paths, strict=True):
        with suppress(DataError):
            known = origin(file, path) if path else None
            found[known.dataset if known else "unknown content"] = None
    return " and ".join(found)
