"""Pooling kernels: a thread takes a row of windows and walks along the batch, whose samples lie side by side.

Letters: P members, C channels, H×W pixels, U×V windows of KH×KW pixels, U = ⌊H/KH⌋ and V = ⌊W/KW⌋, B samples.
The largest of 2×2, which is what the networks of the study need, has a loop of its own.
"""

from typing import Any

import numba
import numpy as np

from wn.engine.backends.numba.kernels.compile import parallel, serial
from wn.engine.backends.numba.kernels.rectifier import mask

Array = Any


# ---- largest value --------------------------------------------------------------------------------------


@parallel()
def max_pool(x: Array, y: Array, kernel_h: int, kernel_w: int) -> None:
    """Write y[p,c,u,v,n] = max_i,j x[p, c, u·KH + i, v·KW + j, n]; a NaN in a window is its largest value.

    x: (P, C, H, W, B); y: (P, C, U, V, B).
    """
    members, channels, rows, _, _ = y.shape
    for item in numba.prange(members * channels * rows):
        u, c, p = item % rows, item // rows % channels, item // rows // channels
        image = x[p, c, u * kernel_h : (u + 1) * kernel_h]  # (KH, W, B)
        if kernel_h == 2 and kernel_w == 2:
            _largest_of_four(image[0], image[1], y[p, c, u])
        else:
            _largest(image, y[p, c, u], kernel_w)


@serial()
def _largest_of_four(top: Array, bottom: Array, y: Array) -> None:
    """Write the largest of each 2×2 pixels of two rows (W, B) to y (V, B)."""
    for v in range(y.shape[0]):
        for n in range(y.shape[1]):
            upper = np.maximum(top[2 * v + 1, n], top[2 * v, n])
            y[v, n] = np.maximum(bottom[2 * v + 1, n], np.maximum(bottom[2 * v, n], upper))


@serial()
def _largest(image: Array, y: Array, kernel_w: int) -> None:
    """Write the largest of each KH×KW pixels of KH rows (KH, W, B) to y (V, B)."""
    for v in range(y.shape[0]):
        left = v * kernel_w
        for n in range(y.shape[1]):
            y[v, n] = image[0, left, n]
        for i in range(image.shape[0]):
            for j in range(left, left + kernel_w):
                for n in range(y.shape[1]):
                    y[v, n] = np.maximum(image[i, j, n], y[v, n])


@parallel()
def max_pool_backward(
    dy: Array, x: Array, y: Array, dx: Array, kernel_h: int, kernel_w: int, relu: bool
) -> None:
    """Write dx = dy at the first place of each window, row by row, that is its largest value or NaN; else 0.

    dy: (P, C, U, V, B); x: (P|1, C, H, W, B); y: (P|1, C, U, V, B); dx: (P, C, H, W, B). Pixels without a
    window get 0. With `relu`, x came out of a ReLU, and dx is what goes into it.
    """
    members, channels, rows, _, _ = dy.shape
    for item in numba.prange(members * channels * rows):
        u, c, p = item % rows, item // rows % channels, item // rows // channels
        shared = p % len(x)
        image, largest = x[shared, c, u * kernel_h : (u + 1) * kernel_h], y[shared, c, u]
        dimage = dx[p, c, u * kernel_h : (u + 1) * kernel_h]  # (KH, W, B)
        _to_largest(dy[p, c, u], image, largest, dimage, kernel_w)
        if relu:
            mask(dimage.reshape(-1), image.reshape(-1))
        _clear_rest(dx[p, c], u, dy.shape[2:4], kernel_h, kernel_w)


@serial()
def _to_largest(dy: Array, image: Array, y: Array, dx: Array, kernel_w: int) -> None:
    """Give dy (V, B) to the places of the largest values y (V, B); image, dx: (KH, W, B)."""
    zero = dy.dtype.type(0)
    rest = np.empty(dy.shape[1], dy.dtype)  # of dy: 0 where it has been given away
    for v in range(dy.shape[0]):
        for n in range(len(rest)):
            rest[n] = dy[v, n]
        for i in range(image.shape[0]):
            for j in range(v * kernel_w, (v + 1) * kernel_w):
                for n in range(len(rest)):
                    value, given = image[i, j, n], rest[n]
                    found = (value == y[v, n]) | (value != value)
                    dx[i, j, n] = given if found else zero
                    rest[n] = zero if found else given


