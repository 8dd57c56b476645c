"""Convolution by columns: what each tap of the kernel sees is copied, so that BLAS can do the sums.

    cols[row·KW + j, (q, n)] = x[p, c, u·SH + i − PH, v·SW + j − PW, n]   for row = c·KH + i and q = u·V + v,

0 outside the image. Then y = w cols + b, dw = dy colsᵀ, and dx sums wᵀ dy at the pixels that the columns were
copied from. Copying pays when many outputs use the columns; see `convolution.prefers_direct`.

Columns are made in blocks that stay in the caches: some rows of the kernel, some places q, and the samples of
a tile. BLAS rounds by the place in a block: so blocks depend on the shapes of one member alone, and those of
a sample are the same in every batch of whole tiles.

Letters: P members, O outputs, C channels, H×W pixels, KH×KW taps, U×V places of the kernel, B samples.
"""

from typing import Any

import numba
import numpy as np

from wn.engine.backends.numba.kernels.compile import parallel, serial
from wn.engine.backends.numba.kernels.products import NO, YES, flat_sum, gemm

Array = Any
Pair = tuple[int, int]
Block = tuple[int, int, int, int]  # first place, places, first sample, samples

TILE = 256  # samples; evaluation batches are whole tiles
WIDTH = 512  # places times samples in a block, about
HEIGHT = 512  # taps in a block, about: so many values of each column make a product that keeps BLAS busy
PARTS = 4  # of the work of a member, at least, if there are so many


