"""The measured crossing: where the accuracies themselves fall through half-way, with no model of the curve.

Derived in docs/midpoint.md, section 7.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq
from scipy.special import logit, stdtrit

from wn.basics.groups import variance_of_sum
from wn.fit.counts import Entries, Floats
from wn.fit.falling import falling_means, falls_through

ENDS = 0.02  # shares of the height nearer to its ends are taken for this: their logit is mostly scatter
UNRESOLVED = 0.75  # of the height within one gap: no interpolation knows where in it


class Crossing(NamedTuple):
    """Logarithms of the σ of a crossing and of its bounds, and the standard error; low ≤ at ≤ high."""

    at: float
    low: float
    high: float
    error: float


class Between(NamedTuple):
    """What half-way lies between, and the correct answers of the clean networks by group (G,), if known."""

    clean_accuracy: float
    chance: float
    clean_by_group: Floats | None = None

    @property
    def half(self) -> float:
        """The accuracy half-way."""
        return (self.clean_accuracy + self.chance) / 2

    def share(self, accuracy: Floats) -> Floats:
        """Of the height, ½ at half-way."""
        share: Floats = (accuracy - self.chance) / (self.clean_accuracy - self.chance)
        return share


class Scatter(NamedTuple):
    """Variance beyond that between groups of images, in units of the binomial one, and t² for it."""

    factor: float
    squared_quantile: float


class Levels(NamedTuple):
    """What was measured at each level, ln σ ascending (L,).

    accuracy (L,): isotonic means. binomial (L,): p(1 − p)/n. parts (L, G): what each group of images adds to
    the error of the accuracy over half-way, None without groups.
    """

    log_sigma: Floats
    accuracy: Floats
    binomial: Floats
    parts: Floats | None


def crossing_of(
    entries: Entries, between: Between, scatter: Scatter, confidence: float = 0.95
) -> Crossing | None:
    """The crossing with its interval: the σ at which the accuracy is not clearly off half-way.

    Around the isotonic means lies a band of half-width w_i, w_i² = t²_{G−1} e_i² + φ t² p(1 − p)/n, with e_i²
    the variance of the accuracy over half-way between groups of images and (φ, t²) `scatter`. The interval
    ends where the band falls through half-way, by linear or by smooth interpolation, whichever is further
    out; a gap in which the curve falls by more than UNRESOLVED of its height belongs to it. entries: σ > 0.
    None if the means do not fall through half-way.
    """
    found = _levels(entries, between)
    if found is None:
        return None
    x, y = found.log_sigma, found.accuracy
    width = np.sqrt(_squared_width(found, scatter, confidence))
    # The widest monotone band: a level with little scatter does not narrow it for its neighbours
    bands = y, np.minimum.accumulate(y - width), np.maximum.accumulate((y + width)[::-1])[::-1]
    (at, low, high), smooth = ([falls(x, band, between) for band in bands] for falls in (by_lines, by_spline))
    low, high = min(at, low, *smooth), max(at, high, *smooth)
    after = int(np.argmax(y <= between.half))
    if float(np.ptp(between.share(y[after - 1 : after + 1]))) > UNRESOLVED:
        low, high = min(low, float(x[after - 1])), max(high, float(x[after]))
    return Crossing(at, low, high, _error(found, after, at, scatter.factor))


def falls_at(x: Floats, y: Floats, level: float) -> float:
    """Where non-increasing y (L,) over ascending x falls through `level`, by straight lines.

    −∞ if it lies at the level or below from the start, ∞ if it never comes down to it.
    """
    if y[-1] > level:
        return math.inf
    after = int(np.argmax(y <= level))
    if after == 0:
        return -math.inf
    share = (y[after - 1] - level) / (y[after - 1] - y[after])
    return float(x[after - 1] + share * (x[after] - x[after - 1]))


def by_lines(x: Floats, accuracy: Floats, between: Between) -> float:
    """Where non-increasing accuracies (L,) fall through half-way by straight lines; ends as in `falls_at`."""
    return falls_at(x, accuracy, between.half)


def by_spline(x: Floats, accuracy: Floats, between: Between) -> float:
    """Where non-increasing accuracies (L,) fall through half-way by a smooth curve; ends as in `falls_at`.

    The curve is a monotone cubic spline (Fritsch and Carlson 1980) through the logits of the shares of the
    height: a logistic curve is a straight line there.
    """
    u = logit(np.clip(between.share(accuracy), ENDS, 1 - ENDS))
    rough = falls_at(x, u, 0.0)
    if not math.isfinite(rough):
        return rough
    after = int(np.argmax(u <= 0))
    curve = PchipInterpolator(x, u)
    return float(brentq(lambda at: float(curve(at)), x[after - 1], x[after]))


def _levels(entries: Entries, between: Between) -> Levels | None:
    """Entries pooled by σ; None if their isotonic means do not fall through half-way."""
    pooled = entries.by_level()
    falling, p = falling_means(pooled.correct, pooled.total), pooled.correct / pooled.total
    if not falls_through(falling, between.half):
        return None
    return Levels(np.log(pooled.sigma), falling, p * (1 - p) / pooled.total, _parts(pooled, between))


def _parts(pooled: Entries, between: Between) -> Floats | None:
    """What each group adds to the error of p − half (L, G); half-way moves with half the clean accuracy."""
    if pooled.groups is None:
        return None
    (correct, total), n = pooled.groups, pooled.total[:, None]
    parts: Floats = (correct - pooled.correct[:, None] / n * total) / n
    clean = between.clean_by_group
    if clean is not None:
        parts = parts - between.clean_accuracy / 2 * (clean / clean.sum() - total / n)
    return parts


def _squared_width(levels: Levels, scatter: Scatter, confidence: float) -> Floats:
    """Of the band at each level (L,)."""
    squared: Floats = scatter.factor * scatter.squared_quantile * levels.binomial
    if levels.parts is not None:
        quantile = float(stdtrit(levels.parts.shape[1] - 1, (1 + confidence) / 2))
        squared = squared + quantile**2 * np.array([variance_of_sum(row) for row in levels.parts])
    return squared


def _error(levels: Levels, after: int, at: float, factor: float) -> float:
    """Standard error of ln σ at the crossing: that of the accuracy there over the slope of the line."""
    (x0, x1), (y0, y1) = (values[after - 1 : after + 1] for values in (levels.log_sigma, levels.accuracy))
    share = (at - x0) / (x1 - x0)
    weights = np.array([1 - share, share])
    variance = factor * float(weights**2 @ levels.binomial[after - 1 : after + 1])
    if levels.parts is not None:
        variance += variance_of_sum(weights @ levels.parts[after - 1 : after + 1])
    return math.sqrt(variance) * float((x1 - x0) / (y0 - y1))
