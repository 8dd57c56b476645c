"""The catalogue: where files are looked for, what is downloaded, what errors say, and fashion-mini itself."""

import gzip
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wn.data
from tests.data.formats.idx_files import NAMES, pixel, publish, serve, write_files
from wn.basics.errors import DataError, WnError
from wn.data import locate, make_fashion_mini
from wn.data.formats.idx import compressed, write_idx
from wn.data.sets import entries
from wn.data.sets.entries import MINI_FOLDER, entry_of

IDX_SETS = ("fashion-mini", "fashion-mnist", "mnist")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(autouse=True)
def _without_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """No system folder, whatever is installed here."""
    for name in ("mnist", "fashion-mnist"):
        monkeypatch.setitem(entries.ENTRIES, name, replace(entry_of(name), system="/nonexistent/datasets"))


def test_files_are_looked_for_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, variable, system = tmp_path / "given", tmp_path / "variable", tmp_path / "system"
    monkeypatch.setitem(entries.ENTRIES, "mnist", replace(entry_of("mnist"), system=str(system)))
    given.mkdir()
    variable.mkdir()
    monkeypatch.setenv(locate.VARIABLE, str(variable))
    places = [
        tmp_path / "cache" / "wn" / "mnist",
        system,
        variable / "MNIST" / "raw",
        variable / "mnist",
        variable,
        given / "mnist",
        given,
    ]
    for value, place in enumerate(places):
        write_files(place, value, suffix=".gz" if value % 2 else "")
        loaded = wn.data.load("mnist", given)
        assert pixel(loaded) == value
        assert loaded.source == str(place)
    assert pixel(wn.data.load("mnist")) == places.index(variable)
    monkeypatch.setenv(locate.VARIABLE, "")
    assert pixel(wn.data.load("mnist")) == places.index(system)


def test_loaded_files_have_the_shapes_of_the_design(tmp_path: Path) -> None:
    write_files(tmp_path, 3)
    data = wn.data.load("mnist", str(tmp_path))
    assert data.train.images.shape == (20, 1, 28, 28)
    assert data.test.images.shape == (10, 1, 28, 28)
    assert data.train.images.dtype == np.uint8
    assert data.test.labels.tolist() == list(range(10))
    assert data.classes == tuple("0123456789")
    assert data.recipe.epochs_mlp == 100


def test_files_with_dots_in_their_names_are_found(tmp_path: Path) -> None:
    write_files(tmp_path, 5)
    for name in NAMES:
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
    assert pixel(wn.data.load("mnist", tmp_path)) == 5


def test_a_part_of_the_files_is_an_error(tmp_path: Path) -> None:
    write_files(tmp_path, 0)
    (tmp_path / NAMES[3]).unlink()
    with pytest.raises(DataError, match=r"holds only a part of mnist: missing t10k-labels-idx1-ubyte\.gz"):
        wn.data.load("mnist", tmp_path)
    statuses = wn.data.check("mnist", tmp_path)
    assert [status.status for status in statuses][3] == "missing"
    assert not any(status.ok for status in statuses)


def test_folders_that_do_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"data folder: .*absent is not a folder"):
        wn.data.load("mnist", tmp_path / "absent")
    monkeypatch.setenv(locate.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"\$WN_DATA: .*nowhere is not a folder"):
        wn.data.load("mnist")
    with pytest.raises(DataError, match=r"\$WN_DATA: .*nowhere is not a folder"):
        wn.data.check("mnist")
    assert wn.data.load("fashion-mini").name == "fashion-mini"
    here = [entry.name for entry in wn.data.listing() if list(locate.candidates(entry))]
    assert here == ["fashion-mini"]  # a list is still possible


def test_unknown_names_list_the_known_ones() -> None:
    for function in (wn.data.load, wn.data.fetch, wn.data.check):
        with pytest.raises(
            WnError, match="'emnist'; known are fashion-mini, fashion-mnist, mnist, cifar10, svhn, speech"
        ):
            function("emnist")


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        (NAMES[1], np.zeros(19, np.uint8), "has 20 images, but .*train-labels-idx1-ubyte has 19 labels"),
        (NAMES[3], np.full(10, 10, np.uint8), "label 10 of sample 0 .*t10k-images.* allowed are 0 to 9"),
        (NAMES[0], np.zeros((20, 28, 27), np.uint8), "images of 28 × 27 pixels; mnist has 28 × 28"),
        (NAMES[2], np.zeros(10, np.uint8), "1 dimensions where 3 are expected"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, name: str, array: np.ndarray, words: str) -> None:
    write_files(tmp_path, 0)
    write_idx(tmp_path / name, array)
    with pytest.raises(DataError, match=words) as caught:
        wn.data.load("mnist", tmp_path)
    assert str(tmp_path / name) in str(caught.value)


def test_check_reports_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tmp_path)
    folder = tmp_path / "mine"
    write_files(folder, 9)  # the same content, not compressed
    assert [status.status for status in wn.data.check("mnist", folder)] == ["original"] * 4
    write_idx(folder / NAMES[0], np.full((20, 28, 28), 8, np.uint8))
    (folder / NAMES[2]).write_bytes(compressed(b"abcdef")[:-4])
    first, second, third, fourth = wn.data.check("mnist", folder)
    assert first.status.startswith("not the original")
    assert first.path == folder / NAMES[0]
    assert (first.ok, second.ok, third.ok, fourth.ok) == (False, True, False, True)
    assert "truncated" in third.status
    for status in wn.data.check("fashion-mnist", tmp_path):
        assert status.status.startswith(f"missing in {tmp_path}, {tmp_path / 'fashion-mnist'}, ")
        assert status.status.endswith(str(tmp_path / "cache/wn/fashion-mnist"))


