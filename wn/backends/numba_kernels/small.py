"""Kernels for arrays of a few values, in one thread: averages, sums and shares."""

from typing import Any

import numpy as np

from wn.backends.numba_kernels.compile import serial

Array = Any


@serial()
def running_average(old: Array, new: Array, share: float, factor: float, out: Array) -> None:
    """Write out = (1 − share)·old + share·(new·factor), each step rounded to the dtype; new: (P|1, F)."""
    number = out.dtype.type
    kept, taken, corrected = number(1 - share), number(share), number(factor)
    for p in range(len(out)):
        for f in range(out.shape[1]):
            out[p, f] = kept * old[p, f] + taken * (new[p % len(new), f] * corrected)


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
    """Return whether all values (P, F) are finite."""
    for p in range(len(values)):
        for value in values[p]:
            if not np.isfinite(value):
                return False
    return True
