"""Average pooling with overlapping windows, gaps, padding. Derived in docs/layers/average_pooling.md."""

from math import prod
from types import ModuleType
from typing import NamedTuple

from wn.engine.layers.base import Formula
from wn.engine.layers.sliding.places import Window
from wn.engine.layers.windows import Array, Pair, unit


class AveragePoolingCache(NamedTuple):
    """What backward needs: height and width of the input, the windows, and the divisors (H', W')."""

    size: Pair
    window: Window
    divisors: Array


def forward(
    xp: ModuleType, params: tuple[()], x: Array, window: Window, count_include_pad: bool = True
) -> tuple[Array, AveragePoolingCache]:
    """Take the mean of each window.

    y[p,c,u,v,n] = Σ_i,j x[p, c, u·SH + i·DH − top, v·SW + j·DW − left, n] / k[u,v] over the pixels of the
    image; k counts them, or with `count_include_pad` the places of the window in the image with its padding.

    x: (P|1, C, H, W, B); y: (P|1, C, H', W', B). Derived in docs/layers/average_pooling.md.
    """
    size = x.shape[2:4]
    divisors = _divisors(xp, window, size, count_include_pad).astype(x.dtype)
    y = xp.zeros((*x.shape[:2], *divisors.shape, x.shape[4]), x.dtype)
    scale = unit(prod(window.size))  # a power of two: the sum is in range wherever the mean is
    for _, out, place in window.seen(size):
        y[out] += x[place] * scale
    y /= (divisors * scale)[:, :, None]
    return y, AveragePoolingCache(size, window, divisors)


def backward(xp: ModuleType, dy: Array, cache: AveragePoolingCache) -> tuple[Array, tuple[()]]:
    """dx: the sum of dy / k over the windows that see a pixel.

    dy: (P, C, H', W', B); dx: (P, C, H, W, B).
    """
    size, window, divisors = cache
    share = dy / divisors[:, :, None]
    dx = xp.zeros((*dy.shape[:2], *size, dy.shape[4]), dy.dtype)
    for _, out, place in window.seen(size):
        dx[place] += share[out]
    return dx, ()


def _divisors(xp: ModuleType, window: Window, size: Pair, count_include_pad: bool) -> Array:
    """k (H', W'): a product of counts along height and width."""
    rows, columns = (_counted(xp, window, size, axis, count_include_pad) for axis in (0, 1))
    return rows[:, None] * columns


def _counted(xp: ModuleType, window: Window, size: Pair, axis: int, count_include_pad: bool) -> Array:
    """For each position along an axis, the places of the window in the image, or in the padded one."""
    before, after = window.sides(size)[axis]
    low, high = (-before, size[axis] + after) if count_include_pad else (0, size[axis])
    start = xp.arange(window.places(size)[axis]) * window.stride[axis] - before
    pixels = start[:, None] + xp.arange(window.size[axis]) * window.dilation[axis]
    return ((pixels >= low) & (pixels < high)).sum(axis=1)


FORMULA = Formula(forward, backward)
