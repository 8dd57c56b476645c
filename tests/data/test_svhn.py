"""SVHN's MATLAB files, whole and damaged."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import wn.data
from wn.data.entries import entry_of
from wn.errors import DataError

NAMES = ("train_32x32.mat", "test_32x32.mat")
ENTRY = entry_of("svhn")
RNG = np.random.default_rng(1)
X: NDArray[np.uint8] = RNG.integers(0, 256, size=(32, 32, 3, 4), dtype=np.uint8)
Y: NDArray[np.uint8] = np.array([[1], [10], [9], [3]], dtype=np.uint8)


def mat(**variables: Any) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, do_compression=True)
    return buffer.getvalue()


GOOD = mat(X=X, y=Y)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("svhn")
    (folder / NAMES[1]).write_bytes(GOOD)
    return folder


def test_arrays_become_images_and_labels(tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).write_bytes(GOOD)
    (tmp_path / NAMES[1]).write_bytes(mat(X=X[..., :1], y=Y[:1].astype(np.float64)))
    data = wn.data.load("svhn", tmp_path)
    assert data.train.images.shape == (4, 3, 32, 32)
    assert data.train.images.dtype == np.uint8
    assert data.train.images.flags.c_contiguous
    assert data.train.labels.tolist() == [1, 0, 9, 3]
    assert data.test.labels.tolist() == [1]
    for n, c, i, j in [(0, 0, 0, 0), (3, 2, 31, 30), (1, 1, 5, 17)]:
        assert data.train.images[n, c, i, j] == X[i, j, c, n]
    assert not [status for status in wn.data.check("svhn", tmp_path) if status.ok]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a sound MATLAB 5 file"),
        (b"\x89HDF\r\n" + bytes(600), "not a sound MATLAB 5 file"),
        (GOOD[:100], "not a sound MATLAB 5 file"),
        (GOOD[:-1], "not a sound MATLAB 5 file"),
        (GOOD[: len(GOOD) // 2], "not a sound MATLAB 5 file"),
        (mat(x=X, y=Y), "it holds no array X"),
        (mat(X=X), "it holds no array y"),
        (mat(X="text", y=Y), r"X has shape \(1,\)"),
        (mat(X=X.transpose(3, 2, 0, 1), y=Y), r"X has shape \(4, 3, 32, 32\); \(32, 32, 3, N\)"),
        (mat(X=X[..., :0], y=Y[:0]), "X has shape"),
        (mat(X=X.astype(np.float32), y=Y), "X holds float32"),
        (mat(X=X, y=Y[:3]), "X has 4 images, but .*y has 3 labels"),
        (mat(X=X, y=Y.T), r"y holds uint8 of shape \(1, 4\)"),
        (mat(X=X, y=Y - 1), "label 0 of sample 0 is out of range; allowed are 1 to 10"),
        (mat(X=X, y=np.array([[1], [2], [11], [3]])), "label 11 of sample 2"),
        (mat(X=X, y=np.array([[1], [2.5], [1], [3]])), r"label 2\.5 of sample 1"),
        (mat(X=X, y=np.array([[1], [np.nan], [1], [3]])), "label nan of sample 1"),
        (mat(X=X, y=Y.astype(object)), "y"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / NAMES[0]).write_bytes(content)
    (tmp_path / NAMES[1]).write_bytes(GOOD)
    with pytest.raises(DataError, match=words) as caught:
        wn.data.load("svhn", tmp_path)
    assert str(caught.value).startswith(str(tmp_path / NAMES[0]))
    assert "\n" not in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"svhn: the files train_32x32\.mat, test_32x32\.mat"):
        wn.data.load("svhn", tmp_path)
    with pytest.raises(DataError, match="no such file"):
        ENTRY.read(ENTRY, (tmp_path / NAMES[0], tmp_path / NAMES[1]))


def labels_or_complaint(folder: Path, content: bytes) -> NDArray[np.int64] | None:
    """The labels, with the images checked, or None for a DataError; any other exception fails the test."""
    (folder / NAMES[0]).write_bytes(content)
    try:
        train, _ = ENTRY.read(ENTRY, (folder / NAMES[0], folder / NAMES[1]))
    except DataError:
        return None
    assert np.array_equal(train.images, X.transpose(3, 2, 0, 1))
    return train.labels


@given(position=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255))
def test_a_changed_byte_gives_the_right_images_or_is_refused(folder: Path, position: int, value: int) -> None:
    content = bytearray(GOOD)
    content[position] = value
    labels = labels_or_complaint(folder, bytes(content))
    assert labels is None or labels.tolist() == [1, 0, 9, 3]


@given(length=st.integers(0, len(GOOD) - 1))
def test_truncation_never_gives_images(folder: Path, length: int) -> None:
    assert labels_or_complaint(folder, GOOD[:length]) is None
