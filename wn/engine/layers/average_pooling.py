"""Average pooling: the mean of each window. Derived in docs/layers/average_pooling.md."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

from wn.engine.layers.base import Formula
from wn.engine.layers.sliding import average_pooling as sliding
from wn.engine.layers.sliding.pooling import Pooling
from wn.engine.layers.windows import Array, Pair, checked_flag, tiled, tiles, unit


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


@dataclass(frozen=True)
class AveragePooling(Pooling):
    """An average pooling in a network: the mean of each window.

    window, stride, dilation: (height, width), or an integer for both; the stride is the window where none is
    given. padding: as of a convolution. count_include_pad: whether it counts in the divisor; what lies beyond
    it never does. ceil_mode: a last window may reach beyond the padding. dilation: pixels from one place of a
    window to the next. As `torch.nn.AvgPool2d`, and ONNX's AveragePool, whose count_include_pad is 0 by
    default. Raises WnError for settings out of range, and for images with windows that see padding alone.
    Derived in docs/layers/average_pooling.md.
    """

    kind = "an average pooling"
    recordable = True
    formula = FORMULA
    general = sliding.FORMULA
    ceil_mode: bool = False
    count_include_pad: bool = True
    dilation: int | Pair = (1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_flag("count_include_pad of an average pooling", self.count_include_pad)

    @property
    def static(self) -> tuple[Any, ...]:
        """See `Pooling.static`; and whether padding counts."""
        return super().static if self.usual else (self.sliding, self.count_include_pad)
