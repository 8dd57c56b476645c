"""Binarisation: how far the values of activations or weights are two values, zero or not, on or off.

Noise of a huge σ that multiplies leaves nothing of a value but whether it is zero (claim C3 of Borras, Klein,
Fröning, arXiv 2212.10430). Several quantities can say "binary", and they need not agree, so all are here:
zeros, decided pairs, the spread of the values that are not zero, and their bimodality. Defined in
docs/binarisation.md.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wn.basics.errors import WnError

Floats = NDArray[np.float64]
ALMOST_ALWAYS = 0.95


class Binarisation(NamedTuple):
    """What can be said of values x (F, B), of F units for B samples; NaN where it is not defined.

    zeros: share of values that are 0. decided: share of pairs (unit, class) whose unit is on (x ≠ 0) for at
    least ALMOST_ALWAYS of the samples of the class, or off for as many. spread: 1 − (E|x|)²/E[x²] over the
    values that are not 0; 0 if all have one size, 1 − 2/π = .363 for normal ones, ½ for exponential ones.
    bimodality: (skewness² + 1)/kurtosis of the values that are not 0; 1 for two values, 5/9 for uniform ones,
    1/3 for normal ones.
    """

    zeros: float
    decided: float
    spread: float
    bimodality: float


def of_weights(w: ArrayLike) -> Binarisation:
    """The binarisation of weights w of any shape, one number at least; `decided` is NaN."""
    values = np.asarray(w, np.float64).reshape(-1)
    if not values.size:
        raise WnError("weights: an array of one number at least is needed")
    powers = Powers()
    powers.add(values[values != 0])
    return Binarisation(float(np.mean(values == 0)), np.nan, powers.spread, powers.bimodality)


class Sums:
    """The sums behind a Binarisation, batch by batch; the order of batches changes rounding alone."""

    def __init__(self, units: int, classes: int) -> None:
        self._on = np.zeros((units, classes))
        self._samples = np.zeros(classes)
        self._powers = Powers()

    def add(self, x: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
        """Add activations x (F, B) of a batch with labels (B,)."""
        on = x != 0
        classes = self._samples.size
        one_hot = (labels[:, None] == np.arange(classes)).astype(np.float64)  # (B, K)
        self._on += on @ one_hot  # (F, K)
        self._samples += one_hot.sum(axis=0)
        self._powers.add(x[on].astype(np.float64))

    def result(self) -> Binarisation:
        """The binarisation of all that was added."""
        there = self._samples > 0
        share = self._on[:, there] / self._samples[there]
        decided = (share >= ALMOST_ALWAYS) | (share <= 1 - ALMOST_ALWAYS)
        on, values = self._on.sum(), self._on.shape[0] * self._samples.sum()
        powers = self._powers
        return Binarisation(float(1 - on / values), float(decided.mean()), powers.spread, powers.bimodality)


class Powers:
    """Mean of |x| and central moments up to the fourth of numbers that come in parts.

    Parts are joined by the formulas of P. Pébay (Sandia report SAND2008-6212, eqs. 2.1, 3.1): sums of raw
    powers would lose digits where the mean is far from 0. Numbers are in units of the largest so far, so that
    no fourth power overflows.
    """

    def __init__(self) -> None:
        self._n, self._mean, self._size, self._scale = 0, 0.0, 0.0, 0.0
        self._m2 = self._m3 = self._m4 = 0.0  # sums of (x − mean)^k

    def add(self, x: Floats) -> None:
        """Add numbers (N,)."""
        if not x.size:
            return
        self._rescale(float(np.abs(x).max()))
        x = x / (self._scale or 1.0)  # all are 0 so far
        n, mean = x.size, float(x.mean())
        d = x - mean
        m2, m3, m4 = (float((d**k).sum()) for k in (2, 3, 4))
        a, b = self._n, n
        total, delta = a + b, mean - self._mean
        self._m4 += (
            m4
            + delta**4 * a * b * (a * a - a * b + b * b) / total**3
            + 6 * delta**2 * (a * a * m2 + b * b * self._m2) / total**2
            + 4 * delta * (a * m3 - b * self._m3) / total
        )
        self._m3 += m3 + delta**3 * a * b * (a - b) / total**2 + 3 * delta * (a * m2 - b * self._m2) / total
        self._m2 += m2 + delta**2 * a * b / total
        self._mean += delta * b / total
        self._size += (float(np.abs(x).mean()) - self._size) * b / total  # mean of |x|
        self._n = total

    def _rescale(self, largest: float) -> None:
        if largest > self._scale:
            ratio = self._scale / largest
            self._mean, self._size = self._mean * ratio, self._size * ratio
            self._m2, self._m3, self._m4 = self._m2 * ratio**2, self._m3 * ratio**3, self._m4 * ratio**4
            self._scale = largest

    @property
    def spread(self) -> float:
        """1 − (E|x|)²/E[x²]; NaN without numbers."""
        if not self._n:
            return np.nan
        square = self._m2 / self._n + self._mean**2
        return max(0.0, 1 - self._size**2 / square) if square else np.nan

    @property
    def bimodality(self) -> float:
        """(skewness² + 1)/kurtosis; NaN where all numbers are equal."""
        if not self._n or not self._m2:
            return np.nan
        variance = self._m2 / self._n
        skewness = self._m3 / self._n / variance**1.5
        kurtosis = self._m4 / self._n / variance**2
        return float((skewness**2 + 1) / kurtosis)
