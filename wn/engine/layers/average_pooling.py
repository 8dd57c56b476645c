"""Average pooling: the mean of each window. Derived in docs/layers/average_pooling.md."""

from types import ModuleType
from typing import NamedTuple

from wn.engine.layers.base import Formula, Pooling
from wn.engine.layers.windows import Array, Pair, tiled, tiles, unit


class AveragePoolingCache(NamedTuple):
    """What backward needs: height and width of the input, and the window."""

    size: Pair
    window: Pair


def forward(xp: ModuleType, params: tuple[()], x: Array, window: Pair) -> tuple[Array, AveragePoolingCache]:
    """Take the mean of each of the windows that tile the image.

    y[p,c,u,v,n] = Σ_i,j x[p, c, u·KH + i, v·KW + j, n] / (KH·KW), 0 ≤ i < KH, 0 ≤ j < KW.

    x: (P|1, C, H, W, B); y: (P|1, C, ⌊H/KH⌋, ⌊W/KW⌋, B): rows and columns that fill no window are dropped.
    A window of (1, 1) is the identity: y is x itself. Derived in docs/layers/average_pooling.md.
    """
    cache, count = AveragePoolingCache(x.shape[2:4], window), window[0] * window[1]
    if window == (1, 1):
        return x, cache
    first, *others = tiles(x, window)  # the pixels at each place (i, j) of all windows: (P|1, C, H', W', B)
    y = first.copy()
    for tile in others:
        y += tile
    y /= count
    beyond = ~xp.isfinite(y)  # a sum does not fit; the mean does
    if beyond.any():
        total = first[beyond] * x.dtype.type(unit(count))
        for tile in others:
            total += tile[beyond] * x.dtype.type(unit(count))
        y[beyond] = total / (count * unit(count))
    return y, cache


def backward(xp: ModuleType, dy: Array, cache: AveragePoolingCache) -> tuple[Array, tuple[()]]:
    """dx = dy / (KH·KW) at every place of each window, 0 in dropped rows and columns.

    dy: (P, C, H', W', B); dx: (P, C, H, W, B).
    """
    size, window = cache
    if window == (1, 1):
        return dy, ()
    dx = tiled(xp, (*dy.shape[:2], *size, dy.shape[4]), window, dy.dtype)
    for dtile in tiles(dx, window):
        dtile[...] = dy / (window[0] * window[1])
    return dx, ()


FORMULA = Formula(forward, backward)


class AveragePooling(Pooling):
    """An average pooling with stride = window (height, width) in a network."""

    kind = "an average pooling"
    recordable = True
    formula = FORMULA
