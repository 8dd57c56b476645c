"""Max pooling: the largest value of each window. Derived in docs/layers/max_pooling.md."""

from typing import NamedTuple

from wn.engine.backends.plain.base import Array, Backend
from wn.engine.backends.plain.windows import Pair
from wn.engine.layers.base import Pooling


class MaxPoolingCache(NamedTuple):
    """What backward needs: input and output, which tell where the largest values were, and the window."""

    x: Array
    y: Array
    window: Pair


def forward(be: Backend, params: tuple[()], x: Array, window: Pair) -> tuple[Array, MaxPoolingCache]:
    """Take the largest value of each of the windows that tile the image.

    y[p,c,u,v,n] = max_i,j x[p, c, u·KH + i, v·KW + j, n], 0 ≤ i < KH, 0 ≤ j < KW.

    x: (P|1, C, H, W, B); y: (P|1, C, ⌊H/KH⌋, ⌊W/KW⌋, B): rows and columns that fill no window are dropped.
    Derived in docs/layers/max_pooling.md.
    """
    y = be.max_pool(x, window)
    return y, MaxPoolingCache(x, y, window)


def backward(be: Backend, dy: Array, cache: MaxPoolingCache) -> tuple[Array, tuple[()]]:
    """Return dx: dy at the place of each window's largest value, 0 elsewhere.

    Where several are equally large, the first in row-major order of the window gets all of dy, as in PyTorch.
    dy: (P, C, H', W', B); dx: (P, C, H, W, B).
    """
    return be.max_pool_backward(dy, cache.x, cache.y, cache.window), ()


class MaxPooling(Pooling):
    """A max pooling with stride = window (height, width) in a network."""

    kind = "a max pooling"
    recordable = True
    pool = staticmethod(forward)
    pool_backward = staticmethod(backward)
