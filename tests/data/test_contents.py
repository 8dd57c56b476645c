"""Files that are not what their names say: known ones are refused, unknown ones named in one line at load."""

import gzip
import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wn.data
from tests.cli.command_line import run
from tests.data.formats.idx_files import NAMES, pixel, write_files
from wn.basics.errors import DataError
from wn.data import catalogue, contents
from wn.data.contents import Origin
from wn.data.formats.idx import compressed, write_idx
from wn.data.sets import entries
from wn.data.sets.entries import MINI_FOLDER, entry_of
from wn.data.sets.entry import DataFile


def make(folder: Path, seed: int, suffix: str = "") -> None:
    """Four valid files with pixels and labels of their own."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in zip(NAMES, (20, 20, 10, 10), strict=True):
        shape, values = ((count, 28, 28), 256) if "images" in name else ((count,), 10)
        write_idx(folder / f"{name}{suffix}", rng.integers(0, values, shape, dtype=np.uint8))


def take(target: Path, sources: dict[str, Path]) -> None:
    """Put files into `target` under the names given."""
    target.mkdir()
    for name, source in sources.items():
        (target / name).write_bytes(source.read_bytes())


@pytest.fixture
def originals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """Folders with small originals of both sets, which the catalogue knows by their checksums."""
    folders = {}
    for seed, name in enumerate(("mnist", "fashion-mnist")):
        folders[name] = tmp_path / f"original-{name}"
        make(folders[name], seed, suffix=".gz")
        layout = tuple(
            DataFile(file.names, "", contents.content_sha256(folders[name] / file.name))
            for file in entry_of(name).layouts[0]
        )
        entry = replace(entry_of(name), layouts=(layout,), mirrors=(), system="/nonexistent/datasets")
        monkeypatch.setitem(entries.ENTRIES, name, entry)
    return folders


def from_both(*sets: str) -> Callable[[dict[str, Path]], dict[str, Path]]:
    """The four files, each of the data set named."""
    return lambda folders: {
        f"{name}.gz": folders[of] / f"{name}.gz" for name, of in zip(NAMES, sets, strict=True)
    }


M, F = "mnist", "fashion-mnist"


@pytest.mark.parametrize("sets", [(F, F, M, M), (M, M, F, F), (M, F, M, M), (F, M, M, M), (M, M, F, M)])
@pytest.mark.parametrize("asked", [M, F])
def test_mixtures_of_two_data_sets_are_refused(
    tmp_path: Path, originals: dict[str, Path], sets: tuple[str, ...], asked: str
) -> None:
    """The kind: content that is known to be another data set's under the names asked for."""
    take(tmp_path / "mixed", from_both(*sets)(originals))
    with pytest.raises(DataError) as caught:
        wn.data.load(asked, tmp_path / "mixed")
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "mixed"))
    assert "\n" not in message
    other = F if asked == M else M
    assert f"of {other}" in message or f"{other} and" in message or f"and {other}" in message


def test_training_and_test_files_that_changed_places_are_refused(
    tmp_path: Path, originals: dict[str, Path]
) -> None:
    swapped = dict(zip(NAMES, (*NAMES[2:], *NAMES[:2]), strict=True))
    take(tmp_path / "data", {f"{name}.gz": originals[M] / f"{of}.gz" for name, of in swapped.items()})
    words = r"not the files of mnist: train-images-idx3-ubyte\.gz is t10k-images-idx3-ubyte\.gz of mnist, "
    with pytest.raises(DataError, match=words):
        wn.data.load("mnist", tmp_path / "data")


def test_test_images_twice_are_refused(tmp_path: Path, originals: dict[str, Path]) -> None:
    """Known content as well as unknown: what was trained on is no test."""
    both = dict(zip(NAMES, (*NAMES[:2], *NAMES[:2]), strict=True))
    take(tmp_path / "known", {f"{name}.gz": originals[M] / f"{of}.gz" for name, of in both.items()})
    with pytest.raises(
        DataError, match=r"t10k-images-idx3-ubyte\.gz is train-images-idx3-ubyte\.gz of mnist"
    ):
        wn.data.load("mnist", tmp_path / "known")
    make(tmp_path / "mine", 5)
    take(tmp_path / "unknown", {name: tmp_path / "mine" / of for name, of in both.items()})
    with pytest.raises(DataError, match="unknown: mnist: the training and the test images are the same"):
        wn.data.load("mnist", tmp_path / "unknown")


