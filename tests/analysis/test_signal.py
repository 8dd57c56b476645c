"""Signal-to-noise ratios against closed forms and simulation; the share that the signal explains."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.analysis.signal import ORDERS, explained_share, power_at, signal_to_noise
from wn.basics.errors import WnError

positive = st.floats(0.01, 100)


@given(positive, positive)
def test_additive_noise(power: float, sigma: float) -> None:
    assert signal_to_noise(power, sigma_add=sigma) == pytest.approx(power / sigma**2)


@given(positive, positive, positive)
def test_multiplicative_noise_heeds_no_power(power: float, sigma: float, mean: float) -> None:
    found = signal_to_noise(power, sigma_mul=sigma, mean_mul=mean)
    assert found == pytest.approx(mean**2 / sigma**2)


@given(positive, positive, positive, st.sampled_from(ORDERS), st.integers(1, 20))
def test_repetitions_divide_the_variance(p: float, t: float, s: float, order: str, r: int) -> None:
    once = signal_to_noise(p, t, s, order=order)
    assert signal_to_noise(p, t, s, order=order, repetitions=r) == pytest.approx(r * once)


@given(positive, positive, positive)
def test_mixed_noise_is_no_better_than_either_part(p: float, t: float, s: float) -> None:
    parts = 1 / signal_to_noise(p, t) + 1 / signal_to_noise(p, 0.0, s)
    assert 1 / signal_to_noise(p, t, s) == pytest.approx(parts)
    assert signal_to_noise(p, t, s, order="add_mul") <= signal_to_noise(p, t, s) * (1 + 1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("repetitions", [1, 3])
def test_the_ratio_is_that_of_simulated_noise(order: str, repetitions: int) -> None:
    """The variance of y around its mean at each x, by many draws for each of a few x."""
    rng = np.random.default_rng(7)
    x, m, s, t = np.array([-2.0, 0.5, 0.0, 3.0]), 1.5, 0.8, 0.6
    shape = (200_000, repetitions, x.size)
    factor, summand = rng.normal(m, s, shape), rng.normal(0, t, shape)
    y = (x * factor + summand if order == "mul_add" else (x + summand) * factor).mean(axis=1)
    measured = np.mean(y.mean(axis=0) ** 2) / np.mean(y.var(axis=0))
    expected = signal_to_noise(np.mean(x**2), t, s, m, order, repetitions)
    assert measured == pytest.approx(float(expected), rel=0.02)


def test_no_noise_and_arrays() -> None:
    assert signal_to_noise(2.0) == math.inf
    assert signal_to_noise(0.0, sigma_mul=1.0) == math.inf  # there is nothing to be disturbed
    assert signal_to_noise([[1.0], [4.0]], [1.0, 2.0]).tolist() == [[1.0, 0.25], [4.0, 1.0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"power": -1.0}, "must be ≥ 0"),
        ({"power": 1.0, "sigma_mul": -1.0}, "must be ≥ 0"),
        ({"power": 1.0, "repetitions": 0}, "repetitions ≥ 1"),
        ({"power": 1.0, "order": "mul"}, "allowed are mul_add, add_mul"),
        ({"power": math.nan}, "must be ≥ 0"),
    ],
)
def test_other_numbers_are_refused(values: dict, message: str) -> None:
    with pytest.raises(WnError, match=message):
        signal_to_noise(**values)


# ---- what the signal explains -----------------------------------------------------------------------------


@given(positive, positive, st.floats(1.1, 50), st.floats(-2, 2))
def test_the_share_of_a_power_law(power: float, midpoint: float, gain: float, share: float) -> None:
    """Where μ grows by a factor and √P by that factor to the power of the share."""
    found = explained_share(power * gain ** (2 * share), power, midpoint * gain, midpoint)
    assert found == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize(
    "numbers", [(2, 1, 3, 3), (0, 1, 2, 1), (2, 1, math.nan, 1), (2, 1, math.inf, 1), (2, -1, 2, 1)]
)
def test_no_share(numbers: tuple[float, ...]) -> None:
    assert math.isnan(explained_share(*numbers))


@given(st.floats(0.2, 5), positive, st.floats(1, 1000))
def test_power_laws_are_interpolated_exactly(exponent: float, factor: float, sigma: float) -> None:
    levels = np.array([1.0, 3.0, 50.0, 1000.0])
    found = power_at(sigma, levels, factor * levels**exponent)
    assert found == pytest.approx(factor * sigma**exponent, rel=1e-9)


def test_nothing_is_made_up_beyond_the_levels() -> None:
    assert math.isnan(power_at(0.5, [1.0, 2.0], [3.0, 4.0]))
    assert math.isnan(power_at(2.1, [1.0, 2.0], [3.0, 4.0]))
    assert power_at(2.0, [2.0], [4.0]) == pytest.approx(4.0)
    assert math.isnan(power_at(1.0, [], []))
    for levels, powers in (([2.0, 1.0], [1.0, 1.0]), ([1.0], [0.0]), ([1.0], [1.0, 2.0])):
        with pytest.raises(WnError, match="ascending"):
            power_at(1.0, levels, powers)
