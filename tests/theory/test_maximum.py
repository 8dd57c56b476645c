"""The largest of Gaussian variables: against closed forms, one another, and draws."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.basics.errors import WnError
from wn.theory import maximum
from wn.theory.maximum import (
    Largest,
    maximum_clark,
    maximum_independent,
    pair_maximum,
    plain_maximum_independent,
)
from wn.theory.rectified import relu_moments

Independent = Callable[..., Largest]
INDEPENDENT = pytest.mark.parametrize("independent", [maximum_independent, plain_maximum_independent])
numbers = st.floats(-4, 4)
deviations = st.floats(0.05, 5)


def diagonal(variance: np.ndarray) -> np.ndarray:
    """Variances (W, N) as covariances (W, W, N)."""
    return np.eye(len(variance))[:, :, None] * variance


@given(m1=numbers, m2=numbers, s1=deviations, s2=deviations, rho=st.floats(-1, 1))
def test_a_pair_has_the_moments_of_clark(m1: float, m2: float, s1: float, s2: float, rho: float) -> None:
    """His formulas as he wrote them: ν₁ and ν₂ from α and a."""
    a = math.sqrt(max(s1**2 + s2**2 - 2 * rho * s1 * s2, 1e-12))
    alpha = (m1 - m2) / a
    density = math.exp(-(alpha**2) / 2) / math.sqrt(2 * math.pi)
    gate = math.erfc(-alpha / math.sqrt(2)) / 2
    first = m1 * gate + m2 * (1 - gate) + a * density
    second = (m1**2 + s1**2) * gate + (m2**2 + s2**2) * (1 - gate) + (m1 + m2) * a * density
    result = pair_maximum(m1, s1**2, m2, s2**2, rho * s1 * s2)
    assert result.mean == pytest.approx(first, abs=1e-6)
    assert result.variance == pytest.approx(second - first**2, abs=1e-5)
    if a > 1e-5:
        assert result.gate == pytest.approx(gate, abs=1e-6)


def test_a_pair_against_draws_and_its_covariance_with_others() -> None:
    n, seed = 400_000, 5
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, 3))
    c = root @ root.T
    mean = np.array([0.4, -0.2, 1.0])
    x = mean + rng.standard_normal((n, 3)) @ root.T
    y, result = np.maximum(x[:, 0], x[:, 1]), pair_maximum(mean[0], c[0, 0], mean[1], c[1, 1], c[0, 1])
    products = (y - result.mean) * (x[:, 2] - mean[2])
    expected = result.gate * c[0, 2] + (1 - result.gate) * c[1, 2]
    squares = (y - result.mean) ** 2
    z = [
        (values.mean() - wanted) / (values.std() / math.sqrt(n))
        for values, wanted in (
            (y, result.mean),
            (squares, result.variance),
            (products, expected),
            (x[:, 0] > x[:, 1], result.gate),
        )
    ]
    print(f"z {np.round(z, 2)}, n = {n}, seed = {seed}")
    assert np.abs(z).max() < 6


def test_equal_and_constant_variables() -> None:
    assert pair_maximum(1.0, 2.0, 1.0, 2.0, 2.0) == (1.0, 2.0, 0.0)  # the same variable twice
    assert pair_maximum(3.0, 0.0, 1.0, 0.0) == (3.0, 0.0, 1.0)
    rectified = relu_moments(0.3, 2.0)
    for one, other in zip(pair_maximum(0.3, 2.0, 0.0, 0.0), rectified, strict=True):
        assert one == pytest.approx(other, rel=1e-13)


@INDEPENDENT
def test_two_independent_variables_are_a_pair(independent: Independent) -> None:
    rng = np.random.default_rng(1)
    m, v = rng.normal(size=(2, 50)) * 2, rng.choice([0.0, 1e-4, 0.3, 5.0], size=(2, 50))
    found, pair = independent(m, v), pair_maximum(m[0], v[0], m[1], v[1])
    np.testing.assert_allclose(found.mean, pair.mean, atol=1e-6)
    np.testing.assert_allclose(found.variance, pair.variance, atol=1e-5)
    np.testing.assert_allclose(found.gates[0], pair.gate, atol=1e-6)
    np.testing.assert_allclose(found.gates[1], 1 - pair.gate, atol=1e-6)


@INDEPENDENT
def test_one_variable_and_a_floor_are_a_relu(independent: Independent) -> None:
    m, s = np.meshgrid(np.linspace(-6, 6, 13), [0.0, 0.01, 1.0, 30.0])
    found, relu = independent(m[None] + 1, s[None] ** 2, 1.0), relu_moments(m, s**2)
    np.testing.assert_allclose(found.mean, 1 + relu.mean, atol=1e-6)
    np.testing.assert_allclose(found.variance, relu.variance, atol=1e-4, rtol=1e-6)
    np.testing.assert_allclose(found.gates[0], relu.gate, atol=1e-6)


@INDEPENDENT
@pytest.mark.parametrize("low", [None, 0.0])
def test_windows_of_four_against_draws(independent: Independent, low: float | None) -> None:
    n, seed = 200_000, 9
    rng = np.random.default_rng(seed)
    m, s = rng.normal(size=(4, 3)), np.array([[1.0], [0.2], [2.0], [1.0]]) * np.array([1.0, 0.1, 3.0])
    x = m[:, :, None] + s[:, :, None] * rng.standard_normal((4, 3, n))
    y = x.max(axis=0) if low is None else np.maximum(x.max(axis=0), low)
    found = independent(m, s**2, low)
    wins = (x == y).mean(axis=2)
    z_gates = (wins - found.gates) / np.sqrt(np.maximum(wins * (1 - wins), 1 / n) / n)
    centred = y - found.mean[:, None]
    z_mean = centred.mean(axis=1) / (y.std(axis=1) / math.sqrt(n))
    z_variance = ((centred**2).mean(axis=1) - found.variance) / ((centred**2).std(axis=1) / math.sqrt(n))
    worst = max(np.abs(z).max() for z in (z_gates, z_mean, z_variance))
    print(f"max |z| {worst:.2f}, n = {n}, seed = {seed}")
    assert worst < 6


@pytest.mark.parametrize("low", [None, 0.0, -2.0])
def test_compiled_and_plain_quadrature_agree(low: float | None) -> None:
    rng = np.random.default_rng(2)
    m = rng.normal(size=(4, 6, 50)) * rng.choice([0.1, 1.0, 10.0], size=(1, 6, 50))
    v = rng.choice([0.0, 1e-3, 0.5, 1.0, 20.0], size=(4, 6, 50))
    m[1, 0], v[:2, 0] = m[0, 0], 0.0  # two equal constants share what is left
    found, plain = maximum_independent(m, v, low), plain_maximum_independent(m, v, low)
    scale = np.sqrt(v.max(axis=0))
    assert (np.abs(found.mean - plain.mean) <= 1e-6 * scale + 1e-14).all()
    assert (np.abs(found.variance - plain.variance) <= 2e-6 * scale**2 + 1e-14).all()
    np.testing.assert_allclose(found.gates, plain.gates, atol=1e-6)
    if low is None:
        np.testing.assert_allclose(plain.gates.sum(axis=0), 1, atol=1e-9)


@pytest.mark.parametrize(
    ("low", "high", "mean", "variance"), [(1, 1, 0.015, 0.06), (0.5, 2, 0.04, 0.2), (0.2, 3, 0.1, 0.4)]
)
def test_clarks_recursion_is_exact_for_two_and_close_for_four(
    low: float, high: float, mean: float, variance: float
) -> None:
    """The errors that docs/theory/moments.md states, for means N(0, 1) and variances from low to high."""
    rng = np.random.default_rng(3)
    m, v = rng.normal(size=(4, 2000)), rng.uniform(low, high, size=(4, 2000))
    pair, two = pair_maximum(m[0], v[0], m[1], v[1]), maximum_clark(m[:2], diagonal(v[:2]))
    np.testing.assert_array_equal(two.mean, pair.mean)
    np.testing.assert_array_equal(two.variance, pair.variance)
    clark, exact = maximum_clark(m, diagonal(v), 0.0), plain_maximum_independent(m, v, 0.0)
    off = [np.abs(one - other) for one, other in zip(clark, exact, strict=True)]
    for name, error in zip(("mean", "variance", "gates"), off, strict=True):
        print(f"{low} … {high}: {name} off by {error.max():.3f}, rms {np.sqrt((error**2).mean()):.3f}")
    assert 0 < off[0].max() < mean
    assert 0 < off[1].max() < variance
    assert 0 < off[2].max() < 0.2


def test_variables_that_are_one_have_its_moments() -> None:
    """Of four equal variables the recursion finds that they are one; independence would not."""
    result = maximum_clark(np.full((4, 1), 0.5), np.full((4, 4, 1), 2.0), 0.0)
    expected = relu_moments(0.5, 2.0)
    assert result.mean[0] == pytest.approx(expected.mean)
    assert result.variance[0] == pytest.approx(expected.variance)
    assert result.gates.sum() == pytest.approx(expected.gate)


@pytest.mark.parametrize("low", [None, 0.0])
def test_scaled_variables_give_scaled_moments(low: float | None) -> None:
    rng = np.random.default_rng(4)
    m, v = rng.normal(size=(4, 20)), rng.uniform(0.1, 2, size=(4, 20))
    one, other = maximum_independent(m, v, low), maximum_independent(8 * m, 64 * v, low)
    np.testing.assert_allclose(other.mean, 8 * one.mean, rtol=1e-9)
    np.testing.assert_allclose(other.variance, 64 * one.variance, rtol=1e-9)
    np.testing.assert_allclose(other.gates, one.gates, rtol=1e-9, atol=1e-12)


def test_without_numba_the_plain_quadrature_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maximum, "compiled", lambda name: None)
    given = np.array([[0.2], [0.5]]), np.array([[1.0], [2.0]])
    for one, other in zip(maximum_independent(*given), plain_maximum_independent(*given), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(WnError, match=r"do not fit: \(2, 3\) and \(2, 3, 3\)"):
        maximum_clark(np.zeros((2, 3)), np.zeros((2, 3, 3)))
    with pytest.raises(WnError, match="not negative"):
        maximum_independent([0.0], [-1.0])
    with pytest.raises(WnError, match="not be negative"):
        pair_maximum(0.0, -1.0, 0.0, 1.0)
