"""Midpoint noise level: the σ at which accuracy has fallen half-way from clean accuracy to chance.

A logistic curve in log σ is fitted by binomial maximum likelihood; the interval is a profile likelihood
interval scaled by the observed dispersion. Model, derivatives and derivations: docs/midpoint.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtri, stdtrit  # scipy.stats takes a second to be imported

from wn.errors import WnError
from wn.falling import MARGIN, deviance, dispersion, falling_means, falls_significantly, falls_through

Floats = NDArray[np.float64]

NEVER_FALLS = "never falls half-way"
ALREADY_BELOW = "already below half-way at the smallest sigma"
NO_FALL = "does not fall significantly"
NOT_LEARNT = "clean accuracy is not above chance"
NO_NOISE = "no positive sigma was measured"

LOG_SLOPE_RANGE = (math.log(0.01), math.log(1000.0))
REACH = 30.0  # how far, in log σ, the curve is looked for outside the measured range
PULL = 1e-3  # where the data leave slope or floor open, those nearest 1 and chance are taken
LOCATION, LOG_SLOPE, FLOOR = 0, 1, 2  # the places of the parameters in theta


@dataclass(frozen=True)
class Midpoint:
    """The fitted curve acc(σ) = floor + (clean_accuracy − floor) / (1 + (σ/location)^slope) and its midpoint.

    midpoint is where the curve crosses (clean_accuracy + chance)/2, NaN where it is not reached; ci_low and
    ci_high bound it (0 or inf where the data give no bound); location equals midpoint if floor is chance.
    dispersion is 1 for binomial scatter about the curve and larger for more. Where the midpoint is not
    reached, reason says why, and midpoint, ci_low, ci_high, slope and location are NaN.
    """

    midpoint: float
    ci_low: float
    ci_high: float
    slope: float
    location: float
    floor: float
    clean_accuracy: float
    reached: bool
    reason: str
    dispersion: float

    def accuracy(self, sigma: ArrayLike) -> Floats:
        """Fitted accuracy at each σ ≥ 0, any shape (NaN where the midpoint is not reached)."""
        s = np.asarray(sigma, dtype=np.float64)
        log_sigma = np.log(s, out=np.full(s.shape, -np.inf), where=s > 0)
        falling: Floats = expit(-self.slope * (log_sigma - math.log(max(self.location, 5e-324))))
        return self.floor + (self.clean_accuracy - self.floor) * falling


class _Data(NamedTuple):
    """Counts pooled by noise level, σ > 0, ascending; accuracies already kept off 0 and 1."""

    log_sigma: Floats  # (levels,)
    correct: Floats  # (levels,)
    total: Floats  # (levels,)
    clean: float
    half: float
    chance: float
    lower: Floats  # (3,) bounds of theta = (location, log slope, floor)
    upper: Floats  # (3,)


def fit_midpoint(
    sigma: ArrayLike,
    correct: ArrayLike,
    total: ArrayLike,
    *,
    clean_accuracy: float,
    chance: float,
    floor: Literal["chance", "free"] = "chance",
    confidence: float = 0.95,
) -> Midpoint:
    """Midpoint noise level of one accuracy curve, from counts of correct answers.

    acc(σ) = a∞ + (a0 − a∞)/(1 + (σ/μ)^s), correct ~ Binomial(total, acc(σ)); midpoint: acc = (a0 + chance)/2.

    sigma, correct, total: (N,) one entry per noise level and repeat, any order, levels may recur; σ ≥ 0
    (entries at σ = 0 do not take part: there the curve is a0 whatever μ and s). clean_accuracy: a0 in [0, 1],
    taken as exact. chance in (0, 1). floor: "chance" fixes a∞ = chance, "free" estimates a∞ in [0, a0].
    confidence in (0, 1). A curve that does not fall significantly, and through half-way, between the smallest
    positive and the largest σ, and one with a0 ≤ chance, is "not reached" and says why. Raises WnError on bad
    input.
    Derived in docs/midpoint.md.
    """
    s, k, n = _checked_counts(sigma, correct, total)
    a0, c = _checked_accuracies(clean_accuracy, chance)
    if floor not in ("chance", "free"):
        raise WnError(f"floor must be 'chance' or 'free', not {floor!r}")
    if not 0 < confidence < 1:
        raise WnError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    noisy = s > 0
    if a0 <= c or not noisy.any():
        nan, reason = math.nan, NOT_LEARNT if a0 <= c else NO_NOISE
        return Midpoint(nan, nan, nan, nan, nan, float(chance), float(clean_accuracy), False, reason, nan)
    data = _pooled(np.log(s[noisy]), k[noisy], n[noisy], a0, c)
    free = [LOCATION, LOG_SLOPE] + [FLOOR] * (floor == "free")
    theta = _best_fit(data, free)
    freedom = int(noisy.sum()) - len(free)
    fitted = _curve(np.log(s[noisy]), theta, data.clean)[0]
    scatter = dispersion(k[noisy], n[noisy], fitted, freedom)
    crossing = _crossing(theta, data)
    falls = falls_significantly(s[noisy], k[noisy], n[noisy], fitted, len(free))
    reason = _why_not(crossing, data, falls)
    low = high = math.nan
    if not reason:
        upper = (1 + confidence) / 2
        quantile = float(stdtrit(freedom, upper) if freedom > 0 else ndtri(upper))  # Student's or the normal
        low, high = _interval(data, theta, crossing, free, scatter * quantile**2)
    return Midpoint(
        midpoint=math.nan if reason else _exp(crossing),
        ci_low=low,
        ci_high=high,
        slope=math.nan if reason else math.exp(theta[LOG_SLOPE]),
        location=math.nan if reason else _exp(float(theta[LOCATION])),
        floor=float(chance if floor == "chance" else theta[FLOOR]),
        clean_accuracy=float(clean_accuracy),
        reached=not reason,
        reason=reason,
        dispersion=scatter,
    )


def root_sum_square_rule(midpoints: Sequence[float] | Floats) -> float:
    """Midpoint of global noise predicted from the midpoints of the single sites.

    σ_global = (Σ_i μ_i⁻²)^(−1/2), inf if no site is reached; midpoints: (sites,) positive, where NaN (not
    reached) or inf adds nothing to the sum: with sites that never fall half-way the result is an upper bound,
    with sites that are already below it at the smallest σ it means nothing. Raises WnError if midpoints is
    empty, not 1-d or not positive.
    Derived in docs/midpoint.md.
    """
    mu = _numbers("midpoints", midpoints)
    if (mu <= 0).any():
        raise WnError(f"midpoints must be positive or NaN, not {mu[mu <= 0][0]}")
    reached = mu[np.isfinite(mu)]
    if reached.size == 0:
        return math.inf
    smallest = float(reached.min())  # taken out of the sum so that no square overflows
    return smallest / math.sqrt(float(np.sum((smallest / reached) ** 2)))


# --- input -----------------------------------------------------------------------------------------------


def _numbers(name: str, values: Any) -> Floats:
    """values as a non-empty 1-d float64 array."""
    try:
        array = np.asarray(values)
        numeric = array.dtype.kind in "iuf"
    except ValueError:  # ragged nesting
        numeric = False
    if not numeric or array.ndim != 1 or array.size == 0:
        raise WnError(f"{name} must be a non-empty 1-d array of numbers")
    return array.astype(np.float64)


def _checked_counts(sigma: ArrayLike, correct: ArrayLike, total: ArrayLike) -> tuple[Floats, Floats, Floats]:
    s, k, n = _numbers("sigma", sigma), _numbers("correct", correct), _numbers("total", total)
    if not s.size == k.size == n.size:
        raise WnError(f"sigma, correct and total must be equally long, not {s.size}, {k.size} and {n.size}")
    if not (np.isfinite(s) & (s >= 0)).all():
        raise WnError(f"sigma must be finite and not negative, not {s[~(np.isfinite(s) & (s >= 0))][0]}")
    for name, counts in (("correct", k), ("total", n)):
        whole = np.isfinite(counts) & (counts == np.floor(counts))
        if not whole.all():
            raise WnError(f"{name} must hold whole numbers, not {counts[~whole][0]}")
    if (n <= 0).any():
        raise WnError(f"total must be at least 1, not {n[n <= 0][0]:g}")
    bad = (k < 0) | (k > n)
    if bad.any():
        raise WnError(f"correct must lie between 0 and total, not {k[bad][0]:g} of {n[bad][0]:g}")
    return s, k, n


def _checked_accuracies(clean_accuracy: float, chance: float) -> tuple[float, float]:
    """Clean accuracy and chance, moved off 0 and 1 by MARGIN so that every logarithm below is finite."""
    if not 0 <= clean_accuracy <= 1:
        raise WnError(f"clean_accuracy must lie between 0 and 1, not {clean_accuracy}")
    if not 0 < chance < 1:
        raise WnError(f"chance must lie strictly between 0 and 1, not {chance}")
    return min(clean_accuracy, 1 - MARGIN), max(chance, MARGIN)


def _pooled(log_sigma: Floats, correct: Floats, total: Floats, clean: float, chance: float) -> _Data:
    """Sum the counts of equal noise levels: the likelihood depends on nothing else."""
    levels, place = np.unique(log_sigma, return_inverse=True)
    lower = np.array([levels[0] - REACH, LOG_SLOPE_RANGE[0], MARGIN])
    upper = np.array([levels[-1] + REACH, LOG_SLOPE_RANGE[1], clean])
    k, n = (np.bincount(place, counts).astype(np.float64) for counts in (correct, total))
    return _Data(levels, k, n, clean, (clean + chance) / 2, chance, lower, upper)


# --- model and likelihood --------------------------------------------------------------------------------


def _curve(
    log_sigma: Floats, theta: Floats, clean: float, half: float | None = None
) -> tuple[Floats, tuple[Floats, Floats, Floats]]:
    """Accuracy and its derivatives by theta = (location, log s, a∞), each a number or an array (grid…, 1).

    Without `half` the location is log μ; with it, the location is the log σ at which the curve equals `half`.
    """
    location, log_slope, floor = theta
    slope = np.exp(log_slope)
    distance = slope * (log_sigma - location)
    shift = 0.0 if half is None else np.log((clean - half) / (half - floor))
    q = expit(-distance - shift)
    steep = (clean - floor) * q * (1 - q)
    by_floor = 1 - q if half is None else 1 - q - steep / (half - floor)
    return floor + (clean - floor) * q, (slope * steep, -distance * steep, by_floor)


def _deviance(data: _Data, p: Floats) -> Floats:
    return deviance(data.correct, data.total, p)


def _pull(data: _Data, theta: Floats) -> Floats:
    """A penalty far below any statistical error, so that the minimum is unique: theta (3, grid…)."""
    return np.asarray(PULL * (theta[LOG_SLOPE] ** 2 + (theta[FLOOR] - data.chance) ** 2))


def _differentiated(data: _Data, theta: Floats, half: float | None) -> tuple[float, Floats]:
    """Deviance with penalty at theta (3,), and its gradient (3,)."""
    p, derivatives = _curve(data.log_sigma, theta, data.clean, half)
    pull = -2 * (data.correct - data.total * p) / (p * (1 - p))
    gradient = np.array([pull @ derivative for derivative in derivatives])
    gradient += 2 * PULL * np.array([0.0, theta[LOG_SLOPE], theta[FLOOR] - data.chance])
    return float(_deviance(data, p) + _pull(data, theta)), gradient


def _newton_step(data: _Data, theta: Floats, free: list[int], gradient: Floats, half: float | None) -> Floats:
    """Step of Newton's method, downhill also where the deviance is not convex; at most 2 long."""
    rows = []
    for i in free:  # second derivatives: differences of the gradient, towards the inside
        width, nudge = data.upper[i] - data.lower[i], np.zeros(3)
        nudge[i] = math.copysign(1e-7 * width, data.lower[i] + width / 2 - theta[i])
        rows.append((_differentiated(data, theta + nudge, half)[1][free] - gradient[free]) / nudge[i])
    hessian = np.array(rows)
    curvature, axes = np.linalg.eigh((hessian + hessian.T) / 2)
    step: Floats = -axes @ ((axes.T @ gradient[free]) / np.maximum(np.abs(curvature), 1e-9))
    return step * min(1.0, 2 / max(float(np.abs(step).max()), 1e-300))


