"""The midpoint and the crossing of an accuracy curve, and standard errors by leaving out one group each."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]


def log_midpoint(
    sigma: Floats, correct: Floats, total: Floats, clean: float, chance: float, floor: str
) -> float:
    """ln σ at which the logistic curve of maximum likelihood crosses (clean + chance)/2; all arrays (N,)."""

    def accuracies(theta: Any) -> tuple[Floats, float]:
        end = chance if floor == "chance" else clean / (1 + math.exp(-theta[2]))
        q = 1 / (1 + np.exp(np.exp(theta[1]) * (np.log(sigma) - theta[0])))
        return end + (clean - end) * q, end

    def loss(theta: Any) -> float:
        p = np.clip(accuracies(theta)[0], 1e-12, 1 - 1e-12)
        return -float(np.sum(correct * np.log(p) + (total - correct) * np.log(1 - p)))

    ends = [math.log(chance / (clean - chance))] * (floor == "free")
    start = np.array([float(np.log(sigma).mean()), 0.5, *ends])
    options: Any = {"xatol": 1e-9, "fatol": 1e-9, "maxiter": 5000, "maxfev": 5000}
    best = minimize(loss, start, method="Nelder-Mead", options=options).x
    half, end = (clean + chance) / 2, accuracies(best)[1]
    return float(best[0] + math.log((clean - half) / (half - end)) / math.exp(best[1]))


def log_crossing(sigma: Floats, correct: Floats, total: Floats, half: float) -> float:
    """ln σ at which isotonic accuracies, joined by lines in ln σ, fall through half-way; NaN if they do not.

    Adjacent violators are pooled one by one. sigma > 0; all arrays (N,), levels may recur.
    """
    blocks: list[list[float]] = []  # correct, total, levels
    levels = sorted(set(sigma.tolist()))
    for level in levels:
        here = sigma == level
        blocks.append([float(correct[here].sum()), float(total[here].sum()), 1])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] <= blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    means = [k / n for k, n, width in blocks for _ in range(int(width))]
    for (x0, y0), (x1, y1) in pairwise(zip(map(math.log, levels), means, strict=True)):
        if y0 > half >= y1:
            return x0 + (y0 - half) / (y0 - y1) * (x1 - x0)
    return math.nan


def jackknife_error(
    estimate: Callable[[Floats, Floats, float], float], correct: Floats, sizes: Floats, clean: Floats
) -> float:
    """Standard error of an estimate m: √((G − 1)/G Σ_g (m_(g) − m̄)²), m_(g) without group g of images.

    estimate: of correct (N,), total (N,) and the clean accuracy. correct: (N, G) by group; sizes: (G,) images
    of each; clean: (G,) correct without noise.
    """
    without = []
    for g in range(sizes.size):
        rest = np.arange(sizes.size) != g
        images = sizes[rest].sum()
        k, n = correct[:, rest].sum(axis=1), np.full(len(correct), images)
        without.append(estimate(k, n, float(clean[rest].sum() / images)))
    m = np.array(without)
    return math.sqrt((m.size - 1) / m.size * float(((m - m.mean()) ** 2).sum()))
