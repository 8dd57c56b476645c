"""IDX files: what is written comes back; what is wrong gets one clear error and never a wrong array."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from wn.basics.errors import DataError
from wn.data.formats.idx import compressed, read_idx, write_idx

SUFFIXES = st.sampled_from(["", ".gz"])
ARRAYS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
SAMPLE: NDArray[np.uint8] = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx")


def plain_bytes(array: NDArray[np.uint8]) -> bytes:
    """The format written down once more, independently of the writer."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return b"\x00\x00\x08" + bytes([array.ndim]) + sizes + bytes(array.ravel().tolist())


@given(array=ARRAYS, suffix=SUFFIXES)
def test_what_is_written_comes_back(folder: Path, array: NDArray[np.uint8], suffix: str) -> None:
    path = folder / f"round-trip{suffix}"
    write_idx(path, array)
    again = read_idx(path, array.ndim)
    assert again.dtype == np.uint8
    assert again.shape == array.shape
    assert np.array_equal(again, array)


@given(array=ARRAYS)
def test_bytes_are_those_of_the_format(folder: Path, array: NDArray[np.uint8]) -> None:
    path = folder / "format"
    write_idx(path, array)
    assert path.read_bytes() == plain_bytes(array)
    write_idx(path.with_suffix(".gz"), array)
    assert gzip.decompress(path.with_suffix(".gz").read_bytes()) == plain_bytes(array)


def test_arrays_that_are_not_contiguous_are_written_in_their_own_order(tmp_path: Path) -> None:
    array = SAMPLE.transpose(2, 0, 1)[::2]
    write_idx(tmp_path / "a", array)
    assert np.array_equal(read_idx(tmp_path / "a", 3), array)


def test_compression_is_reproducible_and_told_from_the_content(tmp_path: Path) -> None:
    assert compressed(b"walk") == compressed(b"walk")
    assert compressed(b"walk")[3:8] == bytes(5)  # no flags (so no file name), no time
    misnamed = tmp_path / "images.gz"
    misnamed.write_bytes(plain_bytes(SAMPLE))
    assert np.array_equal(read_idx(misnamed, 3), SAMPLE)
    misnamed.write_bytes(gzip.compress(plain_bytes(SAMPLE)[:9]) + gzip.compress(plain_bytes(SAMPLE)[9:]))
    assert np.array_equal(read_idx(misnamed, 3), SAMPLE)  # two gzip members make one file


def header(magic: bytes, *sizes: int) -> bytes:
    return magic + struct.pack(f">{len(sizes)}I", *sizes)


