"""WAV files made with the standard library, for the tests of the reader and of Speech Commands."""

import io
import wave

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.int16]


def wav(samples: Wave, rate: int = 16000, channels: int = 1, width: int = 2) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def recording(seed: int, length: int = 16000) -> Wave:
    return np.random.default_rng(seed).integers(-3000, 3000, size=length, dtype=np.int16)
