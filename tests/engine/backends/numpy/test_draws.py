"""The cache-blocked NumPy kernel has the bits of the plain code for every shape, tile and thread."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wn import random
from wn.basics.errors import WnError
from wn.engine.backends.numpy import draws as numpy_draws
from wn.engine.backends.numpy.draws import fill_draws
from wn.random import Purpose

WORDS = st.integers(0, 2**32 - 1)


def filled(features: int, samples: Any, seed: int = 1, epoch: int = 0, **address: Any) -> Any:
    out = np.full((features, len(samples)), np.nan, np.float32)
    fill_draws(out, seed, samples, epoch, Purpose.TRAIN_ADD, **address)
    return out


def assert_same_bits(actual: Any, expected: Any) -> None:
    assert actual.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(actual.view(np.uint32), expected.view(np.uint32))


@given(
    features=st.integers(0, 23),
    batch=st.integers(0, 70),
    tile=st.integers(1, 80),
    seed=st.integers(0, 2**64 - 1),
    first=WORDS,
    epoch=WORDS,
    purpose=st.sampled_from(Purpose),
    site=st.integers(0, 4095),
    repetition=st.integers(0, 4095),
    distribution=st.sampled_from(random.DISTRIBUTIONS),
)
@example(1, 1, 80, 0, 0, 0, Purpose.INIT, 0, 0, "laplace")
@example(2, 1, 3, 2**64 - 1, 2**32 - 1, 2**32 - 1, Purpose.EVAL_MUL, 4095, 4095, "uniform")
@example(3, 7, 1, 1, 2**32 - 3, 1, Purpose.TRAIN_MUL, 1, 2, "normal")
@example(5, 31, 16, 2**32, 5, 1, Purpose.TRAIN_ADD, 0, 1, "laplace")
def test_same_bits_as_the_plain_code(
    features: int,
    batch: int,
    tile: int,
    seed: int,
    first: int,
    epoch: int,
    purpose: Purpose,
    site: int,
    repetition: int,
    distribution: str,
) -> None:
    samples = (first + 7 * np.arange(batch)) % 2**32
    out = np.full((features, batch), np.nan, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_draws, "TILE", tile)
        fill_draws(out, seed, samples, epoch, purpose, site, repetition, distribution)
    expected = random.standard_draws(
        np, seed, samples, features, epoch, purpose, site, repetition, distribution
    )
    assert_same_bits(out, expected)


@pytest.mark.parametrize(
    "shape", [(1, 20_000), (3, 8193), (5, 8192), (64, 128), (70, 1000), (40_001, 1), (11_000, 3)]
)
def test_same_bits_with_the_tiles_in_use(shape: tuple[int, int]) -> None:
    features, batch = shape
    samples = np.random.default_rng(5).integers(0, 2**32, batch)
    expected = random.standard_draws(np, 1, samples, features, 0, Purpose.TRAIN_ADD)
    assert_same_bits(filled(features, samples), expected)


def test_threads_do_not_disturb_each_other() -> None:
    samples = np.arange(1000)

    def work(seed: int) -> Any:
        return filled(33, samples, seed=seed)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(48)))
    for seed, result in enumerate(results):
        assert_same_bits(result, random.standard_draws(np, seed, samples, 33, 0, Purpose.TRAIN_ADD))


def test_a_planted_bug_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One coefficient that is one unit in the last place off changes bits that the comparison sees."""
    samples = np.arange(500)
    changed = [*numpy_draws.LOG]
    changed[0] = np.nextafter(changed[0], np.float32(0))
    monkeypatch.setattr(numpy_draws, "LOG", changed)
    with pytest.raises(AssertionError):
        assert_same_bits(filled(8, samples), random.standard_draws(np, 1, samples, 8, 0, Purpose.TRAIN_ADD))


@pytest.mark.parametrize(
    "out",
    [
        np.empty((4, 3), np.float64),
        np.empty((4, 2), np.float32),
        np.empty(3, np.float32),
        np.empty((4, 6), np.float32)[:, ::2],
        np.empty((3, 4), np.float32).T,
    ],
    ids=["dtype", "batch", "dimensions", "strided", "transposed"],
)
def test_a_wrong_output_is_refused(out: Any) -> None:
    with pytest.raises(WnError, match=r"out must be a contiguous float32 array \(F, 3\)"):
        fill_draws(out, 1, np.arange(3), 0, Purpose.TRAIN_ADD)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("seed", -1, "seed"),
        ("seed", 2**64, "seed"),
        ("epoch", 2**32, "epoch"),
        ("site", 4096, "site"),
        ("repetition", 4096, "repetition"),
        ("samples", np.array([0, -1]), "sample ids"),
        ("samples", np.array([0.5, 1.0]), "sample ids"),
    ],
)
def test_a_wrong_address_is_refused(argument: str, value: Any, message: str) -> None:
    address: dict[str, Any] = {"samples": np.arange(2), argument: value}
    with pytest.raises(WnError, match=message):
        filled(4, **address)
