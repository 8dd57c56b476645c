"""Accuracy curves with known midpoints, and their counts."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SIGMA = np.logspace(-2, 2, 17)


def logistic(sigma: Floats, mu: float, s: float, a0: float, floor: float) -> Floats:
    return floor + (a0 - floor) / (1 + (sigma / mu) ** s)


def counts(p: Floats, n: int) -> tuple[Ints, Ints]:
    return np.rint(p * n).astype(np.int64), np.full(p.size, n)
