"""The rounding of a function's values, measured."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Output = Callable[[float], Vector | None]  # y(t), flat; None where f has no finite value there

EPSILON = float(np.finfo(np.float64).eps)
NOISE_POINTS = 9
# Relative: several values of float32 further each, one or less, and far less, for functions that curve much.
NOISE_STEPS = (2.0**-20, 2.0**-24, 2.0**-34)
COARSE, MUCH = 1e-10, 1e-4  # parts of y: more than the rounding of float64; more than that of float32
CURVED = 3.0  # a fall of the differences by more than this as the step falls is curvature
NOISE_GUARD = 4.0  # a bound of rounding errors, in units of their measured spread


def measured_noise(output: Output, middle: Vector) -> Vector:
    """Return a bound of the rounding error of each element of y, from differences of order 5 and 6.

    output(t) is y with every input changed by about t of itself. Smooth functions leave nothing in such
    differences, so they show the rounding of whatever y is made of, also of terms that cancel (Hamming's
    table; Moré & Wild 2011, "Estimating computational noise"). Not below eps·|y|.
    """
    floor = EPSILON * np.abs(middle)
    tables = [_beside(output, step) for step in NOISE_STEPS]
    if any(table is None for table in tables):
        return NOISE_GUARD * floor
    wide, closer, close = (_spread(table) for table in tables if table is not None)
    # Curvature vanishes as the step falls, rounding does not; nor does it come near to y's own size.
    curved = (closer < wide / CURVED) | (closer > MUCH * np.abs(middle))
    curved &= ~_stairs(tables[2])
    noise = np.maximum(NOISE_GUARD * np.where(curved, np.minimum(closer, close), wide), floor)
    part = max(_format(tables[0]), relative(noise, middle) / NOISE_GUARD)
    return np.maximum(noise, part * np.abs(middle)) if part > COARSE else noise


def _beside(output: Output, step: float) -> Vector | None:
    """Return y at equidistant places on one side of x, None where f has no values."""
    for side in (1, -1):
        rows = [output(side * number * step) for number in range(1, NOISE_POINTS + 1)]
        found = [row for row in rows if row is not None]
        if len(found) == len(rows):
            return np.array(found)
    return None


def _spread(table: Vector) -> Vector:
    """Return the spread that differences of order 5 and 6 show."""
    spread = np.zeros(table.shape[1])
    for order in range(1, 7):
        table = np.diff(table, axis=0)
        if order >= 5:
            spread = np.maximum(spread, np.max(np.abs(table), axis=0) / _growth(order))
    return spread


def _stairs(table: Vector | None) -> NDArray[np.bool_]:
    """Return which elements often stay from one place to the next: steps so small show no rounding."""
    still = np.diff(np.zeros((2, 0)) if table is None else table, axis=0) == 0
    often: NDArray[np.bool_] = np.mean(still, axis=0) > 0.3
    return often


def _format(table: Vector | None) -> float:
    """Return the rounding of float16 or float32 if y moves from one of its values to another, else 0."""
    moving = np.zeros((0, 0)) if table is None else table[:, np.any(table != table[0], axis=0)]
    with np.errstate(over="ignore"):
        for narrow in (np.float16, np.float32):
            if moving.size and np.all(moving.astype(narrow) == moving):
                return float(np.finfo(narrow).eps)
    return 0.0


def relative(noise: Vector, middle: Vector) -> float:
    """Return the usual rounding of y relative to its size: where y is larger, rounding is too."""
    sizes = np.abs(middle)
    parts = noise[sizes > 0] / sizes[sizes > 0]
    return max(float(np.median(parts)), EPSILON) if parts.size else EPSILON


def _growth(order: int) -> float:
    """Return the spread of a difference of that order of values with independent errors of spread 1."""
    squares = 1.0
    for number in range(order):
        squares *= (2 * order - number) / (order - number)
    return float(np.sqrt(squares))
