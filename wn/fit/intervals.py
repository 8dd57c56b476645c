"""One midpoint from several repeats, with the scatter between networks, which a fit to all of them lacks.

Derived in docs/midpoint.md, section 4.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import inf, isfinite, nan, sqrt
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit  # scipy.stats takes a second to be imported

from wn.basics.errors import WnError
from wn.fit.midpoint import ALREADY_BELOW, JOINT, NEVER_FALLS, Midpoint, fit_midpoint
from wn.fit.profile import exp

NO_POINTS = "no point has a result"


def reaching_the_crossing(fit: Midpoint) -> Midpoint:
    """Return the fit, with an interval from independent counts extended to the measured crossing.

    Such an interval can't tell misfit from scatter; a joint one is about the fitted curve and stays.
    """
    crossing = fit.measured_crossing
    if fit.interval == JOINT or np.isnan(crossing):
        return fit
    return replace(fit, ci_low=min(fit.ci_low, crossing), ci_high=max(fit.ci_high, crossing))


def with_repeats(pooled: Midpoint, single: Sequence[Midpoint], confidence: float = 0.95) -> Midpoint:
    """Return the pooled fit with an interval that also covers the scatter between repeats.

    The pooled fit is about the networks that there are; those of other repeats differ. R ≥ 2 repeats, each
    fitted alone to log midpoints m_r of standard deviation s, give the interval exp(log midpoint ± h),

        h² = t²_{R−1} s²/R + z² V_images,    V_images = max(0, (V − mean V_r/R) R/(R − 1)),

    and the union with the pooled one is taken. V and V_r are the squared standard errors of the fits:
    V_images is the part of the variance that all repeats have in common since they share the test images; it
    is taken for 0 where intervals are not joint. The measured crossing is treated alike. On the side of a
    repeat that is not reached the interval is open. Nothing changes for R = 1, or if the pooled midpoint is
    not reached. Derived in docs/midpoint.md.
    """
    if len(single) < 2 or not pooled.reached:
        return pooled
    low, high = _widened(_midpoint, pooled, single, confidence)
    crossing_low, crossing_high = _widened(_crossing, pooled, single, confidence)
    return replace(pooled, ci_low=low, ci_high=high, crossing_low=crossing_low, crossing_high=crossing_high)


class _Estimate(NamedTuple):
    """One of the two σ of a fit, its bounds, and the standard error of its logarithm.

    below and above: factors by which bounds lie farther out than scatter puts them.
    """

    sigma: float
    low: float
    high: float
    error: float
    below: float = 1.0
    above: float = 1.0


def _midpoint(fit: Midpoint, confidence: float) -> _Estimate:
    return _Estimate(fit.midpoint, fit.ci_low, fit.ci_high, fit.standard_error)


def _crossing(fit: Midpoint, confidence: float) -> _Estimate:
    """The crossing: what was not measured between levels is in its bounds, and no repeats average it out."""
    at, low, high = fit.measured_crossing, fit.crossing_low, fit.crossing_high
    scatter = exp(float(ndtri((1 + confidence) / 2)) * fit.crossing_error)
    below = max(1.0, at / low / scatter) if low > 0 else 1.0
    above = max(1.0, high / at / scatter) if isfinite(high) else 1.0
    return _Estimate(at, low, high, fit.crossing_error, below, above)


def _widened(
    estimate: Callable[[Midpoint, float], _Estimate],
    pooled: Midpoint,
    single: Sequence[Midpoint],
    confidence: float,
) -> tuple[float, float]:
    """The bounds of an estimate from all repeats, with the scatter between them."""
    reasons = {fit.reason for fit in single}
    every = [estimate(fit, confidence) for fit in (pooled, *single)]
    sigma, low, high, _, below, above = every[0]
    low = 0.0 if ALREADY_BELOW in reasons else low
    high = inf if NEVER_FALLS in reasons else high
    logs = np.log([found.sigma for found in every[1:]])
    if np.isfinite(logs).all():
        upper, count = (1 + confidence) / 2, len(single)
        networks = float(stdtrit(count - 1, upper)) ** 2 * float(logs.var(ddof=1)) / count  # Student's
        joint = {fit.interval for fit in (pooled, *single)} == {JOINT}
        images = _shared_variance(*(found.error for found in every)) if joint else 0.0
        factor = exp(sqrt(networks + float(ndtri(upper)) ** 2 * images))
        low, high = min(low, sigma / factor / below), max(high, sigma * factor * above)
    return low, high


def _shared_variance(pooled: float, *single: float) -> float:
    """Variance that all repeats have in common, of the sample of test images, given standard errors."""
    count, own = len(single), np.mean([error**2 for error in single])
    return max(0.0, (pooled**2 - float(own) / count) * count / (count - 1))


# ---- one midpoint from several repeats --------------------------------------------------------------------


class Counts(NamedTuple):
    """The points of one repeat of a curve: σ (S,), and the numbers of correct and of all images.

    Both are (S,), or (S, G) if they were counted by group of test images (`wn.basics.groups`).
    """

    sigma: NDArray[Any]
    correct: NDArray[Any]
    total: NDArray[Any]


def floor_of(phase: str, noise: str, even: bool = True) -> Literal["chance", "free"]:
    """The floor of curves: additive noise at inference leaves a guess, other noise may leave more.

    So it is for every single network that is evaluated under several σ, however it was trained. Where classes
    are not `even`, a guess may get anything between the shares of the smallest and of the largest class.
    """
    return "chance" if even and phase != "training" and noise == "additive" else "free"


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
    together = fitted(*pooled)
    # Fits of repeats say how they scatter: of one repeat, and about no midpoint, they would be to no purpose
    scattered = len(repeats) > 1 and together.reached
    singles = [fitted(*counts) for counts in repeats if scattered]
    return reaching_the_crossing(with_repeats(together, singles))


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
    even: bool = True,
) -> Midpoint:
    """Fit the midpoint of a curve measured in a phase under a kind of noise, from all its repeats.

    even: whether every guess gets `chance`, as where all classes have as many images (docs/midpoint.md).

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
        floor_of(phase, noise, even),
        clean_by_group=clean.correct.sum(axis=0) if clean.correct.ndim == 2 else None,
        own_networks=phase == "training",
    )
