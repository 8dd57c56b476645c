"""MATLAB 5 files: their structure is checked here before SciPy reads them.

SciPy's reader trusts types and flags; a single damaged byte there (a complex flag, an unknown number type)
ends the whole process. So these are looked at first; sizes and checksums SciPy checks itself.
"""

import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from wn.basics.errors import DataError, first_line
from wn.data.formats.idx import reading
from wn.data.formats.kinds import HEAD, described

_HEADER = 128  # bytes: text, then version and byte order
_HEAD = 4096  # bytes of a variable that are looked at: everything before its numbers
_MATRIX, _COMPRESSED = 14, 15  # types of whole variables
_INT8, _INT32, _UINT32 = 1, 5, 6  # types of the parts of a variable
_NUMBERS = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13})  # types that numbers can be stored in
_DENSE = range(6, 16)  # classes of ordinary numeric arrays: double, single, int8 … uint64
_COMPLEX = 0x800  # flag


class _Element(NamedTuple):
    kind: int
    content: bytes
    end: int


def load_mat(path: Path, names: list[str]) -> dict[str, Any]:
    """The variables `names`, as far as they are there, of a MATLAB 5 file of numeric arrays.

    Raises DataError, naming the file, where it is missing, damaged or of another version or kind.
    """
    from scipy.io import loadmat  # here: nothing else needs it

    try:
        _check(path)
        return dict(loadmat(path, variable_names=names))
    except DataError:
        raise
    except Exception as error:  # on damaged files loadmat raises nearly every kind there is
        raise DataError(f"{path}: not a sound MATLAB 5 file: {first_line(error)}") from None


def _check(path: Path) -> None:
    """Walk from variable to variable and check the head of each."""
    with reading(path) as (stream, size):
        header = stream.read(_HEADER)
        if len(header) < _HEADER or header[124:] != b"\x00\x01IM":
            what = described(header + stream.read(HEAD))
            raise DataError(
                f"{path}: not a MATLAB 5 file{f': {what}' if what else ' in little-endian byte order'}"
            )
        position = _HEADER
        while position < size:
            kind, count = struct.unpack("<II", stream.read(8))
            position += 8 + count
            if position > size:
                raise DataError(f"{path}: truncated: a variable ends at byte {position} of {size}")
            content = stream.read(min(count, _HEAD))
            if kind == _COMPRESSED:
                content = zlib.decompressobj().decompress(content, _HEAD)
                kind, content = struct.unpack_from("<I", content)[0], content[8:]
            if kind != _MATRIX:
                raise DataError(f"{path}: not a sound MATLAB 5 file: a variable of type {kind}")
            _check_variable(path, content)
            stream.seek(position)


def _check_variable(path: Path, head: bytes) -> None:
    """Flags and class, sizes, name, and the type of the numbers: all that SciPy relies on."""
    flags = _element(head, 0)
    sizes = _element(head, flags.end)
    name = _element(head, sizes.end)
    numbers = struct.unpack_from("<I", head, name.end)[0] & 0xFFFF
    if (flags.kind, len(flags.content), sizes.kind, name.kind) != (_UINT32, 8, _INT32, _INT8):
        raise DataError(
            f"{path}: not a sound MATLAB 5 file: a variable does not start with flags, sizes, name"
        )
    bits = struct.unpack_from("<I", flags.content)[0]
    if bits & 0xFF not in _DENSE or bits & _COMPLEX or numbers not in _NUMBERS:
        label = name.content.decode("ascii", errors="replace")
        raise DataError(f"{path}: variable {label!r} is not an ordinary array of real numbers")


def _element(head: bytes, start: int) -> _Element:
    """The part at `start`: type and size, content, padding to 8 bytes; up to 4 bytes fit into the tag."""
    kind, count = struct.unpack_from("<II", head, start)
    if kind >> 16:  # short form: size in the upper half of the first word
        return _Element(kind & 0xFFFF, head[start + 4 : start + 4 + (kind >> 16)], start + 8)
    return _Element(kind, head[start + 8 : start + 8 + count], start + 8 + (count + 7) // 8 * 8)
