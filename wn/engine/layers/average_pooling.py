"""Average pooling: the mean of each window. Derived in docs/layers/average_pooling.md."""

from typing import NamedTuple

from wn.engine.backends.plain.base import Array, Backend
from wn.engine.backends.plain.windows import Pair
from wn.engine.layers.base import Pooling


class AveragePoolingCache(NamedTuple):
    """What backward needs: height and width of the input, and the window."""

    size: Pair
    window: Pair


def forward(be: Backend, params: tuple[()], x: Array, window: Pair) -> tuple[Array, AveragePoolingCache]:
    """Take the mean of each of the windows that tile the image.

    y[p,c,u,v,n] = Σ_i,j x[p, c, u·KH + i, v·KW + j, n] / (KH·KW), 0 ≤ i < KH, 0 ≤ j < KW.

    x: (P|1, C, H, W, B); y: (P|1, C, ⌊H/KH⌋, ⌊W/KW⌋, B): rows and columns that fill no window are dropped.
    A window of (1, 1) is the identity: y is x itself. Derived in docs/layers/average_pooling.md.
    """
    y = x if window == (1, 1) else be.average_pool(x, window)
    return y, AveragePoolingCache(x.shape[2:4], window)


def backward(be: Backend, dy: Array, cache: AveragePoolingCache) -> tuple[Array, tuple[()]]:
    """Return dx = dy / (KH·KW) at every place of each window, 0 in dropped rows and columns.

    dy: (P, C, H', W', B); dx: (P, C, H, W, B).
    """
    if cache.window == (1, 1):
        return dy, ()
    return be.average_pool_backward(dy, cache.size, cache.window), ()


class AveragePooling(Pooling):
    """An average pooling with stride = window (height, width) in a network."""

    kind = "an average pooling"
    recordable = True
    pool = staticmethod(forward)
    pool_backward = staticmethod(backward)
