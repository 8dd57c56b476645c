"""Midpoint noise level: the σ at which accuracy has fallen half-way from clean accuracy to chance.

A logistic curve in log σ is fitted by binomial maximum likelihood; the interval is a profile likelihood
interval, scaled by the variance that the joint counts of all σ show, or by the observed dispersion. Model,
derivatives and derivations: docs/midpoint.md.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtri, stdtrit  # scipy.stats takes a second to be imported

from wn.basics.errors import WnError
from wn.fit import crossing, logistic, profile
from wn.fit.counts import Entries, checked_accuracies, checked_clean, checked_entries, checked_numbers
from wn.fit.falling import (
    beyond_scatter,
    dispersion,
    falling_means,
    falls_beyond_scatter,
    falls_by_images,
    falls_significantly,
    falls_through,
    level_deviance,
)
from wn.fit.logistic import FLOOR, LOCATION, LOG_SLOPE
from wn.fit.profile import Grouped, exp

Floats = NDArray[np.float64]

NEVER_FALLS = "never falls half-way"
ALREADY_BELOW = "already below half-way at the smallest sigma"
NO_FALL = "does not fall significantly"
NOT_LEARNT = "clean accuracy is not above chance"
NO_NOISE = "no positive sigma was measured"

JOINT, INDEPENDENT = "joint", "independent"  # what an interval takes the counts of different σ for
FEWEST_WITH_OUTLIER = 5  # entries: with one left out a curve and its scatter can still be told from a level


@dataclass(frozen=True, kw_only=True)
class Midpoint:
    """The fitted curve acc(σ) = floor + (clean_accuracy − floor) / (1 + (σ/location)^slope) and its midpoint.

    midpoint is where the curve crosses (clean_accuracy + chance)/2, NaN where it is not reached; ci_low and
    ci_high bound it (0 or inf where the data give no bound); location equals midpoint if floor is chance.
    dispersion is 1 for binomial scatter about the curve and larger for more. Where the midpoint is not
    reached, reason says why, and midpoint, ci_low, ci_high, slope and location are NaN.
    interval is "joint" if ci_low and ci_high heed that all σ share images and draws, "independent" if they
    take counts for independent, "" if there are none. standard_error: of ln midpoint. measured_crossing: the
    σ at which the measured accuracies cross half-way with no model between them, bounded by crossing_low and
    crossing_high; crossing_error: of its logarithm. NaN where the midpoint is not reached.
    """

    midpoint: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    slope: float = math.nan
    location: float = math.nan
    floor: float
    clean_accuracy: float
    reached: bool = False
    reason: str
    dispersion: float = math.nan
    interval: str = ""
    standard_error: float = math.nan
    measured_crossing: float = math.nan
    crossing_low: float = math.nan
    crossing_high: float = math.nan
    crossing_error: float = math.nan

    @classmethod
    def not_reached(cls, reason: str, floor: float, clean_accuracy: float) -> "Midpoint":
        """A curve that has no midpoint, and why; `floor` is chance where nothing was fitted."""
        return cls(floor=float(floor), clean_accuracy=float(clean_accuracy), reason=reason)

    def accuracy(self, sigma: ArrayLike) -> Floats:
        """Fitted accuracy at each σ ≥ 0, any shape (NaN where the midpoint is not reached)."""
        s = np.asarray(sigma, dtype=np.float64)
        log_sigma = np.log(s, out=np.full(s.shape, -np.inf), where=s > 0)
        falling: Floats = expit(-self.slope * (log_sigma - math.log(max(self.location, 5e-324))))
        return self.floor + (self.clean_accuracy - self.floor) * falling


def fit_midpoint(
    sigma: ArrayLike,
    correct: ArrayLike,
    total: ArrayLike,
    *,
    clean_accuracy: float,
    chance: float,
    floor: Literal["chance", "free"] = "chance",
    confidence: float = 0.95,
    clean_by_group: ArrayLike | None = None,
    own_networks: bool = False,
) -> Midpoint:
    """Midpoint noise level of one accuracy curve, from counts of correct answers.

    acc(σ) = a∞ + (a0 − a∞)/(1 + (σ/μ)^s), correct ~ Binomial(total, acc(σ)); midpoint: acc = (a0 + chance)/2.

    sigma: (N,) one entry per noise level and repeat, any order, levels may recur; σ ≥ 0 (entries at σ = 0 do
    not take part: there the curve is a0 whatever μ and s). clean_accuracy: a0 in [0, 1]. chance in [0, 1);
    below 1e-6 it counts as 1e-6. floor: "chance" fixes a∞ = chance, "free" estimates a∞ in [0, a0].
    confidence in (0, 1).

    correct, total: (N,), or (N, G) counted apart in G groups of test images, the same images at all σ. From
    groups the interval holds whatever the levels share, images and noise draws ("joint"): 64 groups of
    interleaved images, i mod 64, serve any test set. With clean_by_group (G,), the correct answers of the
    clean networks, the error of a0 is part of it. From (N,) counts it takes all entries as independent
    samples and a0 as exact ("independent"): right for levels with images and draws of their own, too narrow
    by far for levels that share them. own_networks: each entry has a network of its own, whose scatter about
    the curve is part of a joint interval; otherwise that is about images and draws for the given networks.

    A curve that does not fall significantly, and through half-way, between the smallest positive and the
    largest σ, and one with a0 ≤ chance, is "not reached" and says why. Raises WnError on bad input.
    Derived in docs/midpoint.md.
    """
    entries = checked_entries(sigma, correct, total)
    a0, c = checked_accuracies(clean_accuracy, chance)
    clean = checked_clean(clean_by_group, entries, a0)
    if floor not in ("chance", "free"):
        raise WnError(f"floor must be 'chance' or 'free', not {floor!r}")
    if not 0 < confidence < 1:
        raise WnError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    noisy = entries.some(entries.sigma > 0)
    if a0 <= c or not noisy.sigma.size:
        return Midpoint.not_reached(NOT_LEARNT if a0 <= c else NO_NOISE, chance, clean_accuracy)
    free = [LOCATION, LOG_SLOPE] + [FLOOR] * (floor == "free")
    fit = _fitted(noisy, a0, c, free)
    reason = _why_not(fit, lambda: _falls(noisy, fit, own_networks))
    level = chance if floor == "chance" else fit.theta[FLOOR]
    found = replace(Midpoint.not_reached(reason, level, clean_accuracy), dispersion=fit.dispersion)
    if reason:
        return found
    slope, location = math.exp(fit.theta[LOG_SLOPE]), exp(float(fit.theta[LOCATION]))
    found = replace(found, midpoint=exp(fit.crossing), slope=slope, location=location, reached=True)
    found = _with_interval(found, fit, noisy, clean, confidence, own_networks)
    half_way = crossing.Between(float(clean_accuracy), float(chance), clean)
    return _with_crossing(found, fit, noisy, half_way, confidence, own_networks)


def root_sum_square_rule(midpoints: Sequence[float] | Floats) -> float:
    """Midpoint of global noise predicted from the midpoints of the single sites.

    σ_global = (Σ_i μ_i⁻²)^(−1/2), inf if no site is reached; midpoints: (sites,) positive, where NaN (not
    reached) or inf adds nothing to the sum: with sites that never fall half-way the result is an upper bound,
    with sites that are already below it at the smallest σ it means nothing. Raises WnError if midpoints is
    empty, not 1-d or not positive.
    Derived in docs/midpoint.md.
    """
    mu = checked_numbers("midpoints", midpoints)
    if (mu <= 0).any():
        raise WnError(f"midpoints must be positive or NaN, not {mu[mu <= 0][0]}")
    reached = mu[np.isfinite(mu)]
    if reached.size == 0:
        return math.inf
    smallest = float(reached.min())  # taken out of the sum so that no square overflows
    return smallest / math.sqrt(float(np.sum((smallest / reached) ** 2)))


class _Fit(NamedTuple):
    """A curve of maximum likelihood: theta, its crossing, the accuracies (N,) and their dispersion."""

    data: logistic.Data
    free: list[int]
    theta: Floats
    crossing: float
    accuracies: Floats
    dispersion: float

    @property
    def freedom(self) -> int:
        """Entries that are not used up by parameters."""
        return self.accuracies.size - len(self.free)

    def squared_quantile(self, confidence: float) -> float:
        """Of Student's distribution, or of the normal where there is nothing to tell the scatter from."""
        upper = (1 + confidence) / 2
        return float(stdtrit(self.freedom, upper) if self.freedom > 0 else ndtri(upper)) ** 2


