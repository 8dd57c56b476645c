"""IDX files, the format of MNIST: a header of big-endian sizes, then unsigned bytes; plain or gzip."""

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import DataError
from wn.data.formats.kinds import HEAD, described
from wn.files.whole import StrPath, as_path, whole_file

UNSIGNED_BYTE = 0x08  # the only element type that image and label files use
_GZIP_MAGIC = b"\x1f\x8b"
MAX_DEFLATE_RATIO = 1032  # one deflate bit pair can stand for at most 258 bytes: no stream expands further
_CHUNK = 1 << 20


def read_idx(path: StrPath, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes that has `dimensions` dimensions.

    Layout: 0x00 0x00 0x08 d, then d sizes n_1 … n_d (big-endian uint32), then n_1 · … · n_d bytes, C order.
    Whether the file is gzip is told from its first bytes, not from its name.
    Returns a new uint8 array of shape (n_1, …, n_d), all sizes at least 1.
    Raises DataError, naming the file, for anything else. Source: derived in docs/data.md.
    """
    path = as_path(path)
    with reading(path) as (stream, capacity):
        shape = _read_header(stream, path, dimensions)
        expected = math.prod(shape)
        if expected > capacity:  # before anything is allocated
            raise DataError(f"{path}: truncated: the header promises {_sizes(shape)} = {expected} bytes")
        content = read_at_most(stream, expected)
        if len(content) < expected:
            raise DataError(f"{path}: truncated: {len(content)} of {expected} bytes ({_sizes(shape)})")
        if stream.read(1):
            raise DataError(f"{path}: trailing bytes after the {expected} that the header promises")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def write_idx(path: StrPath, array: NDArray[np.uint8]) -> None:
    """Write a uint8 array as an IDX file, compressed if the name ends in .gz.

    Equal arrays give equal bytes: the gzip header carries neither time nor name.
    Raises DataError for an array that IDX, as read here, cannot hold: other types, no dimension, no element.
    """
    path = as_path(path)
    if array.dtype != np.uint8:
        raise DataError(f"{path}: only uint8 arrays can be written, not {array.dtype}")
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"{path}: an array of shape {array.shape} holds nothing to write")
    header = bytes([0, 0, UNSIGNED_BYTE, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes(order="C")
    with whole_file(path) as temporary:
        temporary.write_bytes(compressed(content) if path.suffix == ".gz" else content)


def compressed(content: bytes) -> bytes:
    """Gzip `content` at the highest level, reproducibly: no time and no file name in the header."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as stream:
        stream.write(content)
    return buffer.getvalue()


@contextmanager
def reading(path: Path) -> Iterator[tuple[io.BufferedIOBase, int]]:
    """Open a plain or gzip file as (stream, an upper bound of its content in bytes).

    Raises DataError, naming the file, for a missing, unreadable or empty file and for corrupt gzip, wherever
    in the `with` block it shows.
    """
    try:
        with path.open("rb") as raw:
            magic = raw.read(2)
            size = raw.seek(0, io.SEEK_END)
            raw.seek(0)
            if size == 0:
                raise DataError(f"{path}: the file is empty")
            if magic != _GZIP_MAGIC:
                yield raw, size
                return
            with gzip.GzipFile(fileobj=raw) as stream:
                yield stream, size * MAX_DEFLATE_RATIO
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except EOFError:
        raise DataError(f"{path}: truncated: the gzip stream stops before its end") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: corrupt gzip: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_header(stream: io.BufferedIOBase, path: Path, dimensions: int) -> tuple[int, ...]:
    """The sizes n_1 … n_d, after checking everything that stands before them."""
    magic = stream.read(4)
    if not magic:
        raise DataError(f"{path}: the file is empty (a gzip stream without content)")
    if len(magic) < 4:
        raise DataError(f"{path}: truncated: the header stops after {len(magic)} bytes")
    if magic[:2] != b"\x00\x00":
        what = described(magic + stream.read(HEAD - len(magic)), gzip="packed twice: undo gzip once")
        starts = f"it starts with {magic.hex(' ')}, not 00 00"
        raise DataError(f"{path}: not an IDX file: {what or starts}")
    if magic == bytes(4):
        raise DataError(f"{path}: not an IDX file: {described(magic)}")
    if magic[2] != UNSIGNED_BYTE:
        raise DataError(f"{path}: element type 0x{magic[2]:02x}; only 0x08 (unsigned byte) is allowed")
    if magic[3] != dimensions:
        raise DataError(f"{path}: {magic[3]} dimensions where {dimensions} are expected")
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(f"{path}: truncated: the header stops after {4 + len(sizes)} bytes")
    shape = struct.unpack(f">{dimensions}I", sizes)
    if 0 in shape:
        raise DataError(f"{path}: the header promises no elements ({_sizes(shape)})")
    return shape


def read_at_most(stream: io.BufferedIOBase | IO[bytes], count: int) -> bytearray:
    """Read `count` bytes, or all there are: memory grows with the content, not with `count`."""
    content = bytearray()
    while len(content) < count:
        chunk = stream.read(min(_CHUNK, count - len(content)))
        if not chunk:
            break
        content += chunk
    return content


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
