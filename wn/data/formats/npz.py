"""NumPy archives (.npz): arrays by name, read without pickle and without trusting a header's sizes."""

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from wn.basics.errors import DataError
from wn.data.formats.idx import MAX_DEFLATE_RATIO, read_at_most
from wn.data.formats.kinds import described, head_of
from wn.files.whole import StrPath, as_path

_MOST_ENTRIES = 64
_KINDS = "biufU"  # numbers and texts: an array of anything else would need pickle, or is no data
_HOW = "write it with numpy.savez or numpy.savez_compressed"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# Whatever a damaged header, directory or stream makes zipfile, zlib and NumPy raise
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    ValueError,  # UnicodeDecodeError, too
    TypeError,
    SyntaxError,
    KeyError,
    IndexError,
    OverflowError,
    RecursionError,
    MemoryError,
    NotImplementedError,  # from zipfile: a compression or version that it does not know
    RuntimeError,
    AttributeError,
    EOFError,
)


def read_npz(path: StrPath) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file by name: booleans, numbers and texts, in C or Fortran order.

    Nothing is allocated by a header's word: the size that an array's header gives must be that of its content
    in the archive, and no deflated content is more than 1032 times as large as the file.
    Raises DataError, naming the file, for anything else.
    """
    path = as_path(path)
    try:
        size = path.stat().st_size
        if not zipfile.is_zipfile(path):
            what = described(head_of(path), zip="its end is damaged or missing", npz="its end is missing")
            raise DataError(f"{path}: not a NumPy archive (.npz): {what or _HOW}")
        with zipfile.ZipFile(path) as archive:
            entries = _entries(path, archive)
            return {_name(path, entry): _array(path, archive, entry, size) for entry in entries}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from None
    except _DAMAGED as error:
        raise DataError(f"{path}: a damaged NumPy archive: {_reason(error)}") from None


def _entries(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > _MOST_ENTRIES:
        raise DataError(f"{path}: {len(entries)} entries: a data set has at most {_MOST_ENTRIES}")
    names = [entry.filename for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: {twice!r} is there twice")
    return entries


def _name(path: Path, entry: zipfile.ZipInfo) -> str:
    if not entry.filename.endswith(".npy"):
        raise DataError(f"{path}: {entry.filename!r} is no array of a NumPy archive: {_HOW}")
    return entry.filename.removesuffix(".npy")


def _array(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, size: int) -> NDArray[Any]:
    """An array of an archive of `size` bytes."""
    name = _name(path, entry)
    if entry.flag_bits & 1:
        raise DataError(f"{path}: {name} is encrypted: {_HOW}")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path}: {name} is packed in a way that is not read: {_HOW}")
    most = size if entry.compress_type == zipfile.ZIP_STORED else size * MAX_DEFLATE_RATIO
    if entry.compress_size > size or entry.file_size > most:
        raise DataError(f"{path}: {name} promises {entry.file_size} bytes: the file has {size}")
    with archive.open(entry) as stream:
        shape, fortran, kind = _header(path, name, stream)
        expected = math.prod(shape) * kind.itemsize
        promised = entry.file_size - stream.tell()
        if expected != promised:
            sizes = " × ".join(map(str, shape))
            raise DataError(f"{path}: {name} of {sizes} {kind} needs {expected} bytes: it has {promised}")
        content = read_at_most(stream, expected)
        if len(content) < expected or stream.read(1):
            raise DataError(f"{path}: {name} has {len(content)} bytes: {expected} are promised")
    if not expected:
        return np.zeros(shape, kind)
    return np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")


def _header(path: Path, name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape of an array, whether it is in Fortran order, and its type."""
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise DataError(f"{path}: {name} has version {version} of the format: {_HOW}")
    shape, fortran, kind = _HEADERS[version](stream)
    if kind.hasobject or kind.kind not in _KINDS:
        why = "Python objects, which need pickle: they are never loaded" if kind.hasobject else str(kind)
        raise DataError(f"{path}: {name} is an array of {why}; numbers and texts are read")
    if any(length < 0 for length in shape):
        raise DataError(f"{path}: {name} has shape {shape}")
    return shape, bool(fortran), kind


def _reason(error: Exception) -> str:
    """The reason in one line; what zipfile and NumPy say may be long, or name bytes."""
    lines = str(error).splitlines()
    return (lines[0] if lines and lines[0].isprintable() else type(error).__name__)[:160]
