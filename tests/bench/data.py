"""Images to train on: MNIST if a folder has it, else random ones of its shape: no timing depends on them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import DataError
from wn.data.dataset import Dataset, Split
from wn.data.formats.idx import read_idx
from wn.data.recipes import MNIST

SHAPE = (1, 28, 28)
CLASSES = 10


def images(folder: Path | None, part: str, count: int) -> Split:
    """Return the first `count` images (uint8) and labels of "train" or "t10k", random ones without a folder.

    Raises DataError for a folder without the files, or with fewer images.
    """
    if folder is None:
        rng = np.random.default_rng(count)
        pixels = rng.integers(0, 256, (count, *SHAPE), np.uint8)
        return Split(pixels, rng.integers(0, CLASSES, count))
    pixels = _read(folder, f"{part}-images", 3)[:count, None]
    labels = _read(folder, f"{part}-labels", 1)[:count].astype(np.int64)
    if not len(pixels) == len(labels) == count or pixels.shape[1:] != SHAPE:
        raise DataError(f"{folder}: {count} images of {SHAPE} are needed of {part}, found {pixels.shape}")
    return Split(pixels, labels)


def dataset(train: Split, test: Split) -> Dataset:
    """Return a data set as the engine takes it; images are bytes, prepared batch by batch."""
    return Dataset("mnist", tuple("0123456789"), train, test, MNIST)


def floats(split: Split) -> NDArray[np.float32]:
    """Return all images (N, C, H, W) as peers hold them in memory: prepared once, in float32."""
    return split.images.astype(np.float32) / np.float32(255)


def _read(folder: Path, stem: str, dimensions: int) -> NDArray[Any]:
    paths = sorted(folder.glob(f"{stem}*ubyte*"))
    if not paths:
        raise DataError(f"{folder}: no file {stem}-idx{dimensions}-ubyte, plain or .gz")
    return read_idx(paths[0], dimensions)
