"""The series of `wn.theory.series`, pair by pair along the batch."""

from typing import Any

import numpy as np

from wn.engine.backends.numba.kernels.compile import FUSED, serial

Array = Any


@serial(FUSED)
def covariance(
    coefficients: Array, inverse: Array, covariance: Array, variance: Array, result: Array
) -> None:
    """Write Σ_n a_ni·a_nj·ρⁿ to result, by Horner's rule for every pair, once for (i, j) and (j, i).

    coefficients: (N, F, B); inverse: 1/s (F, B); variance: (F, B); covariance, result: (F, F, B).
    """
    terms, features, batch = coefficients.shape
    rho, total = np.empty(batch), np.empty(batch)
    for i in range(features):
        for j in range(i):
            for n in range(batch):
                r = covariance[i, j, n] * (inverse[i, n] * inverse[j, n])
                rho[n] = min(max(r, -1.0), 1.0)
                total[n] = 0.0
            for k in range(terms - 1, -1, -1):
                for n in range(batch):
                    total[n] = rho[n] * (coefficients[k, i, n] * coefficients[k, j, n] + total[n])
            for n in range(batch):
                result[i, j, n] = total[n]
                result[j, i, n] = total[n]
        for n in range(batch):
            result[i, i, n] = variance[i, n]
