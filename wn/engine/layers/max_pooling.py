"""Max pooling: the largest value of each window. Derived in docs/layers/max_pooling.md."""

from types import ModuleType
from typing import NamedTuple

from wn.engine.layers.base import Formula, Pooling
from wn.engine.layers.windows import Array, Pair, tiled, tiles


class MaxPoolingCache(NamedTuple):
    """What backward needs: input and output, which tell where the largest values were, and the window."""

    x: Array
    y: Array
    window: Pair


def forward(xp: ModuleType, params: tuple[()], x: Array, window: Pair) -> tuple[Array, MaxPoolingCache]:
    """Take the largest value of each of the windows that tile the image.

    y[p,c,u,v,n] = max_i,j x[p, c, u·KH + i, v·KW + j, n], 0 ≤ i < KH, 0 ≤ j < KW.

    x: (P|1, C, H, W, B); y: (P|1, C, ⌊H/KH⌋, ⌊W/KW⌋, B): rows and columns that fill no window are dropped.
    Derived in docs/layers/max_pooling.md.
    """
    first, *others = tiles(x, window)  # the pixels at each place (i, j) of all windows: (P|1, C, H', W', B)
    y = first.copy()
    for tile in others:
        xp.maximum(y, tile, out=y)
    return y, MaxPoolingCache(x, y, window)


def backward(xp: ModuleType, dy: Array, cache: MaxPoolingCache) -> tuple[Array, tuple[()]]:
    """dx: dy at the place of each window's largest value, 0 elsewhere.

    Where several are equally large, the first in row-major order of the window gets all of dy, as in PyTorch.
    dy: (P, C, H', W', B); dx: (P, C, H, W, B).
    """
    x, y, window = cache
    dx = tiled(xp, (dy.shape[0], *x.shape[1:]), window, dy.dtype)
    free = xp.ones(y.shape, bool)  # windows whose largest value has not come yet
    for tile, dtile in zip(tiles(x, window), tiles(dx, window), strict=True):
        found = tile == y
        found |= tile != tile  # NaN
        found &= free
        free ^= found
        dtile[...] = xp.where(found, dy, dy.dtype.type(0))
    return dx, ()


FORMULA = Formula(forward, backward)


class MaxPooling(Pooling):
    """A max pooling with stride = window (height, width) in a network."""

    kind = "a max pooling"
    recordable = True
    formula = FORMULA
