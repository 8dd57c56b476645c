"""What the interval of one fitted curve leaves out: its misfit, and the scatter between repeats.

Derived in docs/midpoint.md, section 4.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import exp, nan, sqrt
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit  # scipy.stats takes a second to be imported

from wn.falling import falling_means, falls_through
from wn.midpoint import Midpoint, fit_midpoint


def with_measured_crossing(fit: Midpoint, crossing: float) -> Midpoint:
    """Return the fit with an interval that also holds where the measured accuracies cross half-way.

    Where no logistic curve fits the data, the crossing of the best one may miss that of the data by more than
    scatter explains. Nothing changes if the midpoint is not reached or `crossing` is NaN.
    """
    if not fit.reached or np.isnan(crossing):
        return fit
    return replace(fit, ci_low=min(fit.ci_low, crossing), ci_high=max(fit.ci_high, crossing))


def measured_crossing(sigma: ArrayLike, correct: ArrayLike, total: ArrayLike, half: float) -> float:
    """Return the σ at which the measured accuracies fall through `half`, with no model of the curve.

    The accuracies, pooled by σ > 0, become the nearest non-increasing ones (isotonic regression, weighted by
    `total`), and log σ is interpolated linearly between the two levels around `half`; NaN if there are none.
    sigma, correct, total: (N,), as in `wn.midpoint.fit_midpoint`.
    """
    s, k, n = (np.asarray(values, np.float64) for values in (sigma, correct, total))
    levels, place = np.unique(s[s > 0], return_inverse=True)
    right, asked = (np.bincount(place, counts[s > 0]) for counts in (k, n))
    if levels.size < 2:
        return nan
    falling = falling_means(right, asked)
    if not falls_through(falling, half):
        return nan
    after = int(np.argmax(falling <= half))
    share = (falling[after - 1] - half) / (falling[after - 1] - falling[after])
    low, high = np.log(levels[after - 1 : after + 1])
    return exp(low + share * (high - low))


def with_repeats(pooled: Midpoint, single: Sequence[Midpoint], confidence: float = 0.95) -> Midpoint:
    """Return the pooled fit with an interval that also covers the scatter between repeats.

    The pooled fit takes all observations as independent; those of one repeat are not, they share a network.
    With R ≥ 2 repeats, each fitted alone to log midpoints m_r, the interval becomes the union of the pooled
    one and exp(log midpoint ± t_{R−1} · s/√R) with s the standard deviation of the m_r. Nothing changes for
    R = 1, or if the pooled midpoint or that of a repeat is not reached. Derived in docs/midpoint.md.
    """
    logs = np.log([fit.midpoint for fit in single])
    if len(single) < 2 or not pooled.reached or not np.isfinite(logs).all():
        return pooled
    quantile = float(stdtrit(len(single) - 1, (1 + confidence) / 2))  # Student's
    factor = exp(quantile * float(logs.std(ddof=1)) / sqrt(len(single)))
    return replace(
        pooled,
        ci_low=min(pooled.ci_low, pooled.midpoint / factor),
        ci_high=max(pooled.ci_high, pooled.midpoint * factor),
    )


# ---- one midpoint from several repeats --------------------------------------------------------------------


class Counts(NamedTuple):
    """The points of one repeat of a curve: σ (S,), and how many are correct (S,) of total (S,)."""

    sigma: NDArray[Any]
    correct: NDArray[Any]
    total: NDArray[Any]


def floor_of(phase: str, noise: str) -> Literal["chance", "free"]:
    """Return where curves end: additive noise at inference leaves a guess, other noise may leave more."""
    return "chance" if phase == "inference" and noise == "additive" else "free"


def fit_repeats(
    repeats: Sequence[Counts], clean_accuracy: float, chance: float, floor: Literal["chance", "free"]
) -> Midpoint:
    """Fit one midpoint to all repeats of a curve together.

    Its interval covers misfit (the measured crossing) and the scatter between repeats; see docs/midpoint.md.
    """

    def fitted(counts: Counts) -> Midpoint:
        found = fit_midpoint(*counts, clean_accuracy=clean_accuracy, chance=chance, floor=floor)
        return with_measured_crossing(found, measured_crossing(*counts, half=(clean_accuracy + chance) / 2))

    pooled = fitted(Counts(*(np.concatenate(column) for column in zip(*repeats, strict=True))))
    # A single repeat would be fitted twice to no purpose: its scatter is unknown
    return with_repeats(pooled, [fitted(counts) for counts in repeats if len(repeats) > 1])
