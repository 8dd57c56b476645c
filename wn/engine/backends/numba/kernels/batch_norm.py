"""Batch-norm kernels: a thread takes the row of a member and feature, and stays with it through all passes.

Rows are (P|1, F, N) with N values each; means, scales and what else belongs to a row are (P|1, F). A leading
1 is shared by the population. Formulas are derived in docs/layers/batch_norm.md.

Sums are as accurate as NumPy's pairwise ones. BLOCK values are added in the lanes of vector registers, about
a hundred to a lane, and the sums of the blocks in float64. A million float32 values that are added one after
another lose two to three digits. What is added are differences from a value of the row: a large mean costs no
digits. A mean is a pair, its nearest number and the residual.
"""

from typing import Any

import numba
import numpy as np

from wn.engine.backends.numba.kernels.compile import FUSED, SUMS, parallel, serial
from wn.engine.backends.numba.kernels.rectifier import cut_off, mask_to

Array = Any

BLOCK = 2048  # values
# Where the squares of deviations leave the range, the row is multiplied by a power of two; whatever the
# deviations are then, up to twice the largest number of the dtype, their squares are in range.
UNIT32, UNIT64 = 2.0**-100, 2.0**-800


# ---- training -------------------------------------------------------------------------------------------


@parallel(FUSED)
def forward_training(
    rows: Array,
    gamma: Array,
    beta: Array,
    epsilon: float,
    y: Array,
    mean: Array,
    residual: Array,
    variance: Array,
    inverse: Array,
    relu: bool,
) -> None:
    """Write y = γ (rows − mean − residual)·inverse + β, with inverse = 1/√(variance + ε).

    rows: (P|1, F, N); gamma, beta: (P|1, F); y: (P, F, N); mean, its residual, the biased variance and
    inverse: (P|1, F) as rows. With `relu`, what is negative in y is cut off.
    """
    sources, features, _ = rows.shape
    members = len(y) // sources  # that take a row: all of them where rows are shared, else one
    one = rows.dtype.type(1)
    for item in numba.prange(sources * features):
        s, f = item // features, item % features
        row = rows[s, f]
        row_mean, row_residual, row_variance = _moments(row)
        row_inverse = one / np.sqrt(row_variance + rows.dtype.type(epsilon))
        mean[s, f], residual[s, f] = row_mean, row_residual
        variance[s, f], inverse[s, f] = row_variance, row_inverse
        centre = _centre(row_mean, row_inverse)
        for p in range(s, s + members):
            scale = gamma[p % len(gamma), f] * row_inverse
            shift = beta[p % len(beta), f] - row_residual * scale
            _normalise(row, centre, scale, shift, relu, y[p, f])


@parallel(FUSED)
def backward_training(
    drows: Array,
    y: Array,
    dmade: Array,
    rows: Array,
    gamma: Array,
    mean: Array,
    residual: Array,
    inverse: Array,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
) -> None:
    """Write dx = γ·inverse·(drows − dbeta/N − x̂·dgamma/N), dgamma = Σ_n drows·x̂ and dbeta = Σ_n drows.

    x̂ = (rows − mean − residual)·inverse. As Σ_n x̂ = 0, dgamma is summed from differences of drows too.
    drows, dx: (P, F, N); rows: (P|1, F, N); gamma, mean, residual, inverse: (P|1, F); dgamma, dbeta: (P, F).
    Before a ReLU with output y they are those of dmade, (P, F, N), the gradient of what goes into it: drows
    where y > 0, else 0; without a ReLU y and dmade are (0, F, N).
    """
    members, features, _ = drows.shape
    for item in numba.prange(members * features):
        p, f = item // features, item % features
        drow = drows[p, f]
        if len(dmade) > 0:
            mask_to(dmade[p, f], drow, y[p, f])
            drow = dmade[p, f]
        statistics = mean[p % len(mean), f], residual[p % len(residual), f], inverse[p % len(inverse), f]
        row, factor = rows[p % len(rows), f], gamma[p % len(gamma), f]
        dgamma[p, f], dbeta[p, f] = _backward(drow, row, factor, *statistics, dx[p, f])


# ---- the primitives of a backend ---------------------------------------------------------------------


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
            window = image[:, v * kernel_w : (v + 1) * kernel_w]
            _extreme(window, factor < 0, extreme)
            if factor == 0:  # times 0 an infinity is NaN, be it the largest or not
                smallest = np.empty_like(extreme)
                _extreme(window, True, smallest)
                extreme += smallest * factor
            _normalise(extreme, centre, factor, shift[p % len(shift), c], True, y[p, c, u, v])


@parallel()
def normalise_sums(
    drows: Array, rows: Array, mean: Array, residual: Array, inverse: Array, dgamma: Array, dbeta: Array
) -> None:
    """Write dgamma = Σ_n drows·(rows − mean − residual)·inverse and dbeta = Σ_n drows, (P, F)."""
    members, features, _ = drows.shape
    number = rows.dtype.type
    for item in numba.prange(members * features):
        p, f = item // features, item % features
        row_inverse = inverse[p % len(inverse), f]
        centre = _centre(mean[p % len(mean), f], row_inverse)
        tail = residual[p % len(residual), f] * row_inverse
        products, total = _sums(drows[p, f], rows[p % len(rows), f], number(0), centre, row_inverse, tail)
        dgamma[p, f], dbeta[p, f] = number(products), number(total)


