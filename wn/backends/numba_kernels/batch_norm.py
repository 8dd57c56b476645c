"""Batch-norm kernels: a thread takes the row of a member and feature, and stays with it through all passes.

Rows are (P|1, F, N) with N values each; means, scales and what else belongs to a row are (P|1, F). A leading
1 is shared by the population. Formulas are derived in docs/layers/batch_norm.md.

Sums are as accurate as NumPy's pairwise ones. BLOCK values are added in the lanes of vector registers, about
a hundred to a lane, and the sums of the blocks in float64. A million float32 values that are added one after
another lose two to three digits.
"""

from typing import Any

import numba
import numpy as np

from wn.backends.numba_kernels.compile import FUSED, SUMS, parallel, serial
from wn.backends.numba_kernels.rectifier import cut_off

Array = Any

BLOCK = 2048  # values


# ---- training -------------------------------------------------------------------------------------------


@parallel(FUSED)
def forward_training(
    rows: Array,
    gamma: Array,
    beta: Array,
    epsilon: float,
    y: Array,
    mean: Array,
    variance: Array,
    inverse: Array,
    relu: bool,
) -> None:
    """Write y = γ (rows − mean)·inverse + β, with inverse = 1/√(variance + ε) and the biased variance.

    rows: (P|1, F, N); gamma, beta: (P|1, F); y: (P, F, N); mean, variance, inverse: (P|1, F) as rows.
    With `relu`, what is negative in y is cut off.
    """
    sources, features, _ = rows.shape
    members = len(y) // sources  # that take a row: all of them where rows are shared, else one
    one = rows.dtype.type(1)
    for item in numba.prange(sources * features):
        s, f = item // features, item % features
        row = rows[s, f]
        centre = _mean(row)
        spread = _mean_square(row, centre)
        mean[s, f], variance[s, f] = centre, spread
        inverse[s, f] = one / np.sqrt(spread + rows.dtype.type(epsilon))
        for p in range(s, s + members):
            scale, shift = gamma[p % len(gamma), f] * inverse[s, f], beta[p % len(beta), f]
            _normalise(row, centre, scale, shift, relu, y[p, f])


@parallel(FUSED)
def backward_training(
    drows: Array,
    rows: Array,
    gamma: Array,
    mean: Array,
    inverse: Array,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
) -> None:
    """Write dx = γ·inverse·(drows − dbeta/N − x̂·dgamma/N), dgamma = Σ_n drows·x̂ and dbeta = Σ_n drows.

    x̂ = (rows − mean)·inverse. drows, dx: (P, F, N); rows: (P|1, F, N); gamma, mean, inverse: (P|1, F);
    dgamma, dbeta: (P, F).
    """
    members, features, count = drows.shape
    for item in numba.prange(members * features):
        p, f = item // features, item % features
        row, drow = rows[p % len(rows), f], drows[p, f]
        centre, width = mean[p % len(mean), f], inverse[p % len(inverse), f]
        products, total = _sums(drow, row, centre)
        dgamma[p, f], dbeta[p, f] = products * width, total
        slope = -width * dgamma[p, f] / rows.dtype.type(count)
        shift = -total / rows.dtype.type(count)
        scale = gamma[p % len(gamma), f] * width
        _normalise_backward(drow, row, centre, slope, shift, scale, dx[p, f])


# ---- the primitives of `wn.backends.base` ---------------------------------------------------------------


@parallel()
def normalise(rows: Array, mean: Array, scale: Array, shift: Array, relu: bool, y: Array) -> None:
    """Write y = (rows − mean)·scale + shift, (P, F, N); with `relu`, what is negative is cut off."""
    members, features, _ = y.shape
    for item in numba.prange(members * features):
        p, f = item // features, item % features
        centre = mean[p % len(mean), f]
        factor, summand = scale[p % len(scale), f], shift[p % len(shift), f]
        _normalise(rows[p % len(rows), f], centre, factor, summand, relu, y[p, f])


