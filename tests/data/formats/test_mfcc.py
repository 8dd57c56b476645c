"""MFCC features against an independent computation with SciPy, and their known properties."""

import numpy as np
import pytest
import scipy.fft
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wn.data.formats.mfcc import dct_matrix, hann, mel_bands, mfcc

Floats = NDArray[np.float64]


def independent(wave: Floats) -> Floats:
    """The same features (10, 49) by another road: SciPy's window, FFT and DCT, triangles by interpolation."""
    wave = wave / np.max(np.abs(wave))
    window = scipy.signal.get_window("hann", 480, fftbins=True)
    hertz = scipy.fft.rfftfreq(512, d=1 / 16000)
    mels = 2595 * np.log10(1 + hertz / 700)  # the same scale but for a factor of 1.000005
    lowest, highest = 2595 * np.log10(1 + np.array([20, 4000]) / 700)
    edges = [lowest + (highest - lowest) * step / 41 for step in range(42)]
    columns = []
    for start in range(0, 16000 - 480 + 1, 320):
        magnitude = np.abs(scipy.fft.rfft(wave[start : start + 480] * window, 512))
        bands = [magnitude @ np.interp(mels, edges[band : band + 3], [0, 1, 0]) for band in range(40)]
        columns.append(scipy.fft.dct(np.log(np.array(bands) + 1e-6), type=2)[:10] / np.sqrt(2 * 40))
    return np.array(columns).T


def waves(seed: int, count: int = 1) -> Floats:
    rng = np.random.default_rng(seed)
    time = np.arange(16000) / 16000
    tones = sum(rng.normal() * np.sin(2 * np.pi * rng.uniform(30, 6000) * time) for _ in range(5))
    return np.round(3000 * tones + rng.normal(0, 300, size=(count, 16000)))


@pytest.mark.parametrize("seed", range(4))
def test_features_equal_the_independent_computation(seed: int) -> None:
    recordings = waves(seed, 2)
    features = mfcc(recordings)
    assert features.shape == (2, 1, 10, 49)
    assert features.dtype == np.float32
    for recording, feature in zip(recordings, features, strict=True):
        assert np.allclose(feature[0], independent(recording), rtol=1e-5, atol=1e-5)


def test_a_short_click_among_zeros_equals_the_independent_computation() -> None:
    wave = np.zeros(16000)
    wave[5000:5010] = [1, -2, 3, -4, 5, -6, 7, -8, 9, -10]
    assert np.allclose(mfcc(wave[None])[0, 0], independent(wave), rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 1000), factor=st.floats(1e-3, 1e3))
def test_loudness_does_not_matter(seed: int, factor: float) -> None:
    recording = waves(seed)
    assert np.allclose(mfcc(factor * recording), mfcc(recording), rtol=1e-5, atol=1e-4)


def test_recordings_do_not_influence_each_other() -> None:
    recordings = waves(9, 5)
    assert np.array_equal(mfcc(recordings)[3], mfcc(recordings[3:4])[0])


def test_silence_is_the_logarithm_of_the_floor() -> None:
    features = mfcc(np.zeros((1, 16000)))
    assert np.allclose(features[0, 0, 0], np.sqrt(2 * 40) * np.log(1e-6))
    assert np.allclose(features[0, 0, 1:], 0, atol=1e-5)


def test_a_click_appears_in_its_frames_only() -> None:
    wave = np.zeros((1, 16000))
    wave[0, 3300] = 1  # frames start every 320 samples and last 480: the click is in frames 9 and 10
    loud = np.flatnonzero(mfcc(wave)[0, 0, 0] > -100)
    assert loud.tolist() == [9, 10]


def test_a_tone_excites_the_band_around_it() -> None:
    weights = mel_bands()
    assert weights.shape == (257, 40)
    assert np.all(weights >= 0)
    assert np.all(weights <= 1)
    assert np.all(weights[0] == 0)
    assert np.all(weights[129:] == 0)  # bin 128 is 4000 Hz, the end of the last band
    assert np.all(np.diff(np.argmax(weights, axis=0)) >= 0)
    assert (weights > 0).sum(axis=0).min() == 2  # no band is empty


def test_the_dct_is_orthogonal_but_for_its_first_term() -> None:
    matrix = dct_matrix()
    assert np.allclose(matrix.T @ matrix, np.diag([2.0] + [1.0] * 9))


def test_the_window_is_periodic() -> None:
    assert np.allclose(hann(480) + np.roll(hann(480), 240), 1)
