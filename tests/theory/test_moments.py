"""Closed-form moments of the noise operators against plain Monte Carlo and against special cases."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate

from wn.basics.errors import WnError
from wn.engine.noise import Noise, additive, mixed_direct
from wn.engine.noise_spec import DISTRIBUTIONS
from wn.theory.moments import (
    backward_moments,
    forward_backward_covariance,
    multiplier_moments,
    output_covariance,
    output_cumulants,
    output_moments,
    variance_of_sample_variance,
)

Floats = NDArray[np.float64]
X = np.array([-2.0, -0.3, 0.0, 0.7, 4.0])
Z_LIMIT = 6.0


def operator(**values: Any) -> Noise:
    """An operator whose repetitions are drawn one by one."""
    return Noise("mixed-direct", **{"execution": "each"} | values)


OPERATORS = [
    operator(),
    operator(sigma_add=0.8),
    operator(sigma_add=0.8, mean_add=-0.4),
    operator(sigma_mul=0.6),
    operator(sigma_mul=0.6, mean_mul=0.5),
    operator(sigma_mul=0.6, sigma_add=0.8, mean_add=0.2),
    operator(sigma_mul=0.6, sigma_add=0.8, mean_add=0.2, mean_mul=1.3, order="add_mul"),
    operator(sigma_mul=1.1, sigma_add=0.9, mean_mul=0.0, order="add_mul"),
    operator(sigma_mul=0.6, sigma_add=0.8, mean_add=0.2, mean_mul=1.3, distribution="uniform"),
    operator(sigma_mul=0.6, sigma_add=0.8, mean_add=0.2, distribution="laplace", order="add_mul"),
    operator(sigma_mul=0.6, sigma_add=0.8, distribution="laplace", repetitions=3),
]
MULTIPLE = [
    operator(sigma_mul=0.6, sigma_add=0.8, repetitions=4, execution=execution, order=order)
    for execution, order in itertools.product(("each", "single"), ("mul_add", "add_mul"))
]


def standard(distribution: str, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    if distribution == "normal":
        return rng.standard_normal(shape)
    root = 3**0.5
    return rng.uniform(-root, root, shape) if distribution == "uniform" else rng.laplace(0, 0.5**0.5, shape)


def quadrature(distribution: str) -> tuple[Floats, Floats]:
    """Nodes and weights of a mean over z, exact for polynomials up to degree 20."""
    if distribution == "normal":
        nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    elif distribution == "uniform":
        nodes, weights = np.polynomial.legendre.leggauss(12)
        nodes = nodes * 3**0.5
    else:
        half, weights = np.polynomial.laguerre.laggauss(12)
        nodes, weights = np.concatenate([half, -half]) / 2**0.5, np.tile(weights, 2)
    return nodes, weights / weights.sum()


@pytest.mark.parametrize("order", ["mul_add", "add_mul"])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_cumulants_of_one_draw_equal_sums_over_both_distributions(distribution: str, order: str) -> None:
    parts = {"sigma_mul": 0.7, "mean_mul": 0.9, "sigma_add": 1.2, "mean_add": 0.3}
    op = operator(**parts, order=order, distribution=distribution)
    (z, p), x = quadrature(distribution), X[:, None, None]
    m, d = 0.9 + 0.7 * z[:, None], 0.3 + 1.2 * z
    y = x * m + d if order == "mul_add" else (x + d) * m
    both = p[:, None] * p
    mean = (both * y).sum(axis=(1, 2))
    second, third, fourth = ((both * (y - mean[:, None, None]) ** k).sum(axis=(1, 2)) for k in (2, 3, 4))
    found = output_cumulants(X, op)
    for got, expected in zip(found, (mean, second, third, fourth - 3 * second**2), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


def draw(op: Noise, x: Floats, n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """n outputs and mean multipliers, shape (n, *x.shape), written straight from the definition."""
    each = op.execution == "each" or op.order == "add_mul" or op.distribution != "normal"
    shrink = 1.0 if each else math.sqrt(op.repetitions)
    shape = (op.repetitions if each else 1, n, *x.shape)
    m = op.mean_mul + op.sigma_mul / shrink * standard(op.distribution, shape, rng)
    d = op.mean_add + op.sigma_add / shrink * standard(op.distribution, shape, rng)
    y = x * m + d if op.order == "mul_add" else (x + d) * m
    return y.mean(axis=0), m.mean(axis=0)


def assert_z(what: str, value: Floats, expected: Floats, variance: Floats, n: int, seed: int) -> None:
    """|value − expected| against its standard error; where that is 0 they must be equal up to rounding."""
    exact = variance <= 1e-30
    np.testing.assert_allclose(value[exact], expected[exact], rtol=1e-11, atol=1e-14)
    z = (value[~exact] - expected[~exact]) / np.sqrt(variance[~exact])
    largest = float(np.abs(z).max(initial=0.0))
    print(f"{what}: max |z| = {largest:.2f}, n = {n}, seed = {seed}")
    assert largest < Z_LIMIT


@pytest.mark.parametrize("op", OPERATORS + MULTIPLE, ids=str)
def test_mean_variance_third_moment_and_backward_against_monte_carlo(op: Noise) -> None:
    n, seed = 60_000, 11
    y, multiplier = draw(op, X, n, np.random.default_rng(seed))
    k = output_cumulants(X, op)
    assert_z("mean", y.mean(axis=0), k.mean, k.variance / n, n, seed)
    spread = variance_of_sample_variance(k.variance, k.fourth, n)
    assert_z("variance", y.var(axis=0, ddof=1), k.variance, spread, n, seed)
    centred = y - k.mean
    third = centred**3  # its own spread, estimated from the sample, is good enough for a z-score
    assert_z("third moment", third.mean(axis=0), k.third, third.var(axis=0) / n, n, seed)
    mean, variance = multiplier_moments(op)
    assert_z("multiplier", multiplier.mean(axis=0), np.full(5, mean), np.full(5, variance / n), n, seed)
    product = centred * (multiplier - mean)
    covariance = forward_backward_covariance(X, op)
    assert_z("Cov(y, M)", product.mean(axis=0), covariance, product.var(axis=0) / n, n, seed)


@pytest.mark.parametrize("op", [OPERATORS[5], OPERATORS[6], *MULTIPLE], ids=str)
def test_random_x_and_covariance_between_elements(op: Noise) -> None:
    n, seed = 100_000, 5
    rng = np.random.default_rng(seed)
    mean, root = np.array([0.5, -1.0, 2.0]), np.array([[1.0, 0, 0], [0.6, 0.5, 0], [-0.4, 0.2, 0.3]])
    x = mean + rng.standard_normal((n, 3)) @ root.T
    y = draw(op, x[None], 1, rng)[0][0, 0]
    expected = output_covariance(mean, root @ root.T, op)
    centred = y - output_moments(mean, op).mean
    products = centred[:, :, None] * centred[:, None, :]  # (n, 3, 3)
    assert_z("mean", y.mean(axis=0), output_moments(mean, op).mean, np.diag(expected) / n, n, seed)
    assert_z("covariance", products.mean(axis=0), expected, products.var(axis=0) / n, n, seed)


def test_given_x_the_elements_are_independent() -> None:
    zero = output_covariance(X, np.zeros((5, 5)), OPERATORS[6])
    np.testing.assert_array_equal(zero, np.diag(output_moments(X, OPERATORS[6]).variance))


def density_moment(op: Noise, x: float, power: int) -> float:
    """E[(y − E y)^power] of one add_mul draw by integrating over M; D is integrated in closed form."""
    mean = op.mean_mul * (x + op.mean_add)
    a, t = x + op.mean_add, op.sigma_add

    def inner(m: float) -> float:  # moments of N(a·m − mean, (t·m)²)
        c, v = a * m - mean, (t * m) ** 2
        moment = {2: c**2 + v, 3: c**3 + 3 * c * v, 4: c**4 + 6 * c**2 * v + 3 * v**2}[power]
        u = (m - op.mean_mul) / op.sigma_mul
        return moment * math.exp(-u * u / 2) / (op.sigma_mul * math.sqrt(2 * math.pi))

    low, high = op.mean_mul - 12 * op.sigma_mul, op.mean_mul + 12 * op.sigma_mul
    return float(integrate.quad(inner, low, high, epsabs=1e-12, epsrel=1e-12, limit=200)[0])


@pytest.mark.parametrize("x", [-1.5, 0.0, 0.4, 3.0])
def test_add_mul_central_moments_equal_numerical_integration(x: float) -> None:
    op = operator(sigma_mul=0.7, mean_mul=0.9, sigma_add=1.2, mean_add=0.3, order="add_mul")
    k = output_cumulants(x, op)
    assert float(k.variance) == pytest.approx(density_moment(op, x, 2), rel=1e-10)
    assert float(k.third) == pytest.approx(density_moment(op, x, 3), rel=1e-10)
    assert float(k.fourth_central_moment) == pytest.approx(density_moment(op, x, 4), rel=1e-10)


sigmas = st.floats(0.01, 10)
means = st.floats(-5, 5)
counts = st.integers(2, 50)


def one_draw(op: Noise) -> Noise:
    """One draw with σ/√R in place of R draws."""
    root = math.sqrt(op.repetitions)
    return replace(op, sigma_mul=op.sigma_mul / root, sigma_add=op.sigma_add / root, repetitions=1)


@given(sigmas, sigmas, means, means, counts, st.sampled_from(["mul_add", "add_mul"]))
def test_single_draw_equals_repetitions_except_for_add_mul(
    s: float, t: float, m: float, d: float, repetitions: int, order: str
) -> None:
    parts = {"sigma_mul": s, "mean_mul": m, "sigma_add": t, "mean_add": d}
    each = operator(**parts, order=order, repetitions=repetitions)
    single = one_draw(each)
    a, b = output_moments(X, each), output_moments(X, single)
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-12)
    missing = (s * t) ** 2 * (1 / repetitions - 1 / repetitions**2) if order == "add_mul" else 0.0
    np.testing.assert_allclose(a.variance - b.variance, missing, rtol=1e-9, atol=1e-12 * a.variance.max())
    assert multiplier_moments(each) == pytest.approx(multiplier_moments(single), rel=1e-12)


@given(sigmas, sigmas, counts)
def test_special_cases(s: float, t: float, count: int) -> None:
    add, mul = operator(sigma_add=t), operator(sigma_mul=s)
    np.testing.assert_allclose(output_moments(X, add).variance, t**2, rtol=1e-14)
    np.testing.assert_allclose(output_moments(X, mul).variance, (s * X) ** 2, rtol=1e-14)
    for one in (operator(sigma_add=t, order="add_mul"), operator(sigma_mul=s, order="add_mul")):
        alike = operator(sigma_mul=one.sigma_mul, sigma_add=one.sigma_add)
        for got, expected in zip(output_cumulants(X, one), output_cumulants(X, alike), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-14)
    averaged = operator(sigma_add=t, repetitions=count)
    normalised = operator(sigma_add=t, normalize_to_input_size=True).for_elements(count)
    np.testing.assert_allclose(output_moments(X, averaged).variance, t**2 / count, rtol=1e-13)
    np.testing.assert_allclose(output_moments(X, normalised).variance, (t / count) ** 2, rtol=1e-13)
    np.testing.assert_allclose(backward_moments(X, add).mean, X)
    np.testing.assert_array_equal(backward_moments(X, add).variance, np.zeros(5))
    np.testing.assert_allclose(backward_moments(X, mul).variance, (s * X) ** 2, rtol=1e-14)


def test_no_noise_changes_nothing() -> None:
    k = output_cumulants(X, operator())
    np.testing.assert_array_equal(k.mean, X)
    for higher in (k.variance, k.third, k.fourth):
        np.testing.assert_array_equal(higher, np.zeros(5))


def test_sample_variance_of_a_normal_and_of_a_coin() -> None:
    assert float(variance_of_sample_variance(3.0, 0.0, 10)) == pytest.approx(2 * 9 / 9)
    n, p = 4, 0.5  # all 16 tosses of a fair coin: κ₂ = ¼, κ₄ = −⅛
    tosses = np.array(list(itertools.product([0.0, 1.0], repeat=n)))
    assert float(variance_of_sample_variance(p / 2, -1 / 8, n)) == pytest.approx(
        tosses.var(axis=1, ddof=1).var()
    )


def test_a_planted_bug_is_caught() -> None:
    """Dividing the s²t² term of add_mul by R² (one draw passed off as R) must not survive the z-score."""
    n, seed, op = 60_000, 3, MULTIPLE[1]
    y, _ = draw(op, X, n, np.random.default_rng(seed))
    wrong = output_cumulants(X, one_draw(op))
    spread = variance_of_sample_variance(wrong.variance, wrong.fourth, n)
    with pytest.raises(AssertionError):
        assert_z("variance", y.var(axis=0, ddof=1), wrong.variance, spread, n, seed)


def test_an_operator_of_several_is_refused() -> None:
    with pytest.raises(WnError, match="this one has values for each member"):
        output_moments(X, additive([0.1, 0.2]))
    with pytest.raises(WnError, match="see for_elements"):
        output_moments(X, mixed_direct(0.1, 0.2, normalize_to_input_size=True))
    with pytest.raises(WnError, match="elements is 0: it must be at least 1"):
        additive(1.0, normalize_to_input_size=True).for_elements(0)
    assert additive(1.0).for_elements(7) == additive(1.0)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(WnError, match="x_variance must not be negative"):
        output_moments(X, operator(), x_variance=-1.0)
    with pytest.raises(WnError, match="do not fit"):
        output_covariance(X, np.eye(3), operator())
    with pytest.raises(WnError, match="n must be at least 2"):
        variance_of_sample_variance(1.0, 0.0, 1)
