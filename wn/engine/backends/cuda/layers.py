"""The layers on a GPU: products by cuBLAS, everything else by the kernels of kernels.cu.

Each pair of functions computes what the formula of its layer says, see `wn/engine/layers`.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from wn.engine.backends.cuda.kernels import by_element, by_sample, packed, reducing
from wn.engine.backends.cuda.launches import Device
from wn.engine.backends.numpy import batch_norm as careful
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
from wn.engine.layers.base import Formula, without_bias
from wn.engine.layers.batch_norm import EPSILON, BatchNormCache, BatchNormParams, RunningStatistics, rows
from wn.engine.layers.convolution import ConvolutionCache, ConvolutionParams
from wn.engine.layers.cross_entropy import CrossEntropyCache
from wn.engine.layers.linear import LinearCache, LinearParams
from wn.engine.layers.max_pooling import MaxPoolingCache
from wn.engine.layers.relu import ReluCache
from wn.engine.layers.windows import Array, Pair, Sliding, tiled

OUTPUTS, ACROSS = 8, 4  # of a convolution's result, that one thread computes (kernels.cu)
ENTRIES = 8  # places of a convolution's kernel whose gradient one warp computes
WARPS = 8  # at most, in a block
SLICED_BLOCKS = 16  # of a member, for the gradient of a kernel: with fewer, the rows of y are divided

# ---- linear ---------------------------------------------------------------------------------------------


def linear_forward(be: Device, params: LinearParams, x: Array) -> tuple[Array, LinearCache]:
    """One product for all members where they share x."""
    w, b, x = be.contiguous(*params, x)
    y = be.xp.empty((max(len(w), len(x)), w.shape[1], x.shape[2]), x.dtype)
    if len(x) == 1:
        be.product(_stacked(w), x, _stacked(y))
    else:
        be.product(w, x, y)
    launch = be.kernel("add_bias", y.dtype, *by_sample(prod(y.shape[:2]), y.shape[2]))
    launch(y, b, np.int32(b.size), np.int32(y.shape[2]))
    return y, LinearCache(x, w)


def linear_backward(
    be: Device, dy: Array, cache: LinearCache, need_dx: bool = True
) -> tuple[Array | None, LinearParams]:
    """One product for all members where they share x."""
    dy, x, w = be.contiguous(dy, *cache)
    dw = be.xp.empty((*dy.shape[:2], x.shape[1]), dy.dtype)
    if len(x) == 1:
        be.product(_stacked(dy), x, _stacked(dw), transpose_b=True)
    else:
        be.product(dy, x, dw, transpose_b=True)
    grads = LinearParams(dw, be.row_sums(dy, dy.shape[:2]))
    if not need_dx:
        return None, grads
    dx = be.xp.empty((len(dy), w.shape[2], dy.shape[2]), dy.dtype)
    be.product(w, dy, dx, transpose_a=True)
    return dx, grads


def _stacked(array: Array) -> Array:
    """(P, A, B) as (1, P·A, B): what all members have in one product."""
    return array.reshape(1, -1, array.shape[2])


# ---- ReLU -----------------------------------------------------------------------------------------------


def relu_forward(be: Device, params: tuple[()], x: Array) -> tuple[Array, ReluCache]:
    """The same bits."""
    (x,) = be.contiguous(x)
    y = be.xp.empty_like(x)
    be.kernel("relu", x.dtype, *by_element(x.size, 1))(x, y, np.int64(x.size))
    return y, ReluCache(y)


def relu_backward(be: Device, dy: Array, cache: ReluCache) -> tuple[Array, tuple[()]]:
    """The same bits."""
    return be.by_member("relu_backward", dy, cache.y), ()


# ---- loss -----------------------------------------------------------------------------------------------


def cross_entropy_forward(
    be: Device, params: tuple[()], logits: Array, labels: Array, class_weights: Sequence[float] | None = None
) -> tuple[Array, CrossEntropyCache]:
    """Labels are not looked at, which would stop the device: the loss of those that are none is NaN."""
    if class_weights is None:
        a = be.xp.full(len(labels), 1 / len(labels), logits.dtype)
    else:
        weights = be.constant(class_weights, logits.dtype)[labels]
        a = weights / weights.sum()
    logits, labels, a = be.contiguous(logits, labels, a)
    (members, classes, batch), log_q = logits.shape, be.xp.empty_like(logits)
    losses = be.xp.empty(members, logits.dtype)
    launch = be.kernel("cross_entropy", logits.dtype, (members,), reducing(batch))
    launch(logits, labels, a, log_q, losses, np.int32(classes), np.int32(batch))
    return losses, CrossEntropyCache(log_q, labels, a)


def cross_entropy_backward(be: Device, dloss: None, cache: CrossEntropyCache) -> tuple[Array, tuple[()]]:
    """One pass over the logits."""
    given = be.contiguous(*cache)
    (members, classes, batch), dlogits = given[0].shape, be.xp.empty_like(given[0])
    launch = be.kernel("cross_entropy_backward", dlogits.dtype, *by_sample(members * classes, batch))
    launch(*given, dlogits, np.int32(classes), np.int32(batch))
    return dlogits, ()


# ---- convolution ----------------------------------------------------------------------------------------


def convolution_forward(
    be: Device, params: ConvolutionParams, x: Array, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> tuple[Array, ConvolutionCache]:
    """Tiles of outputs, each by one thread."""
    w, b = params
    cache = ConvolutionCache(x, w, stride, padding)
    if len(b) != len(w):
        w, b = (be.xp.broadcast_to(a, (max(len(w), len(b)), *a.shape[1:])) for a in (w, b))
    x, w, b = be.contiguous(x, w, b)
    places = Sliding(w.shape[3:], stride, padding).places(*x.shape[2:4])
    y = be.xp.empty((max(len(x), len(w)), w.shape[1], *places, x.shape[4]), x.dtype)
    shapes = _sliding(len(x), cache._replace(w=w), y)
    be.kernel("convolution", x.dtype, *_tiles(y))(x, w, b, y, shapes)
    return y, cache


def convolution_backward(
    be: Device, dy: Array, cache: ConvolutionCache, need_dx: bool = True
) -> tuple[Array | None, ConvolutionParams]:
    """The rows of dy are divided where there are few kernels: their gradients are added up at the end."""
    dy, x, w = be.contiguous(dy, cache.x, cache.w)
    members, outputs, height = dy.shape[:3]
    tiles = -(-prod(w.shape[2:]) // ENTRIES)
    warps = _warps(tiles)
    blocks = -(-tiles // warps) * -(-outputs // OUTPUTS)
    slices = min(height, -(-SLICED_BLOCKS // blocks))
    parts = be.xp.empty((slices, members, *w.shape[1:]), dy.dtype)
    launch = be.kernel("convolution_weight_gradient", dy.dtype, (blocks * members, slices), 32 * warps)
    launch(dy, x, parts, _sliding(len(x), cache, dy, w_members=members, slices=slices))
    dw = parts[0] if slices == 1 else parts.sum(axis=0)
    grads = ConvolutionParams(dw, be.row_sums(dy, dy.shape[:2]))
    if not need_dx:
        return None, grads
    dx = be.xp.empty((members, *x.shape[1:]), dy.dtype)
    launch = be.kernel("convolution_input_gradient", dy.dtype, *_tiles(dx))
    launch(dy, w, dx, _sliding(members, cache, dy))
    return dx, grads


def _sliding(
    x_members: int, cache: ConvolutionCache, y: Array, w_members: int | None = None, slices: int = 1
) -> Any:
    """The struct of a convolution: who has which x and w, shapes, and how the kernel slides."""
    (own, outputs, inputs, *kernel), size = cache.w.shape, cache.x.shape[2:4]
    members, _, height, width, batch = y.shape
    shapes = members, x_members, w_members or own, inputs, outputs, *size, height, width
    return packed(np.int32, *shapes, *kernel, *cache.stride, *cache.padding, batch, slices)


def _warps(tiles: int) -> int:
    """How many warps a block has if each of them has a tile: so that the fewest are idle."""
    return min(range(min(tiles, WARPS), min(tiles, WARPS) // 2, -1), key=lambda warps: -tiles % warps)


def _tiles(image: Array) -> tuple[tuple[int, ...], int]:
    """Grid and threads of a convolution with that result (P, C, H, W, B)."""
    members, channels, height, width, batch = image.shape
    return by_sample(members * height * -(-channels // OUTPUTS) * -(-width // ACROSS), batch)


# ---- pooling --------------------------------------------------------------------------------------------


def max_pooling_forward(
    be: Device, params: tuple[()], x: Array, window: Pair
) -> tuple[Array, MaxPoolingCache]:
    """The same bits."""
    (x,) = be.contiguous(x)
    y = _pooled(be, "max_pool", x, window)
    return y, MaxPoolingCache(x, y, window)


def max_pooling_backward(be: Device, dy: Array, cache: MaxPoolingCache) -> tuple[Array, tuple[()]]:
    """The same bits."""
    dy, x, y = be.contiguous(dy, cache.x, cache.y)
    dx = tiled(be.xp, (len(dy), *x.shape[1:]), cache.window, dy.dtype)
    _pooling(be, "max_pool_backward", dx, cache.window, len(x))(dy, x, y, dx)
    return dx, ()


def average_pooling_forward(
    be: Device, params: tuple[()], x: Array, window: Pair
) -> tuple[Array, AveragePoolingCache]:
    """The same bits."""
    cache = AveragePoolingCache(x.shape[2:4], window)
    if window == (1, 1):
        return x, cache
    (x,) = be.contiguous(x)
    return _pooled(be, "average_pool", x, window), cache


def average_pooling_backward(be: Device, dy: Array, cache: AveragePoolingCache) -> tuple[Array, tuple[()]]:
    """The same bits."""
    if cache.window == (1, 1):
        return dy, ()
    (dy,) = be.contiguous(dy)
    dx = tiled(be.xp, (*dy.shape[:2], *cache.size, dy.shape[4]), cache.window, dy.dtype)
    _pooling(be, "average_pool_backward", dx, cache.window, len(dx))(dy, dx)
    return dx, ()


def _pooled(be: Device, name: str, x: Array, window: Pair) -> Array:
    """What a kernel makes of the windows of x."""
    members, channels, height, width, batch = x.shape
    y = be.xp.empty((members, channels, height // window[0], width // window[1], batch), x.dtype)
    _pooling(be, name, x, window, members)(x, y)
    return y


def _pooling(be: Device, name: str, image: Array, window: Pair, x_members: int) -> Any:
    """The launch of a pooling kernel, for its arrays; `image` has the shape of x."""
    members, channels, height, width, batch = image.shape
    windows = members * channels * (height // window[0]) * (width // window[1])
    sizes = packed(np.int32, channels, height, width, *window, batch, x_members)
    launch = be.kernel(name, image.dtype, *by_sample(windows, batch))
    return lambda *arrays: launch(*arrays, sizes)


# ---- batch norm -----------------------------------------------------------------------------------------


def training_forward(
    be: Device, params: BatchNormParams, x: Array, eps: float = EPSILON
) -> tuple[Array, BatchNormCache]:
    """A block for each row. What is not finite makes NaN: looking at it would stop the device."""
    batch_norm.check_count(x)
    x, gamma, beta = be.contiguous(x, *params)
    y = be.xp.empty((max(len(x), len(gamma)), *x.shape[1:]), x.dtype)
    mean, residual, variance, inverse = statistics = [be.xp.empty(x.shape[:2], x.dtype) for _ in range(4)]
    launch = _by_row(be, "batch_norm", y, len(x), len(gamma))
    launch(x, gamma, beta, y, *statistics, x.dtype.type(eps))
    return y, BatchNormCache(x, gamma, mean, residual, variance, inverse)


def training_backward(be: Device, dy: Array, cache: BatchNormCache) -> tuple[Array, BatchNormParams]:
    """A block for each row."""
    dy, x, gamma, mean, residual, _, inverse = be.contiguous(dy, *cache)
    dx, grads = be.xp.empty_like(dy), [be.xp.empty(dy.shape[:2], dy.dtype) for _ in range(2)]
    launch = _by_row(be, "batch_norm_backward", dx, len(x), len(gamma))
    launch(dy, x, gamma, mean, residual, inverse, dx, *grads)
    return dx, BatchNormParams(*grads)


def inference_forward(
    be: Device, params: BatchNormParams, x: Array, running: RunningStatistics, eps: float = EPSILON
) -> tuple[Array, BatchNormCache]:
    """y = (x − centre)·scale + shift, whose values a kernel computes first."""
    mean, variance, residual = running
    centre, scale, shift, inverse = _normaliser(be, params, mean, residual, variance, eps)
    shape = (max(map(len, (x, centre))), x.shape[1])
    x, *values = be.contiguous(x, *(be.xp.broadcast_to(array, shape) for array in (centre, scale, shift)))
    y = be.xp.empty((len(values[0]), *x.shape[1:]), x.dtype)
    _by_row(be, "normalise", y, len(x), len(values[0]))(x, *values, y)
    return y, BatchNormCache(x, params.gamma, mean, residual, variance, inverse)


def _normaliser(
    be: Device, params: BatchNormParams, mean: Array, residual: Array, variance: Array, eps: float
) -> list[Array]:
    """centre, scale, shift and inverse, (P, F) each."""
    shape = (max(len(params.gamma), len(mean)), mean.shape[1])
    values = (be.xp.broadcast_to(array, shape) for array in (*params, mean, residual, variance))
    given = be.contiguous(*values)
    found, size = [be.xp.empty(shape, mean.dtype) for _ in range(4)], prod(shape)
    launch = be.kernel("normaliser", mean.dtype, *by_element(size, 1))
    launch(*given, *found, mean.dtype.type(eps), np.int64(size))
    return found


def _by_row(be: Device, name: str, y: Array, x_members: int, gamma_members: int) -> Any:
    """The launch of a kernel with a block for each row of y, for its arrays."""
    members, features, size = rows(y).shape
    sizes = packed(np.int64, features, x_members, gamma_members, size)
    launch = be.kernel(name, y.dtype, (members * features,), reducing(size))
    return lambda *arrays: launch(*arrays, sizes)


def _zeros(be: Device, shape: tuple[int, ...], dtype: Any) -> Array:
    return be.xp.zeros(shape, dtype)


LINEAR = Formula(linear_forward, linear_backward)
CONVOLUTION = Formula(convolution_forward, convolution_backward)
OWN = {
    linear.FORMULA: LINEAR,
    linear.WITHOUT_BIAS: without_bias(LINEAR, _zeros),
    relu.FORMULA: Formula(relu_forward, relu_backward),
    cross_entropy.FORMULA: Formula(cross_entropy_forward, cross_entropy_backward),
    convolution.FORMULA: CONVOLUTION,
    convolution.WITHOUT_BIAS: without_bias(CONVOLUTION, _zeros),
    max_pooling.FORMULA: Formula(max_pooling_forward, max_pooling_backward),
    average_pooling.FORMULA: Formula(average_pooling_forward, average_pooling_backward),
    batch_norm.TRAINING: Formula(training_forward, training_backward),
    batch_norm.INFERENCE: Formula(inference_forward, careful.backward_inference),
}
