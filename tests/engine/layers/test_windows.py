"""The tiles of pooling."""

import numpy as np

from wn.engine.layers import windows


def test_tiles_are_views_in_row_major_order():
    x = np.arange(4.0 * 7).reshape(1, 1, 4, 7, 1)
    tiles = windows.tiles(x, (2, 3))
    assert [tile[0, 0, 0, 0, 0] for tile in tiles] == [0, 1, 2, 7, 8, 9]
    assert {tile.shape for tile in tiles} == {(1, 1, 2, 2, 1)}
    assert all(np.shares_memory(tile, x) for tile in tiles)
