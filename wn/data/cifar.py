"""CIFAR-10 in its binary version: records of one label byte and 3 × 32 × 32 bytes of pixels."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wn.data.archive import members
from wn.data.dataset import Split, make_split
from wn.data.entry import Entry
from wn.data.idx import reading
from wn.errors import DataError

ARCHIVE = "cifar-10-binary.tar.gz"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
_LARGEST = 1 << 28  # bytes; the real files have 30,730,000


def read(entry: Entry, paths: tuple[Path, ...]) -> tuple[Split, Split]:
    """Training and test split, from the archive (one path) or from the six .bin files in order.

    A record is a label (1 byte), then the red, green and blue plane, each row by row: image (3, 32, 32).
    Raises DataError where a file is missing, damaged, of another size or holds a label above 9.
    """
    contents = _from_archive(paths[0]) if len(paths) == 1 else {str(path): _from_file(path) for path in paths}
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
        kind = "truncated" if len(content) < count * record else "trailing bytes"
        due = f"{count} records of {record} bytes = {count * record}"
        raise DataError(f"{source}: {kind}: {len(content)} bytes where {due} are due")
    records: NDArray[np.uint8] = np.frombuffer(content, dtype=np.uint8).reshape(count, record)
    images = records[:, 1:].reshape(count, *entry.image_shape)  # (N, 3, 32, 32), a copy
    return make_split(images, records[:, 0], len(entry.classes), source, source)


def _from_archive(path: Path) -> dict[str, bytes]:
    wanted = dict.fromkeys((*TRAIN_FILES, TEST_FILE), b"")
    for member in members(path, _LARGEST):
        name = member.name.rsplit("/", 1)[-1]
        if name in wanted:
            wanted[name] = member.content
    missing = [name for name, content in wanted.items() if not content]
    if missing:
        raise DataError(f"{path}: the archive lacks {', '.join(missing)}")
    return {f"{path}: {name}": content for name, content in wanted.items()}


def _from_file(path: Path) -> bytes:
    with reading(path) as (stream, _):
        return stream.read(_LARGEST)