def _fitted(entries: Entries, clean: float, chance: float, free: list[int]) -> _Fit:
    log_sigma = np.log(entries.sigma)
    data = logistic.pooled(log_sigma, entries.correct, entries.total, clean, chance)
    theta = logistic.best_fit(data, free)
    accuracies = logistic.curve(log_sigma, theta, data.clean)[0]
    scatter = dispersion(entries.correct, entries.total, accuracies, entries.sigma.size - len(free))
    return _Fit(data, free, theta, logistic.crossing(data, theta), accuracies, scatter)


def _falls(entries: Entries, fit: _Fit, own_networks: bool) -> bool:
    """Whether accuracy falls significantly: shown by images, by counts, or by all counts but one.

    One entry in N may be an outlier, a training that failed, whose misfit hides the fall of the others. That
    one of N may be left out is paid for.
    """
    s, k, n = entries[:3]
    if entries.groups is not None and not own_networks and falls_by_images(s, *entries.groups):
        return True
    if falls_significantly(s, k, n, fit.accuracies, len(fit.free)):
        return True
    if s.size < FEWEST_WITH_OUTLIER:
        return False
    choices, chance_fit = s.size * np.unique(s).size, [LOCATION, LOG_SLOPE]
    for left_out in range(s.size):
        rest = Entries(s, k, n).some(np.arange(s.size) != left_out)
        if level_deviance(*rest[1:3]) <= math.prod(beyond_scatter(rest.total, 2, choices)):
            continue  # no curve can gain that much
        for free in (fit.free, chance_fit)[: len(fit.free) - 1]:
            accuracies = _fitted(rest, fit.data.clean, fit.data.chance, free).accuracies
            if falls_beyond_scatter(*rest[1:3], accuracies, len(free), choices):
                return True
    return False


