"""CIFAR-10 in its binary version: records of one label byte and 3 × 32 × 32 bytes of pixels."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import DataError
from wn.data.dataset import Split, make_split
from wn.data.formats.archive import members
from wn.data.formats.idx import reading
from wn.data.formats.kinds import HEAD, described
from wn.data.sets.entry import Entry

ARCHIVE = "cifar-10-binary.tar.gz"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
# What other versions are told by, and what they are.
OTHER_VERSIONS = {
    "data_batch_1": "the Python version, pickles, which are never loaded; the binary one is read here",
    "data_batch_1.mat": "the MATLAB version; the binary one is read here",
    "fine_label_names.txt": "CIFAR-100, another data set",
    "train": "CIFAR-100, another data set",
}
_LARGEST = 1 << 28  # bytes; the real files have 30,730,000


def read(entry: Entry, paths: tuple[Path, ...]) -> tuple[Split, Split]:
    """Training and test split, from the archive (one path) or from the six .bin files in order.

    A record is a label (1 byte), then the red, green and blue plane, each row by row: image (3, 32, 32).
    Raises DataError where a file is missing, damaged, of another size, holds a label above 9, or has the
    same content as another of the six.
    """
    contents = _from_archive(paths[0]) if len(paths) == 1 else {str(path): _from_file(path) for path in paths}
    _check_different(contents)
    counts = [entry.train_count // len(TRAIN_FILES)] * len(TRAIN_FILES) + [entry.test_count]
    splits = [
        _split(content, entry, count, source)
        for (source, content), count in zip(contents.items(), counts, strict=True)
    ]
    train = Split(
        np.concatenate([split.images for split in splits[:-1]]),
        np.concatenate([split.labels for split in splits[:-1]]),
    )
    return train, splits[-1]


def _split(content: bytes, entry: Entry, count: int, source: str) -> Split:
    record = 1 + int(np.prod(entry.image_shape))
    if len(content) != count * record:
        what = described(content[:HEAD])
        if content and len(content) % (record + 1) == 0:
            raise DataError(f"{source}: records of {record + 1} bytes, as those of CIFAR-100, not CIFAR-10")
        kind = "truncated" if len(content) < count * record else "trailing bytes"
        due = f"{count} records of {record} bytes = {count * record}"
        raise DataError(
            f"{source}: {kind}: {len(content)} bytes where {due} are due{f'; {what}' if what else ''}"
        )
    records: NDArray[np.uint8] = np.frombuffer(content, dtype=np.uint8).reshape(count, record)
    images = records[:, 1:].reshape(count, *entry.image_shape)  # (N, 3, 32, 32), a copy
    return make_split(images, records[:, 0], len(entry.classes), source, source)


def _from_archive(path: Path) -> dict[str, bytes]:
    wanted = dict.fromkeys((*TRAIN_FILES, TEST_FILE), b"")
    others = set()
    for member in members(path, _LARGEST):
        name = member.name.rsplit("/", 1)[-1]
        if name not in wanted:
            others.add(name)
        elif wanted[name] not in (b"", member.content):
            raise DataError(f"{path}: the archive holds {name} twice, with different content")
        else:
            wanted[name] = member.content
    missing = [name for name, content in wanted.items() if not content]
    if missing:
        held = [f": it holds {what}" for name, what in OTHER_VERSIONS.items() if name in others]
        raise DataError(f"{path}: the archive lacks {', '.join(missing)}{''.join(held[:1])}")
    return {f"{path}: {name}": content for name, content in wanted.items()}


def _check_different(contents: dict[str, bytes]) -> None:
    """Raise DataError if two files are one and the same: images trained on twice, or tested on as well."""
    sources: dict[bytes, str] = {}
    for source, content in contents.items():
        twin = sources.setdefault(hashlib.sha256(content).digest(), source)
        if twin != source:
            raise DataError(f"{source}: has the same content as {twin}")


def _from_file(path: Path) -> bytes:
    with reading(path) as (stream, _):
        return stream.read(_LARGEST)
