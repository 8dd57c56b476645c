"""Derivatives of a scalar function from its values alone: central differences in float64.

The step. A central difference D(h) = (f(x + h) − f(x − h)) / 2h is wrong by h²/6 · f‴, because it cuts the
Taylor series off, and by about ε·|f|/h, because f is rounded (ε = 2.2e-16). The sum is smallest near
h = (3ε|f|/|f‴|)^(1/3), that is ε^(1/3) ≈ 6e-6 for values of order 1, where both errors are about 1e-11.
With Richardson extrapolation,

    (4 D(h/2) − D(h)) / 3,

the h² terms cancel, the error that is left is h⁴/480 · f⁽⁵⁾, and the best step grows to ε^(1/5) ≈ 7e-4:
errors near 1e-13, at the price of twice the evaluations and of a wider neighbourhood that must be free of
kinks. Steps are relative to the size of x, max|x|, and rounded to powers of two: x ± h is then mostly exact.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Any]

EPSILON = float(np.finfo(np.float64).eps)


def default_step(x: Array, richardson: bool = False) -> float:
    """Return h = max|x| · ε^(1/3), with extrapolation ε^(1/5), as a power of two; x = 0 counts as 1."""
    size = float(np.max(np.abs(x), initial=0.0)) or 1.0
    return float(2.0 ** round(math.log2(size * EPSILON ** (1 / 5 if richardson else 1 / 3))))


def directional_derivative(
    function: Function, x: Any, direction: Any, step: float | None = None, richardson: bool = False
) -> float:
    """Return d/dt function(x + t·direction) at t = 0.

    function: takes an array in the shape of x, returns a number; direction: in the shape of x, not zero;
    step: h for a direction with max|direction| = 1, default `default_step`. x is not modified.
    """
    x, direction = np.array(x, dtype=np.float64), np.asarray(direction, dtype=np.float64)
    if direction.shape != x.shape:
        raise ValueError(f"direction has shape {direction.shape}, x has {x.shape}")
    length = float(np.max(np.abs(direction), initial=0.0))
    if not 0 < length < math.inf:
        raise ValueError("direction must be finite and must not be zero")
    h = (default_step(x, richardson) if step is None else step) / length

    def central(t: float) -> float:
        return (float(function(x + t * direction)) - float(function(x - t * direction))) / (2 * t)

    return (4 * central(h / 2) - central(h)) / 3 if richardson else central(h)


def gradient(function: Function, x: Any, step: float | None = None, richardson: bool = False) -> Array:
    """Return ∂function/∂x for every element of x: one directional derivative each. Arguments as above."""
    x = np.array(x, dtype=np.float64)
    g, unit = np.zeros(x.shape), np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        unit[index] = 1.0
        g[index] = directional_derivative(function, x, unit, step, richardson)
        unit[index] = 0.0
    return g
