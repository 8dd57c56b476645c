"""SVHN, cropped digits: MATLAB files with X (32, 32, 3, N) and y (N, 1), where label 10 means digit 0."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import DataError
from wn.data.dataset import Split, make_split
from wn.data.formats.mat import load_mat
from wn.data.sets.entry import Entry


def read(entry: Entry, paths: tuple[Path, ...]) -> tuple[Split, Split]:
    """Training and test split from train_32x32.mat and test_32x32.mat.

    X[row, column, channel, n] becomes images (N, 3, 32, 32); y = 1 … 9 stays, y = 10 becomes 0.
    Raises DataError where a file is missing, damaged or holds other arrays.
    """
    return _read_split(entry, paths[0]), _read_split(entry, paths[1])


def _read_split(entry: Entry, path: Path) -> Split:
    variables = load_mat(path, ["X", "y"])
    for name in ("X", "y"):
        if not isinstance(variables.get(name), np.ndarray):
            raise DataError(f"{path}: it holds no array {name}; X (images) and y (labels) are expected")
    images, labels = _images(variables["X"], entry, path), _labels(variables["y"], path)
    return make_split(images, labels, len(entry.classes), f"{path}: X", f"{path}: y")


def _images(x: NDArray[Any], entry: Entry, path: Path) -> NDArray[np.uint8]:
    channels, height, width = entry.image_shape
    if x.ndim != 4 or x.shape[:3] != (height, width, channels) or x.shape[3] == 0:
        raise DataError(f"{path}: X has shape {x.shape}; ({height}, {width}, {channels}, N) is expected")
    if x.dtype != np.uint8:
        raise DataError(f"{path}: X holds {x.dtype}; only uint8 is allowed")
    return np.ascontiguousarray(x.transpose(3, 2, 0, 1))  # (N, 3, 32, 32)


def _labels(y: NDArray[Any], path: Path) -> NDArray[np.int64]:
    if y.ndim != 2 or y.shape[1] != 1 or y.dtype.kind not in "iuf":
        raise DataError(f"{path}: y holds {y.dtype} of shape {y.shape}; numbers of shape (N, 1) are expected")
    wrong = np.flatnonzero(~np.isin(y[:, 0], np.arange(1, 11)))
    if wrong.size:
        raise DataError(
            f"{path}: y: label {y[wrong[0], 0]} of sample {wrong[0]} is out of range; allowed are 1 to 10"
        )
    return y[:, 0].astype(np.int64) % 10
