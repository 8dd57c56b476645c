"""The layers on a CPU: loops compiled by Numba, matrix products by BLAS.

Each pair of functions computes what the formula of its layer says, see `wn/engine/layers`. Some take a ReLU
behind the layer too: with `relu` their forward cuts off what is negative, and their backward, whose `relu` is
what came out of that, masks dy first.
"""

from collections.abc import Sequence

import numpy as np

from wn.engine.backends.numba.kernel_calls import KernelCalls
from wn.engine.backends.numba.kernels import (
    batch_norm,
    convolution,
    convolution_columns,
    elementwise,
    loss,
    pooling,
    products,
    small,
)
from wn.engine.backends.numba.recorded_calls import primitive
from wn.engine.backends.numpy.batch_norm import normaliser
from wn.engine.layers import average_pooling as average_pooling_layer
from wn.engine.layers import batch_norm as batch_norm_layer
from wn.engine.layers import convolution as convolution_layer
from wn.engine.layers import cross_entropy as cross_entropy_layer
from wn.engine.layers import linear as linear_layer
from wn.engine.layers import max_pooling as max_pooling_layer
from wn.engine.layers import relu as relu_layer
from wn.engine.layers.average_pooling import AveragePoolingCache
from wn.engine.layers.base import Formula, without_bias
from wn.engine.layers.batch_norm import EPSILON, BatchNormCache, BatchNormParams, RunningStatistics, rows
from wn.engine.layers.convolution import ConvolutionCache, ConvolutionParams
from wn.engine.layers.cross_entropy import CrossEntropyCache, check_labels
from wn.engine.layers.joins import add as add_layer
from wn.engine.layers.joins import concatenate as concatenate_layer
from wn.engine.layers.joins.add import AddCache
from wn.engine.layers.joins.concatenate import ConcatenateCache
from wn.engine.layers.linear import LinearCache, LinearParams
from wn.engine.layers.max_pooling import MaxPoolingCache
from wn.engine.layers.relu import ReluCache
from wn.engine.layers.windows import Array, Pair, Sliding

# Parts of a matrix product, one thread's work each. They depend on the shapes of one member alone, since BLAS
# rounds an element by its place in a part.
SAMPLES = 64  # columns of y and dx where the batch has up to 128,
MORE_SAMPLES = 128  # and where it has more
INPUTS = 392  # columns of dw: half of an MNIST image

# ---- linear ---------------------------------------------------------------------------------------------


@primitive
def linear_forward(
    be: KernelCalls, params: LinearParams, x: Array, relu: bool = False
) -> tuple[Array, LinearCache]:
    """Products, a part of the samples at a time."""
    w, b, x = be.contiguous(*params, x)
    y = be.empty((max(len(w), len(x)), w.shape[1], x.shape[2]), x.dtype)
    be.run_blas(products.linear, be.gemm[x.dtype], w, x, b, y, part(x.shape[2]), relu)
    return y, LinearCache(x, w)


@primitive
def linear_backward(
    be: KernelCalls, dy: Array, cache: LinearCache, need_dx: bool = True, relu: Array | None = None
) -> tuple[Array | None, LinearParams]:
    """dx a part of the samples at a time, dw a part of the inputs; the same call masks dy."""
    dy, x, w = be.contiguous(dy, *cache)
    (members, outputs, batch), inputs = dy.shape, x.shape[1]
    dx = be.empty((members if need_dx else 0, inputs, batch), dy.dtype)
    dw, db = be.empty((members, outputs, inputs), dy.dtype), np.empty((members, outputs), dy.dtype)
    given, parts = (dy, *mask_arrays(be, dy, relu), x, w, dx, dw, db), (part(batch), INPUTS)
    be.run_blas(products.linear_backward, be.gemm[dy.dtype], *given, *parts)
    return (dx if need_dx else None), LinearParams(dw, db)


def mask_arrays(be: KernelCalls, dy: Array, relu: Array | None) -> tuple[Array, Array]:
    """The mask and the buffer of the masked gradient; arrays of no members where there is no ReLU."""
    if relu is None:
        return dy[:0], dy[:0]
    (y,) = be.contiguous(relu)
    return y, be.empty(dy.shape, dy.dtype)


def part(samples: int) -> int:
    """The columns of a part of a product."""
    return SAMPLES if samples <= 2 * SAMPLES else MORE_SAMPLES


# ---- convolution ----------------------------------------------------------------------------------------


