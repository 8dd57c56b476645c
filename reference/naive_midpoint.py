"""The midpoint of an accuracy curve, and its standard error by brute force: refits without one group each."""

import math
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


def jackknife_error(
    sigma: Floats, correct: Floats, sizes: Floats, clean: Floats, chance: float, floor: str
) -> float:
    """Standard error of the log midpoint: √((G − 1)/G Σ_g (m_(g) − m̄)²), m_(g) without group g of images.

    correct: (N, G) by group; sizes: (G,) images of each; clean: (G,) correct without noise.
    """
    without = []
    for g in range(sizes.size):
        rest = np.arange(sizes.size) != g
        images = sizes[rest].sum()
        k, n = correct[:, rest].sum(axis=1), np.full(sigma.size, images)
        without.append(log_midpoint(sigma, k, n, float(clean[rest].sum() / images), chance, floor))
    m = np.array(without)
    return math.sqrt((m.size - 1) / m.size * float(((m - m.mean()) ** 2).sum()))
