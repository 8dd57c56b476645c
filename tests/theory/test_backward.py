"""Moments of dx behind noise: engine against closed forms, dy that knows the draws and one that does not.

The kind: a formula for the mean or variance of a product holds for independent factors only. In a network dy
is computed from y, and so from the multiplier that it is multiplied by.
"""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from wn.engine import backends, noise
from wn.engine.layers import noise as noise_layer
from wn.engine.noise import Noise
from wn.theory.moments import backward_moments, multiplier_moments, output_moments

BE = backends.get("numpy")
X = np.array([-2.0, 0.0, 0.5, 1.5])
N, SEED, Z_LIMIT = 100_000, 7, 6.0
Floats = NDArray[np.float64]

CASES = [
    noise.additive(0.8, mean=0.3),
    noise.multiplicative(0.8),
    noise.multiplicative(0.8, mean=0.5, repetitions=4),
]
for order, execution, repetitions in itertools.product(("mul_add", "add_mul"), ("single", "each"), (1, 3)):
    shared = {"mean_mul": 1.2, "mean_add": 0.4, "order": order, "repetitions": repetitions}
    CASES.append(noise.mixed_direct(0.7, 0.9, **shared, execution=execution))


def passes(operator: Noise, dy: Floats | None) -> Floats:
    """dx (4, n) of the engine for L = y²/2, or for a fixed dy (4,); n samples that all have the value X."""
    x = np.broadcast_to(X[:, None], (1, X.size, N))
    streams = noise_layer.draws((SEED,), np.arange(N), 0, 1, True)
    y, cache = noise_layer.forward(BE, operator, x, streams)
    given = y if dy is None else np.broadcast_to(dy[:, None], y.shape)
    dx: Floats = np.broadcast_to(noise_layer.backward(BE, given, cache)[0], (X.size, N))
    return dx


def assert_mean(dx: Floats, mean: Floats) -> None:
    error, spread = dx.mean(axis=1) - mean, dx.std(axis=1) / np.sqrt(N)
    exact = spread < 1e-12
    np.testing.assert_allclose(error[exact], 0, atol=1e-12)
    z = error[~exact] / spread[~exact]
    print(f"max |z| = {np.abs(z).max(initial=0):.2f}, n = {N}, seed = {SEED}")
    assert np.abs(z).max(initial=0) < Z_LIMIT


@pytest.mark.parametrize("operator", CASES, ids=lambda case: case.kind)
def test_given_dy_has_the_closed_form(operator: Noise) -> None:
    dy = np.array([1.0, -0.5, 2.0, 3.0])
    dx, (mean, variance) = passes(operator, dy), backward_moments(dy, operator)
    assert_mean(dx, mean)
    relative = dx.var(axis=1, ddof=1) - variance  # of a normal: Var(S²) = 2σ⁴/(n − 1)
    assert (np.abs(relative) <= Z_LIMIT * variance * np.sqrt(2 / (N - 1)) + 1e-12).all()


@pytest.mark.parametrize("operator", CASES, ids=lambda case: case.kind)
def test_dy_of_a_loss_gives_the_gradient_of_the_expected_loss(operator: Noise) -> None:
    """L = y²/2: the mean of dx is d/dx (Var y + (E y)²)/2, and x·(m² + s²/R) + m·d in the book."""
    dx = passes(operator, None)

    def expected_loss(x: Floats) -> Floats:
        mean, variance = output_moments(x, operator)
        return (variance + mean**2) / 2

    h = 1e-4  # the expected loss is quadratic: the central difference is exact
    assert_mean(dx, (expected_loss(X + h) - expected_loss(X - h)) / (2 * h))
    m, d = operator.mean_mul, operator.mean_add
    square = m**2 + multiplier_moments(operator)[1]
    assert_mean(dx, X * square + m * d if operator.order == "mul_add" else (X + d) * square)


def test_the_example_of_the_book() -> None:
    """x = 1.5, s = 0.8: mean 2.46 and variance 7.60 with dy = y; the formulas for a given dy are far off."""
    operator = noise.multiplicative(0.8)
    dx = passes(operator, None)[3]
    assert dx.mean() == pytest.approx(2.46, abs=6 * dx.std() / np.sqrt(N))
    assert dx.var() == pytest.approx(1.5**2 * (4 * 0.64 + 2 * 0.8**4), rel=0.05)
    y_square = output_moments(1.5, operator).variance + 1.5**2
    assert float(y_square * operator.sigma_mul**2) == pytest.approx(2.36, abs=0.005)
    assert abs(dx.mean() - 1.5) > 50 * dx.std() / np.sqrt(N)
