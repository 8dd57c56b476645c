"""The probability that correlated Gaussian margins are all positive, by separation of variables."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]


def orthant_probability(d: Floats, c: Floats, points: Floats) -> float:
    """P(x_i > 0 for all i), x ~ N(d, C) with C without a zero eigenvalue: the mean over points of Π e_i.

    e_i = Φ((d_i − Σ_{k<i} L_ik y_k) / L_ii), y_i = Φ⁻¹(w_i e_i), C = LLᵀ.
    d: (m,); c: (m, m); points w: (n, ≥ m − 1) in (0, 1). Genz, J. Comput. Graph. Stat. 1, 1992.
    """
    order = margins_in_order(d, c)
    lower = np.linalg.cholesky(c[np.ix_(order, order)])
    values = []
    for w in points:
        y, product = np.zeros(0), 1.0
        for i, row in enumerate(lower):
            e = ndtr((d[order[i]] - row[:i] @ y) / row[i])
            y = np.append(y, ndtri(w[i] * e)) if i + 1 < len(order) else y
            product *= e
        values.append(product)
    return float(np.mean(values))


def margins_in_order(d: Floats, c: Floats) -> list[int]:
    """The margins, each the least probable given that those before it are what they are on average.

    The variable with the smallest e_i comes next, with E[z | z < b] = −φ(b)/Φ(b) in the place of y_i (Gibson,
    Glasbey, Elston 1994).
    """
    order: list[int] = []
    y = np.zeros(0)

    def bound(j: int) -> Any:
        row = np.linalg.cholesky(c[np.ix_([*order, j], [*order, j])])[-1]
        return (d[j] - row[:-1] @ y) / row[-1]

    while len(order) < len(d):
        left = [j for j in range(len(d)) if j not in order]
        best = min(left, key=bound)
        b = bound(best)
        y = np.append(y, -np.exp(-b * b / 2) / np.sqrt(2 * np.pi) / ndtr(b))
        order.append(best)
    return order
