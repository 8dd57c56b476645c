"""Blocks of work, columns and their transpose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.engine.backends.numpy import columns as numpy_columns
from wn.engine.backends.numpy.columns import Block
from wn.engine.layers.windows import Sliding
from wn.testing import strategies as shapes

SIZES = st.integers(1, 7)


@given(SIZES, SIZES, SIZES, SIZES, st.integers(1, 300), SIZES)
def test_blocks_cover_everything_once(members, rows, samples, size, limit, tile):
    seen = np.zeros((members, rows, samples), int)
    for block in numpy_columns.blocks(members, rows, samples, size, limit, tile):
        part = seen[block]
        part += 1
        assert part.shape[2] <= tile
        one_row = size * part.shape[2]
        assert part.size * size <= max(limit, one_row)  # never more than the limit, but for a single row
    np.testing.assert_array_equal(seen, 1)


@given(SIZES, SIZES, st.integers(1, 4), SIZES, st.integers(1, 300), SIZES)
def test_rows_are_cut_without_regard_to_members_and_other_tiles(members, rows, tiles, size, limit, tile):
    def cuts(members, samples):
        return {
            (block.samples.start, block.rows.start, block.rows.stop)
            for block in numpy_columns.blocks(members, rows, samples, size, limit, tile)
        }

    alone = {(start, stop) for _, start, stop in cuts(1, tile)}
    assert cuts(members, tiles * tile) == {(n * tile, *cut) for n in range(tiles) for cut in alone}


@pytest.mark.parametrize(
    ("count", "most", "lengths"),
    [(7, 3, [3, 3, 1]), (8, 3, [3, 3, 2]), (9, 8, [5, 4]), (4, 9, [4]), (3, 1, [1] * 3)],
)
def test_even_pieces(count, most, lengths):
    pieces = list(numpy_columns.even_pieces(count, most))
    assert [piece.stop - piece.start for piece in pieces] == lengths
    assert [piece.start for piece in pieces] == list(np.cumsum([0, *lengths[:-1]]))


@given(shapes.convolution_shapes(size=5), shapes.seeds())
def test_adding_columns_is_the_transpose_of_copying_them(shape, seed):
    """⟨columns(x), g⟩ = ⟨x, columnsᵀ(g)⟩ for all x and g, over blocks of one row."""
    rng = np.random.default_rng(seed)
    population, channels, height, width, batch = shape.x
    x = rng.standard_normal(
        (population, channels, height + 2 * shape.padding[0], width + 2 * shape.padding[1], batch)
    )
    view = numpy_columns.seen(np, x, Sliding(shape.kernel, shape.stride, (0, 0)))
    rows = view.shape[4]
    dx, product = np.zeros_like(x), 0.0
    for u in range(rows):
        block = Block(slice(0, population), slice(u, u + 1), slice(0, batch))
        columns = numpy_columns.columns_of(view, block)
        g = rng.standard_normal(columns.shape)
        product += float((columns * g).sum())
        by_row = g.reshape(population, channels, *shape.kernel, -1)
        for i in range(shape.kernel[0]):
            dcolumns = by_row[:, :, i].reshape(population, channels * shape.kernel[1], -1)
            numpy_columns.add_columns(dx, dcolumns, i, shape.kernel[1], shape.stride, block.rows)
    np.testing.assert_allclose(float((x * dx).sum()), product, rtol=1e-9, atol=1e-9)


def test_columns_are_those_of_the_formula():
    x = np.arange(2.0 * 3 * 4 * 5 * 2).reshape(1, 2, 3 * 4, 5, 2)
    view = numpy_columns.seen(np, x, Sliding((3, 2), (2, 3), (0, 0)))
    assert view.shape == (1, 2, 3, 2, 5, 2, 2)
    for c, i, j, u, v, n in np.ndindex(view.shape[1:]):
        assert view[0, c, i, j, u, v, n] == x[0, c, u * 2 + i, v * 3 + j, n]
    columns = numpy_columns.columns_of(view, Block(slice(0, 1), slice(1, 3), slice(0, 2)))
    np.testing.assert_array_equal(columns, view[:, :, :, :, 1:3].reshape(1, 12, 8))
