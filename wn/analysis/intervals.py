"""Intervals of means: of accuracies over repeats or over images, and of paired differences.

Student's t for repeats, which are independent and few; Wilson's score interval for the images of one network
(E. B. Wilson, J. Am. Stat. Assoc. 22:209, 1927), which stays within [0, 1] at any share.
"""

from math import nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit  # scipy.stats takes a second to be imported

from wn.basics.errors import WnError

CONFIDENCE = 0.95
FEWEST_REPEATS = 3  # with two, Student's interval is 12.7 standard errors wide and says nothing


class Interval(NamedTuple):
    """A mean with its interval; NaN where there is none."""

    mean: float
    low: float
    high: float


def student(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The mean of n independent values (n,), ± t_{n−1} s/√n; without bounds for n = 1.

    Raises WnError for no values.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not x.size:
        raise WnError(f"values of shape {x.shape}: a list of one number at least is needed")
    mean = float(x.mean())
    if x.size == 1:
        return Interval(mean, nan, nan)
    t = float(stdtrit(x.size - 1, (1 + confidence) / 2))
    half = t * float(x.std(ddof=1)) / sqrt(x.size)
    return Interval(mean, mean - half, mean + half)


def wilson(correct: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """The share p = correct/total of independent images, with Wilson's score interval.

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n), n = total ≥ 1. Raises WnError for other counts.
    """
    if not 0 <= correct <= total or total < 1:
        raise WnError(f"{correct} of {total}: counts with 0 ≤ correct ≤ total, total ≥ 1, are needed")
    z, p = float(ndtri((1 + confidence) / 2)), correct / total
    centre = p + z * z / (2 * total)
    half = z * sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low, high = (centre - half) / scale, (centre + half) / scale
    return Interval(p, min(p, max(0.0, low)), max(p, min(1.0, high)))  # rounding aside, p is within


def accuracy(correct: ArrayLike, total: ArrayLike) -> Interval:
    """The mean accuracy of repeats with these counts (n,), all of one number of images, with its interval.

    Student's over repeats from FEWEST_REPEATS on, within [0, 1]. For fewer it is Wilson's for the images of
    one network, of all counts together: it says nothing of the scatter between networks, and test images
    that repeats share count once.
    """
    k, n = np.asarray(correct, np.float64), np.asarray(total, np.float64)
    if k.size >= FEWEST_REPEATS:
        mean, low, high = student(k / n)
        return Interval(mean, max(0.0, low), min(1.0, high))
    images = int(n.max())
    found = wilson(round(float((k / n).mean()) * images), images)
    return found._replace(mean=float((k / n).mean()))


def paired_difference(ours: ArrayLike, theirs: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The mean of ours − theirs over pairs (n,), such as repeats, with Student's interval.

    Raises WnError if the shapes differ.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape:
        raise WnError(f"pairs of shapes {a.shape} and {b.shape}: they must be alike")
    return student(a - b, confidence)