def _with_interval(
    found: Midpoint, fit: _Fit, entries: Entries, clean: Floats | None, confidence: float, own_networks: bool
) -> Midpoint:
    """The fit with its interval and the standard error of the log midpoint."""
    upper = (1 + confidence) / 2
    data, theta = profile.pinned(fit.data, fit.theta, fit.crossing)
    slope = profile.sensitivity(data, theta, fit.free)
    by_entries = fit.squared_quantile(confidence)
    if entries.groups is None or slope.variance <= 0:
        kind, factor, allowance = INDEPENDENT, fit.dispersion, fit.dispersion * by_entries
    else:
        level = np.searchsorted(data.log_sigma, np.log(entries.sigma))
        grouped = Grouped(level, *entries.groups, clean)
        factor = profile.joint_variance(slope, grouped, data.clean) / slope.variance
        allowance = factor * float(stdtrit(entries.groups[0].shape[1] - 1, upper)) ** 2
        kind, excess = JOINT, fit.dispersion - 1 if own_networks else 0.0
        factor, allowance = factor + excess, allowance + excess * by_entries
    low, high = profile.interval(fit.data, fit.theta, fit.crossing, fit.free, allowance)
    error = math.sqrt(factor * slope.variance)
    return replace(found, ci_low=low, ci_high=high, interval=kind, standard_error=error)


def _with_crossing(
    found: Midpoint,
    fit: _Fit,
    entries: Entries,
    between: crossing.Between,
    confidence: float,
    own_networks: bool,
) -> Midpoint:
    """The fit with the crossing of the measured accuracies, which heeds the same scatter as the interval."""
    factor = fit.dispersion - 1 if own_networks else 0.0
    if entries.groups is None:
        factor = fit.dispersion
    scatter = crossing.Scatter(factor, fit.squared_quantile(confidence))
    measured = crossing.crossing_of(entries, between, scatter, confidence)
    if measured is None:
        return found
    return replace(
        found,
        measured_crossing=exp(measured.at),
        crossing_low=exp(measured.low),
        crossing_high=exp(measured.high),
        crossing_error=measured.error,
    )


def _why_not(fit: _Fit, falls: Callable[[], bool]) -> str:
    """The reason for no midpoint; empty if both fit and isotonic means fall through half-way."""
    data = fit.data
    means = falling_means(data.correct, data.total)
    if means[-1] > data.half:
        return NEVER_FALLS
    if means[0] < data.half:
        return ALREADY_BELOW
    if not falls():
        return NO_FALL
    if not falls_through(means, data.half) or fit.crossing < data.log_sigma[0]:
        return ALREADY_BELOW
    return NEVER_FALLS if fit.crossing > data.log_sigma[-1] else ""
