"""The data set of a file, told from its content: its name says little, as many use MNIST's names.

Originals are known by the checksums of the catalogue. Files with other content are the user's own, used as
they are and named; files that are known to be something else are refused.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wn.basics.errors import DataError
from wn.data.feature_cache import remembered
from wn.data.formats.idx import reading
from wn.data.sets.entries import ENTRIES
from wn.data.sets.entry import DataFile, Entry

_LARGE = 1 << 29  # bytes; of larger files the checksum is remembered


class Origin(NamedTuple):
    """The data set that a file belongs to, and its name there."""

    dataset: str
    file: str

    def __str__(self) -> str:
        return f"{self.file} of {self.dataset}"


# MD5 of files that are no part of the catalogue, but bear the names of those that are, or are easily taken
# for them. Source: KMNIST and SVHN in torchvision.datasets.
_OTHERS = {
    "bdb82020997e1d708af4cf47b453dcf7": Origin("kmnist", "train-images-idx3-ubyte.gz"),
    "e144d726b3acfaa3e44228e80efcd344": Origin("kmnist", "train-labels-idx1-ubyte.gz"),
    "5c965bf0a639b31b8f53240b1b52f4d7": Origin("kmnist", "t10k-images-idx3-ubyte.gz"),
    "7320c461ea6c1c855c0b718fb2a4b134": Origin("kmnist", "t10k-labels-idx1-ubyte.gz"),
    "a93ce644f1a588dc4d68dda5feec44a7": Origin("svhn's additional images", "extra_32x32.mat"),
}


def content_sha256(path: Path) -> str:
    """SHA-256 of a file's content, after undoing gzip; DataError if it cannot be read."""
    with reading(path) as (stream, _):
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_md5(path: Path) -> str:
    """MD5 of a file as it is; DataError if it cannot be read."""
    try:
        if path.stat().st_size > _LARGE:
            return remembered("md5", path, lambda: _md5(path))
        return _md5(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def origin(file: DataFile, path: Path) -> Origin | None:
    """The origin of the content at `path`, which stands for `file`; None if unknown.

    Raises DataError for a file that cannot be read.
    """
    files = [(entry.name, known) for entry in ENTRIES.values() for known in entry.layouts[0]]
    if file.sha256:
        by_content = {known.sha256: Origin(name, known.name) for name, known in files if known.sha256}
        found = by_content.get(content_sha256(path))
        if found:
            return found
    if not file.md5:
        return None
    by_md5 = {known.md5: Origin(name, known.name) for name, known in files if known.md5}
    return (by_md5 | _OTHERS).get(file_md5(path))


def check_contents(entry: Entry, layout: Sequence[DataFile], paths: Sequence[Path]) -> str:
    """Compare files with the original ones: a line that names those with unknown content, "" if none has.

    Raises DataError for files of another data set, for training files in the place of test files and the
    other way round, and where a second copy of a file lies beside the first and differs from it.
    """
    pairs = list(zip(layout, paths, strict=True))
    for file, path in pairs:
        _check_copies(file, path)
    origins = [origin(file, path) for file, path in pairs]
    wrong = [
        f"{path.name} is {found}"
        for (file, path), found in zip(pairs, origins, strict=True)
        if found and found != (entry.name, file.name)
    ]
    folder = paths[0].parent
    if wrong:
        raise DataError(f"{folder}: not the files of {entry.name}: {', '.join(wrong)}")
    unknown = [path.name for path, found in zip(paths, origins, strict=True) if found is None]
    if not unknown:
        return ""
    names = ", ".join(unknown)
    if any(file.md5 or file.sha256 for file in layout):
        what = f"{names} in {folder}: unknown content, not that of the original files"
    else:
        what = f"{names} in {folder}: no checksum tells whether these are the original files"
    return f"{entry.name}: {what}; used as they are"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _check_copies(file: DataFile, path: Path) -> None:
    """Raise DataError if the file lies there twice, packed and unpacked say, with different content."""
    for name in file.names:
        copy = path.with_name(name)
        if copy != path and copy.is_file() and content_sha256(copy) != content_sha256(path):
            raise DataError(f"{path}: beside it lies {name} with other content: remove the one not meant")
