"""Binarisation: closed values, a naive oracle that loops, and parts against the whole."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from tests.analysis.plain import of_activations
from wn.analysis.binarisation import ALMOST_ALWAYS, Powers, Sums, of_weights
from wn.basics.errors import WnError

RNG = np.random.default_rng(5)


def naive_decided(x: np.ndarray, labels: np.ndarray) -> float:
    decided = []
    for unit in x:
        for label in set(labels.tolist()):
            on = [float(value != 0) for value, other in zip(unit, labels, strict=True) if other == label]
            share = sum(on) / len(on)
            decided.append(share >= ALMOST_ALWAYS or share <= 1 - ALMOST_ALWAYS)
    return sum(decided) / len(decided)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 30), st.integers(1, 4))
def test_activations_against_loops_and_scipy(seed: int, units: int, samples: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(size=(units, samples)), 0) * 10.0 ** rng.integers(-10, 10)
    labels = rng.integers(0, classes, samples)
    found, on = of_activations(x, labels), x[x != 0]
    assert found.zeros == pytest.approx(np.mean(x == 0), abs=1e-12)
    assert found.decided == pytest.approx(naive_decided(x, labels))
    if on.size > 2:
        assert found.spread == pytest.approx(1 - np.abs(on).mean() ** 2 / (on**2).mean(), rel=1e-9, abs=1e-12)
        expected = (stats.skew(on) ** 2 + 1) / stats.kurtosis(on, fisher=False)
        assert found.bimodality == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("x", "spread", "bimodality"),
    [
        (RNG.normal(size=400_000), 1 - 2 / math.pi, 1 / 3),
        (RNG.exponential(size=400_000), 1 / 2, 5 / 9),
        (RNG.uniform(-1, 1, 400_000), 1 / 4, 5 / 9),
        (RNG.choice([-3.0, 3.0], 400_000), 0, 1),
    ],
)
def test_known_distributions(x: np.ndarray, spread: float, bimodality: float) -> None:
    """Within six standard errors of the samples, which are about 2/√n at most."""
    found = of_weights(x)
    assert found.spread == pytest.approx(spread, abs=6 * 2 / math.sqrt(x.size))
    assert found.bimodality == pytest.approx(bimodality, abs=6 * 2 / math.sqrt(x.size))
    assert (found.zeros, math.isnan(found.decided)) == (0.0, True)


@given(arrays.arrays(np.float64, st.integers(2, 40), elements=st.floats(-100, 100)), st.integers(0, 40))
def test_parts_give_what_the_whole_gives(x: np.ndarray, cut: int) -> None:
    parts, whole = Powers(), Powers()
    parts.add(x[:cut])
    parts.add(x[cut:])
    whole.add(x)
    assert parts.spread == pytest.approx(whole.spread, abs=1e-9, nan_ok=True)
    if np.ptp(x) > 1e-3:
        assert parts.bimodality == pytest.approx(whole.bimodality, rel=1e-6)


def test_batches_give_what_the_whole_gives() -> None:
    x = np.maximum(RNG.normal(1, 1, (7, 100)), 0).astype(np.float32)
    labels = RNG.integers(0, 3, 100)
    sums = Sums(7, 3)
    for batch in range(0, 100, 30):
        sums.add(x[:, batch : batch + 30], labels[batch : batch + 30])
    np.testing.assert_allclose(sums.result(), of_activations(x, labels), rtol=1e-12)


def test_a_pattern_of_one_size_is_binary_in_every_respect() -> None:
    labels = np.arange(100) % 2
    x = np.stack([labels, 1 - labels, np.ones(100)]) * -1e30
    found = of_activations(x, labels)
    assert (found.zeros, found.decided, found.spread) == pytest.approx((1 / 3, 1, 0))
    assert math.isnan(found.bimodality)


def test_huge_numbers_do_not_overflow() -> None:
    x = RNG.normal(size=1000)
    np.testing.assert_allclose(of_weights(x * 1e100)[2:], of_weights(x)[2:], rtol=1e-9)


def test_values_that_are_none() -> None:
    with pytest.raises(WnError, match="weights"):
        of_weights([])
    assert all(map(math.isnan, of_weights([0.0, 0.0])[1:]))
