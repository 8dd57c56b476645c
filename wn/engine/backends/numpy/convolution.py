"""Convolution by products of matrices: columns of the image, in blocks that fit the cache."""

from collections.abc import Iterator
from typing import Any

from wn.engine.backends.numpy.columns import (
    Block,
    add_columns,
    blocks,
    columns_of,
    flat_kernels,
    of_members,
    part_of_output,
    seen,
)
from wn.engine.backends.plain.base import SAMPLE_TILE
from wn.engine.layers.base import Formula
from wn.engine.layers.convolution import ConvolutionCache, ConvolutionParams
from wn.engine.layers.windows import Array, Pair, Sliding, pad

# About so many values are laid out as columns at a time: 4 MiB in float32 stay in a third-level cache.
COLUMNS = 1 << 20


def forward(
    be: Any, params: ConvolutionParams, x: Array, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> tuple[Array, ConvolutionCache]:
    """See `layers.convolution`."""
    w, b = params
    sliding = Sliding(w.shape[3:], stride, padding)
    height, width = sliding.places(*x.shape[2:4])
    y = be.xp.empty((max(len(x), len(w)), w.shape[1], height, width, x.shape[4]), x.dtype)
    kernels, bias = flat_kernels(w), b[:, :, None, None, None]
    for block, columns in _columns(be.xp, x, sliding):
        part = y[block.members, :, block.rows, :, block.samples]
        _product_into(be.xp, part, of_members(kernels, block.members), columns)
        part += of_members(bias, block.members)
    return y, ConvolutionCache(x, w, stride, padding)


def backward(
    be: Any, dy: Array, cache: ConvolutionCache, need_dx: bool = True
) -> tuple[Array | None, ConvolutionParams]:
    """See `layers.convolution`."""
    x, w, stride, padding = cache
    dw = be.xp.zeros((len(dy), *flat_kernels(w).shape[1:]), dy.dtype)
    for block, columns in _columns(be.xp, x, Sliding(w.shape[3:], stride, padding)):
        part = part_of_output(dy, block)
        dw[block.members] += be.xp.matmul(part, columns.transpose(0, 2, 1))
    grads = ConvolutionParams(dw.reshape(-1, *w.shape[1:]), dy.sum(axis=(2, 3, 4)))
    return (input_gradient(be.xp, dy, *cache) if need_dx else None), grads


def input_gradient(xp: Any, dy: Array, x: Array, w: Array, stride: Pair, padding: Pair) -> Array:
    """dx of `layers.convolution`, from what its cache holds."""
    channels, kernel_h, kernel_w = w.shape[2:]
    population, _, rows, columns, batch = dy.shape
    height, width = (length + 2 * zeros for length, zeros in zip(x.shape[2:4], padding, strict=True))
    dx = xp.zeros((population, channels, height, width, batch), dy.dtype)
    per_row = channels * kernel_w * columns
    for block in blocks(population, rows, batch, per_row, COLUMNS, SAMPLE_TILE):
        part, dpart = dx[block.members, ..., block.samples], part_of_output(dy, block)
        for i in range(kernel_h):  # one row of the kernel at a time: its columns stay in the cache
            kernel_row = of_members(flat_kernels(w[:, :, :, i]), block.members)
            dcolumns = xp.matmul(kernel_row.transpose(0, 2, 1), dpart)  # (members, C·KW, rows·W'·samples)
            add_columns(part, dcolumns, i, kernel_w, stride, block.rows)
    return dx[:, :, padding[0] : height - padding[0], padding[1] : width - padding[1]]


def _product_into(xp: Any, part: Array, w: Array, x: Array) -> None:
    """Write the products w[p] x[p], member by member, to a part (P, O, rows, W', samples) of y."""
    flat = part.reshape(part.shape[0], part.shape[1], x.shape[2])
    if xp.may_share_memory(flat, part):
        xp.matmul(w, x, out=flat)
    else:  # reshape made a copy: the part is some samples of a larger batch
        part[...] = xp.matmul(w, x).reshape(part.shape)


def _columns(xp: Any, x: Array, sliding: Sliding) -> Iterator[tuple[Block, Array]]:
    """Yield the columns of x block by block; where x is shared, a block is for all members."""
    view = seen(xp, pad(xp, x, sliding.padding), sliding)
    members, channels, kernel_h, kernel_w, height, width, batch = view.shape
    per_row = channels * kernel_h * kernel_w * width
    for block in blocks(members, height, batch, per_row, COLUMNS, SAMPLE_TILE):
        everyone = block if members > 1 else block._replace(members=slice(None))
        yield everyone, columns_of(view, block)


PAIR = Formula(forward, backward)