@parallel()
def convolution(address: int, x: Array, w: Array, b: Array, y: Array, stride: Pair, pad: Pair) -> None:
    """Write y[p,o,u,v,n] = b[p,o] + Σ_c,i,j w[p,o,c,i,j] x[p, c, u·SH + i − PH, v·SW + j − PW, n].

    address: of BLAS's gemm; x: (P|1, C, H, W, B), 0 outside the image; w: (P|1, O, C, KH, KW); b: (P|1, O);
    y: (P, O, U, V, B).
    """
    members, places = len(y), y.shape[2] * y.shape[3]
    size, tile = _block_size(places, y.shape[4])
    parts, tiles = -(-places // size), -(-y.shape[4] // tile)
    for item in numba.prange(members * parts * tiles):
        p, q, n = item // (parts * tiles), item // tiles % parts * size, item % tiles * tile
        block = q, min(size, places - q), n, min(tile, y.shape[4] - n)
        _block_of_outputs(address, x[p % len(x)], w[p % len(w)], b[p % len(b)], y[p], block, stride, pad)


@parallel()
def convolution_gradients(
    address: int, dy: Array, x: Array, dw: Array, db: Array, stride: Pair, pad: Pair
) -> None:
    """Write dw[p,o,c,i,j] = Σ_u,v,n dy[p,o,u,v,n] x[p, c, u·SH + i − PH, v·SW + j − PW, n], db = Σ_u,v,n dy.

    address: of BLAS's gemm; dy: (P, O, U, V, B); x: (P|1, C, H, W, B), 0 outside the image;
    dw: (P, O, C, KH, KW); db: (P, O).
    """
    members, _, channels, kernel_h, kernel_w = dw.shape
    rows = _even_part(channels * kernel_h, HEIGHT // kernel_w)
    parts = -(-channels * kernel_h // rows)
    for item in numba.prange(members * parts):
        p, row = item // parts, item % parts * rows
        last = min(row + rows, channels * kernel_h)
        _rows_of_kernels(address, dy[p], x[p % len(x)], dw[p], db[p], row, last, stride, pad)


@parallel()
def convolution_input_gradient(address: int, w: Array, dy: Array, dx: Array, stride: Pair, pad: Pair) -> None:
    """Write dx[p,c,h,k,n] = Σ_o,i,j w[p,o,c,i,j] dy[p,o,u,v,n] over u·SH + i − PH = h and v·SW + j − PW = k.

    address: of BLAS's gemm; w: (P|1, O, C, KH, KW); dy: (P, O, U, V, B); dx: (P, C, H, W, B), 0 where no
    window covers a pixel.
    """
    members, channels = dx.shape[:2]
    step = _even_part(channels, HEIGHT // (w.shape[3] * w.shape[4]))
    parts = -(-channels // step)
    for item in numba.prange(members * parts):
        p, c = item // parts, item % parts * step
        last = min(c + step, channels)
        _channels_of_pixels(address, w[p % len(w)], dy[p], dx[p], c, last, stride, pad)


# ---- blocks ---------------------------------------------------------------------------------------------


@serial()
def _block_size(places: int, batch: int) -> Pair:
    """Return the places and samples of a block: many places of a small batch, one place of a tile."""
    if batch > TILE:
        return 1, TILE  # several places would not lie side by side in y
    return max(min(WIDTH // batch, places // PARTS), 1), batch


@serial()
def _even_part(count: int, most: int) -> int:
    """Return the length of even parts of a count: PARTS of them or so, more if they would exceed `most`."""
    parts = max(-(-count // max(most, 1)), min(PARTS, count))
    return -(-count // parts)


# ---- what one thread does at a time: arrays of one member, without the leading axis -----------------------


@serial()
def _block_of_outputs(
    address: int, x: Array, w: Array, b: Array, y: Array, block: Block, stride: Pair, pad: Pair
) -> None:
    """Write a block of every output."""
    outputs, channels, kernel_h, kernel_w = w.shape
    taps, places, width = channels * kernel_h * kernel_w, y.shape[1] * y.shape[2], block[1] * block[3]
    begin, row_length = block[0] * y.shape[3] + block[2], places * y.shape[3]
    flat = y.reshape(outputs, -1)
    for o in range(outputs):
        flat[o, begin : begin + width] = b[o]
    rows = max(HEIGHT // kernel_w, 1)
    cols = np.empty(rows * kernel_w * width, x.dtype)
    for row in range(0, channels * kernel_h, rows):
        last = min(row + rows, channels * kernel_h)
        _columns(cols, x, w.shape, y.shape, row, last, block, stride, pad)
        ws, ys, height = w.reshape(-1)[row * kernel_w :], flat[0, begin:], (last - row) * kernel_w
        gemm(address, NO, NO, width, outputs, height, cols, width, ws, taps, 1.0, ys, row_length)


@serial()
def _rows_of_kernels(
    address: int, dy: Array, x: Array, dw: Array, db: Array, row: int, last: int, stride: Pair, pad: Pair
) -> None:
    """Write the gradients of rows row … last − 1 of the C·KH rows of every kernel."""
    outputs, channels, kernel_h, kernel_w = dw.shape
    taps, places, batch = channels * kernel_h * kernel_w, dy.shape[1] * dy.shape[2], dy.shape[3]
    size, tile = _block_size(places, batch)
    height = (last - row) * kernel_w
    cols, dws = np.empty(height * size * tile, x.dtype), dw.reshape(-1)[row * kernel_w :]
    beta = 0.0
    for q in range(0, places, size):
        for n in range(0, batch, tile):
            block = q, min(size, places - q), n, min(tile, batch - n)
            _columns(cols, x, dw.shape, dy.shape, row, last, block, stride, pad)
            dys, width = dy.reshape(-1)[q * batch + n :], block[1] * block[3]
            gemm(address, YES, NO, height, outputs, width, cols, width, dys, places * batch, beta, dws, taps)
            beta = 1.0
    if row == 0:
        for o in range(outputs):
            db[o] = flat_sum(dy[o].reshape(-1))


@serial()
def _channels_of_pixels(
    address: int, w: Array, dy: Array, dx: Array, c: int, last: int, stride: Pair, pad: Pair
) -> None:
    """Write the gradients of channels c … last − 1."""
    outputs, channels, kernel_h, kernel_w = w.shape
    taps, places, batch = channels * kernel_h * kernel_w, dy.shape[1] * dy.shape[2], dy.shape[3]
    size, tile = _block_size(places, batch)
    height = (last - c) * kernel_h * kernel_w
    cols, ws = np.empty(height * size * tile, dy.dtype), w.reshape(-1)[c * kernel_h * kernel_w :]
    dx[c:last] = 0
    for q in range(0, places, size):
        for n in range(0, batch, tile):
            block = q, min(size, places - q), n, min(tile, batch - n)
            dys, width = dy.reshape(-1)[q * batch + n :], block[1] * block[3]
            gemm(address, NO, YES, width, height, outputs, dys, places * batch, ws, taps, 0.0, cols, width)
            _add_columns(cols, dx, w.shape, dy.shape, c * kernel_h, last * kernel_h, block, stride, pad)


# ---- columns --------------------------------------------------------------------------------------------


@serial()
def _columns(
    cols: Array,
    x: Array,
    kernel: tuple[int, ...],
    output: tuple[int, ...],
    begin: int,
    end: int,
    block: Block,
    stride: Pair,
    pad: Pair,
) -> None:
    """Copy what rows begin … end − 1 of the kernel (O, C, KH, KW) see from the places of a block."""
    zero = x.dtype.type(0)
    first, places, sample, samples = block
    at = 0
    for row in range(begin, end):
        for j in range(kernel[3]):
            for q in range(first, first + places):
                h = q // output[2] * stride[0] + row % kernel[2] - pad[0]
                k = q % output[2] * stride[1] + j - pad[1]
                column = cols[at : at + samples]
                if 0 <= h < x.shape[1] and 0 <= k < x.shape[2]:
                    pixel = x[row // kernel[2], h, k, sample:]
                    for n in range(len(column)):
                        column[n] = pixel[n]
                else:
                    for n in range(len(column)):
                        column[n] = zero
                at += samples


@serial()
def _add_columns(
    cols: Array,
    dx: Array,
    kernel: tuple[int, ...],
    output: tuple[int, ...],
    begin: int,
    end: int,
    block: Block,
    stride: Pair,
    pad: Pair,
) -> None:
    """Add columns to the pixels that `_columns` copied from."""
    first, places, sample, samples = block
    at = 0
    for row in range(begin, end):
        for j in range(kernel[3]):
            for q in range(first, first + places):
                h = q // output[2] * stride[0] + row % kernel[2] - pad[0]
                k = q % output[2] * stride[1] + j - pad[1]
                if 0 <= h < dx.shape[1] and 0 <= k < dx.shape[2]:
                    column, pixel = cols[at : at + samples], dx[row // kernel[2], h, k, sample:]
                    for n in range(len(column)):
                        pixel[n] += column[n]
                at += samples
