"""Neighbouring layers at once on a CPU, see `wn.engine.fusion`: the bits of one after the other.

The pairs of `layers` take a ReLU behind them: what is negative is cut off while it is in the cache, and the
gradient is masked where it is read anyway.
"""

from collections.abc import Sequence
from typing import Any

from wn.engine import fusion
from wn.engine.backends.numba import layers
from wn.engine.backends.numba.kernel_calls import KernelCalls
from wn.engine.backends.numba.kernels import batch_norm
from wn.engine.layers import batch_norm as batch_norm_layer
from wn.engine.layers import convolution, linear
from wn.engine.layers.base import Formula, Runnable
from wn.engine.layers.batch_norm import BatchNormParams, RunningStatistics
from wn.engine.layers.relu import ReluCache
from wn.engine.layers.windows import Array, Pair


def _with_relu(pair: Formula) -> Formula:
    """A pair with a ReLU behind, which the pair itself takes."""

    def forward(be: KernelCalls, params: Any, x: Array, *static: Any) -> tuple[Array, Any]:
        y, cache = pair.forward(be, params, x, *static, relu=True)
        return y, (ReluCache(y), cache)

    def backward(be: KernelCalls, dy: Array, cache: Any, **static: Any) -> Any:
        mask, before = cache
        return pair.backward(be, dy, before, relu=mask.y, **static)

    return Formula(forward, backward)


def _with_pooling(pair: Formula) -> Formula:
    """A pair with ReLU and max pooling behind: backwards the pooling masks what it sends to the pixels."""

    def forward(be: KernelCalls, params: Any, x: Array, window: Pair, *static: Any) -> tuple[Array, Any]:
        made, cache = pair.forward(be, params, x, *static, relu=True)
        y, largest = layers.max_pooling_forward(be, (), made, window)
        return y, (largest, cache)

    def backward(be: KernelCalls, dy: Array, cache: Any, **static: Any) -> Any:
        largest, before = cache
        dmade, _ = layers.max_pooling_backward(be, dy, largest, relu=True)
        return pair.backward(be, dmade, before, **static)

    return Formula(forward, backward)


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
    found: tuple[Array, BatchNormParams] = INFERENCE_WHOLE.backward(be, dy, whole)
    return found


CONVOLUTION = layers.OWN[convolution.FORMULA]
TRAINING = layers.OWN[batch_norm_layer.TRAINING]
INFERENCE = layers.OWN[batch_norm_layer.INFERENCE]
INFERENCE_WHOLE = _with_pooling(INFERENCE)
OWN = {
    fusion.LINEAR_RELU: _with_relu(layers.OWN[linear.FORMULA]),
    fusion.CONVOLUTION_RELU: _with_relu(CONVOLUTION),
    fusion.CONVOLUTION_RELU_POOLING: _with_pooling(CONVOLUTION),
    fusion.TRAINING_RELU: _with_relu(TRAINING),
    fusion.TRAINING_RELU_POOLING: _with_pooling(TRAINING),
    fusion.INFERENCE_RELU: _with_relu(INFERENCE),
    fusion.INFERENCE_RELU_POOLING: Formula(inference_relu_pooling_forward, inference_relu_pooling_backward),
}


def rewritten(layers: Sequence[Runnable], quiet: Sequence[bool]) -> list[tuple[Runnable, int]]:
    """The layers in order, with one in the place of neighbours that have a pair here."""
    return fusion.fused(layers, quiet, OWN)
