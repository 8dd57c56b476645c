"""Max pooling with windows that overlap, with gaps and padding. Derived in docs/layers/max_pooling.md."""

from types import ModuleType
from typing import NamedTuple

from wn.engine.layers.base import Formula
from wn.engine.layers.sliding.places import Window
from wn.engine.layers.windows import Array


class MaxPoolingCache(NamedTuple):
    """What backward needs: input and output, which tell where the largest values were, and the windows."""

    x: Array
    y: Array
    window: Window


def forward(xp: ModuleType, params: tuple[()], x: Array, window: Window) -> tuple[Array, MaxPoolingCache]:
    """Take the largest value of each window; padding is no value.

    y[p,c,u,v,n] = max_i,j x[p, c, u·SH + i·DH − top, v·SW + j·DW − left, n] over the pixels of the image.

    x: (P|1, C, H, W, B); y: (P|1, C, H', W', B). Derived in docs/layers/max_pooling.md.
    """
    y = xp.full((*x.shape[:2], *window.places(x.shape[2:4]), x.shape[4]), -xp.inf, x.dtype)
    for _, out, place in window.seen(x.shape[2:4]):
        y[out] = xp.maximum(y[out], x[place])
    return y, MaxPoolingCache(x, y, window)


def backward(xp: ModuleType, dy: Array, cache: MaxPoolingCache) -> tuple[Array, tuple[()]]:
    """dx: the sum of dy over the windows whose largest value a pixel is.

    Where several are equally large, the first in row-major order of the window gets all of dy, as in PyTorch.
    dy: (P, C, H', W', B); dx: (P, C, H, W, B).
    """
    x, y, window = cache
    dx = xp.zeros((len(dy), *x.shape[1:]), dy.dtype)
    free = xp.ones(y.shape, bool)  # windows whose largest value has not come yet
    for _, out, place in window.seen(x.shape[2:4]):
        pixels = x[place]
        found = (pixels == y[out]) | (pixels != pixels)  # NaN is the largest
        found &= free[out]
        free[out] = free[out] ^ found
        dx[place] += xp.where(found, dy[out], dy.dtype.type(0))
    return dx, ()


FORMULA = Formula(forward, backward)
