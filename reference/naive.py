"""Every layer once more, as the formulas read: float64, one element at a time, nothing shared with `wn`.

These functions are evidence, not software to compute with: they are slow on purpose, so that each line can
be held against the formula in its docstring. Batch norm, cross-entropy and noise are in `naive_statistics`,
whole networks in `naive_network`, the optimiser in `naive_training`.

Arrays are population first and batch last: x (P, F, B) or (P, C, H, W, B); linear w (P, O, I) and b (P, O);
convolution w (P, O, C, KH, KW). A leading 1 stands for "shared by all members". Gradients are never summed
over members: where x or w is shared, dx or dw still holds one gradient per member, (P, …).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pair = tuple[int, int]


def as_float64(*arrays: Any) -> list[Array]:
    """Return the arrays in float64."""
    return [np.asarray(array, dtype=np.float64) for array in arrays]


def members(*arrays: Array) -> int:
    """Return P, the number of members that the arrays are for; ValueError if they disagree."""
    counts = {array.shape[0] for array in arrays} - {1}
    if len(counts) > 1:
        raise ValueError(f"arrays are for different numbers of members: {sorted(counts)}")
    return counts.pop() if counts else 1


def of_member(array: Array, p: int) -> Array:
    """The part of an array (P, …) or (1, …) that member p sees."""
    seen: Array = array[0] if array.shape[0] == 1 else array[p]
    return seen


# ---- linear ---------------------------------------------------------------------------------------------


def linear_forward(x: Any, w: Any, b: Any) -> Array:
    """y[p,o,n] = b[p,o] + Σ_i w[p,o,i] x[p,i,n]. x: (P|1, I, B), w: (P|1, O, I), b: (P|1, O)."""
    x, w, b = as_float64(x, w, b)
    population, outputs, inputs, batch = members(x, w, b), w.shape[1], w.shape[2], x.shape[2]
    y = np.zeros((population, outputs, batch))
    for p in range(population):
        xp, wp, bp = of_member(x, p), of_member(w, p), of_member(b, p)
        for o in range(outputs):
            for n in range(batch):
                y[p, o, n] = bp[o]
                for i in range(inputs):
                    y[p, o, n] += wp[o, i] * xp[i, n]
    return y


def linear_backward(dy: Any, x: Any, w: Any) -> tuple[Array, Array, Array]:
    """dx[p,i,n] = Σ_o w[p,o,i] dy[p,o,n]; dw[p,o,i] = Σ_n dy[p,o,n] x[p,i,n]; db[p,o] = Σ_n dy[p,o,n]."""
    dy, x, w = as_float64(dy, x, w)
    population, outputs, inputs, batch = members(dy, x, w), w.shape[1], w.shape[2], x.shape[2]
    dx = np.zeros((population, inputs, batch))
    dw = np.zeros((population, outputs, inputs))
    db = np.zeros((population, outputs))
    for p in range(population):
        xp, wp, dyp = of_member(x, p), of_member(w, p), of_member(dy, p)
        for o in range(outputs):
            for n in range(batch):
                db[p, o] += dyp[o, n]
                for i in range(inputs):
                    dx[p, i, n] += wp[o, i] * dyp[o, n]
                    dw[p, o, i] += dyp[o, n] * xp[i, n]
    return dx, dw, db


# ---- ReLU and flatten -----------------------------------------------------------------------------------


def relu_forward(x: Any) -> Array:
    """y = x where x > 0, else 0. Any shape."""
    (x,) = as_float64(x)
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        if x[index] > 0:
            y[index] = x[index]
    return y


def relu_backward(dy: Any, x: Any) -> Array:
    """dx = dy where x > 0, else 0 (also at the kink x = 0). dy: (P, …), x: (P|1, …); dx: (P, …)."""
    dy, x = as_float64(dy, x)
    dx = np.zeros(dy.shape)
    for index in np.ndindex(dy.shape):
        if of_member(x, index[0])[index[1:]] > 0:
            dx[index] = dy[index]
    return dx


def flatten_forward(x: Any) -> Array:
    """y[p, (c·H + h)·W + w, n] = x[p,c,h,w,n]. x: (P, C, H, W, B); y: (P, C·H·W, B)."""
    (x,) = as_float64(x)
    population, channels, height, width, batch = x.shape
    y = np.zeros((population, channels * height * width, batch))
    for p, c, h, w, n in np.ndindex(x.shape):
        y[p, (c * height + h) * width + w, n] = x[p, c, h, w, n]
    return y


def flatten_backward(dy: Any, shape: tuple[int, ...]) -> Array:
    """dx[p,c,h,w,n] = dy[p, (c·H + h)·W + w, n]. `shape`: that of x, (P|1, C, H, W, B)."""
    (dy,) = as_float64(dy)
    _, _, height, width, _ = shape
    dx = np.zeros((dy.shape[0], *shape[1:]))
    for p, c, h, w, n in np.ndindex(dx.shape):
        dx[p, c, h, w, n] = dy[p, (c * height + h) * width + w, n]
    return dx


# ---- convolution ----------------------------------------------------------------------------------------


def convolution_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return ⌊(size + 2·padding − kernel) / stride⌋ + 1, the places where the kernel fits along one axis."""
    if size + 2 * padding < kernel:
        raise ValueError(f"a kernel of {kernel} does not fit a size of {size} with padding {padding}")
    return (size + 2 * padding - kernel) // stride + 1


