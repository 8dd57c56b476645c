"""Kernels for arrays of a few values, in one thread: averages, sums and shares."""

from typing import Any

import numpy as np

from wn.engine.backends.numba.kernels.compile import serial

Array = Any


@serial()
def running_statistics(
    old_mean: Array,
    old_residual: Array,
    old_variance: Array,
    new_mean: Array,
    new_residual: Array,
    new_variance: Array,
    share: float,
    factor: float,
    mean: Array,
    residual: Array,
    variance: Array,
) -> None:
    """Write mean, residual and variance, (1 − share)·old + share·new, with factor·the new variance.

    Each step is rounded to the dtype; old and what is written: (P, F); new: (P|1, F).
    """
    number = mean.dtype.type
    kept, twice, weight = number(1 - share), number(2 * share), number(share * factor)
    half = number(0.5)  # the difference of two means may be out of range, that of the halves is not
    for p in range(len(mean)):
        n = p % len(new_mean)
        for f in range(mean.shape[1]):
            a, rest = old_mean[p, f], old_residual[p, f]
            step = (new_mean[n, f] * half - a * half) + (new_residual[n, f] * half - rest * half)
            b = rest + twice * step
            total = a + b  # Knuth's two-sum: a + b = mean + residual
            part = total - a
            mean[p, f], residual[p, f] = total, (a - (total - part)) + (b - part)
            variance[p, f] = kept * old_variance[p, f] + weight * new_variance[n, f]


@serial()
def accumulate(total: Array, values: Array, factor: int) -> None:
    """Add values·factor, computed in float64, to total (P,)."""
    for p in range(len(total)):
        total[p] += float(values[p]) * factor


@serial()
def shares(labels: Array, weights: Array, out: Array) -> None:
    """Write out[n] = weights[labels[n]] / Σ_m weights[labels[m]]; NaN for a label out of range."""
    total = out.dtype.type(0)
    for n in range(len(out)):
        out[n] = weights[labels[n]] if 0 <= labels[n] < len(weights) else np.nan
        total += out[n]
    for n in range(len(out)):
        out[n] /= total


@serial()
def take(values: Array, samples: Array, out: Array) -> None:
    """Write out[n] = values[samples[n]]; samples: (B,) integers in 0 … N − 1."""
    for n in range(len(out)):
        out[n] = values[samples[n]]


@serial()
def all_finite(values: Array) -> bool:
    """Whether all values (P, F) are finite."""
    for p in range(len(values)):
        for value in values[p]:
            if not np.isfinite(value):
                return False
    return True