def test_files_of_another_data_set_with_the_same_names_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = publish(monkeypatch, tmp_path)
    serve(monkeypatch, served)
    wn.data.fetch("mnist", tmp_path / "data")
    folder = tmp_path / "data" / "mnist"
    refusal = f"{folder} holds mnist, not fashion-mnist"
    with pytest.raises(DataError, match=f"^{refusal}$"):
        wn.data.load("fashion-mnist", folder)
    assert [status.status.split("; ")[1:] for status in wn.data.check("fashion-mnist", folder)] == [
        [refusal]
    ] * 4
    with monkeypatch.context() as patched:
        patched.setenv(locate.VARIABLE, str(folder))
        with pytest.raises(DataError, match=f"^{refusal}$"):
            wn.data.load("fashion-mnist")
    write_files(tmp_path / "data" / "mnist" / "fashion-mnist", 4)
    (tmp_path / "data/mnist/fashion-mnist" / NAMES[3]).unlink()
    write_idx(tmp_path / "data/mnist/fashion-mnist" / NAMES[1], np.ones(20, np.uint8))
    write_idx(tmp_path / "data/mnist/fashion-mnist" / NAMES[3], np.zeros(10, np.uint8))
    assert pixel(wn.data.load("fashion-mnist", tmp_path / "data" / "mnist")) == 4


def test_the_list_says_what_each_data_set_is() -> None:
    listed = wn.data.listing()
    assert [entry.name for entry in listed] == list(entries.ENTRIES)
    for entry in listed:
        assert entry.description
        assert entry.licence
        assert entry.source.startswith("http")
        assert len(entry.classes) in (10, 12)
        assert all(len(file.md5) == 32 or entry.bundled for file in entry.layouts[0])
        assert all(len(file.sha256) == 64 for file in entry.layouts[0]) or entry.name not in IDX_SETS
        assert entry.bundled or entry.mirrors


def test_fashion_mini_is_balanced_small_and_original() -> None:
    data = wn.data.load("fashion-mini")
    assert data.train.images.shape == (10_000, 1, 28, 28)
    assert data.test.images.shape == (2_000, 1, 28, 28)
    assert np.bincount(data.train.labels).tolist() == [1_000] * 10
    assert np.bincount(data.test.labels).tolist() == [200] * 10
    assert [status.status for status in wn.data.check("fashion-mini")] == ["original"] * 4
    assert sum(path.stat().st_size for path in MINI_FOLDER.iterdir()) <= 6_000_000
    assert "Copyright (c) 2017 Zalando SE, https://tech.zalando.com" in (MINI_FOLDER / "LICENSE").read_text()
    assert not data.recipe.preprocessing.augments


def test_fashion_mini_ignores_other_folders(tmp_path: Path) -> None:
    write_files(tmp_path, 1)
    assert wn.data.load("fashion-mini", tmp_path).source == str(MINI_FOLDER)
    assert all(path.parent == MINI_FOLDER for path in wn.data.fetch("fashion-mini"))


needs_debian = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)


@needs_debian
def test_fashion_mini_is_rebuilt_from_debians_files(tmp_path: Path) -> None:
    assert make_fashion_mini.main([str(DEBIAN), str(tmp_path)]) == 0
    for name in (f"{stem}.gz" for stem in NAMES):
        rebuilt, shipped = (tmp_path / name).read_bytes(), (MINI_FOLDER / name).read_bytes()
        assert gzip.decompress(rebuilt) == gzip.decompress(shipped)
        if "ng" not in zlib.ZLIB_RUNTIME_VERSION:  # zlib-ng compresses to other bytes of the same content
            assert rebuilt == shipped


@needs_debian
def test_debians_files_are_the_original_ones(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.gz").symlink_to(DEBIAN / f"{name}.gz")
    assert [status.status for status in wn.data.check("fashion-mnist", tmp_path)] == ["original"] * 4
    with pytest.raises(DataError, match="holds fashion-mnist, not mnist"):
        wn.data.load("mnist", tmp_path)  # the same names, but not MNIST


def test_fashion_mini_is_not_made_from_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_fashion_mini.main([]) == 2
    assert make_fashion_mini.main([str(tmp_path), str(tmp_path)]) == 1
    assert "does not hold the four files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("mnist", "mnist.npz", "MNIST in a form that is not read"),
        ("mnist", "mnist_test.csv", "MNIST in a form that is not read"),
        ("mnist", "emnist-digits-train-images-idx3-ubyte.gz", "EMNIST, another data set"),
        ("fashion-mnist", "fashion-mnist_train.csv", "FashionMNIST in a form that is not read"),
        ("cifar10", "cifar-10-matlab.tar.gz", "the MATLAB version"),
        ("cifar10", "cifar-100-python.tar.gz", "CIFAR-100, another data set"),
    ],
)
def test_the_same_data_in_another_form_is_named(tmp_path: Path, name: str, file: str, words: str) -> None:
    """The kind: a folder that holds what was asked for in a form that is not read, or a namesake of it."""
    (tmp_path / file).write_bytes(b"PK")
    with pytest.raises(DataError, match=rf"{file}: {words}"):
        wn.data.load(name, tmp_path)
