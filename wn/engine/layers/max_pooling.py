"""Max pooling: the largest value of each window. Derived in docs/layers/max_pooling.md."""

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from wn.engine.layers.base import Formula
from wn.engine.layers.sliding import max_pooling as sliding
from wn.engine.layers.sliding.pooling import Pooling
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


@dataclass(frozen=True)
class MaxPooling(Pooling):
    """A max pooling in a network: the largest value of each window.

    window, stride, dilation: (height, width), or an integer for both; the stride is the window where none is
    given. padding: as of a convolution; it is never the largest. dilation: pixels from one place of a window
    to the next. ceil_mode: a last window may reach beyond the padding. As `torch.nn.MaxPool2d`, whose padding
    is the same on both sides, and ONNX's MaxPool. Raises WnError for settings out of range, and for images
    with windows that see padding alone. Derived in docs/layers/max_pooling.md.
    """

    kind = "a max pooling"
    recordable = True
    formula = FORMULA
    general = sliding.FORMULA
    dilation: int | Pair = (1, 1)
    ceil_mode: bool = False