# ---- mean -----------------------------------------------------------------------------------------------


@parallel()
def average_pool(x: Array, y: Array, kernel_h: int, kernel_w: int) -> None:
    """Write y[p,c,u,v,n] = Σ_i,j x[p, c, u·KH + i, v·KW + j, n] / (KH·KW), added row by row.

    x: (P, C, H, W, B); y: (P, C, U, V, B).
    """
    members, channels, rows, _, _ = y.shape
    for item in numba.prange(members * channels * rows):
        u, c, p = item % rows, item // rows % channels, item // rows // channels
        _mean(x[p, c, u * kernel_h : (u + 1) * kernel_h], y[p, c, u], kernel_w)


@serial()
def _mean(image: Array, y: Array, kernel_w: int) -> None:
    """Write the mean of each KH×KW pixels of KH rows (KH, W, B) to y (V, B)."""
    count = y.dtype.type(image.shape[0] * kernel_w)
    for v in range(y.shape[0]):
        left = v * kernel_w
        for n in range(y.shape[1]):
            y[v, n] = image[0, left, n]
        for i in range(image.shape[0]):
            for j in range(left, left + kernel_w):
                if i > 0 or j > left:
                    for n in range(y.shape[1]):
                        y[v, n] += image[i, j, n]
        beyond = 0
        for n in range(y.shape[1]):
            beyond += not np.isfinite(y[v, n])
        for n in range(y.shape[1]):
            y[v, n] /= count
        if beyond > 0:
            _mean_in_range(image[:, left : left + kernel_w], y[v])


@serial()
def _mean_in_range(window: Array, y: Array) -> None:
    """Write the mean of pixels (KH, KW, B) to y (B,) where their sum does not fit, though the mean does."""
    count, unit = y.dtype.type(window.shape[0] * window.shape[1]), y.dtype.type(1)
    while unit * count > 1:
        unit /= y.dtype.type(2)
    for n in range(len(y)):
        if not np.isfinite(y[n]):
            total = y.dtype.type(-0.0)
            for i in range(window.shape[0]):
                for j in range(window.shape[1]):
                    total += window[i, j, n] * unit
            y[n] = total / (count * unit)


@parallel()
def average_pool_backward(dy: Array, dx: Array, kernel_h: int, kernel_w: int) -> None:
    """Write dx = dy / (KH·KW) at every place of each window, 0 where there is none.

    dy: (P, C, U, V, B); dx: (P, C, H, W, B).
    """
    members, channels, rows, _, _ = dy.shape
    for item in numba.prange(members * channels * rows):
        u, c, p = item % rows, item // rows % channels, item // rows // channels
        _to_all(dy[p, c, u], dx[p, c, u * kernel_h : (u + 1) * kernel_h], kernel_w)
        _clear_rest(dx[p, c], u, dy.shape[2:4], kernel_h, kernel_w)


@serial()
def _to_all(dy: Array, dx: Array, kernel_w: int) -> None:
    """Share dy (V, B) out among the pixels dx (KH, W, B) of each window."""
    count = dy.dtype.type(dx.shape[0] * kernel_w)
    for v in range(dy.shape[0]):
        for i in range(dx.shape[0]):
            for j in range(v * kernel_w, (v + 1) * kernel_w):
                for n in range(dy.shape[1]):
                    dx[i, j, n] = dy[v, n] / count


# ---- what no window covers ------------------------------------------------------------------------------


@serial()
def _clear_rest(dx: Array, u: int, windows: tuple[int, int], kernel_h: int, kernel_w: int) -> None:
    """Set to 0 the pixels right of the windows of row u, and below them if it is the last of U rows.

    dx: (H, W, B); windows: (U, V).
    """
    zero = dx.dtype.type(0)
    dx[u * kernel_h : (u + 1) * kernel_h, windows[1] * kernel_w :] = zero
    if u == windows[0] - 1:
        dx[windows[0] * kernel_h :] = zero
