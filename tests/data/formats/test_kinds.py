"""What is given in place of a file is recognised: each says what it is and what to do, in one line."""

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.basics.errors import DataError
from wn.data.formats.archive import members
from wn.data.formats.idx import read_idx
from wn.data.formats.kinds import HEAD, described, head_of, kind_of


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("images"))
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones(3))
    return buffer.getvalue()


PAGE = b"\xef\xbb\xbf\n <!DOCTYPE html>\n<html><title>Not found</title>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
KINDS = {
    "web page": (PAGE, "a web page: download the file itself"),
    "web page without doctype": (b"<HTML><body>", "a web page"),
    "server's error": (b'<?xml version="1.0"?><Error>', "an XML text"),
    "JSON": (b'{"message": "Not Found"}', "a JSON text"),
    "Git LFS": (POINTER, "a pointer of Git LFS, not the file: get the file with: git lfs pull"),
    "zip": (zipped("train-images"), "a zip archive: unpack it"),
    "tar": (tarred(), "a tar archive: unpack it"),
    "bzip2": (bz2.compress(b"x"), "a bzip2 file: undo it with bunzip2"),
    "xz": (lzma.compress(b"x"), "an xz file"),
    "npz": (npz(), "a NumPy archive (.npz)"),
    "npy": (b"\x93NUMPY\x01\x00", "a NumPy array (.npy)"),
    "pickle": (pickle.dumps({"data": [1]}), "a Python pickle: pickles are never loaded"),
    "torch": (zipped("archive/data.pkl"), "a PyTorch file (.pt, .pth)"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "an HDF5 file (.h5)"),
    "zeros": (bytes(100), "nothing but zero bytes: its copy or download was cut off"),
    "AIFF": (b"FORM" + bytes(50), "an AIFF recording: convert it to WAV"),
    "AU": (b".snd" + bytes(50), "an AU recording"),
    "WAV of 64 bits": (b"RF64" + bytes(50), "a recording (WAV of 64 bits): convert it"),
    "WAV, other order": (b"RIFX" + bytes(50), "a recording (WAV with the large byte first)"),
    "GGUF": (b"GGUF" + bytes(50), "a GGUF file"),
    "parquet": (b"PAR1" + bytes(50), "a Parquet table"),
    "safetensors": (b"\x40" + bytes(7) + b'{"a":{}', "a safetensors file"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_what_stands_in_for_an_idx_file_is_named(tmp_path: Path, kind: str, packed: bool) -> None:
    """Under the name of a data file, and inside a gzip stream of that name."""
    content, words = KINDS[kind]
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    message = str(caught.value)
    assert message.startswith(f"{path}: not an IDX file: it is {words}")
    assert "\n" not in message


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("tar", "zeros")])
@pytest.mark.parametrize("packed", [False, True])
def test_what_stands_in_for_an_archive_is_named(tmp_path: Path, kind: str, packed: bool) -> None:
    content, words = KINDS[kind]
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError) as caught:
        list(members(path, 1000))
    assert str(caught.value).startswith(f"{path}: not a sound tar archive: it is {words}")


def test_files_packed_twice(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(gzip.compress(b"\x00\x00\x08\x03")))
    with pytest.raises(DataError, match="not an IDX file: it is a gzip file: packed twice: undo gzip once"):
        read_idx(path, 3)
    path.write_bytes(gzip.compress(gzip.compress(tarred())))
    with pytest.raises(DataError, match="not a sound tar archive: it is a gzip file: packed twice"):
        list(members(path, 1000))


def test_files_as_libraries_write_them(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    assert described(head_of(tmp_path / "x.npy")).startswith("it is a NumPy array")
    assert head_of(tmp_path / "absent") == head_of(tmp_path) == b""


@given(head=st.binary(max_size=HEAD))
def test_any_bytes_have_a_kind_or_none(head: bytes) -> None:
    assert (kind_of(head) is None) == (described(head) == "")
    assert "\n" not in described(head)


def test_text_and_noise_have_no_kind() -> None:
    for head in (b"", b"hello, world", bytes(range(1, 200)), b"\x80"):
        assert described(head) == ""
