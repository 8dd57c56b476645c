"""Linear propagation of mean and covariance against Monte Carlo and against the two forms of one another."""

import numpy as np
import pytest

from wn.basics.errors import WnError
from wn.theory.propagation import linear_moments, linear_variance


def test_mean_and_covariance_against_monte_carlo() -> None:
    n, seed = 100_000, 8
    rng = np.random.default_rng(seed)
    w, b, mean = rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=4)
    root = rng.normal(size=(4, 4))
    expected_mean, expected = linear_moments(w, b, mean, root @ root.T)
    y = (mean + rng.standard_normal((n, 4)) @ root.T) @ w.T + b
    z_mean = (y.mean(axis=0) - expected_mean) / np.sqrt(np.diag(expected) / n)
    centred = y - expected_mean
    products = centred[:, :, None] * centred[:, None, :]
    z_cov = (products.mean(axis=0) - expected) / np.sqrt(products.var(axis=0) / n)
    print(f"max |z| {np.abs(z_mean).max():.2f} and {np.abs(z_cov).max():.2f}, n = {n}, seed = {seed}")
    assert max(np.abs(z_mean).max(), np.abs(z_cov).max()) < 6


def test_variances_alone_equal_a_diagonal_covariance() -> None:
    rng = np.random.default_rng(1)
    w, b, mean, variance = rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=4), rng.random(4)
    short, full = linear_moments(w, b, mean, variance), linear_moments(w, b, mean, np.diag(variance))
    np.testing.assert_allclose(short[0], full[0], rtol=1e-14)
    np.testing.assert_allclose(short[1], full[1], rtol=1e-12)


def test_population_and_batch_equal_one_at_a_time() -> None:
    rng = np.random.default_rng(2)
    w, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3))
    mean, variance = rng.normal(size=(1, 4, 5)), rng.random((2, 4, 5))
    result = linear_variance(w, mean, variance, b)
    assert result.mean.shape == result.variance.shape == (2, 3, 5)
    for p in range(2):
        for sample in range(5):
            one = linear_moments(w[p], b[p], mean[0, :, sample], variance[p, :, sample])
            np.testing.assert_allclose(result.mean[p, :, sample], one[0], rtol=1e-12)
            np.testing.assert_allclose(result.variance[p, :, sample], np.diag(one[1]), rtol=1e-12)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(WnError, match="do not fit"):
        linear_moments(np.zeros((3, 4)), np.zeros(3), np.zeros(5), np.zeros(5))
    with pytest.raises(WnError, match="do not fit"):
        linear_moments(np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3))
    with pytest.raises(WnError, match="do not fit"):
        linear_variance(np.zeros((1, 3, 4)), np.zeros((1, 5, 2)), np.zeros((1, 5, 2)))
