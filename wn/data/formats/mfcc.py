"""MFCC: 10 cepstral coefficients in each of 49 frames of one second of speech, as derived in docs/data.md."""

import math

import numpy as np
from numpy.typing import NDArray

RATE = 16_000  # samples per second
LENGTH = 16_000  # samples of one recording
WINDOW = 480  # samples: 30 ms
HOP = 320  # samples: 20 ms
FFT = 512  # points; each windowed frame is filled with zeros
BANDS = 40  # triangles, equally wide on the mel scale
LOWEST, HIGHEST = 20.0, 4000.0  # hertz
COEFFICIENTS = 10
FLOOR = 1e-6  # added before the logarithm

Floats = NDArray[np.float64]


def mfcc(waves: NDArray[np.float64]) -> NDArray[np.float32]:
    """The features (N, 1, 10, 49) of N recordings (N, 16000), at 16 kHz, in any unit.

    Steps: x / max|x| (silence stays 0); frames of 480 every 320 samples times a periodic Hann window;
    magnitude of the 512-point FFT; 40 mel bands; log(· + 1e-6); the first 10 terms of a DCT-II with √(2/40).
    Computed in float64, returned as float32. Source: derived in docs/data.md.
    """
    frames = _frames(_normalised(waves)) * hann(WINDOW)  # (N, 49, 480)
    magnitude = np.abs(np.fft.rfft(frames, n=FFT))  # (N, 49, 257)
    bands = np.log(magnitude @ mel_bands() + FLOOR)  # (N, 49, 40)
    coefficients = bands @ dct_matrix()  # (N, 49, 10)
    return np.ascontiguousarray(coefficients.transpose(0, 2, 1)[:, None], dtype=np.float32)


def hann(length: int) -> Floats:
    """The periodic Hann window, w_n = ½ − ½ cos(2π n / length)."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length))


def mel(hertz: Floats) -> Floats:
    """The mel scale, m = 1127 ln(1 + f / 700)."""
    return 1127 * np.log1p(hertz / 700)


def mel_bands() -> Floats:
    """Weights (257, 40) of the FFT bins in the bands: triangles on the mel scale, from 20 to 4000 Hz.

    With edges e_0 … e_41 equally spaced in mel, band j rises from 0 at e_j to 1 at e_{j+1} and falls to 0 at
    e_{j+2}. The bin of 0 Hz has no weight.
    """
    edges = np.linspace(mel(np.array(LOWEST)), mel(np.array(HIGHEST)), BANDS + 2)  # (42,)
    bins = mel(np.arange(FFT // 2 + 1) * RATE / FFT)[:, None]  # (257, 1)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]  # (40,)
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    weights: Floats = np.maximum(0.0, np.minimum(rising, falling))  # 0 at 0 Hz: the lowest edge is above it
    return weights


def dct_matrix() -> Floats:
    """The matrix (40, 10) of the DCT-II: D[n, k] = √(2/40) cos(π k (2n + 1) / 80)."""
    n, k = np.arange(BANDS)[:, None], np.arange(COEFFICIENTS)
    return math.sqrt(2 / BANDS) * np.cos(np.pi * k * (2 * n + 1) / (2 * BANDS))


def _normalised(waves: Floats) -> Floats:
    peak = np.abs(waves).max(axis=1, keepdims=True)  # (N, 1)
    return waves / np.where(peak > 0, peak, 1)


def _frames(waves: Floats) -> Floats:
    """The overlapping frames (N, 49, 480) of waves (N, 16000), as a view."""
    return np.lib.stride_tricks.sliding_window_view(waves, WINDOW, axis=1)[:, ::HOP]
