"""Keeping computed features on disk, so that a data set of sound is transformed once and then only read."""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pooch

from wn.basics.errors import DataError
from wn.data.dataset import Split
from wn.files.whole import whole_file

Splits = tuple[Split, Split]
_NAMES = ("train_images", "train_labels", "test_images", "test_labels")


def cached(sources: Iterable[Path], code: Iterable[Path], compute: Callable[[], Splits]) -> Splits:
    """The result of `compute`, kept in the cache folder under a key of its sources and of the code.

    The key hashes name, size and times of every source file and the text of the code files, so that neither
    changed data nor a changed transformation meets an old result. One of the times is that of the last change
    to the file's entry, which no program can set: a copy with the size and date of what it replaces is seen.
    A damaged file is computed anew; where the folder cannot be written, nothing is kept.
    """
    path = _folder("features") / f"{_key(sources, code)}.npz"
    kept = _read(path)
    if kept is not None:
        return kept
    train, test = compute()
    values = (train.images, train.labels, test.images, test.labels)
    arrays: dict[str, Any] = dict(zip(_NAMES, values, strict=True))
    _keep(path, lambda file: np.savez(file, **arrays))
    return train, test


def remembered(what: str, source: Path, compute: Callable[[], str]) -> str:
    """The text that `compute` finds in a large file, kept in the cache folder as `cached` keeps features."""
    path = _folder(what) / f"{_key([source], [])}.txt"
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        found = compute()
    _keep(path, lambda file: file.write(found.encode("ascii")))
    return found


def _folder(what: str) -> Path:
    return Path(pooch.os_cache("wn")) / what


def _key(sources: Iterable[Path], code: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for source in sorted(sources):
        try:
            stat = source.stat()
        except OSError as error:
            raise DataError(f"{source}: cannot be read: {error.strerror or error}") from None
        times = f"{stat.st_mtime_ns}|{stat.st_ctime_ns}"
        digest.update(f"{source.resolve()}|{stat.st_size}|{times}\n".encode(errors="surrogateescape"))
    for file in code:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _read(path: Path) -> Splits | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays = [kept[name] for name in _NAMES]
            return Split(arrays[0], arrays[1]), Split(arrays[2], arrays[3])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None  # ValueError: also of arrays that a split does not take


def _keep(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file of the cache, whole or not at all."""
    with suppress(OSError):  # the cache only saves time
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary, temporary.open("wb") as file:
            write(file)