@primitive
def convolution_forward(
    be: KernelCalls,
    params: ConvolutionParams,
    x: Array,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    relu: bool = False,
) -> tuple[Array, ConvolutionCache]:
    """Sums of slices where there are few outputs, else products of columns, cut off by a pass of its own."""
    w, b, x = be.contiguous(*params, x)
    places = Sliding(w.shape[3:], stride, padding).places(*x.shape[2:4])
    y = be.empty((max(len(x), len(w)), w.shape[1], *places, x.shape[4]), x.dtype)
    if convolution.prefers_direct(w.shape[1], stride[1]):
        be.run(convolution.convolution, x, w, b, y, stride, padding, relu)
    else:
        be.run_blas(convolution_columns.convolution, be.gemm[x.dtype], x, w, b, y, stride, padding)
        y = relu_forward(be, (), y)[0] if relu else y
    return y, ConvolutionCache(x, w, stride, padding)


@primitive
def convolution_backward(
    be: KernelCalls, dy: Array, cache: ConvolutionCache, need_dx: bool = True, relu: Array | None = None
) -> tuple[Array | None, ConvolutionParams]:
    """Each gradient by sums of slices or by columns, whichever is faster."""
    dy, x, w = be.contiguous(gradient_before_relu(be, dy, relu), cache.x, cache.w)
    stride, sliding = cache.stride, (cache.stride, cache.padding)
    dw, db = be.empty((len(dy), *w.shape[1:]), dy.dtype), np.empty(dy.shape[:2], dy.dtype)
    if convolution.prefers_direct(dy.shape[1], stride[1]):
        be.run(convolution.convolution_gradients, dy, x, dw, db, *sliding)
    else:
        be.run_blas(convolution_columns.convolution_gradients, be.gemm[x.dtype], dy, x, dw, db, *sliding)
    if not need_dx:
        return None, ConvolutionParams(dw, db)
    dx = be.empty((len(dy), *x.shape[1:]), dy.dtype)
    if convolution.prefers_direct_input_gradient(w.shape[1], stride[1], w.shape[4], dy.shape[3]):
        be.run(convolution.convolution_input_gradient, w, dy, dx, *sliding)
    else:
        be.run_blas(convolution_columns.convolution_input_gradient, be.gemm[dy.dtype], w, dy, dx, *sliding)
    return dx, ConvolutionParams(dw, db)


# ---- ReLU and pooling -----------------------------------------------------------------------------------


@primitive
def relu_forward(be: KernelCalls, params: tuple[()], x: Array) -> tuple[Array, ReluCache]:
    """The same bits."""
    (x,) = be.contiguous(x)
    y = be.empty(x.shape, x.dtype)
    be.run(elementwise.relu, x.reshape(-1), y.reshape(-1))
    return y, ReluCache(y)


@primitive
def relu_backward(be: KernelCalls, dy: Array, cache: ReluCache) -> tuple[Array, tuple[()]]:
    """The same bits."""
    dy, y = be.contiguous(dy, cache.y)
    dx = be.empty(dy.shape, dy.dtype)
    be.run(elementwise.relu_backward, *(array.reshape(len(array), -1) for array in (dy, y, dx)))
    return dx, ()


def gradient_before_relu(be: KernelCalls, dy: Array, relu: Array | None) -> Array:
    """The gradient before a ReLU by a pass of its own, or dy where there is no ReLU."""
    return dy if relu is None else relu_backward(be, dy, ReluCache(relu))[0]


@primitive
def max_pooling_forward(
    be: KernelCalls, params: tuple[()], x: Array, window: Pair
) -> tuple[Array, MaxPoolingCache]:
    """The same bits."""
    (x,) = be.contiguous(x)
    y = pooled(be, len(x), x, window)
    be.run(pooling.max_pool, x, y, *window)
    return y, MaxPoolingCache(x, y, window)


@primitive
def max_pooling_backward(
    be: KernelCalls, dy: Array, cache: MaxPoolingCache, relu: bool = False
) -> tuple[Array, tuple[()]]:
    """The same bits; with `relu` x came out of a ReLU, and dx is what goes into that."""
    dy, x, y = be.contiguous(dy, cache.x, cache.y)
    dx = be.empty((len(dy), *x.shape[1:]), dy.dtype)
    be.run(pooling.max_pool_backward, dy, x, y, dx, *cache.window, relu)
    return dx, ()


