"""The columns that turn a convolution into a product of matrices, in blocks of work.

An image batch is (P|1, C, H, W, B). With the batch last, what one place (c, i, j) of the kernel sees,
for every place (u, v) of the output, is a strided slice of the image: columns are filled without transposes.
"""

from collections.abc import Iterator
from math import prod
from types import ModuleType
from typing import NamedTuple

from wn.engine.layers.windows import Array, Pair, Sliding


class Block(NamedTuple):
    """A part of the work: some members, output rows u and samples n."""

    members: slice
    rows: slice
    samples: slice


def blocks(members: int, rows: int, samples: int, size: int, limit: int, tile: int) -> Iterator[Block]:
    """Cut the work into blocks of at most `tile` samples, whose columns hold about `limit` values.

    `size` values are needed per member, row and sample. Rows are cut without regard to members and to the
    samples of other tiles, so that a sample's block looks the same in every batch and population.
    """
    for n in pieces_of(samples, tile):
        columns = size * (n.stop - n.start)
        for p in even_pieces(members, max(limit // (columns * rows), 1)):
            for u in even_pieces(rows, max(limit // columns, 1)):
                yield Block(p, u, n)


def pieces_of(count: int, step: int) -> Iterator[slice]:
    """Cut 0 … count − 1 into slices of `step`, and what is left."""
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def even_pieces(count: int, most: int) -> Iterator[slice]:
    """Cut 0 … count − 1 into as few slices of at most `most` as possible, of about equal length."""
    yield from pieces_of(count, -(-count // -(-count // most)))


def of_members(array: Array, members: slice) -> Array:
    """The part of an array (P, …) or (1, …) that belongs to these members."""
    return array if array.shape[0] == 1 else array[members]


def seen(xp: ModuleType, padded: Array, sliding: Sliding) -> Array:
    """The pixels under each place of the kernel at each place of the output, as a view without copies.

    seen[p,c,i,j,u,v,n] = x[p, c, u·SH + i, v·SW + j, n]; padded: (P|1, C, H, W, B);
    seen: (P|1, C, KH, KW, H', W', B), whose elements overlap in memory: read only.
    """
    population, channels, height, width, batch = padded.shape
    places = sliding._replace(padding=(0, 0)).places(height, width)
    member, channel, row, column, sample = padded.strides
    return xp.lib.stride_tricks.as_strided(
        padded,
        (population, channels, *sliding.kernel, *places, batch),
        (member, channel, row, column, row * sliding.stride[0], column * sliding.stride[1], sample),
    )


def columns_of(view: Array, block: Block) -> Array:
    """Copy a block of `seen`: (P|1, C, KH, KW, H', W', B) → (members, C·KH·KW, rows·W'·samples), im2col."""
    part = view[block.members, ..., block.rows, :, block.samples]
    return part.reshape(part.shape[0], prod(part.shape[1:4]), prod(part.shape[4:]))


def add_columns(dx: Array, dcolumns: Array, i: int, kernel_w: int, stride: Pair, rows: slice) -> None:
    """Add the gradients of row i of the kernel to the pixels that `columns_of` copied from, col2im.

    dx (members, C, H, W, samples) is changed in place; dcolumns: (members, C·KW, rows·W'·samples) of output
    rows u in `rows`: entry (c, j), (u, v, n) goes to pixel (u·SH + i, v·SW + j) of channel c and sample n.
    """
    members, channels, _, _, samples = dx.shape
    parts = dcolumns.reshape(members, channels, kernel_w, rows.stop - rows.start, -1, samples)
    last_row, last_column = i + (rows.stop - 1) * stride[0], (parts.shape[4] - 1) * stride[1]
    pixels = dx[:, :, i + rows.start * stride[0] : last_row + 1 : stride[0]]
    for j in range(kernel_w):
        pixels[:, :, :, j : j + last_column + 1 : stride[1]] += parts[:, :, j]


def flat_kernels(w: Array) -> Array:
    """Return w (P|1, O, C, KH, KW) as (P|1, O, C·KH·KW)."""
    return w.reshape(w.shape[0], w.shape[1], prod(w.shape[2:]))


def part_of_output(dy: Array, block: Block) -> Array:
    """Return a block of dy (P, O, H', W', B) as (members, O, rows·W'·samples): a view where possible."""
    part = dy[block.members, :, block.rows, :, block.samples]
    return part.reshape(part.shape[0], part.shape[1], prod(part.shape[2:]))
