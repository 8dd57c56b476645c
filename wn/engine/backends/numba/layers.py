"""The layers' primitives on a CPU: loops compiled by Numba, matrix products by BLAS."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from wn.engine.backends.numba.kernels import (
    batch_norm,
    convolution,
    convolution_columns,
    elementwise,
    loss,
    pooling,
    products,
)
from wn.engine.backends.numba.pace import Pace
from wn.engine.backends.numba.process import PROCESS
from wn.engine.backends.numba.recorded_calls import RecordedCalls, primitive
from wn.engine.backends.numba.work_arrays import WorkArrays
from wn.engine.backends.numpy.backend import NumpyBackend
from wn.engine.backends.plain.base import Array
from wn.engine.backends.sealed import Sealed, SealedNamespace
from wn.engine.backends.threads import blas_is_held, single_threaded_blas
from wn.engine.layers.windows import Pair, Sliding

# Parts of a matrix product, one thread's work each. They depend on the shapes of one member alone, since BLAS
# rounds an element by its place in a part.
SAMPLES = 64  # columns of y and dx where the batch has up to 128,
MORE_SAMPLES = 128  # and where it has more
INPUTS = 392  # columns of dw: half of an MNIST image

ARRAYS = (np.ndarray, Sealed)


class _Local(threading.local):
    """What each thread has of its own: the pace of its steps, and the step that it records."""

    pace: Pace | None = None
    recording: RecordedCalls | None = None


class NumbaLayers(NumpyBackend):
    """Products, element-wise functions, loss, convolution, pooling and batch norm, each by its kernel.

    Every kernel is called by `_run`, every large array comes from `_empty`, and only a `primitive` looks into
    arrays: so steps can be recorded.
    """

    def __init__(self) -> None:
        self._work = WorkArrays()
        self._local = _Local()
        self._gemm = {np.dtype(kind): products.gemm_address(kind) for kind in ("float32", "float64")}

    @property
    def xp(self) -> Any:  # type: ignore[override]  # an attribute of other backends
        """NumPy; while a step is recorded nothing can be done with it, since it could not be repeated."""
        recording = self._local.recording
        return np if recording is None else SealedNamespace(recording.refuse)

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """See `Backend.asarray`; an array of that dtype is returned as it is, also in a recorded step."""
        fits = isinstance(values, ARRAYS) and (dtype is None or values.dtype == dtype)
        return values if fits else self.xp.asarray(values, dtype=dtype)

    def _not_recorded(self, what: str) -> None:
        """Raise NotRecordable while a step is recorded."""
        if self._local.recording is not None:
            self._local.recording.refuse(what)

    def _run(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function that writes to some of its arguments; where a step is recorded, note the call."""
        recording = self._local.recording
        if recording is not None:
            recording.run(function, arguments)
        elif PROCESS.plain:
            function(*arguments)
        else:
            PROCESS.call(function, arguments)

    def _run_blas(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a kernel that calls BLAS: threads of BLAS within those of the kernel might wait for ever."""
        if blas_is_held():  # as it is in a training
            self._run(function, *arguments)
        else:
            with single_threaded_blas():
                self._run(function, *arguments)

    def _run_last(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function that changes what outlives a step; where one is recorded, at its end."""
        recording = self._local.recording
        if recording is not None:
            recording.run_last(function, arguments)
        elif PROCESS.plain:
            function(*arguments)
        else:
            PROCESS.call(function, arguments)

    def _empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array whose contents are undefined, if it is large on memory that is used again."""
        recording = self._local.recording
        return (self._work if recording is None else recording.work).empty(shape, dtype)

    def _contiguous(self, *arrays: Array) -> tuple[Array, ...]:
        """Return the arrays in the layout that kernels are compiled for, copied where they have another."""
        for array in arrays:  # no more than this in most calls: they come in every step
            if not array.flags.c_contiguous:
                self._not_recorded("an array that has to be copied first")
                return tuple(np.ascontiguousarray(array) for array in arrays)
        return arrays

    # ---- products ---------------------------------------------------------------------------------------

    @primitive
    def linear(self, w: Array, x: Array, b: Array) -> Array:
        """See `Backend.linear`: products in parts of so many samples."""
        return self._linear(w, x, b, relu=False)

    @primitive
    def linear_relu(self, w: Array, x: Array, b: Array) -> Array:
        """relu(linear(w, x, b)): the same bits."""
        return self._linear(w, x, b, relu=True)

    def _linear(self, w: Array, x: Array, b: Array, relu: bool) -> Array:
        w, x, b = self._contiguous(w, x, b)
        y = self._empty((max(len(w), len(x)), w.shape[1], x.shape[2]), x.dtype)
        self._run_blas(products.linear, self._gemm[x.dtype], w, x, b, y, _part(x.shape[2]), relu)
        return y

    @primitive
    def linear_backward(
        self, dy: Array, x: Array, w: Array, need_dx: bool
    ) -> tuple[Array | None, Array, Array]:
        """See `Backend.linear_backward`: dx in parts of so many samples, dw of so many inputs."""
        dy, x, w = self._contiguous(dy, x, w)
        gradients = self._linear_gradients(dy, x, need_dx)
        parts = _part(dy.shape[2]), INPUTS
        self._run_blas(products.linear_backward, self._gemm[dy.dtype], dy, x, w, *gradients, *parts)
        return (gradients[0] if need_dx else None), *gradients[1:]

    @primitive
    def linear_relu_backward(
        self, dy: Array, y: Array, x: Array, w: Array, need_dx: bool
    ) -> tuple[Array | None, Array, Array]:
        """linear_backward of relu_backward(dy, y): the same bits."""
        dy, y, x, w = self._contiguous(dy, y, x, w)
        masked, gradients = self._empty(dy.shape, dy.dtype), self._linear_gradients(dy, x, need_dx)
        given, parts = (dy, y, x, w, masked), (_part(dy.shape[2]), INPUTS)
        self._run_blas(products.linear_relu_backward, self._gemm[dy.dtype], *given, *gradients, *parts)
        return (gradients[0] if need_dx else None), *gradients[1:]

    def _linear_gradients(self, dy: Array, x: Array, need_dx: bool) -> tuple[Array, Array, Array]:
        """Arrays for dx, of no members unless it is needed, dw and db."""
        (members, outputs, batch), inputs = dy.shape, x.shape[1]
        dx = self._empty((members if need_dx else 0, inputs, batch), dy.dtype)
        dw = self._empty((members, outputs, inputs), dy.dtype)
        return dx, dw, np.empty((members, outputs), dy.dtype)

    # ---- element-wise -----------------------------------------------------------------------------------

    @primitive
    def relu(self, x: Array) -> Array:
        """y of `layers.relu`: the same bits."""
        (x,) = self._contiguous(x)
        y = self._empty(x.shape, x.dtype)
        self._run(elementwise.relu, x.reshape(-1), y.reshape(-1))
        return y

    @primitive
    def relu_backward(self, dy: Array, y: Array) -> Array:
        """dx of `layers.relu`: the same bits."""
        dy, y = self._contiguous(dy, y)
        dx = self._empty(dy.shape, dy.dtype)
        self._run(
            elementwise.relu_backward, dy.reshape(len(dy), -1), y.reshape(len(y), -1), dx.reshape(len(dy), -1)
        )
        return dx

    # ---- loss -------------------------------------------------------------------------------------------

    @primitive
    def cross_entropy(self, logits: Array, labels: Array, shares: Array) -> tuple[Array, Array]:
        """Loss and log-probabilities of `layers.cross_entropy`."""
        self.check_labels(labels, logits.shape[1])
        logits, labels, shares = self._contiguous(logits, labels, shares)
        values, log_probabilities = np.empty(len(logits), logits.dtype), np.empty_like(logits)
        self._run(loss.cross_entropy, logits, labels, shares, log_probabilities, values)
        return values, log_probabilities

    @primitive
    def cross_entropy_backward(self, log_probabilities: Array, labels: Array, shares: Array) -> Array:
        """dlogits of `layers.cross_entropy`."""
        log_probabilities, labels, shares = self._contiguous(log_probabilities, labels, shares)
        dlogits = np.empty_like(log_probabilities)
        self._run(loss.cross_entropy_backward, log_probabilities, labels, shares, dlogits)
        return dlogits

    @primitive
    def count_correct(self, logits: Array, labels: Array, groups: int | None = None) -> Array:
        """See `Backend.count_correct`: the same numbers."""
        self.check_labels(labels, logits.shape[1])
        logits, labels = self._contiguous(logits, labels)
        hits = np.zeros((len(logits), 1 if groups is None else groups), np.int64)
        self._run(loss.count_correct, logits, labels, hits)
        return hits[:, 0] if groups is None else hits

    # ---- convolution ------------------------------------------------------------------------------------

    @primitive
    def convolution(self, x: Array, w: Array, b: Array, stride: Pair, padding: Pair) -> Array:
        """See `Backend.convolution`."""
        return self._convolution(x, w, b, stride, padding, relu=False)

    @primitive
    def convolution_relu(self, x: Array, w: Array, b: Array, stride: Pair, padding: Pair) -> Array:
        """relu(convolution(…)): the same bits."""
        if not convolution.prefers_direct(w.shape[1], stride[1]):
            return self.relu(self.convolution(x, w, b, stride, padding))
        return self._convolution(x, w, b, stride, padding, relu=True)

    def _convolution(self, x: Array, w: Array, b: Array, stride: Pair, padding: Pair, relu: bool) -> Array:
        x, w, b = self._contiguous(x, w, b)
        places = Sliding(w.shape[3:], stride, padding).places(*x.shape[2:4])
        y = self._empty((max(len(x), len(w)), w.shape[1], *places, x.shape[4]), x.dtype)
        if convolution.prefers_direct(w.shape[1], stride[1]):
            self._run(convolution.convolution, x, w, b, y, *stride, *padding, relu)
        else:
            self._run_blas(
                convolution_columns.convolution, self._gemm[x.dtype], x, w, b, y, *stride, *padding
            )
        return y

    @primitive
    def convolution_gradients(
        self, dy: Array, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        """See `Backend.convolution_gradients`."""
        dy, x = self._contiguous(dy, x)
        dw = self._empty((*dy.shape[:2], x.shape[1], *kernel), dy.dtype)
        db = np.empty(dy.shape[:2], dy.dtype)
        if convolution.prefers_direct(dy.shape[1], stride[1]):
            self._run(convolution.convolution_gradients, dy, x, dw, db, *stride, *padding)
        else:
            gemm, function = self._gemm[x.dtype], convolution_columns.convolution_gradients
            self._run_blas(function, gemm, dy, x, dw, db, *stride, *padding)
        return dw, db

    @primitive
    def convolution_input_gradient(
        self, w: Array, dy: Array, size: Pair, stride: Pair, padding: Pair
    ) -> Array:
        """See `Backend.convolution_input_gradient`."""
        w, dy = self._contiguous(w, dy)
        dx = self._empty((len(dy), w.shape[2], *size, dy.shape[4]), dy.dtype)
        if convolution.prefers_direct_input_gradient(w.shape[1], stride[1], w.shape[4], dy.shape[3]):
            self._run(convolution.convolution_input_gradient, w, dy, dx, *stride, *padding)
        else:
            gemm, function = self._gemm[dy.dtype], convolution_columns.convolution_input_gradient
            self._run_blas(function, gemm, w, dy, dx, *stride, *padding)
        return dx

    # ---- pooling ----------------------------------------------------------------------------------------

    @primitive
    def max_pool(self, x: Array, window: Pair) -> Array:
        """y of `layers.max_pooling`: the same bits."""
        (x,) = self._contiguous(x)
        y = self._pooled(x, window)
        self._run(pooling.max_pool, x, y, *window)
        return y

    @primitive
    def max_pool_backward(self, dy: Array, x: Array, y: Array, window: Pair) -> Array:
        """dx of `layers.max_pooling`: the same bits."""
        return self._max_pool_backward(dy, x, y, window, relu=False)

    @primitive
    def max_pool_backward_relu(self, dy: Array, x: Array, y: Array, window: Pair) -> Array:
        """relu_backward(max_pool_backward(…), x): the same bits."""
        return self._max_pool_backward(dy, x, y, window, relu=True)

    def _max_pool_backward(self, dy: Array, x: Array, y: Array, window: Pair, relu: bool) -> Array:
        dy, x, y = self._contiguous(dy, x, y)
        dx = self._empty((len(dy), *x.shape[1:]), dy.dtype)
        self._run(pooling.max_pool_backward, dy, x, y, dx, *window, relu)
        return dx

    @primitive
    def average_pool(self, x: Array, window: Pair) -> Array:
        """y of `layers.average_pooling`."""
        (x,) = self._contiguous(x)
        y = self._pooled(x, window)
        self._run(pooling.average_pool, x, y, *window)
        return y

    @primitive
    def average_pool_backward(self, dy: Array, size: Pair, window: Pair) -> Array:
        """dx of `layers.average_pooling`."""
        (dy,) = self._contiguous(dy)
        dx = self._empty((*dy.shape[:2], *size, dy.shape[4]), dy.dtype)
        self._run(pooling.average_pool_backward, dy, dx, *window)
        return dx

    def _pooled(self, x: Array, window: Pair, population: int | None = None) -> Array:
        members, channels, height, width, batch = x.shape
        size = height // window[0], width // window[1]
        return self._empty((population or members, channels, *size, batch), x.dtype)

    # ---- batch norm -------------------------------------------------------------------------------------

    @primitive
    def batch_norm(
        self, rows: Array, gamma: Array, beta: Array, epsilon: float
    ) -> tuple[Array, Array, Array, Array, Array]:
        """See `Backend.batch_norm`."""
        return self._batch_norm(rows, gamma, beta, epsilon, relu=False)

    @primitive
    def batch_norm_relu(
        self, rows: Array, gamma: Array, beta: Array, epsilon: float
    ) -> tuple[Array, Array, Array, Array, Array]:
        """`batch_norm` with relu(y) in place of y: the same bits."""
        return self._batch_norm(rows, gamma, beta, epsilon, relu=True)

    def _batch_norm(
        self, rows: Array, gamma: Array, beta: Array, epsilon: float, relu: bool
    ) -> tuple[Array, Array, Array, Array, Array]:
        rows, gamma, beta = self._contiguous(rows, gamma, beta)
        y = self._empty((max(len(rows), len(gamma)), *rows.shape[1:]), rows.dtype)
        mean, residual, variance, inverse = (np.empty(rows.shape[:2], rows.dtype) for _ in range(4))
        statistics = mean, residual, variance, inverse
        self._run(batch_norm.forward_training, rows, gamma, beta, epsilon, y, *statistics, relu)
        return y, mean, residual, variance, inverse

    @primitive
    def batch_norm_backward(
        self, drows: Array, rows: Array, gamma: Array, mean: Array, residual: Array, inverse: Array
    ) -> tuple[Array, Array, Array]:
        """See `Backend.batch_norm_backward`."""
        drows, rows, *given = self._contiguous(drows, rows, gamma, mean, residual, inverse)
        dx = self._empty(drows.shape, drows.dtype)
        dgamma, dbeta = (np.empty(drows.shape[:2], drows.dtype) for _ in range(2))
        self._run(batch_norm.backward_training, drows, rows, *given, dx, dgamma, dbeta)
        return dx, dgamma, dbeta

    @primitive
    def batch_norm_relu_backward(
        self, drows: Array, y_rows: Array, *others: Array
    ) -> tuple[Array, Array, Array]:
        """batch_norm_backward of relu_backward(drows, y_rows) and the others: the same bits."""
        drows, y_rows, rows, *given = self._contiguous(drows, y_rows, *others)
        masked, dx = (self._empty(drows.shape, drows.dtype) for _ in range(2))
        dgamma, dbeta = (np.empty(drows.shape[:2], drows.dtype) for _ in range(2))
        self._run(batch_norm.backward_training_relu, drows, y_rows, masked, rows, *given, dx, dgamma, dbeta)
        return dx, dgamma, dbeta

    @primitive
    def normalise(self, rows: Array, mean: Array, scale: Array, shift: Array) -> Array:
        """See `Backend.normalise`."""
        return self._normalise(rows, mean, scale, shift, relu=False)

    @primitive
    def normalise_relu(self, rows: Array, mean: Array, scale: Array, shift: Array) -> Array:
        """relu(normalise(…)): the same bits."""
        return self._normalise(rows, mean, scale, shift, relu=True)

    def _normalise(self, rows: Array, mean: Array, scale: Array, shift: Array, relu: bool) -> Array:
        rows, mean, scale, shift = self._contiguous(rows, mean, scale, shift)
        population = max(len(array) for array in (rows, mean, scale, shift))
        y = self._empty((population, *rows.shape[1:]), rows.dtype)
        self._run(batch_norm.normalise, rows, mean, scale, shift, relu, y)
        return y

    @primitive
    def normalise_relu_pool(self, x: Array, mean: Array, scale: Array, shift: Array, window: Pair) -> Array:
        """max_pool(relu(normalise(…)), window) of images: the same bits."""
        x, mean, scale, shift = self._contiguous(x, mean, scale, shift)
        population = max(len(array) for array in (x, mean, scale, shift))
        y = self._pooled(x, window, population)
        self._run(batch_norm.normalise_relu_pool, x, mean, scale, shift, y, *window)
        return y

    @primitive
    def normalise_sums(
        self, drows: Array, rows: Array, mean: Array, residual: Array, inverse: Array
    ) -> tuple[Array, Array]:
        """See `Backend.normalise_sums`."""
        drows, rows, mean, residual, inverse = self._contiguous(drows, rows, mean, residual, inverse)
        dgamma, dbeta = (np.empty(drows.shape[:2], drows.dtype) for _ in range(2))
        self._run(batch_norm.normalise_sums, drows, rows, mean, residual, inverse, dgamma, dbeta)
        return dgamma, dbeta


def _part(samples: int) -> int:
    return SAMPLES if samples <= 2 * SAMPLES else MORE_SAMPLES
