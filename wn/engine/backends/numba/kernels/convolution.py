"""Convolution without columns: every block of outputs is a sum of slices of the images, times weights.

With the batch last, neighbouring pixels of a row lie side by side in memory, each with all its samples. If
the kernel moves by one column, what a tap (c, i, j) sees from a run of neighbouring output columns is one
long slice. With x of a member, and y of one output, as flat arrays,

    y[begin + m] = b + Σ_k kernel[weights[k]] · x[places[k] + m]        for m = 0 … run·B − 1,

where k runs over the taps that see pixels, not padding. A table (places, weights) holds them: one for all
outputs, and for each row and each run of columns that see pixels with the same taps. The columns in the
middle, which see pixels with every tap, are one run; a column at the edge is a run by itself, and so is any
column if the kernel moves by more than one. The gradient of x is such a sum too, of slices of dy; that of w
has the tables of y and sums products of slices.

Two outputs at a time share each value of x, and five taps at a time share each value of y: their ten weights
stay in registers. docs/benchmarks.md says what was measured.

Letters: P members, O outputs, C channels, H×W pixels, KH×KW taps, U×V places of the kernel, B samples.
"""

from typing import Any

import numba
import numpy as np

from wn.engine.backends.numba.kernels.compile import FUSED, SUMS, parallel, serial
from wn.engine.backends.numba.kernels.products import flat_sum
from wn.engine.backends.numba.kernels.rectifier import cut_off

Array = Any
Pair = tuple[int, int]  # along height and width
Run = tuple[int, int, int, int]  # columns, and what the first of them sees: first pixel, first tap, taps

BLOCK = 2048  # values of a slice: two of them and what they are made from fit a first-level cache
TAPS = 200  # taps whose pixels stay in a second-level cache, about, while all outputs use them
KERNEL_ROWS = 30  # of the gradient of w: their pixels stay in a second-level cache as well
ITEMS = 10  # parts of the gradients of w, about, if there are so many pairs of outputs and rows of kernels
MOST_OUTPUTS = 64  # of which sums of slices are faster than columns


# ---- when to use them -----------------------------------------------------------------------------------


def prefers_direct(outputs: int, stride_w: int) -> bool:
    """Whether `convolution` and its gradients are faster here than in `convolution_columns`.

    Copying columns costs the same for every number of outputs, so it pays when there are many: up to 64
    outputs the kernels of this file took 0.4 to 0.9 of the time, with 128 and more 1 to 1.7 times as long.
    Runs of one column, where a kernel moves by several, are short for the loops over them: 1.2 times as long.
    """
    return outputs <= MOST_OUTPUTS and stride_w == 1


def prefers_direct_input_gradient(outputs: int, stride_w: int, kernel_w: int, columns: int) -> bool:
    """Return the same for `convolution_input_gradient`, where rows of dy have V columns.

    Only V − KW + 1 columns of pixels are seen by whole kernels and make one long run; where these are few, as
    with 10 taps and 11 columns, it took 1.6 times as long as by columns; with 5 taps and 8 columns 0.8.
    """
    return prefers_direct(outputs, stride_w) and 2 * (columns - kernel_w + 1) >= kernel_w


# ---- the three kernels ----------------------------------------------------------------------------------


@parallel()
def convolution(x: Array, w: Array, b: Array, y: Array, stride: Pair, pad: Pair, relu: bool) -> None:
    """Write y[p,o,u,v,n] = b[p,o] + Σ_c,i,j w[p,o,c,i,j] x[p, c, u·SH + i − PH, v·SW + j − PW, n].

    x outside the image is 0. x: (P|1, C, H, W, B); w: (P|1, O, C, KH, KW); b: (P|1, O); y: (P, O, U, V, B).
    With `relu`, what is negative is cut off.
    """
    members, rows = len(y), y.shape[2]
    for item in numba.prange(members * rows):
        p, u = item // rows, item % rows
        _row_of_outputs(x[p % len(x)], w[p % len(w)], b[p % len(b)], y[p], u, stride, pad)
        if relu:
            for o in range(y.shape[1]):
                cut_off(y[p, o, u].reshape(-1))


@parallel()
def convolution_input_gradient(w: Array, dy: Array, dx: Array, stride: Pair, pad: Pair) -> None:
    """Write dx[p,c,h,k,n] = Σ_o,i,j w[p,o,c,i,j] dy[p,o,u,v,n] over u·SH + i − PH = h and v·SW + j − PW = k.

    w: (P|1, O, C, KH, KW); dy: (P, O, U, V, B); dx: (P, C, H, W, B), 0 where no window covers a pixel.
    """
    members, height = len(dx), dx.shape[2]
    for item in numba.prange(members * height):
        p, h = item // height, item % height
        _row_of_pixels(w[p % len(w)], dy[p], dx[p], h, stride, pad)


