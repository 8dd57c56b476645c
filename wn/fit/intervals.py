"""One midpoint from several repeats, with the scatter between networks, which a fit to all of them lacks.

Derived in docs/midpoint.md, section 4.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import exp, inf, nan, sqrt
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit  # scipy.stats takes a second to be imported

from wn.basics.errors import WnError
from wn.fit.falling import falling_means, falls_through
from wn.fit.midpoint import ALREADY_BELOW, JOINT, NEVER_FALLS, Midpoint, fit_midpoint

NO_POINTS = "no point has a result"


def with_measured_crossing(fit: Midpoint, crossing: float) -> Midpoint:
    """Return the fit with the σ at which measured accuracies cross half-way, which shows how well it fits.

    An interval from independent counts can't tell misfit from scatter, and is extended to that σ; a joint one
    is about the fitted curve and stays. Nothing changes if the midpoint is not reached or `crossing` is NaN.
    """
    if not fit.reached or np.isnan(crossing):
        return fit
    if fit.interval != JOINT:
        fit = replace(fit, ci_low=min(fit.ci_low, crossing), ci_high=max(fit.ci_high, crossing))
    return replace(fit, measured_crossing=crossing)


def measured_crossing(sigma: ArrayLike, correct: ArrayLike, total: ArrayLike, half: float) -> float:
    """Return the σ at which the measured accuracies fall through `half`, with no model of the curve.

    The accuracies, pooled by σ > 0, become the nearest non-increasing ones (isotonic regression, weighted by
    `total`), and log σ is interpolated linearly between the two levels around `half`; NaN if there are none.
    sigma: (N,); correct, total: (N,) or (N, G), as in `wn.fit.midpoint.fit_midpoint`.
    """
    s = np.asarray(sigma, np.float64)
    k, n = (np.asarray(counts, np.float64).reshape(s.size, -1).sum(axis=1) for counts in (correct, total))
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

    The pooled fit is about the networks that there are; those of other repeats differ. R ≥ 2 repeats, each
    fitted alone to log midpoints m_r of standard deviation s, give the interval exp(log midpoint ± h),

        h² = t²_{R−1} s²/R + z² V_images,    V_images = max(0, (V − mean V_r/R) R/(R − 1)),

    and the union with the pooled one is taken. V and V_r are the squared standard errors of the fits:
    V_images is the part of the variance that all repeats have in common since they share the test images; it
    is taken for 0 where intervals are not joint. On the side of a repeat that is not reached the interval is
    open. Nothing changes for R = 1, or if the pooled midpoint is not reached. Derived in docs/midpoint.md.
    """
    if len(single) < 2 or not pooled.reached:
        return pooled
    reasons = {fit.reason for fit in single}
    low = 0.0 if ALREADY_BELOW in reasons else pooled.ci_low
    high = inf if NEVER_FALLS in reasons else pooled.ci_high
    logs = np.log([fit.midpoint for fit in single])
    if np.isfinite(logs).all():
        upper, count = (1 + confidence) / 2, len(single)
        networks = float(stdtrit(count - 1, upper)) ** 2 * float(logs.var(ddof=1)) / count  # Student's
        factor = exp(sqrt(networks + float(ndtri(upper)) ** 2 * _shared_variance(pooled, single)))
        low, high = min(low, pooled.midpoint / factor), max(high, pooled.midpoint * factor)
    return replace(pooled, ci_low=low, ci_high=high)


def _shared_variance(pooled: Midpoint, single: Sequence[Midpoint]) -> float:
    """Variance of the log midpoint that all repeats have in common: of the sample of test images."""
    if {fit.interval for fit in (pooled, *single)} != {JOINT}:
        return 0.0
    count, own = len(single), np.mean([fit.standard_error**2 for fit in single])
    return max(0.0, (pooled.standard_error**2 - float(own) / count) * count / (count - 1))


# ---- one midpoint from several repeats --------------------------------------------------------------------


class Counts(NamedTuple):
    """The points of one repeat of a curve: σ (S,), and the numbers of correct and of all images.

    Both are (S,), or (S, G) if they were counted by group of test images (`wn.basics.groups`).
    """

    sigma: NDArray[Any]
    correct: NDArray[Any]
    total: NDArray[Any]


def floor_of(phase: str, noise: str) -> Literal["chance", "free"]:
    """The floor of curves: additive noise at inference leaves a guess, other noise may leave more.

    So it is for every single network that is evaluated under several σ, however it was trained.
    """
    return "chance" if phase != "training" and noise == "additive" else "free"


def fit_repeats(
    repeats: Sequence[Counts],
    clean_accuracy: float,
    chance: float,
    floor: Literal["chance", "free"],
    clean_by_group: NDArray[Any] | None = None,
    own_networks: bool = False,
) -> Midpoint:
    """Fit one midpoint to all repeats of a curve together, with the measured crossing beside it.

    Options as in `wn.fit.midpoint.fit_midpoint`; its interval covers the scatter between repeats too, and one
    from independent counts the measured crossing.
    """
    if len({np.shape(counts.correct)[1:] for counts in repeats}) > 1:
        raise WnError("repeats must all be counted in the same groups of images, or all without")
    pooled = Counts(*(np.concatenate(column) for column in zip(*repeats, strict=True)))
    fitted = partial(
        fit_midpoint,
        clean_accuracy=clean_accuracy,
        chance=chance,
        floor=floor,
        clean_by_group=clean_by_group,
        own_networks=own_networks,
    )
    # A single repeat would be fitted twice to no purpose: its scatter is unknown
    found = with_repeats(fitted(*pooled), [fitted(*counts) for counts in repeats if len(repeats) > 1])
    crossing = measured_crossing(*pooled, half=(clean_accuracy + chance) / 2)
    return with_measured_crossing(found, crossing)


def accuracy_of(clean: Counts) -> float:
    """The accuracy of all clean networks together; NaN if there are none."""
    total = int(clean.total.sum())
    return int(clean.correct.sum()) / total if total else nan


def fit_curve(
    repeats: Sequence[Counts],
    clean: Counts,
    chance: float,
    phase: str,
    noise: str,
    missing: str = NO_POINTS,
) -> Midpoint:
    """Fit the midpoint of a curve measured in a phase under a kind of noise, from all its repeats.

    clean: a row for each network without noise, counted by group if the repeats are: those trained without
    noise, in a matrix those of the curve itself at its smallest σ. Without any point, or any clean network,
    the midpoint is not reached for the reason `missing`.
    """
    measured = [counts for counts in repeats if len(counts.sigma)]
    if not measured or not len(clean.sigma):
        return Midpoint.not_reached(missing, chance, accuracy_of(clean))
    return fit_repeats(
        measured,
        accuracy_of(clean),
        chance,
        floor_of(phase, noise),
        clean_by_group=clean.correct.sum(axis=0) if clean.correct.ndim == 2 else None,
        own_networks=phase == "training",
    )
