"""The linear layer in tiles of samples."""

from typing import Any

from wn.engine.backends.plain.base import SAMPLE_TILE
from wn.engine.layers import linear
from wn.engine.layers.base import Formula
from wn.engine.layers.linear import LinearCache, LinearParams
from wn.engine.layers.windows import Array


def forward(be: Any, params: LinearParams, x: Array) -> tuple[Array, LinearCache]:
    """See `layers.linear`.

    BLAS may round a column differently according to its place among the others. Products are therefore
    taken member by member and in tiles of SAMPLE_TILE columns: a member's result does not depend on the
    population, nor a sample's on the batch, if batches begin at multiples of the tile.
    """
    w, b = params
    batch = x.shape[2]
    y = be.xp.empty((max(len(w), len(x)), w.shape[1], batch), x.dtype)
    for start in range(0, batch, SAMPLE_TILE):
        tile = slice(start, start + SAMPLE_TILE)
        be.xp.matmul(w, x[:, :, tile], out=y[:, :, tile])
    y += b[:, :, None]
    return y, LinearCache(x, w)


def backward(
    be: Any, dy: Array, cache: LinearCache, need_dx: bool = True
) -> tuple[Array | None, LinearParams]:
    """See `layers.linear`: training needs no tiles."""
    return linear.backward(be.xp, dy, cache, need_dx)


PAIR = Formula(forward, backward)