GOOD = plain_bytes(SAMPLE)
ZIPPED = compressed(GOOD)
CORRUPT = {
    "empty file": (b"", "empty"),
    "gzip of nothing": (gzip.compress(b""), "empty"),
    "wrong magic": (b"\x00\x01" + GOOD[2:], "not an IDX file"),
    "text": (b"<!DOCTYPE html><html>", "not an IDX file"),
    "wrong type byte": (b"\x00\x00\x0d" + GOOD[3:], "element type 0x0d"),
    "too few dimensions": (b"\x00\x00\x08\x02" + GOOD[4:], "2 dimensions where 3"),
    "too many dimensions": (b"\x00\x00\x08\xff" + GOOD[4:], "255 dimensions where 3"),
    "header cut in the magic": (GOOD[:3], "header stops after 3 bytes"),
    "header cut in the sizes": (GOOD[:15], "header stops after 15 bytes"),
    "content cut": (GOOD[:-1], "truncated"),
    "no content": (GOOD[:16], "truncated"),
    "one byte too many": (GOOD + b"\x00", "trailing bytes"),
    "zero size": (header(b"\x00\x00\x08\x03", 0, 28, 28), "no elements"),
    "absurd sizes": (header(b"\x00\x00\x08\x03", *[0xFFFFFFFF] * 3) + bytes(100), "truncated"),
    "absurd and zero": (header(b"\x00\x00\x08\x03", 0xFFFFFFFF, 0, 0xFFFFFFFF), "no elements"),
    "gzip, content cut": (compressed(GOOD[:-1]), "truncated"),
    "gzip, one byte too many": (compressed(GOOD + b"\x00"), "trailing bytes"),
    "gzip, absurd sizes": (compressed(header(b"\x00\x00\x08\x03", *[0xFFFFFFFF] * 3)), "truncated"),
    "gzip, bomb behind the content": (compressed(GOOD + bytes(10_000_000)), "trailing bytes"),
    "gzip cut in its header": (ZIPPED[:5], "truncated"),
    "gzip cut in its data": (ZIPPED[:20], "truncated"),
    "gzip without its checksum": (ZIPPED[:-8], "truncated"),
    "gzip with another checksum": (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], "corrupt gzip"),
    "gzip with another length": (ZIPPED[:-1] + b"\x01", "corrupt gzip"),
    "gzip with another method": (ZIPPED[:2] + b"\x07" + ZIPPED[3:], "corrupt gzip"),
    "gzip with broken blocks": (ZIPPED[:10] + b"\xff" * 20 + ZIPPED[30:], "corrupt gzip"),
    "gzip and then rubbish": (ZIPPED + b"rubbish", "corrupt gzip"),
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_each_corruption_gets_one_line_that_names_the_file(tmp_path: Path, kind: str) -> None:
    content, words = CORRUPT[kind]
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert words in message
    assert "\n" not in message


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_idx(tmp_path / "absent", 3)
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path, 3)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 2), dtype=np.int64), "only uint8"),
        (np.zeros((), dtype=np.uint8), "nothing to write"),
        (np.zeros((3, 0), dtype=np.uint8), "nothing to write"),
    ],
)
def test_arrays_that_cannot_be_written(tmp_path: Path, array: NDArray[np.uint8], words: str) -> None:
    with pytest.raises(DataError, match=words):
        write_idx(tmp_path / "a", array)
    assert not (tmp_path / "a").exists()


def read_or_complain(path: Path, content: bytes) -> NDArray[np.uint8] | None:
    """The array, or None for a DataError; any other exception fails the test."""
    path.write_bytes(content)
    try:
        return read_idx(path, 3)
    except DataError:
        return None


@given(data=st.data(), zipped=st.booleans())
def test_truncation_never_gives_an_array(folder: Path, data: st.DataObject, zipped: bool) -> None:
    whole = ZIPPED if zipped else GOOD
    length = data.draw(st.integers(0, len(whole) - 1))
    assert read_or_complain(folder / "cut", whole[:length]) is None


@given(position=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255))
def test_a_changed_byte_of_a_plain_file_changes_one_pixel_or_is_refused(
    folder: Path, position: int, value: int
) -> None:
    content = bytearray(GOOD)
    content[position] = value
    array = read_or_complain(folder / "plain", bytes(content))
    if position >= 16:
        expected = SAMPLE.copy()
        expected.flat[position - 16] = value
        assert array is not None
        assert np.array_equal(array, expected)
    else:
        assert (array is not None) == (bytes(content) == GOOD)


@given(position=st.integers(0, len(ZIPPED) - 1), value=st.integers(0, 255))
def test_a_changed_byte_of_a_gzip_file_gives_the_right_array_or_is_refused(
    folder: Path, position: int, value: int
) -> None:
    content = bytearray(ZIPPED)
    content[position] = value
    array = read_or_complain(folder / "zipped", bytes(content))
    assert array is None or np.array_equal(array, SAMPLE)


@given(
    content=st.binary(max_size=200), start=st.sampled_from([b"", b"\x1f\x8b\x08\x00", b"\x00\x00\x08\x03"])
)
def test_random_bytes_are_refused_or_are_what_they_say(folder: Path, content: bytes, start: bytes) -> None:
    array = read_or_complain(folder / "random", start + content)
    assert array is None or plain_bytes(array) == start + content
