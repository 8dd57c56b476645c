"""Keeping computed features on disk, so that a data set of sound is transformed once and then only read."""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pooch

from wn.data.dataset import Split
from wn.errors import DataError
from wn.files import whole_file

Splits = tuple[Split, Split]
_NAMES = ("train_images", "train_labels", "test_images", "test_labels")


def cached(sources: Iterable[Path], code: Iterable[Path], compute: Callable[[], Splits]) -> Splits:
    """The result of `compute`, kept in the cache folder under a key of its sources and of the code.

    The key hashes name, size and time of every source file and the text of the code files, so that neither
    changed data nor a changed transformation meets an old result. A damaged file is computed anew; where the
    folder cannot be written, nothing is kept.
    """
    path = Path(pooch.os_cache("wn")) / "features" / f"{_key(sources, code)}.npz"
    kept = _read(path)
    if kept is None:
        kept = compute()
        _write(path, kept)
    return kept


def _key(sources: Iterable[Path], code: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for source in sorted(sources):
        try:
            stat = source.stat()
        except OSError as error:
            raise DataError(f"{source}: cannot be read: {error.strerror or error}") from None
        digest.update(f"{source.resolve()}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    for file in code:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _read(path: Path) -> Splits | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays = [kept[name] for name in _NAMES]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return Split(arrays[0], arrays[1]), Split(arrays[2], arrays[3])


def _write(path: Path, splits: Splits) -> None:
    """Keep both splits, whole or not at all."""
    train, test = splits
    with suppress(OSError):  # the cache only saves time
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                train_images=train.images,
                train_labels=train.labels,
                test_images=test.images,
                test_labels=test.labels,
            )
