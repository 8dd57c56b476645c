"""The catalogue's entry of a data set and its files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wn.data.dataset import Split
from wn.data.recipes import Recipe


@dataclass(frozen=True)
class DataFile:
    """One file of a data set: accepted names (the first is the download's) and checksums, "" if unknown.

    `md5` is of the file as it is downloaded, `sha256` of its content after gzip is undone.
    """

    names: tuple[str, ...]
    md5: str = ""
    sha256: str = ""

    @property
    def name(self) -> str:
        return self.names[0]


Reader = Callable[["Entry", tuple[Path, ...]], tuple[Split, Split]]


@dataclass(frozen=True)
class Entry:
    """One data set: its content, the places of its files, the function that reads them, and its recipe.

    `layouts` are alternative sets of files, each of them complete; the first is what `mirrors` offer.
    `read(entry, paths)` takes the files of one layout and returns the training and the test split.
    `folders` are subfolders in which the files may lie; `system` is the folder of a Debian package.
    `foreign` are names of files and folders with the same data in a form that is not read, or with data that
    are easily taken for them, each with a line on what it is and what to do.
    """

    name: str
    description: str
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_count: int
    test_count: int
    licence: str
    source: str
    layouts: tuple[tuple[DataFile, ...], ...]
    read: Reader
    recipe: Recipe
    mirrors: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    system: str = ""
    bundled: bool = False
    how_to_get: str = ""
    foreign: tuple[tuple[str, str], ...] = ()