def test_files_of_sets_beside_the_catalogue_are_known_too(
    tmp_path: Path, originals: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """KMNIST is published under MNIST's names; here with checksums of small files."""
    make(tmp_path / "k", 7, suffix=".gz")
    known = {
        hashlib.md5((tmp_path / "k" / f"{name}.gz").read_bytes()).hexdigest(): Origin("kmnist", f"{name}.gz")
        for name in NAMES
    }
    monkeypatch.setattr(contents, "_OTHERS", known)
    layout = tuple(replace(file, md5="0" * 32) for file in entry_of("mnist").layouts[0])
    monkeypatch.setitem(entries.ENTRIES, "mnist", replace(entry_of("mnist"), layouts=(layout,)))
    with pytest.raises(DataError, match="holds kmnist, not mnist"):
        wn.data.load("mnist", tmp_path / "k")
    assert {status.ok for status in wn.data.check("mnist", tmp_path / "k")} == {False}
    take(
        tmp_path / "beside",
        {
            f"{name}.gz": (tmp_path / "k" if part else originals[M]) / f"{name}.gz"
            for name, part in zip(NAMES, (1, 1, 0, 0), strict=True)
        },
    )
    with pytest.raises(
        DataError, match=r"train-labels-idx1-ubyte\.gz is train-labels-idx1-ubyte\.gz of kmnist"
    ):
        wn.data.load("mnist", tmp_path / "beside")


def test_published_checksums_of_other_sets_are_no_ones_of_the_catalogue() -> None:
    known = {file.md5 for entry in wn.data.listing() for file in entry.layouts[0]}
    assert not known & set(contents._OTHERS)
    assert all(len(md5) == 32 for md5 in contents._OTHERS)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_originals_are_loaded_without_a_word(
    tmp_path: Path, originals: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    wn.data.load("mnist", originals[M])
    take(tmp_path / "both", {f"{name}.gz": originals[M] / f"{name}.gz" for name in NAMES})
    for name in NAMES:  # as torchvision leaves them: packed and unpacked
        packed = (originals[M] / f"{name}.gz").read_bytes()
        (tmp_path / "both" / name).write_bytes(gzip.decompress(packed))
    wn.data.load("mnist", tmp_path / "both")
    wn.data.load("fashion-mini")
    assert said(caplog) == []


def test_unknown_content_is_named_in_one_line(
    tmp_path: Path, originals: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    write_files(tmp_path / "mine", 3)
    assert pixel(wn.data.load("mnist", tmp_path / "mine")) == 3
    take(tmp_path / "partly", {f"{name}.gz": originals[M] / f"{name}.gz" for name in NAMES})
    write_idx(tmp_path / "partly" / f"{NAMES[2]}.gz", np.full((10, 28, 28), 7, np.uint8))
    wn.data.load("mnist", tmp_path / "partly")
    first, second = said(caplog)
    end = "unknown content, not that of the original files; used as they are"
    assert first == f"mnist: {', '.join(NAMES)} in {tmp_path / 'mine'}: {end}"
    assert second == f"mnist: {NAMES[2]}.gz in {tmp_path / 'partly'}: {end}"
    with catalogue.unannounced():
        wn.data.load("mnist", tmp_path / "mine")
    assert len(said(caplog)) == 2


def test_the_command_names_unknown_content_too(tmp_path: Path, originals: dict[str, Path]) -> None:
    make(tmp_path / "mine", 3)
    arguments = ["walk", "--dataset", "mnist", "--data-dir", str(tmp_path / "mine"), "--model", "mlp-8"]
    arguments += ["--epochs", "1", "--sigma", "1", "--where", "0", "--backend", "numpy"]
    outcome = run(*arguments, "--phase", "inference", "--out", tmp_path / "out")
    assert outcome.code == 0
    assert outcome.err.count("unknown content, not that of the original files; used as they are\n") == 1


def test_copies_that_differ_are_refused(tmp_path: Path, originals: dict[str, Path]) -> None:
    """A file packed and unpacked, or under both its names, of which only one would be read."""
    take(tmp_path / "data", {f"{name}.gz": originals[M] / f"{name}.gz" for name in NAMES})
    write_idx(tmp_path / "data" / NAMES[0], np.zeros((20, 28, 28), np.uint8))
    words = "train-images-idx3-ubyte.gz: beside it lies train-images-idx3-ubyte with other content"
    with pytest.raises(DataError, match=words):
        wn.data.load("mnist", tmp_path / "data")


def test_check_says_what_a_file_is(tmp_path: Path, originals: dict[str, Path]) -> None:
    take(tmp_path / "mixed", from_both(F, M, M, M)(originals))
    statuses = wn.data.check("mnist", tmp_path / "mixed")
    assert statuses[0].status == "not the original: it is train-images-idx3-ubyte.gz of fashion-mnist"
    assert [status.ok for status in statuses] == [False, True, True, True]


def test_a_part_of_a_set_is_not_the_set(tmp_path: Path) -> None:
    """The real fashion-mini beside unknown test files: known to be no FashionMNIST."""
    (tmp_path / "data").mkdir()
    for name in NAMES[:2]:
        (tmp_path / "data" / f"{name}.gz").write_bytes((MINI_FOLDER / f"{name}.gz").read_bytes())
    for name, array in zip(NAMES[2:], (np.ones((3, 28, 28)), np.arange(3)), strict=True):
        write_idx(tmp_path / "data" / name, array.astype(np.uint8))
    with pytest.raises(DataError, match=r"is train-images-idx3-ubyte\.gz of fashion-mini"):
        wn.data.load("fashion-mnist", tmp_path / "data")


def test_a_large_files_checksum_is_remembered_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_LARGE", 10)
    path = tmp_path / "large"
    path.write_bytes(compressed(b"a" * 5000))
    first = contents.file_md5(path)
    assert first == hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(contents, "_md5", lambda _: pytest.fail("read again"))
    assert contents.file_md5(path) == first
    monkeypatch.undo()
    path.write_bytes(compressed(b"b" * 5000))
    assert contents.file_md5(path) == hashlib.md5(path.read_bytes()).hexdigest() != first