def _descend(
    data: _Data, theta: Floats, free: list[int], half: float | None = None, tolerance: float = 1e-12
) -> tuple[float, Floats]:
    """Newton's method with step halving over the free parameters within their bounds.

    Ends with the first step that promises less than `tolerance`; returns the deviance and theta (3,).
    """
    rounding = 1e-15 * float(data.total.sum())  # a deviance is not known better than this
    value, gradient = _differentiated(data, theta, half)
    for _ in range(100):
        blocked = ((theta <= data.lower) & (gradient > 0)) | ((theta >= data.upper) & (gradient < 0))
        moving = [i for i in free if not blocked[i]]
        if not moving:
            break
        step = np.zeros(3)
        step[moving] = _newton_step(data, theta, moving, gradient, half)
        promise = -float(gradient @ step)
        for _ in range(40):
            trial = np.clip(theta + step, data.lower, data.upper)
            value_trial, gradient_trial = _differentiated(data, trial, half)
            if value_trial <= value + rounding:
                break
            step /= 2
        else:
            break  # no step helps: the minimum is known as well as rounding allows
        theta, value, gradient = trial, value_trial, gradient_trial
        if promise < tolerance:
            break
    return value, theta


def _scan(data: _Data, locations: Floats, floors: Floats, half: float | None = None) -> tuple[Floats, Floats]:
    """Starts of the search: for each slope of a ladder the best theta of a coarse grid, and its deviance."""
    log_slopes = np.linspace(*LOG_SLOPE_RANGE, 13)
    grid = np.meshgrid(log_slopes, locations, floors, indexing="ij")
    theta = np.stack([grid[1], grid[0], grid[2]]).reshape(3, log_slopes.size, -1)  # (3, slopes, others)
    p = _curve(data.log_sigma, theta[..., None], data.clean, half)[0]
    values = _deviance(data, p) + _pull(data, theta)  # (slopes, others)
    best = values.argmin(axis=1)
    rows = np.arange(log_slopes.size)
    return values[rows, best], theta[:, rows, best].T  # (slopes,), (slopes, 3)