# ---- a row ----------------------------------------------------------------------------------------------


@serial()
def _difference(value: Any, centre: Any) -> Any:
    """Return value − centre. Apart, since a sum in lanes (SUMS) may be taken in any order, this may not."""
    return value - centre


@serial(FUSED)
def _normalised(value: Any, centre: Any, inverse: Any, tail: Any) -> Any:
    return (value - centre) * inverse - tail


@serial(SUMS)
def _block_sum(values: Array, pivot: Any) -> Any:
    total = values.dtype.type(0)
    for n in range(len(values)):
        total += _difference(values[n], pivot)
    return total


@serial(SUMS)
def _block_squares(values: Array, centre: Any) -> Any:
    total, squares = values.dtype.type(0), values.dtype.type(0)
    for n in range(len(values)):
        deviation = _difference(values[n], centre)
        total += deviation
        squares += deviation * deviation
    return total, squares


@serial(SUMS)
def _block_products(drow: Array, row: Array, pivot: Any, centre: Any, inverse: Any, tail: Any) -> Any:
    products, total = row.dtype.type(0), row.dtype.type(0)
    for n in range(len(row)):
        difference = _difference(drow[n], pivot)
        products += difference * _normalised(row[n], centre, inverse, tail)
        total += difference
    return products, total


@serial()
def _moments(row: Array) -> Any:
    """Return mean, its residual and the biased variance, inf where that is beyond the dtype's range."""
    mean, residual, variance = _moments_in_range(row)
    if np.isfinite(variance):
        return mean, residual, variance
    unit = row.dtype.type(UNIT32 if row.itemsize == 4 else UNIT64)
    mean, residual, variance = _moments_in_range(row * unit)
    return mean / unit, residual / unit, variance / unit / unit


@serial()
def _moments_in_range(row: Array) -> Any:
    """Return mean, residual and variance where the sum of the squared deviations can be represented.

    The mean is a + mean(x − a), a the middle of three values, and corrected by the mean of what is left.
    """
    number = row.dtype.type
    total, pivot = np.float64(0), _middle(row)
    for start in range(0, len(row), BLOCK):
        total += _block_sum(row[start : start + BLOCK], pivot)
    centre = pivot + number(total / len(row))
    total, squares = np.float64(0), np.float64(0)
    for start in range(0, len(row), BLOCK):
        block_total, block_squares = _block_squares(row[start : start + BLOCK], centre)
        total += block_total
        squares += block_squares
    shift = total / len(row)
    variance = number(squares / len(row) - shift * shift)
    mean, residual = _pair(centre, number(shift))
    return mean, residual, number(0) if variance < 0 else variance


@serial(FUSED)
def _backward(drow: Array, row: Array, gamma: Any, mean: Any, residual: Any, inverse: Any, dx: Array) -> Any:
    """Write dx of a row, and return its dgamma and dbeta."""
    number, count = row.dtype.type, len(row)
    centre, tail, pivot = _centre(mean, inverse), residual * inverse, _middle(drow)
    products, total = _sums(drow, row, pivot, centre, inverse, tail)
    dmean, dresidual = _pair(pivot, number(total / count))
    share = number(products / count)
    slope, shift, scale = -inverse * share, tail * share - dresidual, gamma * inverse
    _normalise_backward(drow, row, dmean, centre, slope, shift, scale, dx)
    return number(products), number(count * np.float64(pivot) + total)


@serial()
def _middle(row: Array) -> Any:
    """Return the middle one of three values of a row: hardly ever an outlier."""
    a, b, c = row[0], row[len(row) // 2], row[-1]
    return max(min(a, b), min(max(a, b), c))


@serial()
def _pair(a: Any, b: Any) -> Any:
    """Return a + b as its nearest number and the exact rest (Knuth's two-sum)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@serial()
def _centre(mean: Any, inverse: Any) -> Any:
    """Return the mean, or 0 where 1/√(variance + ε) is 0: x̂ is 0 then, though x − mean may be infinite."""
    return mean if inverse > 0 else mean - mean


@serial()
def _sums(drow: Array, row: Array, pivot: Any, centre: Any, inverse: Any, tail: Any) -> Any:
    """Return Σ_n (drow − pivot)·((row − centre)·inverse − tail) and Σ_n (drow − pivot), in float64."""
    products, total = np.float64(0), np.float64(0)
    for start in range(0, len(row), BLOCK):
        part = slice(start, start + BLOCK)
        block_products, block_total = _block_products(drow[part], row[part], pivot, centre, inverse, tail)
        products += block_products
        total += block_total
    return products, total


@serial()
def _extreme(window: Array, least: bool, found: Array) -> None:
    """Write the largest or the least value of a window (KH, KW, B), NaN if there is one, to (B,)."""
    found[:] = window[0, 0]
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            pixel = window[i, j]
            if least:
                for n in range(len(found)):
                    found[n] = np.minimum(pixel[n], found[n])
            else:
                for n in range(len(found)):
                    found[n] = np.maximum(pixel[n], found[n])


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
    drow: Array, row: Array, dmean: Any, centre: Any, slope: Any, shift: Any, scale: Any, dx: Array
) -> None:
    for n in range(len(dx)):
        dx[n] = ((drow[n] - dmean) + (row[n] - centre) * slope + shift) * scale