@parallel()
def convolution_gradients(dy: Array, x: Array, dw: Array, db: Array, stride: Pair, pad: Pair) -> None:
    """Write dw[p,o,c,i,j] = Σ_u,v,n dy[p,o,u,v,n] x[p, c, u·SH + i − PH, v·SW + j − PW, n], db = Σ_u,v,n dy.

    dy: (P, O, U, V, B); x: (P|1, C, H, W, B), 0 outside the image; dw: (P, O, C, KH, KW); db: (P, O).
    """
    members, outputs, channels, kernel_h, _ = dw.shape
    pairs, kernel_rows = (outputs + 1) // 2, channels * kernel_h
    parts = min(max(ITEMS // pairs, (kernel_rows + KERNEL_ROWS - 1) // KERNEL_ROWS), kernel_rows)
    length = (kernel_rows + parts - 1) // parts
    parts = (kernel_rows + length - 1) // length
    for item in numba.prange(members * pairs * parts):
        p, o, first = item // (pairs * parts), item // parts % pairs * 2, item % parts * length
        last = min(first + length, kernel_rows)
        _rows_of_kernels(dy[p], x[p % len(x)], dw[p], db[p], o, first, last, stride, pad)


# ---- what one thread does at a time: arrays of one member, without the leading axis -----------------------


@serial()
def _row_of_outputs(x: Array, w: Array, b: Array, y: Array, u: int, stride: Pair, pad: Pair) -> None:
    """Write row u of every output."""
    outputs, _, columns, batch = y.shape
    channels, kernel_h, kernel_w = w.shape[1:]
    taps = channels * kernel_h * kernel_w
    places, weights = np.empty(taps, np.int64), np.empty(taps, np.int64)
    top, v = u * stride[0] - pad[0], 0
    while v < columns:
        run = _seen_by(v, columns, x.shape[2], kernel_w, stride[1], pad[1])
        count = _taps_seeing_pixels(places, weights, 0, channels * kernel_h, x.shape, w.shape, top, run)
        table, begin, length = (places[:count], weights[:count]), (u * columns + v) * batch, run[0] * batch
        _weighted_sums(y.reshape(outputs, -1), begin, length, b, w.reshape(-1), taps, x.reshape(-1), *table)
        v += run[0]


@serial()
def _row_of_pixels(w: Array, dy: Array, dx: Array, h: int, stride: Pair, pad: Pair) -> None:
    """Write row h of every channel's gradient."""
    channels, _, width, batch = dx.shape
    outputs, _, kernel_h, kernel_w = w.shape
    taps = outputs * kernel_h * kernel_w
    places, weights = np.empty(taps, np.int64), np.empty(taps, np.int64)
    zeros, size = np.zeros(channels, dx.dtype), kernel_h * kernel_w
    k = 0
    while k < width:
        run = _seeing(k, width, dy.shape[2], kernel_w, stride[1], pad[1])
        count = _taps_seen_from(places, weights, dy.shape, w.shape, h + pad[0], stride, run)
        table, begin, length = (places[:count], weights[:count]), (h * width + k) * batch, run[0] * batch
        _weighted_sums(
            dx.reshape(channels, -1), begin, length, zeros, w.reshape(-1), size, dy.reshape(-1), *table
        )
        k += run[0]


@serial()
def _rows_of_kernels(
    dy: Array, x: Array, dw: Array, db: Array, o: int, first: int, last: int, stride: Pair, pad: Pair
) -> None:
    """Write the gradients of rows first … last − 1 of the C·KH rows of kernels o and o + 1, if it exists."""
    outputs, rows, columns, batch = dy.shape
    other, kernel_w = min(o + 1, outputs - 1), dw.shape[3]
    taps = (last - first) * kernel_w
    places, weights = np.empty(taps, np.int64), np.empty(taps, np.int64)
    sums = np.zeros((2, taps + 1), dw.dtype)  # the last of them: of dy alone
    dy0, dy1, pixels = dy[o].reshape(-1), dy[other].reshape(-1), x.reshape(-1)
    for u in range(rows):
        v = 0
        while v < columns:
            run = _seen_by(v, columns, x.shape[2], kernel_w, stride[1], pad[1])
            top, begin, length = u * stride[0] - pad[0], (u * columns + v) * batch, run[0] * batch
            count = _taps_seeing_pixels(places, weights, first, last, x.shape, dw.shape, top, run)
            for start in range(0, length, BLOCK):
                block = slice(begin + start, begin + min(start + BLOCK, length))
                table = places[:count], weights[:count]
                _dot(dy0[block], dy1[block], pixels[start:], sums[0], sums[1], *table)
                if first == 0:
                    sums[0, taps] += flat_sum(dy0[block])
                    sums[1, taps] += flat_sum(dy1[block])
            v += run[0]
    for q in range(o, other + 1):
        dkernel = dw[q].reshape(-1)[first * kernel_w :]
        for k in range(taps):
            dkernel[k] = sums[q - o, k]
        if first == 0:
            db[q] = sums[q - o, taps]


# ---- which taps see what --------------------------------------------------------------------------------


@serial()
def _seen_by(v: int, columns: int, width: int, kernel: int, stride: int, pad: int) -> Run:
    """The number of output columns from v on with the same view, and its pixels and taps."""
    left = v * stride - pad
    first = max(-left, 0)
    taps = max(min(width - left, kernel) - first, 0)
    run = 1
    if stride == 1 and taps == kernel:
        run = min(columns, width + pad - kernel + 1) - v
    return run, left + first, first, taps


@serial()
def _taps_seeing_pixels(
    places: Array,
    weights: Array,
    begin: int,
    end: int,
    image: tuple[int, ...],
    kernel: tuple[int, ...],
    top: int,
    run: Run,
) -> int:
    """Fill the table for rows begin … end − 1 of a kernel whose row 0 is at row `top`; return its length.

    image: (C, H, W, B), kernel: (O, C, KH, KW). Weights are counted from row `begin` on.
    """
    _, height, width, batch = image
    _, pixel, first, taps = run
    count = 0
    for row in range(begin, end):
        c, h = row // kernel[2], top + row % kernel[2]
        if 0 <= h < height:
            for t in range(taps):
                places[count] = ((c * height + h) * width + pixel + t) * batch
                weights[count] = (row - begin) * kernel[3] + first + t
                count += 1
    return count


@serial()
def _seeing(k: int, width: int, columns: int, kernel: int, stride: int, pad: int) -> Run:
    """The number of pixels from column k on with the same viewers, and their outputs and taps.

    Output v sees pixel k with tap k + pad − v·stride: the first of the outputs with the last of the taps.
    """
    v = max((k + pad - kernel + stride) // stride, 0)
    taps = max(min((k + pad) // stride, columns - 1) - v + 1, 0)
    run = 1
    if stride == 1 and taps == kernel:
        run = min(width, columns - pad) - k
    return run, v, k + pad - v * stride, taps


@serial()
def _taps_seen_from(
    places: Array,
    weights: Array,
    outputs: tuple[int, ...],
    kernel: tuple[int, ...],
    bottom: int,
    stride: Pair,
    run: Run,
) -> int:
    """Fill the table for a row of pixels, `bottom` being its distance from the padded image's first row.

    outputs: (O, U, V, B), kernel: (O, C, KH, KW). Weights are counted from the kernels of a channel on.
    """
    _, rows, columns, batch = outputs
    _, v, first, taps = run
    count = 0
    for o in range(kernel[0]):
        for i in range(kernel[2]):
            u = (bottom - i) // stride[0]
            if 0 <= u < rows and u * stride[0] + i == bottom:
                for t in range(taps):
                    places[count] = ((o * rows + u) * columns + v + t) * batch
                    weights[count] = (o * kernel[1] * kernel[2] + i) * kernel[3] + first - t * stride[1]
                    count += 1
    return count


# ---- sums of slices -------------------------------------------------------------------------------------


@serial()
def _weighted_sums(
    results: Array,
    begin: int,
    length: int,
    initial: Array,
    kernels: Array,
    step: int,
    source: Array,
    places: Array,
    weights: Array,
) -> None:
    """Write results[r, begin + m] = initial[r] + Σ_k kernels[r·step + weights[k]] · source[places[k] + m].

    m = 0 … length − 1; results: (R, N); initial: (R,); kernels, source: flat.
    """
    last = len(results) - 1
    spare = np.empty(min(length, BLOCK), results.dtype)  # takes the place of a second result where R is odd
    for start in range(0, length, BLOCK):
        block = slice(begin + start, begin + min(start + BLOCK, length))
        pixels = source[start:]
        for k in range(0, max(len(places), 1), TAPS):
            table = places[k : k + TAPS], weights[k : k + TAPS]
            for r in range(0, last + 1, 2):
                y0, other = results[r][block], min(r + 1, last)
                y1 = results[other][block] if other > r else spare[: len(y0)]
                if k == 0:
                    y0[:] = initial[r]
                    y1[:] = initial[other]
                _add(y0, y1, pixels, kernels[r * step :], kernels[other * step :], *table)


@serial()
def _add(y0: Array, y1: Array, x: Array, w0: Array, w1: Array, places: Array, weights: Array) -> None:
    """Add Σ_k w0[weights[k]] · x[places[k] + m] to y0[m], and the same with w1 to y1[m]."""
    fives = len(places) - len(places) % 5
    _add_fives(y0, y1, x, w0, w1, places[:fives], weights[:fives])
    _add_ones(y0, y1, x, w0, w1, places[fives:], weights[fives:])


@serial(FUSED)
def _add_fives(y0: Array, y1: Array, x: Array, w0: Array, w1: Array, places: Array, weights: Array) -> None:
    for k in range(0, len(places), 5):
        # Slices, since LLVM vectorises loops over indices that cannot be negative.
        x0, x1, x2 = x[places[k] :], x[places[k + 1] :], x[places[k + 2] :]
        x3, x4 = x[places[k + 3] :], x[places[k + 4] :]
        k0, k1, k2, k3, k4 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3], weights[k + 4]
        a0, a1, a2, a3, a4 = w0[k0], w0[k1], w0[k2], w0[k3], w0[k4]
        b0, b1, b2, b3, b4 = w1[k0], w1[k1], w1[k2], w1[k3], w1[k4]
        for m in range(len(y0)):
            v0, v1, v2, v3, v4 = x0[m], x1[m], x2[m], x3[m], x4[m]
            sum0 = y0[m] + a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3 + a4 * v4
            sum1 = y1[m] + b0 * v0 + b1 * v1 + b2 * v2 + b3 * v3 + b4 * v4
            y0[m], y1[m] = sum0, sum1


@serial(FUSED)
def _add_ones(y0: Array, y1: Array, x: Array, w0: Array, w1: Array, places: Array, weights: Array) -> None:
    for k in range(len(places)):
        x0, a0, b0 = x[places[k] :], w0[weights[k]], w1[weights[k]]
        for m in range(len(y0)):
            y0[m] += a0 * x0[m]
            y1[m] += b0 * x0[m]


@serial()
def _dot(d0: Array, d1: Array, x: Array, s0: Array, s1: Array, places: Array, weights: Array) -> None:
    """Add Σ_m d0[m] · x[places[k] + m] to s0[weights[k]] for every k, and the same with d1 to s1."""
    fives = len(places) - len(places) % 5
    _dot_fives(d0, d1, x, s0, s1, places[:fives], weights[:fives])
    _dot_ones(d0, d1, x, s0, s1, places[fives:], weights[fives:])


@serial(SUMS)
def _dot_fives(d0: Array, d1: Array, x: Array, s0: Array, s1: Array, places: Array, weights: Array) -> None:
    for k in range(0, len(places), 5):
        x0, x1, x2 = x[places[k] :], x[places[k + 1] :], x[places[k + 2] :]
        x3, x4 = x[places[k + 3] :], x[places[k + 4] :]
        a0 = a1 = a2 = a3 = a4 = b0 = b1 = b2 = b3 = b4 = x.dtype.type(0)
        for m in range(len(d0)):
            e0, e1 = d0[m], d1[m]
            v0, v1, v2, v3, v4 = x0[m], x1[m], x2[m], x3[m], x4[m]
            a0, a1, a2, a3, a4 = a0 + e0 * v0, a1 + e0 * v1, a2 + e0 * v2, a3 + e0 * v3, a4 + e0 * v4
            b0, b1, b2, b3, b4 = b0 + e1 * v0, b1 + e1 * v1, b2 + e1 * v2, b3 + e1 * v3, b4 + e1 * v4
        for t, a, b in ((0, a0, b0), (1, a1, b1), (2, a2, b2), (3, a3, b3), (4, a4, b4)):
            s0[weights[k + t]] += a
            s1[weights[k + t]] += b


@serial(SUMS)
def _dot_ones(d0: Array, d1: Array, x: Array, s0: Array, s1: Array, places: Array, weights: Array) -> None:
    for k in range(len(places)):
        x0 = x[places[k] :]
        a0 = b0 = x.dtype.type(0)
        for m in range(len(d0)):
            a0 += d0[m] * x0[m]
            b0 += d1[m] * x0[m]
        s0[weights[k]] += a0
        s1[weights[k]] += b0
