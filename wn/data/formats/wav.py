"""WAV files: chunks of an id, a size and content; "fmt " and "data" are read, the others passed over.

Read here, as the libraries at hand do not do: the standard library's `wave` reads WAVE_FORMAT_EXTENSIBLE from
Python 3.12 on only, and SciPy's reader returns what is there of a recording that is cut, without an error.
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import DataError
from wn.data.formats.kinds import described
from wn.data.formats.mfcc import RATE

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_ENCODINGS = {_FLOAT: "floating point", 2: "ADPCM", 6: "A-law", 7: "µ-law", 0x55: "MP3"}

Wave = NDArray[np.int16]


class _Format(NamedTuple):
    """The start of the chunk "fmt "."""

    encoding: int
    channels: int
    rate: int
    bits: int


def read_wav(content: bytes, name: str) -> Wave:
    """The samples of a WAV file: mono, 16 bits, 16 kHz, at least one; otherwise DataError with its name.

    Plain PCM and PCM in WAVE_FORMAT_EXTENSIBLE are the same samples. Source of the layout: Microsoft,
    "Multiple channel audio data and WAVE files" (2001).
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        what = described(content) if content[:4] != b"RIFF" else ""
        raise DataError(f"{name}: not a sound WAV file: {what or 'it does not start with RIFF and WAVE'}")
    kind, position = None, 12
    while position + 8 <= len(content):
        chunk, size = struct.unpack_from("<4sI", content, position)
        start = position + 8
        if chunk == b"fmt ":
            kind = _format(content[start : start + size], name)
        elif chunk == b"data":
            return _samples(kind, content[start : start + size], size, name)
        position = start + size + size % 2  # a chunk of odd size is filled up with one byte
    raise DataError(f"{name}: not a sound WAV file: it has no samples (no chunk data), or is cut before them")


def _format(chunk: bytes, name: str) -> _Format:
    if len(chunk) < 16:
        raise DataError(f"{name}: not a sound WAV file: its chunk fmt has {len(chunk)} bytes; 16 are due")
    encoding, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if encoding == _EXTENSIBLE and len(chunk) >= 26:
        encoding = int.from_bytes(chunk[24:26], "little")  # the start of the GUID of the sub-format
    return _Format(encoding, channels, rate, bits)


def _samples(kind: _Format | None, data: bytes, size: int, name: str) -> Wave:
    """The samples in the chunk `data`, which says that it has `size` bytes."""
    if kind is None:
        raise DataError(f"{name}: not a sound WAV file: no chunk fmt before the samples")
    if kind.encoding != _PCM:
        encoding = _ENCODINGS.get(kind.encoding, f"encoding 0x{kind.encoding:04x}")
        raise DataError(f"{name}: samples are {encoding}; 16-bit PCM is due")
    if kind[1:] != (1, RATE, 16):
        raise DataError(
            f"{name}: {kind.channels} channels of {kind.bits} bits at {kind.rate} Hz; "
            f"1 of 16 at {RATE} Hz is due"
        )
    if size == 0:
        raise DataError(f"{name}: the recording holds no samples")
    if len(data) != size:
        raise DataError(f"{name}: truncated: {len(data)} of {size} bytes")
    if size % 2:
        raise DataError(f"{name}: not a sound WAV file: {size} bytes are no whole samples of 16 bits")
    return np.frombuffer(data, dtype="<i2").astype(np.int16)
