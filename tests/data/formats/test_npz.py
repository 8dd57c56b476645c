"""NumPy archives: what numpy.savez writes is read to the bit; everything else is one line."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wn.basics.errors import DataError
from wn.data.formats.npz import read_npz

ARRAYS = {
    "x_test": np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6),
    "y_test": np.array([0, 1, 0, 1]),
    "name": np.array("mine"),
}


def archive(arrays: dict[str, Any], packed: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(file, **arrays)
    return file.getvalue()


def entries(contents: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        for name, content in contents.items():
            out.writestr(name, content)
    return file.getvalue()


def refusal(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_npz(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@given(
    array=hnp.arrays(
        st.sampled_from(["u1", "<f4", ">f4", "<f8", "<i8", ">i4", "?", "<U5"]), hnp.array_shapes(min_dims=0)
    ),
    packed=st.booleans(),
    fortran=st.booleans(),
)
def test_what_numpy_writes_is_read_to_the_bit(
    array: Any, packed: bool, fortran: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    given_array = np.asfortranarray(array) if fortran else array
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    path.write_bytes(archive({"x": given_array, "empty": np.zeros((0, 3))}, packed))
    found = read_npz(path)
    assert (found["x"].shape, found["x"].dtype) == (given_array.shape, given_array.dtype)
    assert found["x"].tobytes() == given_array.tobytes()
    assert found["empty"].shape == (0, 3)


def npy(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + content


HUGE = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }"
BAD = {
    "not a zip": (b"hello" * 50, "not a NumPy archive"),
    "empty": (b"", "not a NumPy archive"),
    "another file inside": (entries({"readme.txt": b"hello"}), "'readme.txt' is no array"),
    "objects": (archive({"x": np.array([{}, 1], object)}), "need pickle: they are never loaded"),
    "a pickle in an array's place": (entries({"x.npy": pickle.dumps([1])}), "damaged"),
    "records": (archive({"x": np.zeros(2, [("a", "i4")])}), "numbers and texts are read"),
    "complex": (archive({"x": np.zeros(2, complex)}), "numbers and texts are read"),
    "a huge shape": (entries({"x.npy": npy(HUGE, b"abc")}), "needs 1000000000000 bytes: it has 3"),
    "a negative shape": (
        entries({"x.npy": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-3,), }", b"abc")}),
        "has shape (-3,)",
    ),
    "a shape of text": (
        entries({"x.npy": npy("{'descr': '|u1', 'fortran_order': False, 'shape': 'ab', }", b"abc")}),
        "damaged",
    ),
    "a header that is code": (entries({"x.npy": npy("__import__('os').getcwd()", b"abc")}), "damaged"),
    "a deep header": (entries({"x.npy": npy("(" * 5000)}), "damaged"),
    "too many bytes": (
        entries({"x.npy": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", b"abc")}),
        "of 2 uint8 needs 2 bytes: it has 3",
    ),
    "another version": (entries({"x.npy": npy(HUGE, version=b"\x03\x00")}), "version (3, 0)"),
    "bzip2 inside": (entries({"x.npy": b"abc"}, zipfile.ZIP_BZIP2), "packed in a way that is not read"),
    "many entries": (entries({f"{n}.npy": b"" for n in range(99)}), "99 entries"),
}


@pytest.mark.parametrize("kind", BAD)
def test_other_files_are_one_line(kind: str, tmp_path: Path) -> None:
    content, words = BAD[kind]
    assert words in refusal(tmp_path, content)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_npz(tmp_path / "none.npz")
    with pytest.raises(DataError, match=str(tmp_path)):
        read_npz(tmp_path)


def test_an_array_that_is_there_twice(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("x.npy", b"")
        with pytest.warns(UserWarning, match="Duplicate"):
            out.writestr("x.npy", b"")
    assert "there twice" in refusal(tmp_path, file.getvalue())


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_files_are_one_line_or_read_as_they_were(packed: bool, tmp_path: Path) -> None:
    """Bytes changed, cut and put in, 200 times: no exception of another kind, and no other data."""
    whole, rng = archive(ARRAYS, packed), np.random.default_rng(7)
    path, refusals = tmp_path / "x.npz", []
    for _ in range(200):
        content = bytearray(whole)
        place = int(rng.integers(len(content)))
        match int(rng.integers(4)):
            case 0:
                content[place] ^= int(rng.integers(1, 256))
            case 1:
                del content[place:]
            case 2:
                content[place:place] = rng.bytes(int(rng.integers(1, 9)))
            case _:
                content[place : place + 4] = b"\xff\xff\xff\xff"
        path.write_bytes(bytes(content))
        try:
            found = read_npz(path)
        except DataError as error:
            refusals.append(str(error))
        else:  # a byte that nothing depends on, such as a time, or a letter of a name
            expected = [array.tobytes() for array in ARRAYS.values()]
            assert all(array.tobytes() in expected for array in found.values())
    assert len(refusals) > 100
    assert not any("\n" in text for text in refusals)


def test_a_header_allocates_nothing(tmp_path: Path) -> None:
    """Sizes in headers, of the archive and of the array, are believed only as far as there are bytes."""
    content = bytearray(entries({"x.npy": npy(HUGE, b"abc")}))
    at = content.index(b"PK\x01\x02")  # the directory: sizes packed and unpacked at 20 and 24
    content[at + 20 : at + 28] = b"\xf0\xff\xff\xff" * 2
    tracemalloc.start()
    assert "promises 4294967280 bytes" in refusal(tmp_path, bytes(content))
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
