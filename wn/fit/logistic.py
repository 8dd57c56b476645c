"""The logistic accuracy curve in log σ: its likelihood, and the search for its maximum.

Model, derivatives and search: docs/midpoint.md, sections 1 and 2.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from wn.fit.falling import MARGIN, deviance, falling_means

Floats = NDArray[np.float64]

LOG_SLOPE_RANGE = (math.log(0.01), math.log(1000.0))
REACH = 30.0  # how far, in log σ, the curve is looked for outside the measured range
PULL = 1e-3  # where the data leave slope or floor open, those nearest 1 and chance are taken
LOCATION, LOG_SLOPE, FLOOR = 0, 1, 2  # the places of the parameters in theta


class Data(NamedTuple):
    """Counts pooled by noise level, σ > 0, ascending; accuracies already kept off 0 and 1."""

    log_sigma: Floats  # (levels,)
    correct: Floats  # (levels,)
    total: Floats  # (levels,)
    clean: float
    half: float
    chance: float
    lower: Floats  # (3,) bounds of theta = (location, log slope, floor)
    upper: Floats  # (3,)


def pooled(log_sigma: Floats, correct: Floats, total: Floats, clean: float, chance: float) -> Data:
    """Sum the counts of equal noise levels: the likelihood depends on nothing else."""
    levels, place = np.unique(log_sigma, return_inverse=True)
    lower = np.array([levels[0] - REACH, LOG_SLOPE_RANGE[0], MARGIN])
    upper = np.array([levels[-1] + REACH, LOG_SLOPE_RANGE[1], clean])
    k, n = (np.bincount(place, counts).astype(np.float64) for counts in (correct, total))
    return Data(levels, k, n, clean, (clean + chance) / 2, chance, lower, upper)


def curve(
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


def _deviance(data: Data, p: Floats) -> Floats:
    return deviance(data.correct, data.total, p)


def _pull(data: Data, theta: Floats) -> Floats:
    """A penalty far below any statistical error, so that the minimum is unique: theta (3, grid…)."""
    return np.asarray(PULL * (theta[LOG_SLOPE] ** 2 + (theta[FLOOR] - data.chance) ** 2))


def differentiated(data: Data, theta: Floats, half: float | None) -> tuple[float, Floats]:
    """Deviance with penalty at theta (3,), and its gradient (3,)."""
    p, derivatives = curve(data.log_sigma, theta, data.clean, half)
    pull = -2 * (data.correct - data.total * p) / (p * (1 - p))
    gradient = np.array([pull @ derivative for derivative in derivatives])
    gradient += 2 * PULL * np.array([0.0, theta[LOG_SLOPE], theta[FLOOR] - data.chance])
    return float(_deviance(data, p) + _pull(data, theta)), gradient


def hessian(data: Data, theta: Floats, free: list[int], half: float | None) -> Floats:
    """Second derivatives of deviance and penalty by the free parameters: differences of the gradient."""
    gradient, rows = differentiated(data, theta, half)[1], []
    for i in free:  # towards the inside
        width, nudge = data.upper[i] - data.lower[i], np.zeros(3)
        nudge[i] = math.copysign(1e-7 * width, data.lower[i] + width / 2 - theta[i])
        rows.append((differentiated(data, theta + nudge, half)[1][free] - gradient[free]) / nudge[i])
    second = np.array(rows)
    return np.asarray((second + second.T) / 2)


def _newton_step(data: Data, theta: Floats, free: list[int], gradient: Floats, half: float | None) -> Floats:
    """Step of Newton's method, downhill also where the deviance is not convex; at most 2 long."""
    curvature, axes = np.linalg.eigh(hessian(data, theta, free, half))
    step: Floats = -axes @ ((axes.T @ gradient[free]) / np.maximum(np.abs(curvature), 1e-9))
    return step * min(1.0, 2 / max(float(np.abs(step).max()), 1e-300))


def descend(
    data: Data, theta: Floats, free: list[int], half: float | None = None, tolerance: float = 1e-12
) -> tuple[float, Floats]:
    """Newton's method with step halving over the free parameters within their bounds.

    Ends with the first step that promises less than `tolerance`; returns the deviance and theta (3,).
    """
    rounding = 1e-15 * float(data.total.sum())  # a deviance is not known better than this
    value, gradient = differentiated(data, theta, half)
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
            value_trial, gradient_trial = differentiated(data, trial, half)
            if value_trial <= value + rounding:
                break
            step /= 2
        else:
            break  # no step helps: the minimum is known as well as rounding allows
        theta, value, gradient = trial, value_trial, gradient_trial
        if promise < tolerance:
            break
    return value, theta


def scan(data: Data, locations: Floats, floors: Floats, half: float | None = None) -> tuple[Floats, Floats]:
    """Starts of the search: for each slope of a ladder the best theta of a coarse grid, and its deviance."""
    log_slopes = np.linspace(*LOG_SLOPE_RANGE, 13)
    grid = np.meshgrid(log_slopes, locations, floors, indexing="ij")
    theta = np.stack([grid[1], grid[0], grid[2]]).reshape(3, log_slopes.size, -1)  # (3, slopes, others)
    p = curve(data.log_sigma, theta[..., None], data.clean, half)[0]
    values = _deviance(data, p) + _pull(data, theta)  # (slopes, others)
    best = values.argmin(axis=1)
    rows = np.arange(log_slopes.size)
    return values[rows, best], theta[:, rows, best].T  # (slopes,), (slopes, 3)


def floor_starts(data: Data, free: list[int], top: float) -> Floats:
    """Floors from which the scan starts: six up to `top` if the floor is free, else chance."""
    return np.linspace(MARGIN, top, 6) if FLOOR in free else np.array([data.chance])


def best_fit(data: Data, free: list[int]) -> Floats:
    """Maximum likelihood from the three best starts of the scan."""
    t = data.log_sigma
    guess = np.interp(data.half, falling_means(data.correct, data.total)[::-1], t[::-1])
    locations = np.append(guess, np.linspace(t[0] - 2, t[-1] + 2, 40))  # of equals the scan takes the first
    values, starts = scan(data, locations, floor_starts(data, free, data.clean))
    fits = [descend(data, starts[i], free) for i in np.argsort(values, kind="stable")[:3]]
    return min(fits, key=lambda fit: fit[0])[1]


def crossing(data: Data, theta: Floats) -> float:
    """log σ at which the fitted curve is half-way, inf if its floor is not below that."""
    location, log_slope, floor = (float(v) for v in theta)
    if floor >= data.half:
        return math.inf
    return location + math.log((data.clean - data.half) / (data.half - floor)) / math.exp(log_slope)
