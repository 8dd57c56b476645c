"""Gaussian variables through ReLU, leaky ReLU and clip: against quadrature, closed forms and draws."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from reference import naive_gaussian as naive
from wn.basics.errors import WnError
from wn.theory.rectified import (
    Rectified,
    clip_covariance,
    clip_moments,
    hermite_coefficients,
    leaky_covariance,
    leaky_moments,
    relu_covariance,
    relu_covariance_exact,
    relu_moments,
    relu_third_cumulant,
)

SLOPE, LOW, HIGH = 0.1, -0.5, 1.5
FUNCTIONS: dict[
    str, tuple[Callable[[Any], Any], list[float], Callable[..., Rectified], Callable[..., Any]]
] = {
    "relu": (naive.relu, [0.0], relu_moments, relu_covariance),
    "leaky": (
        lambda x: np.where(x > 0, x, SLOPE * x),
        [0.0],
        lambda m, v: leaky_moments(m, v, SLOPE),
        lambda m, c, terms: leaky_covariance(m, c, SLOPE, terms),
    ),
    "clip": (
        lambda x: np.clip(x, LOW, HIGH),
        [LOW, HIGH],
        lambda m, v: clip_moments(m, v, LOW, HIGH),
        lambda m, c, terms: clip_covariance(m, c, LOW, HIGH, terms),
    ),
}
EACH = pytest.mark.parametrize("name", FUNCTIONS)
means = st.floats(-6, 6)
deviations = st.floats(0.05, 20)


def matrices(rng: np.random.Generator, features: int, batch: int) -> tuple[Any, Any]:
    """Means (F, B) and positive definite covariances (F, F, B), with strong correlations."""
    root = rng.normal(size=(batch, features, 2)) * rng.choice([0.5, 3.0], size=(batch, features, 1))
    matrix = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(features)
    return rng.normal(size=(features, batch)) * 1.5, matrix.transpose(1, 2, 0)


@EACH
@given(mean=means, deviation=deviations)
def test_mean_variance_and_gate_equal_quadrature(name: str, mean: float, deviation: float) -> None:
    f, kinks, moments, _ = FUNCTIONS[name]
    result = moments(mean, deviation**2)
    scale = abs(mean) + deviation
    assert result.mean == pytest.approx(naive.expectation(f, mean, deviation**2, kinks), abs=1e-13 * scale)
    expected = naive.central_moment(2, f, mean, deviation**2, kinks)
    assert result.variance == pytest.approx(expected, rel=1e-10, abs=1e-15)
    # E[f′] = E[(X − m) f(X)]/v, by Stein's identity
    product = naive.expectation(lambda x: (x - mean) * f(x), mean, deviation**2, kinks)
    assert result.gate == pytest.approx(product / deviation**2, abs=1e-12 * (1 + scale / deviation))


@given(x=st.floats(0, 37), deviation=deviations)
def test_far_below_zero_every_digit_is_right(x: float, deviation: float) -> None:
    first, second, third = (naive.tail_moment(n, x) for n in (1, 2, 3))
    result = relu_moments(-x * deviation, deviation**2)
    exact = 1e-11  # φ(37) itself has an error of 37²·eps
    assert result.mean == pytest.approx(deviation * first, rel=exact, abs=0)
    assert result.variance == pytest.approx(deviation**2 * (second - first**2), rel=exact, abs=0)
    assert result.gate == pytest.approx(ndtr(-x), rel=exact, abs=0)
    cumulant = third - 3 * second * first + 2 * first**3
    assert relu_third_cumulant(-x * deviation, deviation**2) == pytest.approx(
        deviation**3 * cumulant, rel=exact, abs=0
    )


def test_far_above_zero_it_is_the_variable_itself_though_squares_lose_all_digits() -> None:
    result = relu_moments(1e9, 1.0)
    assert (result.mean, result.variance, result.gate) == (1e9, 1.0, 1.0)
    assert relu_third_cumulant(1e9, 1.0) == 0


def test_the_third_cumulant_of_a_mean_above_zero_equals_quadrature() -> None:
    for alpha in (0.0, 0.3, 1.0, 2.0, 4.0, 7.0):
        expected = naive.central_moment(3, naive.relu, 2 * alpha, 4.0, [0.0])
        assert relu_third_cumulant(2 * alpha, 4.0) == pytest.approx(expected, rel=1e-9, abs=1e-14)


@EACH
def test_without_variance_it_is_the_function(name: str) -> None:
    f, _, moments, _ = FUNCTIONS[name]
    x = np.array([-7.0, -1e-300, 0.0, 1e-300, 0.7, 1.6, 300.0])
    result = moments(x, 0.0)
    np.testing.assert_allclose(result.mean, f(x), rtol=1e-15, atol=1e-15)
    np.testing.assert_array_equal(result.variance, 0 * x)
    slopes = {"relu": x > 0, "leaky": np.where(x > 0, 1, SLOPE), "clip": (x > LOW) & (x < HIGH)}
    np.testing.assert_array_equal(result.gate, slopes[name])


@given(mean=means, deviation=deviations, scale=st.floats(1e-3, 1e3))
def test_scaled_input_gives_scaled_output(mean: float, deviation: float, scale: float) -> None:
    one, other = relu_moments(mean, deviation**2), relu_moments(scale * mean, (scale * deviation) ** 2)
    assert other.mean == pytest.approx(scale * one.mean, rel=1e-9)
    assert other.variance == pytest.approx(scale**2 * one.variance, rel=1e-9)


@pytest.mark.parametrize("deviation", [1.0, 1e3, 1e9])
def test_a_clip_that_is_narrow_to_the_noise_keeps_its_digits(deviation: float) -> None:
    """Of width w ≪ s with its centre at the mean it is ± w/2, but for a share w/s."""
    width = HIGH - LOW
    result = clip_moments(LOW + width / 2, deviation**2, LOW, HIGH)
    assert result.mean == pytest.approx(LOW + width / 2, rel=1e-12)
    if deviation > 1:
        assert result.variance == pytest.approx(width**2 / 4, rel=3 * width / deviation)


def test_a_clip_from_zero_that_is_never_reached_is_the_relu() -> None:
    m, v = np.linspace(-5, 5, 11), np.ones(11)
    for one, other in zip(clip_moments(m, v, 0.0, 60.0), relu_moments(m, v), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


# ---- covariances ------------------------------------------------------------------------------------------


def test_coefficients_are_means_of_derivatives() -> None:
    """A_n = ∫ relu(α + u)·He_n(u)·φ(u) du, which is E of the n-th derivative integrated by parts."""
    for alpha in (-3.0, -0.4, 0.0, 1.7):
        for n, value in enumerate(hermite_coefficients(alpha, 7), start=1):
            polynomial = np.polynomial.hermite_e.HermiteE.basis(n)
            expected = naive.expectation(
                lambda x, alpha=alpha, p=polynomial: naive.relu(x) * p(x - alpha), alpha, 1.0, [0.0]
            )
            assert value == pytest.approx(expected, abs=1e-10)
    np.testing.assert_array_equal(hermite_coefficients([-np.inf, np.inf], 4), [[0, 1]] + [[0, 0]] * 3)


@pytest.mark.parametrize("rho", [-1.0, -0.999, -0.5, 0.0, 0.3, 0.9, 0.999, 1.0])
def test_the_integral_equals_quadrature_in_two_dimensions(rho: float) -> None:
    rng = np.random.default_rng(3)
    for reach in (0.2, 1.0, 4.0):
        s = rng.uniform(0.3, 3, 2)
        mean, matrix = s * rng.normal(size=2) * reach, np.outer(s, s) * [[1, rho], [rho, 1]]
        result = relu_covariance_exact(mean[:, None], matrix[:, :, None])[0, 1, 0]
        expected = naive.covariance(naive.relu, [0.0], mean, matrix)
        assert result == pytest.approx(expected, abs=1e-10 * s.prod())


@EACH
@pytest.mark.parametrize("rho", [-0.7, 0.4, 0.7])
def test_the_series_converges_to_quadrature(name: str, rho: float) -> None:
    f, kinks, _, covariance = FUNCTIONS[name]
    mean, s = np.array([0.3, -0.4]), np.array([1.0, 0.8])
    matrix = np.outer(s, s) * [[1, rho], [rho, 1]]
    expected = naive.covariance(f, kinks, mean, matrix)
    errors = [
        abs(covariance(mean[:, None], matrix[:, :, None], terms)[0, 1, 0] - expected)
        for terms in (1, 4, 12, 80)
    ]
    bounds = [2 * abs(rho) ** (terms + 1) * s.prod() / 2 for terms in (1, 4, 12, 80)]
    assert all(error <= bound + 1e-12 for error, bound in zip(errors, bounds, strict=True))
    assert errors[3] < 1e-10 < errors[1] < errors[0]


def test_four_terms_are_close_to_the_integral() -> None:
    mean, matrix = matrices(np.random.default_rng(5), 6, 40)
    exact, series = relu_covariance_exact(mean, matrix), relu_covariance(mean, matrix, 4)
    s = np.sqrt(np.einsum("iib->ib", matrix))
    error = np.abs(series - exact) / (s[:, None] * s)
    rho = np.abs(matrix) / (s[:, None] * s)
    assert error[rho < 0.8].max() < 0.01
    assert error.max() < 0.06


@EACH
@pytest.mark.parametrize("terms", [1, 4, 9])
def test_covariances_are_symmetric_and_semidefinite_with_the_exact_variance(name: str, terms: int) -> None:
    mean, matrix = matrices(np.random.default_rng(7), 5, 30)
    result = FUNCTIONS[name][3](mean, matrix, terms)
    np.testing.assert_array_equal(result, result.transpose(1, 0, 2))
    variance = FUNCTIONS[name][2](mean, np.einsum("iib->ib", matrix)).variance
    np.testing.assert_array_equal(np.einsum("iib->ib", result), variance)
    assert np.linalg.eigvalsh(result.transpose(2, 0, 1)).min() > -1e-12


def test_variables_without_variance_have_no_covariance() -> None:
    mean, matrix = np.array([[1.0], [-1.0], [2.0]]), np.zeros((3, 3, 1))
    matrix[2, 2] = 4.0
    for result in (relu_covariance(mean, matrix), relu_covariance_exact(mean, matrix)):
        expected = np.zeros((3, 3))
        expected[2, 2] = relu_moments(2.0, 4.0).variance
        np.testing.assert_array_equal(result[:, :, 0], expected)


@EACH
def test_moments_and_covariance_against_draws(name: str) -> None:
    n, seed = 400_000, 11
    rng = np.random.default_rng(seed)
    f, _, moments, covariance = FUNCTIONS[name]
    mean, root = np.array([0.4, -0.3, 1.0]), np.array([[1.0, 0, 0], [0.8, 0.5, 0], [-0.5, 0.6, 0.3]])
    matrix = root @ root.T
    y = f(mean + rng.standard_normal((n, 3)) @ root.T)
    expected = moments(mean, np.diag(matrix)).mean
    centred = y - expected
    products = centred[:, :, None] * centred[:, None, :]
    z_mean = centred.mean(axis=0) / (y.std(axis=0) / math.sqrt(n))
    z_matrix = products.mean(axis=0) - covariance(mean[:, None], matrix[:, :, None], 60)[:, :, 0]
    z_matrix /= products.std(axis=0) / math.sqrt(n)
    worst = max(np.abs(z_mean).max(), np.abs(z_matrix).max())
    print(f"{name}: max |z| {worst:.2f}, n = {n}, seed = {seed}")
    assert worst < 6


# ---- errors -----------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(WnError, match=r"variance must be finite and not negative, not -1\.0"):
        relu_moments([0.0, 1.0], [1.0, -1.0])
    with pytest.raises(WnError, match="mean must be finite, not nan"):
        relu_third_cumulant(np.nan, 1.0)
    with pytest.raises(WnError, match=r"do not fit: \(2, 3\) and \(2, 3, 3\)"):
        relu_covariance(np.zeros((2, 3)), np.zeros((2, 3, 3)))
    with pytest.raises(WnError, match="terms is 0"):
        hermite_coefficients(0.0, 0)
    with pytest.raises(WnError, match=r"slope of a leaky ReLU is 1\.5"):
        leaky_moments(0.0, 1.0, 1.5)
    with pytest.raises(WnError, match="low below high"):
        clip_moments(0.0, 1.0, 2.0, 2.0)