@primitive
def average_pooling_forward(
    be: KernelCalls, params: tuple[()], x: Array, window: Pair
) -> tuple[Array, AveragePoolingCache]:
    """One pass over the image."""
    cache = AveragePoolingCache(x.shape[2:4], window)
    if window == (1, 1):
        return x, cache
    (x,) = be.contiguous(x)
    y = pooled(be, len(x), x, window)
    be.run(pooling.average_pool, x, y, *window)
    return y, cache


@primitive
def average_pooling_backward(
    be: KernelCalls, dy: Array, cache: AveragePoolingCache
) -> tuple[Array, tuple[()]]:
    """One pass over the image."""
    if cache.window == (1, 1):
        return dy, ()
    (dy,) = be.contiguous(dy)
    dx = be.empty((*dy.shape[:2], *cache.size, dy.shape[4]), dy.dtype)
    be.run(pooling.average_pool_backward, dy, dx, *cache.window)
    return dx, ()


def pooled(be: KernelCalls, population: int, x: Array, window: Pair) -> Array:
    """An empty output of a pooling."""
    _, channels, height, width, batch = x.shape
    return be.empty((population, channels, height // window[0], width // window[1], batch), x.dtype)


# ---- joins ----------------------------------------------------------------------------------------------


@primitive
def add_forward(be: KernelCalls, params: tuple[()], x: Sequence[Array]) -> tuple[Array, AddCache]:
    """The same bits."""
    first, *others = x
    y = first
    for other in others:
        left, right = be.contiguous(y, other)
        y = be.empty((max(len(left), len(right)), *left.shape[1:]), left.dtype)
        be.run(elementwise.add, *(array.reshape(len(array), -1) for array in (left, right, y)))
    return y, AddCache(len(x))


def add_backward(be: KernelCalls, dy: Array, cache: AddCache) -> tuple[tuple[Array, ...], tuple[()]]:
    """The same array for each input."""
    return (dy,) * cache.inputs, ()


@primitive
def concatenate_forward(
    be: KernelCalls, params: tuple[()], x: Sequence[Array]
) -> tuple[Array, ConcatenateCache]:
    """The same bits."""
    x, cache = be.contiguous(*x), ConcatenateCache(tuple(part.shape[1] for part in x))
    y = be.empty((max(map(len, x)), sum(cache.channels), *x[0].shape[2:]), x[0].dtype)
    for part, (start, _) in zip(x, concatenate_layer.edges(cache), strict=True):
        be.run(elementwise.put, *(array.reshape(*array.shape[:2], -1) for array in (part, y)), start)
    return y, cache


@primitive
def concatenate_backward(
    be: KernelCalls, dy: Array, cache: ConcatenateCache
) -> tuple[tuple[Array, ...], tuple[()]]:
    """The same bits."""
    (dy,) = be.contiguous(dy)
    found = []
    for start, stop in concatenate_layer.edges(cache):
        dx = be.empty((len(dy), stop - start, *dy.shape[2:]), dy.dtype)
        be.run(elementwise.take, *(array.reshape(*array.shape[:2], -1) for array in (dy, dx)), start)
        found.append(dx)
    return tuple(found), ()


# ---- batch norm -----------------------------------------------------------------------------------------


@primitive
def training_forward(
    be: KernelCalls, params: BatchNormParams, x: Array, eps: float = EPSILON, relu: bool = False
) -> tuple[Array, BatchNormCache]:
    """Row by row, in the cache."""
    batch_norm_layer.check_count(x)
    x, gamma, beta = be.contiguous(x, *params)
    y = be.empty((max(len(x), len(gamma)), *x.shape[1:]), x.dtype)
    mean, residual, variance, inverse = statistics = [np.empty(x.shape[:2], x.dtype) for _ in range(4)]
    be.run(batch_norm.forward_training, rows(x), gamma, beta, eps, rows(y), *statistics, relu)
    batch_norm_layer.check_finite(be, mean)
    return y, BatchNormCache(x, gamma, mean, residual, variance, inverse)


@primitive
def training_backward(
    be: KernelCalls, dy: Array, cache: BatchNormCache, relu: Array | None = None
) -> tuple[Array, BatchNormParams]:
    """Row by row, in the cache; a row of dy is masked before the two passes over it."""
    dy, x, gamma, mean, residual, _, inverse = be.contiguous(dy, *cache)
    dx, grads = be.empty(dy.shape, dy.dtype), [np.empty(dy.shape[:2], dy.dtype) for _ in range(2)]
    given, statistics = map(rows, (dy, *mask_arrays(be, dy, relu), x)), (mean, residual, inverse)
    be.run(batch_norm.backward_training, *given, gamma, *statistics, rows(dx), *grads)
    return dx, BatchNormParams(*grads)


def inference_forward(
    be: KernelCalls,
    params: BatchNormParams,
    x: Array,
    running: RunningStatistics,
    eps: float = EPSILON,
    relu: bool = False,
) -> tuple[Array, BatchNormCache]:
    """One pass over the rows."""
    (x, centre, scale, shift), inverse = normalising(be, params, x, running, eps)
    y = be.empty((max(map(len, (x, centre, scale, shift))), *x.shape[1:]), x.dtype)
    be.run(batch_norm.normalise, rows(x), centre, scale, shift, relu, rows(y))
    cache = BatchNormCache(x, params.gamma, running.mean, running.residual, running.variance, inverse)
    return y, cache


def normalising(
    be: KernelCalls, params: BatchNormParams, x: Array, running: RunningStatistics, eps: float = EPSILON
) -> tuple[tuple[Array, ...], Array]:
    """x with the centre, scale and shift of its normalisation, and inverse."""
    be.not_repeatable("batch norm at inference")
    mean, variance, residual = running
    *given, inverse = normaliser(np, params, mean, residual, variance, eps)
    return be.contiguous(x, *given), inverse


def inference_backward(
    be: KernelCalls, dy: Array, cache: BatchNormCache, relu: Array | None = None
) -> tuple[Array, BatchNormParams]:
    """The sums by a kernel."""
    be.not_repeatable("batch norm at inference")
    dy, x, gamma, mean, residual, _, inverse = be.contiguous(gradient_before_relu(be, dy, relu), *cache)
    grads = BatchNormParams(*(np.empty(dy.shape[:2], dy.dtype) for _ in range(2)))
    be.run(batch_norm.normalise_sums, rows(dy), rows(x), mean, residual, inverse, *grads)
    dx = rows(dy) * (gamma * inverse)[:, :, None]
    return dx.reshape(dy.shape), grads


# ---- loss -----------------------------------------------------------------------------------------------


@primitive
def cross_entropy_forward(
    be: KernelCalls,
    params: tuple[()],
    logits: Array,
    labels: Array,
    class_weights: Sequence[float] | None = None,
) -> tuple[Array, CrossEntropyCache]:
    """The shares of samples, then the loss of each member."""
    check_labels(labels, logits.shape[1])
    logits, labels = be.contiguous(logits, labels)
    a = np.full(len(labels), 1 / len(labels), logits.dtype)
    if class_weights is not None:
        check_labels(labels, len(class_weights))
        be.run(small.shares, labels, np.asarray(class_weights, logits.dtype), a)
    values, log_q = np.empty(len(logits), logits.dtype), np.empty_like(logits)
    be.run(loss.cross_entropy, logits, labels, a, log_q, values)
    return values, CrossEntropyCache(log_q, labels, a)


@primitive
def cross_entropy_backward(be: KernelCalls, dloss: None, cache: CrossEntropyCache) -> tuple[Array, tuple[()]]:
    """One pass over the logits."""
    given = be.contiguous(*cache)
    dlogits = np.empty_like(given[0])
    be.run(loss.cross_entropy_backward, *given, dlogits)
    return dlogits, ()


def _zeros(be: KernelCalls, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    return np.zeros(shape, dtype)


LINEAR = Formula(linear_forward, linear_backward)
CONVOLUTION = Formula(convolution_forward, convolution_backward)
OWN = {
    linear_layer.FORMULA: LINEAR,
    linear_layer.WITHOUT_BIAS: without_bias(LINEAR, _zeros),
    convolution_layer.FORMULA: CONVOLUTION,
    convolution_layer.WITHOUT_BIAS: without_bias(CONVOLUTION, _zeros),
    relu_layer.FORMULA: Formula(relu_forward, relu_backward),
    max_pooling_layer.FORMULA: Formula(max_pooling_forward, max_pooling_backward),
    add_layer.FORMULA: Formula(add_forward, add_backward),
    concatenate_layer.FORMULA: Formula(concatenate_forward, concatenate_backward),
    average_pooling_layer.FORMULA: Formula(average_pooling_forward, average_pooling_backward),
    batch_norm_layer.TRAINING: Formula(training_forward, training_backward),
    batch_norm_layer.INFERENCE: Formula(inference_forward, inference_backward),
    cross_entropy_layer.FORMULA: Formula(cross_entropy_forward, cross_entropy_backward),
}
