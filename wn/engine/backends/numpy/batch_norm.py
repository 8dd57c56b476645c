"""Batch norm with careful sums: a large mean costs no digits, and variances may lie at the end of the range.

Rows are (P|1, F, N), where N runs over everything that a mean is taken over; statistics are (P|1, F).
"""

from typing import Any

import numpy as np

from wn.engine.layers import batch_norm
from wn.engine.layers.base import Formula
from wn.engine.layers.batch_norm import (
    EPSILON,
    BatchNormCache,
    BatchNormParams,
    RunningStatistics,
    rows,
    two_sum,
)
from wn.engine.layers.windows import Array

# Where squares of deviations leave the range, batch norm multiplies the row by this power of two. Whatever
# the deviations are then, up to twice the largest number of a dtype, their squares and sums of these fit.
UNITS = {"float32": 2.0**-100, "float64": 2.0**-800}


def forward(be: Any, params: BatchNormParams, x: Array, eps: float = EPSILON) -> tuple[Array, BatchNormCache]:
    """See `layers.batch_norm`: x̂ = (x − mean − residual)·inverse, 0 where the variance is infinite."""
    batch_norm.check_count(x)
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite variance is meant, others are looked for
        mean, residual, variance = moments(be.xp, rows(x))
        y, cache = _normalised(be.xp, params, x, mean, residual, variance, eps)
    batch_norm.check_finite(be, mean)
    return y, cache


def backward(be: Any, dy: Array, cache: BatchNormCache) -> tuple[Array, BatchNormParams]:
    """See `layers.batch_norm`.

    Sums are taken of differences to a value of dy, as means are: a large mean costs no digits.
    """
    x, gamma, mean, residual, _, inverse = cache
    drows, x_n = (be.xp.ascontiguousarray(rows(array)) for array in (dy, x))  # as in `moments`
    count, pivot = x_n.shape[2], _middle(be.xp, drows)
    scaled = x_n - _centre(be.xp, mean, inverse)[:, :, None]
    scaled *= inverse[:, :, None]  # x̂ + tail
    tail = residual * inverse
    dx = drows - pivot[:, :, None]
    dmean = dx.mean(axis=2)
    products = dx * scaled
    share = products.mean(axis=2) - dmean * tail  # dgamma/N: (P, F)
    be.xp.multiply(scaled, share[:, :, None], out=products)
    dx -= products
    dx -= (dmean - share * tail)[:, :, None]
    dx *= (gamma * inverse)[:, :, None]
    return dx.reshape(dy.shape), BatchNormParams(share * count, (pivot + dmean) * count)


def forward_inference(
    be: Any, params: BatchNormParams, x: Array, running: RunningStatistics, eps: float = EPSILON
) -> tuple[Array, BatchNormCache]:
    """See `layers.batch_norm`."""
    mean, variance, residual = running
    return _normalised(be.xp, params, x, mean, residual, variance, eps)


def backward_inference(be: Any, dy: Array, cache: BatchNormCache) -> tuple[Array, BatchNormParams]:
    """See `layers.batch_norm`: dgamma = Σ_n dy·(x − mean)·inverse − dbeta·residual·inverse."""
    x, gamma, mean, residual, _, inverse = cache
    drows, x_n = (be.xp.ascontiguousarray(rows(array)) for array in (dy, x))  # as in `moments`
    products = x_n - _centre(be.xp, mean, inverse)[:, :, None]
    products *= inverse[:, :, None]
    products = products * drows
    dbeta = drows.sum(axis=2)
    dgamma = products.sum(axis=2) - dbeta * (residual * inverse)
    dx = drows * (gamma * inverse)[:, :, None]
    return dx.reshape(dy.shape), BatchNormParams(dgamma, dbeta)


def moments(xp: Any, x_n: Array) -> tuple[Array, Array, Array]:
    """Mean, its residual and the biased variance of each row, (P|1, F).

    The mean is the sum of the first two, more precise than a number of the dtype. A variance beyond the
    dtype's range is infinite.
    """
    x_n = xp.ascontiguousarray(x_n)  # sums along another axis are not taken in pairs
    mean, residual, variance = _moments_in_range(xp, x_n)
    beyond = ~xp.isfinite(variance)  # the squares' sum does not fit; the variance perhaps does
    if beyond.any():
        unit = UNITS[str(x_n.dtype)]
        found = _moments_in_range(xp, x_n[beyond][None] * x_n.dtype.type(unit))
        mean[beyond], residual[beyond] = found[0][0] / unit, found[1][0] / unit
        variance[beyond] = found[2][0] / unit / unit
    return mean, residual, variance


def _moments_in_range(xp: Any, x_n: Array) -> tuple[Array, Array, Array]:
    """The moments where the sum of the squared deviations can be represented.

    The mean is a + mean(x − a), a the middle of three values, and corrected by the mean of what is left.
    """
    pivot = _middle(xp, x_n)
    deviations = x_n - pivot[:, :, None]
    centre = pivot + deviations.mean(axis=2)
    xp.subtract(x_n, centre[:, :, None], out=deviations)
    shift = deviations.mean(axis=2)
    deviations *= deviations
    variance = xp.maximum(deviations.mean(axis=2) - shift * shift, 0)
    return *two_sum(centre, shift), variance


def _middle(xp: Any, x_n: Array) -> Array:
    """The middle one of three values of each row: hardly ever an outlier."""
    a, b, c = x_n[:, :, 0], x_n[:, :, x_n.shape[2] // 2], x_n[:, :, -1]
    return xp.maximum(xp.minimum(a, b), xp.minimum(xp.maximum(a, b), c))


def _centre(xp: Any, mean: Array, inverse: Array) -> Array:
    """The mean, or 0 where inverse is 0: x̂ is 0 then, though x − mean may be infinite."""
    return xp.where(inverse > 0, mean, mean - mean)


def normaliser(
    xp: Any, params: BatchNormParams, mean: Array, residual: Array, variance: Array, eps: float = EPSILON
) -> tuple[Array, Array, Array, Array]:
    """centre, scale, shift: gamma·x̂ + beta = (x − centre)·scale + shift; and inverse: (P|1, F)."""
    inverse = (variance + eps) ** -0.5
    scale = params.gamma * inverse
    return _centre(xp, mean, inverse), scale, params.beta - residual * scale, inverse


def _normalised(
    xp: Any, params: BatchNormParams, x: Array, mean: Array, residual: Array, variance: Array, eps: float
) -> tuple[Array, BatchNormCache]:
    centre, scale, shift, inverse = normaliser(xp, params, mean, residual, variance, eps)
    x_n, population = rows(x), max(map(len, (x, centre, scale, shift)))
    y = xp.empty((population, *x_n.shape[1:]), x.dtype)
    xp.subtract(x_n, centre[:, :, None], out=y)
    y *= scale[:, :, None]
    y += shift[:, :, None]
    cache = BatchNormCache(x, params.gamma, mean, residual, variance, inverse)
    return y.reshape(-1, *x.shape[1:]), cache


TRAINING = Formula(forward, backward)
INFERENCE = Formula(forward_inference, backward_inference)
