"""Expectations of functions of Gaussian variables by plain quadrature, for the closed forms of `wn.theory`.

A function is smooth but for its kinks, which the caller names; between them Gauss–Legendre is exact to the
last digits. Everything is of single numbers or of one sample: (F,) means and (F, F) covariances.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from reference.naive import Array

NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)
BENDS = (-8.0, -4.0, -2.0, 0.0, 2.0, 4.0, 8.0)
REACH = 12.0  # standard deviations: beyond lie 4e-33 of the normal distribution

Function = Callable[[Array], Array]


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


def normal_density(u: Array) -> Array:
    """φ(u) = exp(−u²/2) / √(2π)."""
    result: Array = np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
    return result


def integral(f: Function, edges: Sequence[float]) -> float:
    """∫ f from the first edge to the last, in panels of at most two units between neighbouring edges."""
    cuts: list[float] = []
    for low, high in pairwise(sorted(edges)):
        cuts += np.linspace(low, high, max(1, math.ceil((high - low) / 2)) + 1).tolist()
    ends = np.array(cuts)  # an edge between two panels stands twice: a panel of width 0, which adds 0
    half = np.diff(ends)[:, None] / 2  # (panels, 1)
    points = ends[:-1, None] + half * (1 + NODES)  # (panels, nodes)
    return float((f(points.reshape(-1)).reshape(points.shape) * WEIGHTS * half).sum())


def expectation(f: Function, mean: float, variance: float, kinks: Sequence[float] = ()) -> float:
    """E[f(X)] for X ~ N(mean, variance): ∫ φ(u) f(mean + s·u) du."""
    s = math.sqrt(variance)
    if s == 0:
        return float(f(np.array(mean)))
    inside = [(k - mean) / s for k in kinks if abs(k - mean) < REACH * s]
    return integral(lambda u: normal_density(u) * f(mean + s * u), [-REACH, *inside, REACH])


def central_moment(
    order: int, f: Function, mean: float, variance: float, kinks: Sequence[float] = ()
) -> float:
    """E[(f(X) − E f(X))^order]."""
    centre = expectation(f, mean, variance, kinks)
    return expectation(lambda x: (f(x) - centre) ** order, mean, variance, kinks)


def covariance(f: Function, kinks: Sequence[float], mean: Any, matrix: Any) -> float:
    """Cov(f(X), f(Y)) for (X, Y) Gaussian with mean (2,) and covariance matrix (2, 2).

    Cov = E[(f(X) − E f(X)) · E[f(Y) | X]], with Y | X ~ N(m₂ + c(X − m₁)/v₁, v₂ − c²/v₁).
    """
    (m1, m2), ((v1, c), (_, v2)) = mean, matrix
    centre, left = expectation(f, m1, v1, kinks), v2 - c * c / v1
    left = left if left > 1e-13 * v2 else 0.0

    def of_x(x: Array) -> Array:
        given = [expectation(f, m2 + c * (value - m1) / v1, left, kinks) for value in x]
        result: Array = (f(x) - centre) * np.array(given)
        return result

    # E[f(Y) | X] bends about the kinks of Y, the more sharply the less variance is left
    bends = [m1 + (k - m2 + step * math.sqrt(left)) * v1 / c for k in kinks for step in BENDS] if c else []
    return expectation(of_x, m1, v1, [*kinks, *bends])


def tail_moment(order: int, x: float) -> float:
    """∫₀^∞ tⁿ φ(x + t) dt for x ≥ 0, to the last digits however small: φ(x) ∫ tⁿ exp(−x·t − t²/2) dt."""
    end = min(REACH, 40.0 / max(x, 1e-3))
    edges = [0.1 * k for k in range(11)]
    inner = integral(lambda u: (end * u) ** order * np.exp(-x * end * u - (end * u) ** 2 / 2), edges)
    return math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * end * inner
