"""Neighbouring layers at once on a CPU, see `wn.engine.fusion`: the bits of one after the other.

What is negative is cut off while it is in the cache, and masked where the gradient is read anyway.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wn.engine import fusion
from wn.engine.backends.numba import layers
from wn.engine.backends.numba.kernel_calls import KernelCalls
from wn.engine.backends.numba.kernels import batch_norm, convolution, products
from wn.engine.backends.numba.recorded_calls import primitive
from wn.engine.layers.base import Formula, Runnable
from wn.engine.layers.batch_norm import BatchNormParams, RunningStatistics, rows
from wn.engine.layers.convolution import ConvolutionParams
from wn.engine.layers.linear import LinearParams
from wn.engine.layers.relu import ReluCache
from wn.engine.layers.windows import Array, Pair


@primitive
def linear_relu_forward(be: KernelCalls, params: LinearParams, x: Array) -> tuple[Array, Any]:
    """The products, cut off."""
    y, cache = layers.affine(be, params, x, relu=True)
    return y, (ReluCache(y), cache)


@primitive
def linear_relu_backward(
    be: KernelCalls, dy: Array, cache: Any, need_dx: bool = True
) -> tuple[Array | None, LinearParams]:
    """Masked in the call that takes the products."""
    dy, y, x, w = be.contiguous(dy, cache[0].y, *cache[1])
    masked, (dx, *grads) = be.empty(dy.shape, dy.dtype), layers.linear_gradients(be, dy, x, need_dx)
    given, parts = (dy, y, x, w, masked, dx, *grads), (layers.part(dy.shape[2]), layers.INPUTS)
    be.run_blas(products.linear_relu_backward, be.gemm[dy.dtype], *given, *parts)
    return (dx if need_dx else None), LinearParams(*grads)


@primitive
def convolution_relu_forward(
    be: KernelCalls, params: ConvolutionParams, x: Array, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> tuple[Array, Any]:
    """Cut off where the sums are taken; products of columns are cut off in a pass."""
    direct = convolution.prefers_direct(params.w.shape[1], stride[1])
    y, cache = layers.convolved(be, params, x, stride, padding, relu=direct)
    y = y if direct else layers.relu_forward(be, (), y)[0]
    return y, (ReluCache(y), cache)


@primitive
def training_relu_forward(be: KernelCalls, params: BatchNormParams, x: Array) -> tuple[Array, Any]:
    """Cut off row by row."""
    y, cache = layers.normalised_by_batch(be, params, x, relu=True)
    return y, (ReluCache(y), cache)


@primitive
def training_relu_backward(be: KernelCalls, dy: Array, cache: Any) -> tuple[Array, BatchNormParams]:
    """A row is masked before the two passes over it."""
    dy, y, x, gamma, mean, residual, _, inverse = be.contiguous(dy, cache[0].y, *cache[1])
    masked, dx = (be.empty(dy.shape, dy.dtype) for _ in range(2))
    grads = [np.empty(dy.shape[:2], dy.dtype) for _ in range(2)]
    given = *map(rows, (dy, y, masked, x)), gamma, mean, residual, inverse
    be.run(batch_norm.backward_training_relu, *given, rows(dx), *grads)
    return dx, BatchNormParams(*grads)


def inference_relu_forward(
    be: KernelCalls, params: BatchNormParams, x: Array, running: RunningStatistics
) -> tuple[Array, Any]:
    """Cut off while it is in the cache."""
    y, cache = layers.normalised_by_running(be, params, x, running, relu=True)
    return y, (ReluCache(y), cache)


def _masked_first(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward that masks dy in a pass of its own."""

    @primitive
    def masked_backward(be: KernelCalls, dy: Array, cache: Any, **static: Any) -> Any:
        mask, before = cache
        return backward(be, layers.relu_backward(be, dy, mask)[0], before, **static)

    return masked_backward


# ---- with a max pooling -----------------------------------------------------------------------------------


def _pooled(forward: Callable[..., Any], first_backward: Callable[..., Any]) -> Formula:
    """The pair with a max pooling behind: backwards the pooling masks what it sends to the pixels."""

    def pooled_forward(
        be: KernelCalls, params: Any, x: Array, window: Pair, *static: Any
    ) -> tuple[Array, Any]:
        made, (mask, before) = forward(be, params, x, *static)
        y, largest = layers.max_pooling_forward(be, (), made, window)
        return y, (largest, mask, before)

    @primitive
    def pooled_backward(be: KernelCalls, dy: Array, cache: Any, **static: Any) -> Any:
        largest, _, before = cache
        return first_backward(be, layers.unpooled(be, dy, largest, relu=True), before, **static)

    return Formula(pooled_forward, pooled_backward)


def inference_relu_pooling_forward(
    be: KernelCalls, params: BatchNormParams, x: Array, window: Pair, running: RunningStatistics
) -> tuple[Array, Any]:
    """The largest value of each window is found first: of four pixels one is normalised."""
    (given, *values), _ = layers.normalising(be, params, x, running)
    y = layers.pooled(be, max(map(len, (given, *values))), given, window)
    be.run(batch_norm.normalise_relu_pool, given, *values, y, *window)
    return y, (params, x, window, running)


def inference_relu_pooling_backward(be: KernelCalls, dy: Array, cache: Any) -> tuple[Array, BatchNormParams]:
    """All of it is computed."""
    _, whole = INFERENCE_WHOLE.forward(be, *cache)
    return INFERENCE_WHOLE.backward(be, dy, whole)


INFERENCE_WHOLE = _pooled(inference_relu_forward, layers.inference_backward)
OWN = {
    fusion.LINEAR_RELU: Formula(linear_relu_forward, linear_relu_backward),
    fusion.CONVOLUTION_RELU: Formula(convolution_relu_forward, _masked_first(layers.convolution_backward)),
    fusion.CONVOLUTION_RELU_POOLING: _pooled(convolution_relu_forward, layers.convolution_backward),
    fusion.TRAINING_RELU: Formula(training_relu_forward, training_relu_backward),
    fusion.TRAINING_RELU_POOLING: _pooled(training_relu_forward, layers.training_backward),
    fusion.INFERENCE_RELU: Formula(inference_relu_forward, _masked_first(layers.inference_backward)),
    fusion.INFERENCE_RELU_POOLING: Formula(inference_relu_pooling_forward, inference_relu_pooling_backward),
}


def rewritten(layers: Sequence[Runnable], quiet: Sequence[bool]) -> list[tuple[Runnable, int]]:
    """The layers in order, with one in the place of neighbours that have a pair here."""
    return fusion.fused(layers, quiet, OWN)