def _floors(data: _Data, free: list[int], top: float) -> Floats:
    return np.linspace(MARGIN, top, 6) if FLOOR in free else np.array([data.chance])


def _best_fit(data: _Data, free: list[int]) -> Floats:
    """Maximum likelihood from the three best starts of the scan."""
    t = data.log_sigma
    guess = np.interp(data.half, falling_means(data.correct, data.total)[::-1], t[::-1])
    locations = np.append(guess, np.linspace(t[0] - 2, t[-1] + 2, 40))  # of equals the scan takes the first
    values, starts = _scan(data, locations, _floors(data, free, data.clean))
    fits = [_descend(data, starts[i], free) for i in np.argsort(values, kind="stable")[:3]]
    return min(fits, key=lambda fit: fit[0])[1]


# --- midpoint and interval -------------------------------------------------------------------------------


def _crossing(theta: Floats, data: _Data) -> float:
    """log σ at which the fitted curve is half-way, inf if its floor is not below that."""
    location, log_slope, floor = (float(v) for v in theta)
    if floor >= data.half:
        return math.inf
    return location + math.log((data.clean - data.half) / (data.half - floor)) / math.exp(log_slope)


def _why_not(crossing: float, data: _Data, falls: bool) -> str:
    """Why the midpoint is not reached; empty if both fit and isotonic means fall through half-way."""
    means = falling_means(data.correct, data.total)
    if means[-1] > data.half:
        return NEVER_FALLS
    if means[0] < data.half:
        return ALREADY_BELOW
    if not falls:
        return NO_FALL
    if not falls_through(means, data.half) or crossing < data.log_sigma[0]:
        return ALREADY_BELOW
    return NEVER_FALLS if crossing > data.log_sigma[-1] else ""


