"""Mean and maximum of each channel. Derived in docs/layers/global_pooling.md."""

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from wn.basics.errors import WnError
from wn.engine.layers.base import Formula, OfFormula, Shape
from wn.engine.layers.windows import Array, Pair, unit


class AverageCache(NamedTuple):
    """What backward needs: height and width of the input."""

    size: Pair


def average_forward(xp: ModuleType, params: tuple[()], x: Array) -> tuple[Array, AverageCache]:
    """Take the mean of each channel.

    y[p,c,0,0,n] = Σ_h,w x[p,c,h,w,n] / (H·W). x: (P|1, C, H, W, B); y: (P|1, C, 1, 1, B).
    Derived in docs/layers/global_pooling.md.
    """
    size = x.shape[2:4]
    count = size[0] * size[1]
    scaled = x * unit(count)  # a power of two: the sum is in range wherever the mean is
    y = scaled.sum(axis=3, keepdims=True).sum(axis=2, keepdims=True) / (count * unit(count))
    return y, AverageCache(size)


def average_backward(xp: ModuleType, dy: Array, cache: AverageCache) -> tuple[Array, tuple[()]]:
    """dx = dy / (H·W) everywhere. dy: (P, C, 1, 1, B); dx: (P, C, H, W, B)."""
    (height, width) = cache.size
    dx = xp.empty((*dy.shape[:2], height, width, dy.shape[4]), dy.dtype)
    dx[...] = dy / (height * width)
    return dx, ()


class MaximumCache(NamedTuple):
    """What backward needs: height and width of the input, and where the largest values were, h·W + w."""

    size: Pair
    place: Array


def maximum_forward(xp: ModuleType, params: tuple[()], x: Array) -> tuple[Array, MaximumCache]:
    """Take the largest value of each channel; NaN is larger than everything.

    y[p,c,0,0,n] = max_h,w x[p,c,h,w,n]. x: (P|1, C, H, W, B); y: (P|1, C, 1, 1, B).
    Derived in docs/layers/global_pooling.md.
    """
    pixels = x.reshape(*x.shape[:2], -1, x.shape[4])  # (P|1, C, H·W, B)
    y = pixels.max(axis=2)[:, :, None, None]
    return y, MaximumCache(x.shape[2:4], pixels.argmax(axis=2))


def maximum_backward(xp: ModuleType, dy: Array, cache: MaximumCache) -> tuple[Array, tuple[()]]:
    """dx: dy at the largest value, the first in row-major order if there are several; 0 elsewhere.

    dy: (P, C, 1, 1, B); dx: (P, C, H, W, B).
    """
    height, width = cache.size
    here = xp.arange(height * width)[:, None] == cache.place[:, :, None]  # (P|1, C, H·W, B)
    dx = xp.where(here, dy[:, :, 0], dy.dtype.type(0))
    return dx.reshape(*dx.shape[:2], height, width, dx.shape[3]), ()


AVERAGE = Formula(average_forward, average_backward)
MAXIMUM = Formula(maximum_forward, maximum_backward)


class _GlobalPooling(OfFormula):
    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) → (C, 1, 1)."""
        if len(shape) != 3:
            raise WnError(f"a global pooling takes (channels, height, width), got {shape}")
        return shape[0], 1, 1


@dataclass(frozen=True)
class GlobalAveragePooling(_GlobalPooling):
    """The mean of each channel in a network: (C, H, W) → (C, 1, 1)."""

    formula = AVERAGE
    recordable = True


@dataclass(frozen=True)
class GlobalMaxPooling(_GlobalPooling):
    """The largest value of each channel in a network: (C, H, W) → (C, 1, 1)."""

    formula = MAXIMUM
    recordable = True