def convolution_forward(x: Any, w: Any, b: Any, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Array:
    """y[p,o,u,v,n] = b[p,o] + Σ_c,i,j w[p,o,c,i,j] x[p, c, u·SH + i − PH, v·SW + j − PW, n].

    x outside the image is 0. x: (P|1, C, H, W, B); w: (P|1, O, C, KH, KW); b: (P|1, O); y: (P, O, U, V, B).
    """
    x, w, b = as_float64(x, w, b)
    population, (_, _, height, width, batch) = members(x, w, b), x.shape
    outputs, channels, kernel_h, kernel_w = w.shape[1:]
    rows = convolution_size(height, kernel_h, stride[0], padding[0])
    columns = convolution_size(width, kernel_w, stride[1], padding[1])
    y = np.zeros((population, outputs, rows, columns, batch))
    for p, o, u, v, n in np.ndindex(y.shape):
        xp, wp = of_member(x, p), of_member(w, p)
        total = of_member(b, p)[o]
        for c, i, j in np.ndindex(channels, kernel_h, kernel_w):
            row, column = u * stride[0] + i - padding[0], v * stride[1] + j - padding[1]
            if 0 <= row < height and 0 <= column < width:
                total += wp[o, c, i, j] * xp[c, row, column, n]
        y[p, o, u, v, n] = total
    return y


def convolution_backward(
    dy: Any, x: Any, w: Any, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> tuple[Array, Array, Array]:
    """Send dy[p,o,u,v,n] back along every product of the forward sum.

    Each term w·x of y[p,o,u,v,n] gives w·dy to its dx and x·dy to its dw; db[p,o] = Σ_u,v,n dy[p,o,u,v,n].
    """
    dy, x, w = as_float64(dy, x, w)
    population, (_, _, height, width, _) = members(dy, x, w), x.shape
    _, channels, kernel_h, kernel_w = w.shape[1:]
    dx = np.zeros((population, *x.shape[1:]))
    dw = np.zeros((population, *w.shape[1:]))
    db = np.zeros((population, w.shape[1]))
    for p, o, u, v, n in np.ndindex(population, *dy.shape[1:]):
        xp, wp, upstream = of_member(x, p), of_member(w, p), of_member(dy, p)[o, u, v, n]
        db[p, o] += upstream
        for c, i, j in np.ndindex(channels, kernel_h, kernel_w):
            row, column = u * stride[0] + i - padding[0], v * stride[1] + j - padding[1]
            if 0 <= row < height and 0 <= column < width:
                dx[p, c, row, column, n] += wp[o, c, i, j] * upstream
                dw[p, o, c, i, j] += xp[c, row, column, n] * upstream
    return dx, dw, db


# ---- pooling: the stride is the window; rows and columns that fill no window are dropped -----------------


def _pooled_shape(shape: tuple[int, ...], window: Pair) -> tuple[int, ...]:
    population, channels, height, width, batch = shape
    if height < window[0] or width < window[1]:
        raise ValueError(f"a window {window} does not fit an image of {height}×{width}")
    return population, channels, height // window[0], width // window[1], batch


def _place_of_maximum(image: Array, u: int, v: int, window: Pair) -> Pair:
    """The place of the largest value in window (u, v) of an image (H, W): the first if there are several."""
    best = (u * window[0], v * window[1])
    for i in range(window[0]):
        for j in range(window[1]):
            here = (u * window[0] + i, v * window[1] + j)
            if image[here] > image[best]:
                best = here
    return best


def max_pool_forward(x: Any, window: Pair) -> Array:
    """y[p,c,u,v,n] = max_i,j x[p, c, u·KH + i, v·KW + j, n].

    x: (P, C, H, W, B); window: (KH, KW); y: (P, C, ⌊H/KH⌋, ⌊W/KW⌋, B).
    """
    (x,) = as_float64(x)
    y = np.zeros(_pooled_shape(x.shape, window))
    for p, c, u, v, n in np.ndindex(y.shape):
        image = x[p, c, :, :, n]
        y[p, c, u, v, n] = image[_place_of_maximum(image, u, v, window)]
    return y


def max_pool_backward(dy: Any, x: Any, window: Pair) -> Array:
    """dy goes to the largest element of each window: the first in row-major order if several are equal."""
    dy, x = as_float64(dy, x)
    dx = np.zeros((members(dy, x), *x.shape[1:]))
    for p, c, u, v, n in np.ndindex(dy.shape):
        row, column = _place_of_maximum(of_member(x, p)[c, :, :, n], u, v, window)
        dx[p, c, row, column, n] += dy[p, c, u, v, n]
    return dx


def average_pool_forward(x: Any, window: Pair) -> Array:
    """y[p,c,u,v,n] = Σ_i,j x[p, c, u·KH + i, v·KW + j, n] / (KH·KW). Shapes as `max_pool_forward`."""
    (x,) = as_float64(x)
    y = np.zeros(_pooled_shape(x.shape, window))
    for p, c, u, v, n in np.ndindex(y.shape):
        for i, j in np.ndindex(*window):
            y[p, c, u, v, n] += x[p, c, u * window[0] + i, v * window[1] + j, n] / (window[0] * window[1])
    return y


def average_pool_backward(dy: Any, shape: tuple[int, ...], window: Pair) -> Array:
    """Each element of a window gets dy / (KH·KW), dropped ones 0. `shape`: that of x, (P|1, C, H, W, B)."""
    (dy,) = as_float64(dy)
    dx = np.zeros((dy.shape[0], *shape[1:]))
    for p, c, u, v, n in np.ndindex(dy.shape):
        for i, j in np.ndindex(*window):
            dx[p, c, u * window[0] + i, v * window[1] + j, n] += dy[p, c, u, v, n] / (window[0] * window[1])
    return dx
