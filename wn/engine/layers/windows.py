"""Windows that slide over images: their geometry, and the columns that turn a convolution into a product.

An image batch is (P|1, C, H, W, B). With the batch last, what one place (c, i, j) of the kernel sees,
for every place (u, v) of the output, is a strided slice of the image: columns are filled without transposes.
"""

from collections.abc import Iterator
from math import prod
from types import ModuleType
from typing import Any, NamedTuple

from wn.basics.errors import WnError

Array = Any  # NumPy's and CuPy's arrays share an interface but no base class
Pair = tuple[int, int]  # along height and width


def check_pair(what: str, pair: Pair, at_least: int) -> None:
    """Raise WnError unless `pair` is two integers of at least `at_least`."""
    if not isinstance(pair, tuple) or len(pair) != 2 or any(type(value) is not int for value in pair):
        raise WnError(f"{what} is {pair!r}: it must be a pair of integers (height, width)")
    if min(pair) < at_least:
        raise WnError(f"{what} is {pair}: both must be at least {at_least}")


class Sliding(NamedTuple):
    """How a kernel moves: its size, its steps, and the zeros around the image."""

    kernel: Pair
    stride: Pair
    padding: Pair

    def places(self, height: int, width: int) -> Pair:
        """Return (H', W') = ⌊(size + 2·padding − kernel) / stride⌋ + 1, ≤ 0 where the kernel does not fit."""
        return (
            (height + 2 * self.padding[0] - self.kernel[0]) // self.stride[0] + 1,
            (width + 2 * self.padding[1] - self.kernel[1]) // self.stride[1] + 1,
        )


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


def pad(xp: ModuleType, x: Array, padding: Pair) -> Array:
    """Put zeros around the images: (P|1, C, H, W, B) → (P|1, C, H + 2·PH, W + 2·PW, B)."""
    if padding == (0, 0):
        return x
    population, channels, height, width, batch = x.shape
    (top, left), shape = padding, (height + 2 * padding[0], width + 2 * padding[1])
    padded = xp.zeros((population, channels, *shape, batch), x.dtype)
    padded[:, :, top : top + height, left : left + width] = x
    return padded


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


def columns(view: Array, block: Block) -> Array:
    """Copy a block of `seen`: (P|1, C, KH, KW, H', W', B) → (members, C·KH·KW, rows·W'·samples), im2col."""
    part = view[block.members, ..., block.rows, :, block.samples]
    return part.reshape(part.shape[0], prod(part.shape[1:4]), prod(part.shape[4:]))


def add_columns(dx: Array, dcolumns: Array, i: int, kernel_w: int, stride: Pair, rows: slice) -> None:
    """Add the gradients of row i of the kernel to the pixels that `columns` copied from, col2im.

    dx (members, C, H, W, samples) is changed in place; dcolumns: (members, C·KW, rows·W'·samples) of output
    rows u in `rows`: entry (c, j), (u, v, n) goes to pixel (u·SH + i, v·SW + j) of channel c and sample n.
    """
    members, channels, _, _, samples = dx.shape
    parts = dcolumns.reshape(members, channels, kernel_w, rows.stop - rows.start, -1, samples)
    last_row, last_column = i + (rows.stop - 1) * stride[0], (parts.shape[4] - 1) * stride[1]
    pixels = dx[:, :, i + rows.start * stride[0] : last_row + 1 : stride[0]]
    for j in range(kernel_w):
        pixels[:, :, :, j : j + last_column + 1 : stride[1]] += parts[:, :, j]


def tiles(x: Array, window: Pair) -> list[Array]:
    """Return, for each place of the window in row-major order, what it sees of non-overlapping windows.

    x: (P|1, C, H, W, B); each of the KH·KW views: (P|1, C, ⌊H/KH⌋, ⌊W/KW⌋, B).
    """
    height, width = (x.shape[2] // window[0]) * window[0], (x.shape[3] // window[1]) * window[1]
    return [
        x[:, :, i : height : window[0], j : width : window[1]]
        for i in range(window[0])
        for j in range(window[1])
    ]


def unit(count: int) -> float:
    """The largest power of two that is at most 1/count: `count` numbers times it have a sum in range."""
    return 2.0 ** -(count - 1).bit_length()


def tiled(xp: ModuleType, shape: tuple[int, ...], window: Pair, dtype: Any) -> Array:
    """Return an array (P, C, H, W, B) whose `tiles` are to be written; what no window covers is 0."""
    covered = shape[2] % window[0] == 0 and shape[3] % window[1] == 0
    empty: Array = (xp.empty if covered else xp.zeros)(shape, dtype)
    return empty


def flat_kernels(w: Array) -> Array:
    """Return w (P|1, O, C, KH, KW) as (P|1, O, C·KH·KW)."""
    return w.reshape(w.shape[0], w.shape[1], prod(w.shape[2:]))


def part_of_output(dy: Array, block: Block) -> Array:
    """Return a block of dy (P, O, H', W', B) as (members, O, rows·W'·samples): a view where possible."""
    part = dy[block.members, :, block.rows, :, block.samples]
    return part.reshape(part.shape[0], part.shape[1], prod(part.shape[2:]))


def pooled_shape(what: str, shape: tuple[int, ...], window: Pair) -> tuple[int, ...]:
    """Return (C, ⌊H/KH⌋, ⌊W/KW⌋) for (C, H, W); raise WnError where no window fits."""
    if len(shape) != 3:
        raise WnError(f"{what} takes (channels, height, width), got {shape}")
    channels, height, width = shape
    if height < window[0] or width < window[1]:
        raise WnError(
            f"{what} with a window of {window[0]}×{window[1]} does not fit an image of {height}×{width}"
        )
    return channels, height // window[0], width // window[1]
