"""The covariance of functions of Gaussian variables as a power series of their correlation."""

import numpy as np
from numpy.typing import NDArray

from wn.theory.kernels import compiled

Floats = NDArray[np.float64]

SMALLEST = 1e-150  # standard deviation: products of two still have a reciprocal


def series_covariance(
    coefficients: Floats, deviation: Floats, covariance: Floats, variance: Floats
) -> Floats:
    """Covariance matrix of y_i = f_i(X_i) for Gaussian X from the Hermite coefficients of each f_i.

    Cov(y_i, y_j) = Σ_n a_ni·a_nj·ρⁿ for i ≠ j, with ρ = C_ij/(s_i s_j); the diagonal is the variance given.
    coefficients: a_n, n = 1 … N, (N, F, B): E[f·He_n(u)]/√n! for X = m + s·u; deviation: s (F, B);
    covariance: C (F, F, B), symmetric; variance: (F, B). Returns (F, F, B). Mehler 1866; derived in
    docs/theory/moments.md.
    """
    loops = compiled("series")
    if loops is None:
        return plain_series_covariance(coefficients, deviation, covariance, variance)
    result = np.empty_like(covariance, order="C")
    given = (coefficients, _reciprocal(deviation), covariance, variance)
    loops.covariance(*map(np.ascontiguousarray, given), result)
    return result


def plain_series_covariance(
    coefficients: Floats, deviation: Floats, covariance: Floats, variance: Floats
) -> Floats:
    """`series_covariance` in plain NumPy: its test, and what is run without Numba."""
    inverse = _reciprocal(deviation)
    rho = np.clip(covariance * (inverse[:, None] * inverse), -1, 1)  # (F, F, B)
    result = np.zeros_like(rho)
    for a in coefficients[::-1]:
        result = rho * (a[:, None] * a + result)
    result[np.diag_indices(len(deviation))] = variance
    return np.asarray(result)


def _reciprocal(deviation: Floats) -> Floats:
    """1/s, and 0 without variance."""
    zeros = np.zeros_like(deviation)
    return np.divide(1.0, deviation, out=zeros, where=deviation > SMALLEST)
