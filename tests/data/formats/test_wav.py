"""WAV files: the samples that are in them, or one line that says what is wrong."""

import io
import struct

import numpy as np
import pytest
import scipy.io.wavfile
from hypothesis import given
from hypothesis import strategies as st

from tests.data.formats.wav_files import Wave, recording, wav
from wn.basics.errors import DataError
from wn.data.formats.wav import read_wav

GOOD = wav(recording(5, 300))


@given(samples=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50))
def test_samples_come_back_from_wav(samples: list[int]) -> None:
    assert read_wav(wav(np.array(samples, dtype=np.int16)), "a.wav").tolist() == samples


def chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a RIFF file, filled up to an even size."""
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    return chunk(b"RIFF", b"WAVE" + b"".join(chunks))


def extensible(samples: Wave, sub_format: int = 1, bits: int = 16) -> bytes:
    """A file in WAVE_FORMAT_EXTENSIBLE, written down from its description."""
    guid = struct.pack("<H", sub_format) + bytes.fromhex("000000001000800000aa00389b71")
    size = bits // 8
    head = struct.pack("<HHIIHH", 0xFFFE, 1, 16000, size * 16000, size, bits)
    return riff(
        chunk(b"fmt ", head + struct.pack("<HHI", 22, bits, 4) + guid), chunk(b"data", samples.tobytes())
    )


PLAIN = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16))


@given(samples=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50))
def test_extensible_wav_files_hold_the_same_samples(samples: list[int]) -> None:
    """On every version of Python; SciPy's reader says the same."""
    array = np.array(samples, dtype="<i2")
    content = extensible(array)
    assert read_wav(content, "a.wav").tolist() == samples
    rate, read = scipy.io.wavfile.read(io.BytesIO(content))
    assert (rate, read.tolist()) == (16000, samples)


@pytest.mark.parametrize("extra", [b"", b"x", b"xy"])
@pytest.mark.parametrize("name", [b"LIST", b"bext", b"fact", b"junk"])
def test_other_chunks_are_passed_over_and_odd_ones_are_filled_up(name: bytes, extra: bytes) -> None:
    data = np.array([1, -2, 3], dtype="<i2").tobytes()
    other = chunk(name, extra)
    for order in ((PLAIN, other, chunk(b"data", data), other), (other, PLAIN, chunk(b"data", data))):
        assert read_wav(riff(*order), "a.wav").tolist() == [1, -2, 3]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (extensible(recording(1, 10), sub_format=3), "samples are floating point; 16-bit PCM is due"),
        (extensible(recording(1, 12), bits=24), "1 channels of 24 bits at 16000 Hz"),
        (wav(recording(1, 12), width=3), "1 channels of 24 bits"),
        (wav(recording(1, 10), rate=44100), "1 channels of 16 bits at 44100 Hz"),
        (riff(chunk(b"fmt ", struct.pack("<HHIIHH", 6, 1, 16000, 1, 1, 8)), chunk(b"data", b"ab")), "A-law"),
        (riff(PLAIN, chunk(b"data", b"abc")), "3 bytes are no whole samples of 16 bits"),
        (riff(PLAIN), "it has no samples"),
        (riff(chunk(b"data", b"ab"), PLAIN), "no chunk fmt before the samples"),
        (riff(chunk(b"fmt ", b"short"), chunk(b"data", b"ab")), "its chunk fmt has 5 bytes; 16 are due"),
        (riff(PLAIN, b"data" + b"\xff" * 4 + b"ab"), "truncated: 2 of 4294967295 bytes"),
        (b"RIFX" + riff(PLAIN, chunk(b"data", b"ab"))[4:], "WAV with the large byte first.: convert it"),
        (b"RIFL" + riff(PLAIN, chunk(b"data", b"ab"))[4:], "does not start with RIFF"),
        (bytes(3) + b" ftypM4A " + bytes(50), "an MP4 or M4A recording: convert it to WAV"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a pointer of Git LFS, not the file"),
        (b"<!DOCTYPE html>", "it is a web page"),
    ],
)
def test_other_kinds_of_recordings_are_named(content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_wav(content, "a.wav")
    assert str(caught.value).startswith("a.wav: ")


@given(position=st.integers(0, 47), value=st.integers(0, 255))
def test_a_changed_byte_of_a_wav_header_never_crashes(position: int, value: int) -> None:
    content = bytearray(GOOD)
    content[position] = value
    try:
        samples = read_wav(bytes(content), "a.wav")
    except DataError:
        return
    assert samples.dtype == np.int16
    assert 1 <= len(samples) <= 300


@given(content=st.binary(max_size=100), start=st.sampled_from([b"", GOOD[:12], GOOD[:36]]))
def test_random_bytes_are_no_recordings_or_short_ones(content: bytes, start: bytes) -> None:
    try:
        samples = read_wav(start + content, "a.wav")
    except DataError:
        return
    assert 1 <= len(samples) <= 50
