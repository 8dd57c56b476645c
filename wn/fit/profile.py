"""The interval of a midpoint: its variance with and without the joint counts, and the profile likelihood.

Derived in docs/midpoint.md, section 4.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from wn.basics.groups import variance_of_sum
from wn.fit.falling import MARGIN, deviance
from wn.fit.logistic import (
    FLOOR,
    LOCATION,
    LOG_SLOPE,
    Data,
    Floats,
    curve,
    descend,
    differentiated,
    floor_starts,
    hessian,
    scan,
)

NO_LESS = 1e-3  # allowance: the profile deviance is not known better than a tenth of this


class Grouped(NamedTuple):
    """Counts by group of images: one row per entry (N, G); those of the clean networks (G,), None if unknown.

    `level` (N,) is the place of each entry's σ among the levels of `Data`.
    """

    level: NDArray[np.intp]
    correct: Floats
    total: Floats
    clean: Floats | None


class Sensitivity(NamedTuple):
    """Derivatives of the fitted log midpoint by the counts (levels,) and by the clean accuracy.

    `variance` is what the likelihood alone says: that of independent binomial counts.
    """

    by_count: Floats
    by_clean: float
    variance: float


def pinned(data: Data, theta: Floats, crossing: float) -> tuple[Data, Floats]:
    """The curve with its crossing as location, and the floors for which there is one."""
    top = data.half - MARGIN * (data.clean - data.half)
    bounded = data._replace(upper=np.array([*data.upper[:2], top]))
    return bounded, np.array([crossing, theta[LOG_SLOPE], min(float(theta[FLOOR]), top)])


def sensitivity(data: Data, theta: Floats, free: list[int]) -> Sensitivity:
    """Derivatives of a fit's crossing m with respect to its data: implicit differentiation of ∇D = 0.

    dm/dx = −(H⁻¹ ∂∇D/∂x)_m with H the second derivatives of D; theta as `pinned` gives it. Parameters at a
    bound stay there.
    """
    room = 1e-9 * (data.upper - data.lower)
    inside = (theta > data.lower + room) & (theta < data.upper - room)
    free = [i for i in free if i == LOCATION or inside[i]]
    row = np.linalg.pinv(hessian(data, theta, free, data.half))[0]
    p, slopes = curve(data.log_sigma, theta, data.clean, data.half)
    by_count = row @ np.array([2 * slopes[i] / (p * (1 - p)) for i in free])
    step = min(1e-5, (data.clean - data.half) / 10, (1 - data.clean) / 2)

    def gradient(clean: float) -> Floats:
        moved = data._replace(clean=clean, half=(clean + data.chance) / 2)
        return differentiated(moved, theta, moved.half)[1][free]

    by_clean = -float(row @ (gradient(data.clean + step) - gradient(data.clean - step))) / (2 * step)
    return Sensitivity(by_count, by_clean, 2 * max(float(row[0]), 0.0))


def joint_variance(slope: Sensitivity, grouped: Grouped, clean_accuracy: float) -> float:
    """Variance of the fitted log midpoint from the scatter between groups of images (sandwich).

    V = G/(G − 1) Σ_g ψ_g², ψ_g = Σ_i ∂m/∂k_i (k_ig − n_ig k_i/n_i) + ∂m/∂a₀ (k_0g/k_0 − n_g/n) a₀. The groups
    are independent; within one the counts of all levels, and the clean ones, may depend on each other.
    """
    correct, total = grouped.correct, grouped.total
    accuracy = correct.sum(axis=1) / total.sum(axis=1)
    parts = slope.by_count[grouped.level] @ (correct - total * accuracy[:, None])
    if grouped.clean is not None:
        shares = grouped.clean / grouped.clean.sum() - total.sum(axis=0) / total.sum()
        parts = parts + slope.by_clean * clean_accuracy * shares
    return variance_of_sum(parts)


def interval(
    data: Data, theta: Floats, crossing: float, free: list[int], allowance: float
) -> tuple[float, float]:
    """Profile likelihood interval: all σ whose best curve has a deviance within `allowance` of the least."""
    allowance = max(allowance, NO_LESS)
    bounded, fitted = pinned(data, theta, crossing)
    others, top = [i for i in free if i != LOCATION], float(bounded.upper[FLOOR])
    least, fitted = descend(bounded, fitted, others, data.half)

    def excess(offset: float) -> float:
        values, starts = scan(
            bounded, np.array([crossing + offset]), floor_starts(data, free, top), data.half
        )
        start = np.array([crossing + offset, *fitted[1:]])  # so that excess(0) is what it must be
        if differentiated(bounded, start, data.half)[0] > values.min():
            start = starts[values.argmin()]
        least_here = descend(bounded, start, others, data.half, tolerance=1e-4)[0]
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
    return exp(min(low, left)), exp(max(high, right))


def _steps(data: Data, free: list[int], top: float, limit: float) -> tuple[float, float]:
    """Outer levels of all gaps in which a step (slope → ∞) has a deviance of at most `limit`."""
    left, right = math.inf, -math.inf
    for i in range(1, data.log_sigma.size):
        mean = float(data.correct[i:].sum() / data.total[i:].sum())
        floor = min(max(mean, MARGIN), top) if FLOOR in free else data.chance
        p = np.where(np.arange(data.log_sigma.size) < i, data.clean, floor)
        if float(deviance(data.correct, data.total, p)) <= limit:
            left = min(left, float(data.log_sigma[i - 1]))
            right = max(right, float(data.log_sigma[i]))
    return left, right


def exp(x: float) -> float:
    """exp without overflow: inf beyond the largest double."""
    return math.inf if x > 709.78 else math.exp(x)
