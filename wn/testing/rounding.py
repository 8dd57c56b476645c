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
FINE_STEP = 2.0**-44  # for functions that have many periods within the others
WIDE_STEPS = (2.0**-16, 2.0**-13, 2.0**-10, 2.0**-7, 2.0**-4)  # for elements that stay as they are
COARSE, MUCH = 1e-10, 1e-4  # parts of y: more than the rounding of float64; more than that of float32
CHAOS = 0.05  # more than the rounding of float16
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
    spread = np.where(curved, np.minimum(closer, close), wide)
    if np.any(spread > MUCH * np.median(np.abs(middle))):
        spread = np.minimum(spread, _finer(output, spread, middle))
    spread = np.maximum(spread, _wider(output, middle, tables[0]))
    noise = np.maximum(NOISE_GUARD * spread, floor)
    part = max(_format(tables[0]), relative(noise, middle) / NOISE_GUARD)
    return np.maximum(noise, part * np.abs(middle)) if part > COARSE else noise


def _finer(output: Output, spread: Vector, middle: Vector) -> Vector:
    """Return the spread at steps so small that a sine of 1e9 is smooth, for elements that need it."""
    table = _beside(output, FINE_STEP)
    if table is None:
        return spread
    needed = (spread > MUCH * np.median(np.abs(middle))) & ~_stairs(table)
    return np.where(needed, _spread(table), spread)


def _wider(output: Output, middle: Vector, table: Vector | None) -> Vector:
    """Return the spread of elements that stay as they are in `table`, from the first steps that move them.

    What is added to a small change rounds it to stairs: as long as y stays on one, nothing is seen of them.
    """
    spread = np.zeros(middle.shape)
    still = np.zeros(middle.shape, dtype=bool) if table is None else np.all(table == middle, axis=0)
    for step in WIDE_STEPS:
        rows = _beside(output, step) if np.any(still) else None
        if rows is None:
            break
        for j in np.flatnonzero(still & np.any(rows != middle, axis=0)):
            if _on_stairs(rows[:, j] - middle[j]):
                spread[j] = _spread(rows[:, j : j + 1])[0]
                still[j] = False
    return spread


def _on_stairs(changes: Vector) -> bool:
    """Whether these changes are whole numbers of one small step, several of them different.

    An element behind a ReLU that is switched on moves by other numbers.
    """
    moved = np.unique(np.abs(changes[changes != 0]))
    steps = np.diff(moved, prepend=0.0)
    counts = moved / np.min(steps, initial=np.inf)
    return moved.size > 2 and bool(np.max(counts) < 1000 and np.all(np.abs(counts - np.round(counts)) < 0.02))


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
    """Mask of the elements that often stay from one place to the next: steps so small show no rounding."""
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
    """Return the usual rounding of y relative to its size: where y is larger, rounding is too.

    Elements that are nothing but rounding, as the sine of 1e60, say nothing of the others.
    """
    sizes = np.abs(middle)
    parts = noise[sizes > 0] / sizes[sizes > 0]
    usual = float(np.median(parts)) if parts.size else EPSILON
    return max(usual, EPSILON) if usual < CHAOS else EPSILON


def _growth(order: int) -> float:
    """Return the spread of a difference of that order of values with independent errors of spread 1."""
    squares = 1.0
    for number in range(order):
        squares *= (2 * order - number) / (order - number)
    return float(np.sqrt(squares))
