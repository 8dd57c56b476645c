"""What little noise does to a loss, by brute force: Jacobians by differences, expectations on a grid.

Functions take one vector x (N,) and know nothing of networks.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Any]


def jacobian(function: Function, x: Any, step: float = 1e-6) -> Array:
    """Return ∂f_k/∂x_i (K, N) of a function to (K,), by central differences of an absolute step."""
    x = np.asarray(x, dtype=np.float64)
    columns = []
    for i in range(x.size):
        h = np.zeros(x.size)
        h[i] = step
        columns.append((np.asarray(function(x + h)) - np.asarray(function(x - h))) / (2 * step))
    return np.array(columns).T


def gauss_newton_trace(logits: Function, x: Any, variance: Any) -> float:
    """Return tr(D Jᵀ S J) term by term: D = diag(variance), Jacobian J of the logits, S = diag p − p pᵀ."""
    j = jacobian(logits, x)
    e = np.exp(np.asarray(logits(x)) - np.max(logits(x)))
    p = e / e.sum()
    total = 0.0
    for k, m in product(range(len(p)), repeat=2):
        s = (p[k] if k == m else 0.0) - p[k] * p[m]
        for i in range(j.shape[1]):
            total += float(np.asarray(variance)[i]) * j[k, i] * s * j[m, i]
    return total


def expected(function: Callable[[Array], Array], x: Any, deviation: Any, points: int = 801) -> float:
    """Return E f(x + deviation·ε) for normal ε and at most two numbers x (N,), by the trapezoid rule.

    function: (N, M) → (M,), values at M places. The grid has `points` per dimension, in ±8.5: for a smooth f
    the rule is exact to rounding, for one with kinks to about the square of the distance of two points.
    """
    x, deviation = np.asarray(x, dtype=np.float64), np.asarray(deviation, dtype=np.float64)
    if x.size > 2:
        raise ValueError(f"a grid in {x.size} dimensions would be too large")
    line = np.linspace(-8.5, 8.5, points)
    weight = np.exp(-(line**2) / 2)
    weight /= weight.sum()
    grids = np.meshgrid(*[line] * x.size, indexing="ij")
    weights = np.prod(np.meshgrid(*[weight] * x.size, indexing="ij"), axis=0).reshape(-1)
    places = x[:, None] + deviation[:, None] * np.stack([g.reshape(-1) for g in grids])
    return float(weights @ function(places))
