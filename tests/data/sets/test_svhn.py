"""SVHN's MATLAB files, whole and damaged."""

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import wn.data
from wn.basics.errors import DataError
from wn.data import contents
from wn.data.contents import Origin
from wn.data.dataset import Split
from wn.data.sets import entries
from wn.data.sets.entries import entry_of

NAMES = ("train_32x32.mat", "test_32x32.mat")
ENTRY = entry_of("svhn")
RNG = np.random.default_rng(1)
X: NDArray[np.uint8] = RNG.integers(0, 256, size=(32, 32, 3, 4), dtype=np.uint8)
Y: NDArray[np.uint8] = np.array([[1], [10], [9], [3]], dtype=np.uint8)


def mat(compressed: bool = True, **variables: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "variables.mat")
        scipy.io.savemat(str(path), variables, do_compression=compressed)
        return path.read_bytes()


GOOD = mat(X=X, y=Y)
PLAIN = mat(compressed=False, X=X, y=Y)  # X: flags from byte 136, sizes, name, numbers from byte 192


HEADER = st.integers(116, 215)  # the bytes that say what follows


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
        (b"", "empty"),
        (b"\x89HDF\r\n" + bytes(600), "not a MATLAB 5 file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "not a MATLAB 5 file: it is an HDF5 file"),
        (b"MATLAB 7.3 MAT-file" + bytes(600), "not a MATLAB 5 file: it is a MATLAB 7.3 file: save it anew"),
        (b"<html>" + bytes(600), "not a MATLAB 5 file: it is a web page: download the file itself"),
        (GOOD[:100], "not a MATLAB 5 file"),
        (GOOD[:-1], "truncated"),
        (GOOD[: len(GOOD) // 2], "truncated"),
        (mat(x=X, y=Y), "it holds no array X"),
        (mat(X=X), "it holds no array y"),
        (mat(X="text", y=Y), "variable 'X' is not an ordinary array of real numbers"),
        (mat(X=X.transpose(3, 2, 0, 1), y=Y), r"X has shape \(4, 3, 32, 32\); \(32, 32, 3, N\)"),
        (mat(X=X[..., :0], y=Y[:0]), "X has shape"),
        (mat(X=X.astype(np.float32), y=Y), "X holds float32"),
        (mat(X=X, y=Y[:3]), "X has 4 images, but .*y has 3 labels"),
        (mat(X=X, y=Y.T), r"y holds uint8 of shape \(1, 4\)"),
        (mat(X=X, y=Y - 1), "label 0 of sample 0 is out of range; allowed are 1 to 10"),
        (mat(X=X, y=np.array([[1], [2], [11], [3]])), "label 11 of sample 2"),
        (mat(X=X, y=np.array([[1], [2.5], [1], [3]])), r"label 2\.5 of sample 1"),
        (mat(X=X, y=np.array([[1], [np.nan], [1], [3]])), "label nan of sample 1"),
        (mat(X=X, y=Y.astype(object)), "variable 'y' is not an ordinary array"),
        (mat(X=X, y=Y + 0j), "variable 'y' is not an ordinary array"),
        (PLAIN[:145] + b"\x08" + PLAIN[146:], "variable 'X' is not an ordinary array"),
        (PLAIN[:184] + b"\x15" + PLAIN[185:], "variable 'X' is not an ordinary array"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / NAMES[0]).write_bytes(content)
    (tmp_path / NAMES[1]).write_bytes(GOOD)
    with pytest.raises(DataError, match=words) as caught:
        wn.data.load("svhn", tmp_path)
    assert str(caught.value).startswith(str(tmp_path / NAMES[0]))
    assert "\n" not in str(caught.value)


def test_train_and_test_and_extra_images_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Files of one form under each other's names; here with checksums of small files."""
    made = {name: mat(X=X[..., : n + 1], y=Y[: n + 1]) for n, name in enumerate((*NAMES, "extra_32x32.mat"))}
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in made.items()}
    layout = tuple(replace(file, md5=md5[file.name]) for file in ENTRY.layouts[0])
    monkeypatch.setitem(entries.ENTRIES, "svhn", replace(ENTRY, layouts=(layout,)))
    extra = Origin("svhn's additional images", "extra_32x32.mat")
    monkeypatch.setattr(contents, "_OTHERS", {md5["extra_32x32.mat"]: extra})

    def load(train: str, test: str) -> None:
        (tmp_path / NAMES[0]).write_bytes(made[train])
        (tmp_path / NAMES[1]).write_bytes(made[test])
        wn.data.load("svhn", tmp_path)

    load(*NAMES)
    assert caplog.messages == []
    with pytest.raises(
        DataError, match=r"train_32x32\.mat is test_32x32\.mat of svhn, test_32x32\.mat is train"
    ):
        load(NAMES[1], NAMES[0])
    with pytest.raises(DataError, match=r"train_32x32\.mat is extra_32x32\.mat of svhn's additional images"):
        load("extra_32x32.mat", NAMES[1])
    with pytest.raises(DataError, match=r"test_32x32\.mat is train_32x32\.mat of svhn"):
        load(NAMES[0], NAMES[0])


@pytest.mark.parametrize("name", ["digitStruct.mat", "extra_32x32.mat", "train.tar.gz"])
def test_other_forms_of_svhn_are_recognised(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=f"{name}: .*: get .*train_32x32.mat and test_32x32.mat"):
        wn.data.load("svhn", tmp_path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"svhn: the files train_32x32\.mat, test_32x32\.mat"):
        wn.data.load("svhn", tmp_path)
    with pytest.raises(DataError, match="no such file"):
        ENTRY.read(ENTRY, (tmp_path / NAMES[0], tmp_path / NAMES[1]))


def read_or_complain(folder: Path, content: bytes) -> Split | None:
    """The training split, or None for a DataError; any other exception, or a crash, fails the test."""
    (folder / NAMES[0]).write_bytes(content)
    try:
        return ENTRY.read(ENTRY, (folder / NAMES[0], folder / NAMES[1]))[0]
    except DataError:
        return None


@given(position=HEADER | st.integers(0, len(GOOD) - 1), value=st.integers(0, 255))
def test_a_changed_byte_gives_the_right_images_or_is_refused(folder: Path, position: int, value: int) -> None:
    content = bytearray(GOOD)
    content[position] = value
    split = read_or_complain(folder, bytes(content))
    if split is not None:
        assert np.array_equal(split.images, X.transpose(3, 2, 0, 1))
        assert split.labels.tolist() == [1, 0, 9, 3]


@given(position=HEADER, value=st.integers(0, 255))
def test_a_changed_header_without_compression_never_crashes(folder: Path, position: int, value: int) -> None:
    content = bytearray(PLAIN)
    content[position] = value
    split = read_or_complain(folder, bytes(content))
    assert split is None or split.images.shape == (4, 3, 32, 32)


@given(length=st.integers(0, min(len(GOOD), len(PLAIN)) - 1), plain=st.booleans())
def test_truncation_never_gives_images(folder: Path, length: int, plain: bool) -> None:
    assert read_or_complain(folder, (PLAIN if plain else GOOD)[:length]) is None
