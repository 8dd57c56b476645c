"""The convolution in groups in tiles of samples: a sample's bits do not depend on the rest of the batch."""

from typing import Any

from wn.engine.backends.numpy.columns import pieces_of
from wn.engine.backends.plain.base import SAMPLE_TILE
from wn.engine.layers.base import Formula
from wn.engine.layers.sliding import convolution
from wn.engine.layers.sliding.convolution import GroupedCache
from wn.engine.layers.sliding.places import Window
from wn.engine.layers.windows import Array


def forward(be: Any, params: Any, x: Array, window: Window, groups: int) -> tuple[Array, GroupedCache]:
    """See `layers.sliding.convolution`: as `linear` does it."""
    tiles = pieces_of(x.shape[-1], SAMPLE_TILE)
    parts = [convolution.forward(be.xp, params, x[..., tile], window, groups)[0] for tile in tiles]
    y = parts[0] if len(parts) == 1 else be.xp.concatenate(parts, axis=-1)
    return y, GroupedCache(x, params, window, groups)


def backward(be: Any, dy: Array, cache: GroupedCache, need_dx: bool = True) -> tuple[Array | None, Any]:
    """See `layers.sliding.convolution`: training needs no tiles."""
    return convolution.backward(be.xp, dy, cache, need_dx)


PAIR = Formula(forward, backward)
