"""Whether measured accuracies fall: scatter, isotonic means and a test against one accuracy at all levels.

Derived in docs/midpoint.md, sections 3 and 5.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import chdtri, fdtri, ndtri, rel_entr  # scipy.stats takes a second to be imported

Floats = NDArray[np.float64]

MARGIN = 1e-6  # every probability of a model lies in [MARGIN, 1 - MARGIN]
BY_CHANCE = 1e-3  # how often scatter about one accuracy may pass for a fall
SCATTER = 0.15  # of the accuracies of networks trained alike, as a standard deviation: a lot


def deviance(correct: Floats, total: Floats, p: Floats) -> Floats:
    """−2 log-likelihood relative to the saturated model, summed over the last axis of p."""
    wrong = total - correct
    return np.asarray(2 * (rel_entr(correct, total * p) + rel_entr(wrong, total * (1 - p))).sum(axis=-1))


def dispersion(correct: Floats, total: Floats, p: Floats, freedom: int) -> float:
    """Pearson's χ²/(N − parameters) with Fletcher's (2012) correction for sparse counts, at least 1."""
    if freedom <= 0:
        return 1.0
    residual, variance = correct / total - p, p * (1 - p)
    pearson = float(np.sum(total * residual**2 / variance)) / freedom
    sparse = 1 + float(np.mean((1 - 2 * p) * residual / variance))  # never negative: docs/midpoint.md
    return max(1.0, pearson / sparse) if sparse > 1e-9 else 1.0


def falling_means(correct: NDArray[Any], total: NDArray[Any]) -> Floats:
    """Return the non-increasing accuracies nearest to the measured ones: isotonic regression.

    argmin Σ_i n_i (k_i/n_i − m_i)² over m_1 ≥ m_2 ≥ …; correct k and total n ≥ 1: (levels,), by ascending σ.
    """
    means: Floats = isotonic_regression(correct / total, weights=total, increasing=False).x
    return means


def falls_through(means: Floats, half: float) -> bool:
    """Whether falling means (levels,) start above `half` and end at it or below."""
    return bool(means[0] > half >= means[-1])


def falls_significantly(sigma: Floats, correct: Floats, total: Floats, fit: Floats, parameters: int) -> bool:
    """Whether a fitted curve, or the best step down, explains the counts better than one accuracy does.

    D(one accuracy) − D(curve) > φ · quantile, with the dispersion φ of the curve: of χ² for the fit, and
    of F for the step, which also pays for the choice among all gaps (Bonferroni). All arrays (N,); fit: the
    accuracies of a curve with `parameters`. Derived in docs/midpoint.md.
    """
    level = level_deviance(correct, total)
    gain = level - float(deviance(correct, total, fit))
    if gain > chdtri(parameters - 1, BY_CHANCE) * dispersion(correct, total, fit, sigma.size - parameters):
        return True
    cuts, spare = np.unique(sigma)[1:], sigma.size - 2
    if cuts.size == 0 or spare == 0:
        return False
    steps = [_step(sigma < cut, correct, total) for cut in cuts]
    step = min(steps, key=lambda p: float(deviance(correct, total, p)))
    gain = level - float(deviance(correct, total, step))
    quantile = fdtri(1, spare, 1 - BY_CHANCE / cuts.size)
    return bool(gain > quantile * dispersion(correct, total, step, spare))


def falls_beyond_scatter(correct: Floats, total: Floats, fit: Floats, parameters: int, choices: int) -> bool:
    """Whether a fitted curve explains the counts better than one accuracy with more scatter than is usual.

    D(one accuracy) − D(curve) > max(φ, φ₀) · quantile of χ² at 1 − 10⁻³/choices, φ₀ = 1 + 4 n̄ SCATTER²: for
    data that are one of `choices` selections from larger ones. All arrays (N,). Derived in docs/midpoint.md.
    """
    gain = level_deviance(correct, total) - float(deviance(correct, total, fit))
    usual, quantile = beyond_scatter(total, parameters, choices)
    scatter = dispersion(correct, total, fit, correct.size - parameters)
    return gain > max(scatter, usual) * quantile


def beyond_scatter(total: Floats, parameters: int, choices: int) -> tuple[float, float]:
    """The dispersion where accuracies of one half scatter by SCATTER, and the quantile that goes with it."""
    usual = 1 + float(total.mean()) * SCATTER**2 / 0.25  # p(1 − p)
    return usual, float(chdtri(parameters - 1, BY_CHANCE / choices))


def level_deviance(correct: Floats, total: Floats) -> float:
    """Deviance of one accuracy at all levels."""
    return float(deviance(correct, total, correct.sum() / total.sum()))


def falls_by_images(sigma: Floats, correct: Floats, total: Floats) -> bool:
    """Whether the images themselves show a fall: one network, the same images and draws at all σ.

    For each gap between levels, d_g = k_g/n before it − k_g/n behind it for each group of images; level
    curves have mean 0, so z = Σ d_g / √(G/(G − 1) Σ d_g²) is nearly normal. Whether the largest z is beyond
    the quantile at 1 − 10⁻³/gaps. sigma: (N,); correct, total: (N, G). Derived in docs/midpoint.md.
    """
    cuts, groups = np.unique(sigma)[1:], correct.shape[1]
    if cuts.size == 0:
        return False
    limit = ndtri(1 - BY_CHANCE / cuts.size)
    for cut in cuts:
        before = sigma < cut
        first, second = (correct[part].sum(axis=0) / total[part].sum() for part in (before, ~before))
        drop = first - second
        if drop.sum() > limit * np.sqrt(groups / (groups - 1) * float(drop @ drop)):
            return True
    return False


def _step(before: NDArray[np.bool_], correct: Floats, total: Floats) -> Floats:
    """The accuracies (N,) of a step: one mean before it and one after it; level if that step would rise."""
    first, second = (correct[part].sum() / total[part].sum() for part in (before, ~before))
    if first <= second:
        first = second = correct.sum() / total.sum()
    accuracies: Floats = np.clip(np.where(before, first, second), MARGIN, 1 - MARGIN)
    return accuracies