@parallel(FUSED)
def normalise_relu_pool(
    x: Array, mean: Array, scale: Array, shift: Array, y: Array, kernel_h: int, kernel_w: int
) -> None:
    """Write y = max over each window of max((x − mean)·scale + shift, 0).

    The function is monotone in x, roundings included: its largest value in a window is that of the largest x,
    or of the smallest x where scale < 0.
    x: (P|1, C, H, W, B); mean, scale, shift: (P|1, C); y: (P, C, U, V, B).
    """
    members, channels, rows, columns, batch = y.shape
    for item in numba.prange(members * channels * rows):
        u, c, p = item % rows, item // rows % channels, item // rows // channels
        image = x[p % len(x), c, u * kernel_h : (u + 1) * kernel_h]  # (KH, W, B)
        centre, factor = mean[p % len(mean), c], scale[p % len(scale), c]
        extreme = np.empty(batch, x.dtype)
        for v in range(columns):
            if factor < 0:
                _smallest(image[:, v * kernel_w : (v + 1) * kernel_w], extreme)
            else:
                _largest(image[:, v * kernel_w : (v + 1) * kernel_w], extreme)
            _normalise(extreme, centre, factor, shift[p % len(shift), c], True, y[p, c, u, v])


@parallel()
def normalise_sums(
    drows: Array, rows: Array, mean: Array, inverse: Array, dgamma: Array, dbeta: Array
) -> None:
    """Write dgamma = Σ_n drows·(rows − mean)·inverse and dbeta = Σ_n drows, (P, F)."""
    members, features, _ = drows.shape
    for item in numba.prange(members * features):
        p, f = item // features, item % features
        products, dbeta[p, f] = _sums(drows[p, f], rows[p % len(rows), f], mean[p % len(mean), f])
        dgamma[p, f] = products * inverse[p % len(inverse), f]


# ---- a row ----------------------------------------------------------------------------------------------


@serial(SUMS)
def _block_sum(values: Array) -> Any:
    total = values.dtype.type(0)
    for n in range(len(values)):
        total += values[n]
    return total


@serial(SUMS)
def _block_squares(values: Array, centre: Any) -> Any:
    total = values.dtype.type(0)
    for n in range(len(values)):
        deviation = values[n] - centre
        total += deviation * deviation
    return total


@serial(SUMS)
def _block_products(drow: Array, row: Array, centre: Any) -> Any:
    products, total = row.dtype.type(0), row.dtype.type(0)
    for n in range(len(row)):
        products += drow[n] * (row[n] - centre)
        total += drow[n]
    return products, total


@serial()
def _mean(row: Array) -> Any:
    """Return Σ_n row / N."""
    total = np.float64(0)
    for start in range(0, len(row), BLOCK):
        total += _block_sum(row[start : start + BLOCK])
    return row.dtype.type(total / len(row))


@serial()
def _mean_square(row: Array, centre: Any) -> Any:
    """Return Σ_n (row − centre)² / N."""
    total = np.float64(0)
    for start in range(0, len(row), BLOCK):
        total += _block_squares(row[start : start + BLOCK], centre)
    return row.dtype.type(total / len(row))


@serial()
def _sums(drow: Array, row: Array, centre: Any) -> Any:
    """Return Σ_n drow·(row − centre) and Σ_n drow."""
    products, total = np.float64(0), np.float64(0)
    for start in range(0, len(row), BLOCK):
        part = slice(start, start + BLOCK)
        block_products, block_total = _block_products(drow[part], row[part], centre)
        products += block_products
        total += block_total
    return row.dtype.type(products), row.dtype.type(total)


@serial()
def _largest(window: Array, found: Array) -> None:
    """Write the largest value of a window (KH, KW, B), NaN if there is one, to (B,)."""
    found[:] = window[0, 0]
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            pixel = window[i, j]
            for n in range(len(found)):
                found[n] = np.maximum(pixel[n], found[n])


@serial()
def _smallest(window: Array, found: Array) -> None:
    """Write the smallest value of a window (KH, KW, B), NaN if there is one, to (B,)."""
    found[:] = window[0, 0]
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            pixel = window[i, j]
            for n in range(len(found)):
                found[n] = np.minimum(pixel[n], found[n])


@serial(FUSED)
def _normalise(row: Array, centre: Any, scale: Any, shift: Any, relu: bool, y: Array) -> None:
    for start in range(0, len(y), BLOCK):
        part = y[start : start + BLOCK]
        for n in range(len(part)):
            part[n] = (row[start + n] - centre) * scale + shift
        if relu:
            cut_off(part)


@serial(FUSED)
def _normalise_backward(
    drow: Array, row: Array, centre: Any, slope: Any, shift: Any, scale: Any, dx: Array
) -> None:
    for n in range(len(dx)):
        dx[n] = (drow[n] + (row[n] - centre) * slope + shift) * scale