def _interval(
    data: _Data, theta: Floats, crossing: float, free: list[int], allowance: float
) -> tuple[float, float]:
    """Profile likelihood interval: all σ whose best curve has a deviance within `allowance` of the least."""
    top = data.half - MARGIN * (data.clean - data.half)
    pinned = data._replace(upper=np.array([*data.upper[:2], top]))
    others = [i for i in free if i != LOCATION]
    fitted = np.array([crossing, theta[LOG_SLOPE], min(float(theta[FLOOR]), top)])
    least, fitted = _descend(pinned, fitted, others, data.half)

    def excess(offset: float) -> float:
        values, starts = _scan(pinned, np.array([crossing + offset]), _floors(data, free, top), data.half)
        start = np.array([crossing + offset, *fitted[1:]])  # so that excess(0) is what it must be
        if _differentiated(pinned, start, data.half)[0] > values.min():
            start = starts[values.argmin()]
        least_here = _descend(pinned, start, others, data.half, tolerance=1e-4)[0]
        return math.sqrt(max(least_here - least, 0.0)) - math.sqrt(allowance)  # nearly linear in offset

    def bound(end: float) -> float:
        inner, outer = 0.0, math.copysign(min(0.05, abs(end)), end)
        while excess(outer) < 0:
            if outer == end:
                return math.copysign(math.inf, end)
            inner, outer = outer, math.copysign(min(2 * abs(outer), abs(end)), end)
        return crossing + float(brentq(excess, inner, outer, xtol=1e-9, rtol=1e-5))

    low = bound(float(data.lower[LOCATION]) - crossing)
    high = bound(float(data.upper[LOCATION]) - crossing)
    left, right = _steps(data, free, top, least + allowance)
    return _exp(min(low, left)), _exp(max(high, right))


def _steps(data: _Data, free: list[int], top: float, limit: float) -> tuple[float, float]:
    """Outer levels of all gaps in which a step (slope → ∞) has a deviance of at most `limit`."""
    left, right = math.inf, -math.inf
    for i in range(1, data.log_sigma.size):
        mean = float(data.correct[i:].sum() / data.total[i:].sum())
        floor = min(max(mean, MARGIN), top) if FLOOR in free else data.chance
        p = np.where(np.arange(data.log_sigma.size) < i, data.clean, floor)
        if float(_deviance(data, p)) <= limit:
            left = min(left, float(data.log_sigma[i - 1]))
            right = max(right, float(data.log_sigma[i]))
    return left, right


def _exp(x: float) -> float:
    """exp without overflow: inf beyond the largest double."""
    return math.inf if x > 709.78 else math.exp(x)
