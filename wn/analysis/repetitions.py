"""Repetitions of noisy sites: maps of R executions per site under a budget.

Averaging R executions divides the variance of a site's noise by R. With a midpoint μ for each site and the
same σ at all of them, the root-sum-square rule makes the strength of all noise together

    E(R) = Σ_i 1 / (R_i μ_i²)        (times σ²; 1 is the strength at the global midpoint).

`optimal` finds the integers R_i ≥ 1 with Σ R_i = budget that minimise it; the schemes of Borras, Klein,
Fröning (arXiv 2212.10430) divide the budget in proportion to other functions of μ. Derived in
docs/repetitions.md.
"""

import heapq
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wn.basics.errors import WnError

OPTIMAL = "optimal"
GAINS = "gains"  # as optimal, by the gains of clean networks in place of midpoints
UNIFORM = "uniform"
MOST_REPETITIONS = 10_000_000  # of a map: a budget is cut off here, not a computation that never ends

Floats = NDArray[np.float64]
Weights = Callable[[Floats], Floats]


class NoWeight(WnError):
    """A scheme has no weight for some midpoints, and so no map."""


def optimal(midpoints: ArrayLike, budget: int) -> tuple[int, ...]:
    """The map of integers R_i ≥ 1 with Σ R_i = budget that has the least strength E.

    Each execution beyond the first goes to the site where it lowers E most, by 1/(μ² R (R + 1)). Since E is a
    sum of convex functions of one R_i each, that is optimal (B. Fox, Management Science 13:210, 1966). The
    earlier site wins where two are equal. Without rounding R ∝ 1/μ. midpoints: (S,) > 0 or inf; budget ≥ S.
    Raises WnError on others.
    """
    mu = _checked(midpoints)
    spare = _checked_budget(budget, mu.size) - mu.size
    worth = 1 / mu**2
    repetitions = [1] * mu.size
    gains = [(-value / 2, site) for site, value in enumerate(worth.tolist())]
    heapq.heapify(gains)
    for _ in range(spare):
        site = gains[0][1]
        r = repetitions[site] = repetitions[site] + 1
        heapq.heapreplace(gains, (-worth[site] / (r * (r + 1)), site))
    return tuple(repetitions)


def allocate(scheme: str, midpoints: ArrayLike, budget: int) -> tuple[int, ...]:
    """The map of a scheme: "optimal", "uniform", or one of the authors' in SCHEMES.

    "gains" is "optimal" for values that are no midpoints but 1/c of `wn.theory.gains`, which only have to be
    in proportion. midpoints: (S,) > 0 or inf; budget ≥ S, the sum of the map. Raises WnError for an unknown
    scheme and for other values, and NoWeight where a scheme has no weight for a midpoint (1 in
    `inverse_log10`).
    """
    if scheme in (OPTIMAL, GAINS):
        return optimal(midpoints, budget)
    if scheme not in SCHEMES:
        raise WnError(
            f"unknown scheme of repetitions {scheme!r}: allowed are {OPTIMAL}, {GAINS}, {', '.join(SCHEMES)}"
        )
    mu = _checked(midpoints)
    finite = np.isfinite(mu)
    weights = np.zeros(mu.size)  # a site that no noise harms is executed once
    with np.errstate(divide="ignore", invalid="ignore"):
        weights[finite] = SCHEMES[scheme](mu[finite]) if finite.any() else 0
    if scheme == UNIFORM:
        weights[:] = 1
    if not np.isfinite(weights).all():
        sites = [site for site, value in enumerate(weights.tolist()) if not math.isfinite(value)]
        raise NoWeight(
            f"the scheme {scheme} has no weight for the midpoints of sites {sites}: {mu[sites].tolist()}"
        )
    return proportional(weights, budget)


def proportional(weights: Floats, budget: int) -> tuple[int, ...]:
    """Divide a budget in proportion to weights (S,), by largest remainders, at least 1 each.

    Negative weights count as 0. What the sites at 1 have too much is taken from the largest R.
    """
    spared = np.maximum(weights, 0)
    budget = _checked_budget(budget, spared.size)
    total = spared.sum()
    ideal = spared / total * budget if total > 0 else np.full(spared.size, budget / spared.size)
    repetitions = np.maximum(np.floor(ideal), 1).astype(np.int64)
    while repetitions.sum() < budget:
        repetitions[np.argmax(ideal - repetitions)] += 1
    while repetitions.sum() > budget:
        repetitions[np.argmax(repetitions)] -= 1
    return tuple(repetitions.tolist())


def budget_of(text: str | int, sites: int) -> int:
    """A budget from a number, "20", or a multiple of the sites, "3x" or "2.5x"; rounded to a whole number.

    Raises WnError for other text, and for a budget below one execution per site.
    """
    words = str(text).strip()
    try:
        budget = float(words.removesuffix("x")) * (sites if words.endswith("x") else 1)
    except ValueError:
        raise WnError(
            f"budget {text!r}: allowed are a number of executions, 20, or a multiple of the sites, 3x"
        ) from None
    if not math.isfinite(budget):
        raise WnError(f"budget {text!r} is not finite")
    return _checked_budget(round(budget), sites)


def _checked(midpoints: ArrayLike) -> Floats:
    mu = np.asarray(midpoints, np.float64)
    if mu.ndim != 1 or mu.size == 0 or not (mu > 0).all():
        raise WnError(f"midpoints {mu.tolist()}: a list of numbers > 0 is needed, inf where no noise harms")
    return mu


def _checked_budget(budget: int, sites: int) -> int:
    if not sites <= budget <= MOST_REPETITIONS:
        raise WnError(
            f"a budget of {budget} executions: allowed are {sites} (one per site) … {MOST_REPETITIONS}"
        )
    return budget


# ---- the authors' schemes -------------------------------------------------------------------------------
# Only maps are published. These weights were decoded from the 144 maps of MLPs on MNIST: they give 107 of
# them exactly, and the others up to rounding (tests/analysis/test_repetitions.py).


def _reflected(of: Weights) -> Weights:
    """f(μ) with its scale turned around: the smallest μ gets the weight f of the largest, and the reverse."""

    def weights(mu: Floats) -> Floats:
        values = of(mu)
        return np.asarray(values.max() + values.min() - values)

    return weights


def _order(mu: Floats) -> NDArray[np.int64]:
    """argsort, used by the authors as if it were the rank: right where midpoints rise or swap in pairs."""
    return np.argsort(mu, kind="stable")


def _bins(size: int) -> Weights:
    return lambda mu: (_order(mu) // size).max() + 1.0 - _order(mu) // size


def _inverse_bins(size: int) -> Weights:
    return lambda mu: 1 / (_order(mu) // size + 1.0)


SCHEMES: dict[str, Weights] = {
    UNIFORM: np.ones_like,
    "inverse_lin": lambda mu: 1 / mu,
    "inverse_sqrt": lambda mu: 1 / np.sqrt(mu),
    "inverse_square": lambda mu: 1 / mu**2,
    "sqrt": _reflected(np.sqrt),
    "log10": _reflected(np.log10),
    "inverse_log10": lambda mu: 1 / np.log10(mu),
    "layer_sort": _bins(1),
    "layer_sort_inverse": _inverse_bins(1),
    "layer_sort_bins_of_two": _bins(2),
    "layer_sort_bins_of_three": _bins(3),
    "layer_sort_inverse_bins_of_two": _inverse_bins(2),
    "layer_sort_inverse_bins_of_three": _inverse_bins(3),
}
