"""Probability that a label wins among jointly Gaussian logits: the accuracy behind a Gaussian tail."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wn.basics.errors import WnError
from wn.basics.numbers import checked_whole
from wn.theory.kernels import compiled

Floats = NDArray[np.float64]

SHIFTS = 2  # of each image: their difference is the error
POINTS = 16  # of a lattice, per shift


class ArgmaxProbability(NamedTuple):
    """Probability that the label wins and its standard error, per image: (N,) each."""

    probability: Floats
    error: Floats

    @property
    def mean(self) -> float:
        """The mean probability: the expected accuracy."""
        return float(self.probability.mean())

    @property
    def mean_error(self) -> float:
        """Standard error of the mean, √(Σ error²)/N: shifts are independent between images."""
        return float(np.sqrt((self.error**2).sum()) / self.error.size)

    @property
    def count_variance(self) -> float:
        """Variance of the number of right answers of one draw per image, Σ P(1 − P).

        The estimate has no bias: the mean of P̂² is P² + error².
        """
        p = self.probability
        return float((p * (1 - p) + self.error**2).sum())


def gaussian_argmax(
    mean: ArrayLike,
    covariance: ArrayLike,
    labels: ArrayLike,
    *,
    points: int = POINTS,
    shifts: int = SHIFTS,
    seed: int | np.random.Generator = 0,
) -> ArgmaxProbability:
    """Probability, per image, that the label has the largest of K jointly Gaussian logits ℓ ~ N(m, C).

    P = P(ℓ_y − ℓ_j > 0 for all j ≠ y).
    mean: (K, N); covariance: (K, K, N), each symmetric without negative eigenvalues, singular and 0 allowed;
    labels: (N,) whole numbers in [0, K). N: images, or images and σ in one row. `points` ≥ 1 of a lattice for
    each of `shifts` ≥ 2 shifts of an image, from whose differences the error follows; a generator as `seed`
    goes on where it is. Exact, error 0, where at most one rival is within 8.3 standard deviations, so for
    K = 2. Ties, which have probability 0 unless the difference is exact, count ½ per rival.
    Raises WnError on shapes or values that do not fit, and where Numba can't be used.
    Genz, J. Comput. Graph. Stat. 1 (1992) 141–149; derived in docs/theory/tails.md.
    """
    m, c, y = _checked(mean, covariance, labels)
    points = checked_whole("points", points, at_least=1)
    shifts = checked_whole("shifts", shifts, at_least=2)
    loops = compiled("orthant_loops")
    if loops is None:
        raise WnError("correlated logits are integrated in loops compiled by Numba, which can't be used here")
    dimensions = max(m.shape[0] - 2, 1)
    shift = np.random.default_rng(seed).random((m.shape[1], shifts, dimensions))
    found = np.empty((m.shape[1], shifts))
    loops.argmax_probabilities(m, c, y, lattice(points, dimensions), shift, found)
    if np.isnan(found).any():
        image = int(np.flatnonzero(np.isnan(found).any(axis=1))[0])
        raise WnError(f"covariance of image {image} has a negative eigenvalue: it must have none")
    return ArgmaxProbability(found.mean(axis=1), found.std(axis=1, ddof=1) / math.sqrt(shifts))


def lattice(points: int, dimensions: int) -> Floats:
    """Richtmyer's lattice: frac(k·√p) for k = 1 … `points` and the first primes p, (points, dimensions)."""
    return np.modf(np.arange(1, points + 1)[:, None] * np.sqrt(_primes(dimensions)))[0]


def _primes(count: int) -> NDArray[np.int64]:
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return np.array(found)


def _checked(
    mean: ArrayLike, covariance: ArrayLike, labels: ArrayLike
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    m, c = (np.ascontiguousarray(values, np.float64) for values in (mean, covariance))
    y = np.asarray(labels)
    fits = m.ndim == 2 and m.shape[0] >= 2 and c.shape == (m.shape[0], *m.shape) and y.shape == m.shape[1:]
    if not fits or y.dtype.kind not in "iu":
        raise WnError(
            "mean (K ≥ 2, N), covariance (K, K, N) and labels (N,), integers, do not fit: "
            f"{m.shape}, {c.shape} and {y.shape} {y.dtype}"
        )
    if y.size and not 0 <= y.min() <= y.max() < m.shape[0]:
        raise WnError(f"labels must lie in [0, {m.shape[0]}), not {y.min()}…{y.max()}")
    if not np.isfinite(m).all() or not np.isfinite(c).all():
        raise WnError("mean and covariance must be finite")
    if (np.einsum("kkn->kn", c) < 0).any():
        raise WnError("variances must not be negative")
    return m, c, np.ascontiguousarray(y, np.int64)
