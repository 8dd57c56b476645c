"""ReLU where another kernel has just written, or is about to: while the values are in the cache."""

from typing import Any

from wn.engine.backends.numba.kernels.compile import serial

Array = Any


@serial()
def cut_off(y: Array) -> None:
    """Write y ← max(y, 0) in place, flat; NaN stays NaN, −0 becomes 0."""
    zero = y.dtype.type(0)
    for i in range(len(y)):
        value = y[i]
        y[i] = value if value > zero or value != value else zero  # only NaN differs from itself


@serial()
def mask(dx: Array, y: Array) -> None:
    """Write dx ← dx where y > 0, else 0, in place, flat: y came out of a ReLU."""
    zero = dx.dtype.type(0)
    for i in range(len(dx)):
        dx[i] = dx[i] if y[i] > zero else zero


@serial()
def mask_to(dx: Array, dy: Array, y: Array) -> None:
    """Write dx = dy where y > 0, else 0, flat. dx is another array: vector loops ask for that."""
    zero = dx.dtype.type(0)
    for i in range(len(dx)):
        dx[i] = dy[i] if y[i] > zero else zero
