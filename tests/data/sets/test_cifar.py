"""CIFAR-10's binary version, from its files and from its archive, whole and damaged."""

import gzip
import io
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wn.data
from wn.basics.errors import DataError
from wn.data.dataset import Split
from wn.data.formats.idx import compressed
from wn.data.sets import cifar, entries
from wn.data.sets.entries import entry_of

NAMES = (*cifar.TRAIN_FILES, cifar.TEST_FILE)
COUNT = 3  # records of each file here; the real ones have 10,000
SMALL = replace(entry_of("cifar10"), train_count=5 * COUNT, test_count=COUNT)


def content_of(number: int) -> bytes:
    """One file: labels count up, pixels are random, but the first of each plane of each image is known."""
    rng = np.random.default_rng(number)
    records = rng.integers(0, 256, size=(COUNT, 3073), dtype=np.uint8)
    records[:, 0] = (number + np.arange(COUNT)) % 10
    records[:, [1, 1025, 2049]] = (100, 150, 200)
    records[:, 2] = 101  # the second pixel of the first row
    records[:, 33] = 102  # the first pixel of the second row
    return records.tobytes()


CONTENTS = {name: content_of(number) for number, name in enumerate(NAMES)}


def archive_of(contents: Mapping[str, bytes], folder: str = "cifar-10-batches-bin/") -> bytes:
    """The archive, with the other files that the real one has as well."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        directory = tarfile.TarInfo(folder.rstrip("/") or ".")
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        for name, content in {
            **contents,
            "batches.meta.txt": b"airplane\n",
            "readme.html": b"<html>",
        }.items():
            info = tarfile.TarInfo(folder + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return compressed(buffer.getvalue())


ARCHIVE = archive_of(CONTENTS)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(entries.ENTRIES, "cifar10", SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cifar")


def write_files(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)


def same(first: Split, second: Split) -> bool:
    return np.array_equal(first.images, second.images) and np.array_equal(first.labels, second.labels)


def test_records_become_images_and_labels(tmp_path: Path) -> None:
    write_files(tmp_path / "cifar-10-batches-bin")
    data = wn.data.load("cifar10", tmp_path)
    assert data.train.images.shape == (15, 3, 32, 32)
    assert data.test.images.shape == (3, 3, 32, 32)
    assert data.train.images.dtype == np.uint8
    assert data.train.labels.tolist() == [0, 1, 2, 1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 6]
    assert data.test.labels.tolist() == [5, 6, 7]
    assert np.all(data.train.images[:, :, 0, 0] == [100, 150, 200])
    assert np.all(data.train.images[:, 0, 0, 1] == 101)
    assert np.all(data.train.images[:, 0, 1, 0] == 102)
    assert data.image_shape == (3, 32, 32)


def test_the_archive_holds_the_same(tmp_path: Path) -> None:
    write_files(tmp_path / "files")
    (tmp_path / cifar.ARCHIVE).write_bytes(ARCHIVE)
    files, archive = wn.data.load("cifar10", tmp_path / "files"), wn.data.load("cifar10", tmp_path)
    assert same(files.train, archive.train)
    assert same(files.test, archive.test)
    assert archive.source == str(tmp_path)


def test_check_uses_the_checksum_of_the_archive(tmp_path: Path) -> None:
    write_files(tmp_path)
    assert [status.ok for status in wn.data.check("cifar10", tmp_path)] == [True] * 6
    assert "no checksum is known" in wn.data.check("cifar10", tmp_path)[0].status
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / cifar.ARCHIVE).write_bytes(ARCHIVE)
    assert [status.status for status in wn.data.check("cifar10", tmp_path / "one")] == [
        "not the original: its checksum differs"
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (CONTENTS[NAMES[1]][:-1], "truncated: 9218 bytes where 3 records of 3073 bytes = 9219 are due"),
        (CONTENTS[NAMES[1]][:-3073], "truncated: 6146 bytes"),
        (CONTENTS[NAMES[1]] + b"\x00", "trailing bytes: 9220 bytes"),
        (b"\x0a" + CONTENTS[NAMES[1]][1:], "label 10 of sample 0 .* allowed are 0 to 9"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    write_files(tmp_path)
    (tmp_path / NAMES[1]).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        wn.data.load("cifar10", tmp_path)
    assert str(caught.value).startswith(str(tmp_path / NAMES[1]))


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / NAMES[5]).unlink()
    with pytest.raises(DataError, match=r"holds only a part of cifar10: missing test_batch\.bin"):
        wn.data.load("cifar10", tmp_path)
    with pytest.raises(DataError, match=r"none of the folders .*cifar10.*copy them from https://www\.cs"):
        wn.data.load("cifar10")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"not an archive at all", "not a sound tar archive"),
        (compressed(b"not an archive at all"), "not a sound tar archive"),
        (ARCHIVE[:-9], "truncated"),
        (ARCHIVE[: len(ARCHIVE) // 2], "truncated"),
        (ARCHIVE[:-8] + bytes(4) + ARCHIVE[-4:], "corrupt gzip"),
        (
            archive_of({name: CONTENTS[name] for name in NAMES[2:]}),
            r"lacks data_batch_1\.bin, data_batch_2\.bin",
        ),
        (archive_of({**CONTENTS, NAMES[4]: bytes(100)}), r"data_batch_5\.bin: truncated: 100 bytes"),
    ],
)
def test_wrong_archives_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / cifar.ARCHIVE).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        wn.data.load("cifar10", tmp_path)
    assert str(caught.value).startswith(str(tmp_path / cifar.ARCHIVE))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict.fromkeys(NAMES[1:5], CONTENTS[NAMES[0]]), "data_batch_2.bin: has the same content as .*_1"),
        ({NAMES[5]: CONTENTS[NAMES[2]]}, "test_batch.bin: has the same content as .*data_batch_3.bin"),
        ({NAMES[3]: CONTENTS[NAMES[5]]}, "test_batch.bin: has the same content as .*data_batch_4.bin"),
        ({NAMES[1]: bytes(3 * 3074)}, "data_batch_2.bin: records of 3074 bytes, as those of CIFAR-100"),
        ({NAMES[1]: b"\n<!DOCTYPE html>" + bytes(50)}, "truncated: .*; it is a web page"),
    ],
)
def test_batches_that_are_no_six_of_cifar_10(
    tmp_path: Path, packed: bool, changes: dict[str, bytes], words: str
) -> None:
    """The kind: files of the right form that together are not the data set (row by row nothing is wrong)."""
    write_files(tmp_path)
    for name, content in changes.items():
        (tmp_path / name).write_bytes(content)
    if packed:
        (tmp_path / cifar.ARCHIVE).write_bytes(archive_of({**CONTENTS, **changes}))
    with pytest.raises(DataError, match=words):
        wn.data.load("cifar10", tmp_path)


def test_files_without_a_known_checksum_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_files(tmp_path)
    wn.data.load("cifar10", tmp_path)
    assert caplog.messages == [
        f"cifar10: {', '.join(NAMES)} in {tmp_path}: no checksum tells whether these are the original files; "
        "used as they are"
    ]
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / cifar.ARCHIVE).write_bytes(ARCHIVE)
    wn.data.load("cifar10", tmp_path / "one")
    assert caplog.messages[1].endswith("unknown content, not that of the original files; used as they are")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ["data_batch_1", "batches.meta"],
            "data_batch_1: the Python version of CIFAR-10, pickles, which are ",
        ),
        (["cifar-10-batches-py/data_batch_1"], "cifar-10-batches-py: the Python version .* never loaded"),
        (["cifar-10-python.tar.gz"], "get the binary one, cifar-10-binary.tar.gz"),
        (["data_batch_1.mat"], "the MATLAB version of CIFAR-10"),
        (["cifar-100-binary/train.bin"], "cifar-100-binary: CIFAR-100, another data set"),
    ],
)
def test_other_versions_are_recognised_by_their_names(tmp_path: Path, names: list[str], words: str) -> None:
    """A folder that holds the data in a form that is not read: neither other folders nor a download."""
    for name in names:
        (tmp_path / "given" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "given" / name).write_bytes(b"\x80\x04rubbish")
    (status,) = wn.data.check("cifar10", tmp_path / "given")
    write_files(tmp_path / "cache/wn/cifar10")
    with pytest.raises(DataError, match=words) as caught:
        wn.data.load("cifar10", tmp_path / "given")
    assert status.status.endswith(f"; {caught.value}")
    assert str(caught.value).startswith(str(tmp_path / "given"))
    write_files(tmp_path / "given" / "cifar10")  # both are there: the one that is read is taken
    assert len(wn.data.load("cifar10", tmp_path / "given").test) == COUNT


def test_other_versions_in_wn_data_are_named_where_the_download_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setenv("WN_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"download failed .*cifar-10-batches-py: the Python version"):
        wn.data.load("cifar10")
    write_files(tmp_path / "cache/wn/cifar10")
    assert len(wn.data.load("cifar10").test) == COUNT


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({"data_batch_1": b"\x80\x04"}, "lacks .*: it holds the Python version, pickles"),
        ({"train.bin": b"x", "fine_label_names.txt": b"apple"}, "lacks .*: it holds CIFAR-100"),
    ],
)
def test_archives_of_other_versions_are_recognised(
    tmp_path: Path, contents: dict[str, bytes], words: str
) -> None:
    (tmp_path / cifar.ARCHIVE).write_bytes(archive_of(contents))
    with pytest.raises(DataError, match=words):
        wn.data.load("cifar10", tmp_path)


def test_litter_of_macos_is_passed_over_and_twins_are_not(tmp_path: Path) -> None:
    litter = {f"__MACOSX/{name}": b"attributes" for name in NAMES} | {
        f"._{NAMES[0]}": b"x",
        ".DS_Store": b"y",
    }
    (tmp_path / cifar.ARCHIVE).write_bytes(archive_of({**CONTENTS, **litter}, folder=""))
    write_files(tmp_path / "files")
    assert same(wn.data.load("cifar10", tmp_path).train, wn.data.load("cifar10", tmp_path / "files").train)
    twin = {**CONTENTS, f"old/{NAMES[0]}": content_of(77)}
    (tmp_path / cifar.ARCHIVE).write_bytes(archive_of(twin))
    with pytest.raises(DataError, match=r"holds data_batch_1\.bin twice, with different content"):
        wn.data.load("cifar10", tmp_path)


def test_links_are_not_followed_and_nothing_is_extracted(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENTS[NAMES[0]])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in NAMES:
            link = tarfile.TarInfo(f"../../{name}")
            link.type, link.linkname = tarfile.SYMTYPE, str(secret)
            archive.addfile(link)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / cifar.ARCHIVE).write_bytes(compressed(buffer.getvalue()))
    with pytest.raises(DataError, match="the archive lacks data_batch_1"):
        wn.data.load("cifar10", tmp_path / "data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "secret"]


def read_or_complain(path: Path, content: bytes) -> tuple[Split, Split] | None:
    """Both splits, or None for a DataError; any other exception fails the test."""
    path.write_bytes(content)
    try:
        return SMALL.read(SMALL, (path,))
    except DataError:
        return None


@given(position=st.integers(0, len(ARCHIVE) - 1), value=st.integers(0, 255))
def test_a_changed_byte_of_the_archive_gives_the_right_images_or_is_refused(
    folder: Path, position: int, value: int
) -> None:
    content = bytearray(ARCHIVE)
    content[position] = value
    result = read_or_complain(folder / cifar.ARCHIVE, bytes(content))
    if result is not None:
        expected = read_or_complain(folder / cifar.ARCHIVE, ARCHIVE)
        assert expected is not None
        assert same(result[0], expected[0])
        assert same(result[1], expected[1])


@given(position=st.integers(0, 511), value=st.integers(0, 255), block=st.integers(0, 5))
def test_changed_tar_headers_never_crash(folder: Path, position: int, value: int, block: int) -> None:
    plain = bytearray(gzip.decompress(ARCHIVE))
    plain[512 + block * (512 + 9728) + position] = value  # the header of file number `block`
    result = read_or_complain(folder / cifar.ARCHIVE, bytes(plain))
    if result is not None:
        assert [len(split) for split in result] == [15, 3]
