"""The layers by a backend's primitives: its loops, kernels and products of matrices.

Each pair of functions computes what the formula of its layer in `wn/engine/layers` says.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wn.engine.layers import (
    average_pooling,
    batch_norm,
    convolution,
    cross_entropy,
    linear,
    max_pooling,
    relu,
)
from wn.engine.layers.average_pooling import AveragePoolingCache
from wn.engine.layers.base import Formula
from wn.engine.layers.batch_norm import EPSILON, BatchNormCache, BatchNormParams, RunningStatistics
from wn.engine.layers.convolution import ConvolutionCache, ConvolutionParams
from wn.engine.layers.cross_entropy import CrossEntropyCache
from wn.engine.layers.linear import LinearCache, LinearParams
from wn.engine.layers.max_pooling import MaxPoolingCache
from wn.engine.layers.relu import ReluCache
from wn.engine.layers.windows import Array, Pair

_NOT_FINITE = {
    np.dtype(dtype): f"batch norm: an activation is not finite in {dtype}" for dtype in ("float32", "float64")
}


def linear_forward(be: Any, params: LinearParams, x: Array) -> tuple[Array, LinearCache]:
    """See `linear.forward`."""
    return be.linear(params.w, x, params.b), LinearCache(x, params.w)


def linear_backward(
    be: Any, dy: Array, cache: LinearCache, need_dx: bool = True
) -> tuple[Array | None, LinearParams]:
    """See `linear.backward`."""
    dx, dw, db = be.linear_backward(dy, cache.x, cache.w, need_dx)
    return dx, LinearParams(dw, db)


def relu_forward(be: Any, params: tuple[()], x: Array) -> tuple[Array, ReluCache]:
    """See `relu.forward`."""
    y = be.relu(x)
    return y, ReluCache(y)


def relu_backward(be: Any, dy: Array, cache: ReluCache) -> tuple[Array, tuple[()]]:
    """See `relu.backward`."""
    return be.relu_backward(dy, cache.y), ()


def convolution_forward(
    be: Any, params: ConvolutionParams, x: Array, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> tuple[Array, ConvolutionCache]:
    """See `convolution.forward`."""
    y = be.convolution(x, params.w, params.b, stride, padding)
    return y, ConvolutionCache(x, params.w, stride, padding)


def convolution_backward(
    be: Any, dy: Array, cache: ConvolutionCache, need_dx: bool = True
) -> tuple[Array | None, ConvolutionParams]:
    """See `convolution.backward`."""
    x, w, stride, padding = cache
    dw, db = be.convolution_gradients(dy, x, w.shape[3:], stride, padding)
    dx = be.convolution_input_gradient(w, dy, x.shape[2:4], stride, padding) if need_dx else None
    return dx, ConvolutionParams(dw, db)


def max_pooling_forward(be: Any, params: tuple[()], x: Array, window: Pair) -> tuple[Array, MaxPoolingCache]:
    """See `max_pooling.forward`."""
    y = be.max_pool(x, window)
    return y, MaxPoolingCache(x, y, window)


def max_pooling_backward(be: Any, dy: Array, cache: MaxPoolingCache) -> tuple[Array, tuple[()]]:
    """See `max_pooling.backward`."""
    return be.max_pool_backward(dy, *cache), ()


def average_pooling_forward(
    be: Any, params: tuple[()], x: Array, window: Pair
) -> tuple[Array, AveragePoolingCache]:
    """See `average_pooling.forward`."""
    y = x if window == (1, 1) else be.average_pool(x, window)
    return y, AveragePoolingCache(x.shape[2:4], window)


def average_pooling_backward(be: Any, dy: Array, cache: AveragePoolingCache) -> tuple[Array, tuple[()]]:
    """See `average_pooling.backward`."""
    return (dy if cache.window == (1, 1) else be.average_pool_backward(dy, *cache)), ()


def cross_entropy_forward(
    be: Any, params: tuple[()], logits: Array, labels: Array, class_weights: Sequence[float] | None = None
) -> tuple[Array, CrossEntropyCache]:
    """See `cross_entropy.forward`."""
    shares = be.shares(labels, class_weights, logits.dtype)  # (B,)
    loss, log_probabilities = be.cross_entropy(logits, labels, shares)  # (P,), (P, K, B)
    return loss, CrossEntropyCache(log_probabilities, labels, shares)


def cross_entropy_backward(be: Any, dloss: None, cache: CrossEntropyCache) -> tuple[Array, tuple[()]]:
    """See `cross_entropy.backward`."""
    return be.cross_entropy_backward(*cache), ()


# ---- batch norm -------------------------------------------------------------------------------------------


def batch_norm_forward(be: Any, params: BatchNormParams, x: Array) -> tuple[Array, BatchNormCache]:
    """See `batch_norm.forward`."""
    return normalised_by_batch(be, be.batch_norm, params, x)


def normalised_by_batch(
    be: Any, primitive: Callable[..., Any], params: BatchNormParams, x: Array
) -> tuple[Array, BatchNormCache]:
    """The results of `batch_norm.forward` by a primitive such as `batch_norm`."""
    batch_norm.check_count(x)
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite variance is meant, others are looked for
        y, mean, residual, variance, inverse = primitive(batch_norm.rows(x), *params, EPSILON)
    be.check_finite(mean, _NOT_FINITE[np.dtype(x.dtype)])
    cache = BatchNormCache(x, params.gamma, mean, residual, variance, inverse)
    return y.reshape(-1, *x.shape[1:]), cache


def batch_norm_backward(be: Any, dy: Array, cache: BatchNormCache) -> tuple[Array, BatchNormParams]:
    """See `batch_norm.backward`."""
    x, gamma, mean, residual, _, inverse = cache
    given = batch_norm.rows(dy), batch_norm.rows(x), gamma, mean, residual, inverse
    dx, dgamma, dbeta = be.batch_norm_backward(*given)
    return dx.reshape(dy.shape), BatchNormParams(dgamma, dbeta)


def inference_forward(
    be: Any, params: BatchNormParams, x: Array, running: RunningStatistics
) -> tuple[Array, BatchNormCache]:
    """See `batch_norm.forward_inference`."""
    return normalised_by_running(be, be.normalise, params, x, running)


def normalised_by_running(
    be: Any, primitive: Callable[..., Any], params: BatchNormParams, x: Array, running: RunningStatistics
) -> tuple[Array, BatchNormCache]:
    """The results of `batch_norm.forward_inference` by a primitive such as `normalise`."""
    mean, variance, residual = running
    centre, scale, shift, inverse = be.normaliser(*params, mean, residual, variance, EPSILON)
    y = primitive(batch_norm.rows(x), centre, scale, shift)
    cache = BatchNormCache(x, params.gamma, mean, residual, variance, inverse)
    return y.reshape(-1, *x.shape[1:]), cache


def normalised_and_pooled(
    be: Any, params: BatchNormParams, x: Array, running: RunningStatistics, window: Pair
) -> Array:
    """A max pooling of the ReLU of `batch_norm.forward_inference`; nothing is kept for backward.

    x: (P|1, C, H, W, B); y: (P, C, ⌊H/KH⌋, ⌊W/KW⌋, B).
    """
    mean, variance, residual = running
    centre, scale, shift, _ = be.normaliser(*params, mean, residual, variance, EPSILON)
    y: Array = be.normalise_relu_pool(x, centre, scale, shift, window)
    return y


def inference_backward(be: Any, dy: Array, cache: BatchNormCache) -> tuple[Array, BatchNormParams]:
    """See `batch_norm.backward_inference`."""
    x, gamma, mean, residual, _, inverse = cache
    drows = batch_norm.rows(dy)
    dgamma, dbeta = be.normalise_sums(drows, batch_norm.rows(x), mean, residual, inverse)
    dx = drows * (gamma * inverse)[:, :, None]
    return dx.reshape(dy.shape), BatchNormParams(dgamma, dbeta)


# By their formulas. Products and batch norm: what plain array code too does with more care than the formulas,
# so that bits depend neither on the batch nor on the population, and that a large mean costs no digits.
CAREFUL = {
    linear.FORMULA: Formula(linear_forward, linear_backward),
    convolution.FORMULA: Formula(convolution_forward, convolution_backward),
    batch_norm.TRAINING: Formula(batch_norm_forward, batch_norm_backward),
    batch_norm.INFERENCE: Formula(inference_forward, inference_backward),
}
ALL = CAREFUL | {
    relu.FORMULA: Formula(relu_forward, relu_backward),
    max_pooling.FORMULA: Formula(max_pooling_forward, max_pooling_backward),
    average_pooling.FORMULA: Formula(average_pooling_forward, average_pooling_backward),
    cross_entropy.FORMULA: Formula(cross_entropy_forward, cross_entropy_backward),
}
