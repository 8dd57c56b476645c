"""The fast backend on a CPU: loops compiled by Numba, matrix products by BLAS."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numba
import numpy as np

from wn.backends.base import Array, Draws
from wn.backends.numba_kernels import (
    batch_norm,
    convolution,
    convolution_columns,
    elementwise,
    loss,
    noise,
    pooling,
    products,
)
from wn.backends.numpy import NumpyBackend
from wn.backends.pace import Pace
from wn.backends.windows import Pair, Sliding
from wn.backends.work_arrays import WorkArrays

# Parts of a matrix product, one thread's work each. They depend on the shapes of one member alone, since BLAS
# rounds an element by its place in a part. docs/backends.md says what was measured.
SAMPLES = 64  # columns of y and dx where the batch has up to 128,
MORE_SAMPLES = 128  # and where it has more
INPUTS = 392  # columns of dw: half of an MNIST image


class _Local(threading.local):
    """What each thread has of its own: the pace of its steps, inside `working`."""

    pace: Pace | None = None


class NumbaBackend(NumpyBackend):
    """NumPy's arrays and compiled loops; results agree with the NumPy backend's, noise bit by bit.

    Work is divided among `numba.get_num_threads()` processors; no result depends on how many there are.
    Large arrays are taken from memory that is used again, each thread's its own.
    """

    name = "numba"
    libraries = ("numba",)

    def __init__(self) -> None:
        self._work = WorkArrays()
        self._local = _Local()
        self._gemm = {np.dtype(kind): products.gemm_address(kind) for kind in ("float32", "float64")}

    @property
    def takes_jobs_side_by_side(self) -> bool:  # type: ignore[override]
        """Whether Numba's threading layer lets several threads call kernels at once; `workqueue` does not."""
        elementwise.relu(np.zeros(1, np.float32), np.zeros(1, np.float32))  # the layer is chosen at first use
        return bool(numba.threading_layer() != "workqueue")

    @contextmanager
    def working(self, threads: int = 1) -> Iterator[None]:
        """Give the work of the calling thread so many processors; at the end give its work arrays back."""
        before, pace = numba.get_num_threads(), self._local.pace
        most = min(threads, numba.config.NUMBA_NUM_THREADS)
        numba.set_num_threads(most)
        self._local.pace = Pace(most)
        try:
            yield
        finally:
            numba.set_num_threads(before)
            self._local.pace = pace
            self._work.clear()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Give a step as many threads as were fastest of late, see `wn.backends.pace`."""
        pace = self._local.pace
        if pace is None or pace.most == 1:
            yield
            return
        numba.set_num_threads(pace.threads())
        started = time.perf_counter()
        try:
            yield
        finally:
            pace.step(time.perf_counter() - started)
            numba.set_num_threads(pace.most)

    # ---- batches and products ---------------------------------------------------------------------------

    def gather(
        self,
        images: Array,
        samples: Array,
        scale: float,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: Any,
    ) -> Array:
        """See `Backend.gather`: the same bits."""
        count, *shape = images.shape
        x = self._work.empty((1, *shape, len(samples)), dtype)
        pixels = (shape[0], prod(shape[1:]))
        elementwise.gather(
            np.ascontiguousarray(images).reshape(count, *pixels),
            samples,
            scale,
            np.asarray(mean, dtype),
            np.asarray(std, dtype),
            x.reshape(*pixels, len(samples)),
        )
        return x

    def linear(self, w: Array, x: Array, b: Array) -> Array:
        """See `Backend.linear`: products in parts of so many samples."""
        w, x, b = _contiguous(w, x, b)
        y = self._work.empty((max(len(w), len(x)), w.shape[1], x.shape[2]), x.dtype)
        products.linear(self._gemm[x.dtype], w, x, b, y, _part(x.shape[2]))
        return y

    def linear_backward(
        self, dy: Array, x: Array, w: Array, need_dx: bool
    ) -> tuple[Array | None, Array, Array]:
        """See `Backend.linear_backward`: dx in parts of so many samples, dw of so many inputs."""
        dy, x, w = _contiguous(dy, x, w)
        members, outputs, batch = dy.shape
        inputs = x.shape[1]
        dx = self._work.empty((members if need_dx else 0, inputs, batch), dy.dtype)
        dw = self._work.empty((members, outputs, inputs), dy.dtype)
        db = np.empty((members, outputs), dy.dtype)
        products.linear_backward(self._gemm[dy.dtype], dy, x, w, dx, dw, db, _part(batch), INPUTS)
        return (dx if need_dx else None), dw, db

    def linear_gradients(self, dy: Array, x: Array) -> tuple[Array, Array]:
        """See `Backend.linear_gradients`."""
        _, dw, db = self.linear_backward(dy, x, np.empty((1, dy.shape[1], x.shape[1]), dy.dtype), False)
        return dw, db

    # ---- element-wise -----------------------------------------------------------------------------------

    def relu(self, x: Array) -> Array:
        """See `Backend.relu`: the same bits."""
        (x,) = _contiguous(x)
        y = self._work.empty(x.shape, x.dtype)
        elementwise.relu(x.reshape(-1), y.reshape(-1))
        return y

    def relu_backward(self, dy: Array, y: Array) -> Array:
        """See `Backend.relu_backward`: the same bits."""
        dy, y = _contiguous(dy, y)
        dx = self._work.empty(dy.shape, dy.dtype)
        elementwise.relu_backward(dy.reshape(len(dy), -1), y.reshape(len(y), -1), dx.reshape(len(dy), -1))
        return dx

    def adam_update(
        self,
        parameter: Array,
        gradient: Array,
        first: Array,
        second: Array,
        constants: Sequence[float],
    ) -> None:
        """See `Backend.adam_update`: the same bits."""
        if not (parameter.flags.c_contiguous and first.flags.c_contiguous and second.flags.c_contiguous):
            super().adam_update(parameter, gradient, first, second, constants)  # reshape would copy
            return
        elementwise.adam(
            parameter.reshape(-1), gradient.reshape(-1), first.reshape(-1), second.reshape(-1), constants
        )

    def clip(self, w: Array, limit: float) -> None:
        """See `Backend.clip`."""
        if w.flags.c_contiguous:
            elementwise.clip(w.reshape(-1), float(limit))
        else:
            super().clip(w, limit)  # reshape would copy

    # ---- noise ------------------------------------------------------------------------------------------

    def _normals_of_seed(self, key: Any, seed: int, features: int, repetition: int) -> Any:
        out = self._work.empty((features, len(key.samples)), np.float32)
        noise.fill_normals(out, seed, key.samples, key.epoch, key.purpose, key.site, repetition)
        return out

    def apply_draws(
        self, x: Array, multiplier: Draws | None, offset: Draws | None, add_first: bool, keep: bool
    ) -> tuple[Array, Array | None]:
        """See `Backend.apply_draws`: the same bits; the draws themselves are never stored."""
        if multiplier is None and offset is None:
            return x, None
        (x,) = _contiguous(x)
        shape = (prod(x.shape[1:-1]), x.shape[-1])  # features, samples
        kept = noise.members(multiplier)
        y = self._work.empty((max(len(x), kept, noise.members(offset)), *x.shape[1:]), x.dtype)
        m = self._work.empty((kept, *x.shape[1:]), x.dtype) if keep and multiplier is not None else None
        noise.apply_draws(
            x.reshape(-1, *shape),
            y.reshape(-1, *shape),
            None if m is None else m.reshape(-1, *shape),
            multiplier,
            offset,
            add_first,
        )
        return y, m

    def multiply(self, dy: Array, m: Array) -> Array:
        """See `Backend.multiply`: the same bits."""
        dy, m = _contiguous(dy, m)
        dx = self._work.empty(dy.shape, dy.dtype)
        noise.multiply(dy.reshape(len(dy), -1), m.reshape(len(m), -1), dx.reshape(len(dy), -1))
        return dx

    # ---- loss -------------------------------------------------------------------------------------------

    def cross_entropy(self, logits: Array, labels: Array, shares: Array) -> tuple[Array, Array]:
        """See `Backend.cross_entropy`."""
        logits, labels, shares = _contiguous(logits, labels, shares)
        values, log_probabilities = np.empty(len(logits), logits.dtype), np.empty_like(logits)
        loss.cross_entropy(logits, labels, shares, log_probabilities, values)
        return values, log_probabilities

    def cross_entropy_backward(self, log_probabilities: Array, labels: Array, shares: Array) -> Array:
        """See `Backend.cross_entropy_backward`."""
        log_probabilities, labels, shares = _contiguous(log_probabilities, labels, shares)
        dlogits = np.empty_like(log_probabilities)
        loss.cross_entropy_backward(log_probabilities, labels, shares, dlogits)
        return dlogits

    def count_correct(self, logits: Array, labels: Array) -> Array:
        """See `Backend.count_correct`: the same numbers."""
        logits, labels = _contiguous(logits, labels)
        hits = np.empty(len(logits), np.int64)
        loss.count_correct(logits, labels, hits)
        return hits

    # ---- convolution ------------------------------------------------------------------------------------

    def convolution(self, x: Array, w: Array, b: Array, stride: Pair, padding: Pair) -> Array:
        """See `Backend.convolution`."""
        x, w, b = _contiguous(x, w, b)
        places = Sliding(w.shape[3:], stride, padding).places(*x.shape[2:4])
        y = self._work.empty((max(len(x), len(w)), w.shape[1], *places, x.shape[4]), x.dtype)
        if convolution.prefers_direct(w.shape[1], stride[1]):
            convolution.convolution(x, w, b, y, *stride, *padding)
        else:
            convolution_columns.convolution(self._gemm[x.dtype], x, w, b, y, *stride, *padding)
        return y

    def convolution_gradients(
        self, dy: Array, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        """See `Backend.convolution_gradients`."""
        dy, x = _contiguous(dy, x)
        dw = self._work.empty((*dy.shape[:2], x.shape[1], *kernel), dy.dtype)
        db = np.empty(dy.shape[:2], dy.dtype)
        if convolution.prefers_direct(dy.shape[1], stride[1]):
            convolution.convolution_gradients(dy, x, dw, db, *stride, *padding)
        else:
            convolution_columns.convolution_gradients(self._gemm[x.dtype], dy, x, dw, db, *stride, *padding)
        return dw, db

    def convolution_input_gradient(
        self, w: Array, dy: Array, size: Pair, stride: Pair, padding: Pair
    ) -> Array:
        """See `Backend.convolution_input_gradient`."""
        w, dy = _contiguous(w, dy)
        dx = self._work.empty((len(dy), w.shape[2], *size, dy.shape[4]), dy.dtype)
        if convolution.prefers_direct_input_gradient(w.shape[1], stride[1], w.shape[4], dy.shape[3]):
            convolution.convolution_input_gradient(w, dy, dx, *stride, *padding)
        else:
            convolution_columns.convolution_input_gradient(self._gemm[dy.dtype], w, dy, dx, *stride, *padding)
        return dx

    # ---- pooling ----------------------------------------------------------------------------------------

    def max_pool(self, x: Array, window: Pair) -> Array:
        """See `Backend.max_pool`: the same bits."""
        (x,) = _contiguous(x)
        y = self._pooled(x, window)
        pooling.max_pool(x, y, *window)
        return y

    def max_pool_backward(self, dy: Array, x: Array, y: Array, window: Pair) -> Array:
        """See `Backend.max_pool_backward`: the same bits."""
        dy, x, y = _contiguous(dy, x, y)
        dx = self._work.empty((len(dy), *x.shape[1:]), dy.dtype)
        pooling.max_pool_backward(dy, x, y, dx, *window)
        return dx

    def average_pool(self, x: Array, window: Pair) -> Array:
        """See `Backend.average_pool`."""
        (x,) = _contiguous(x)
        y = self._pooled(x, window)
        pooling.average_pool(x, y, *window)
        return y

    def average_pool_backward(self, dy: Array, size: Pair, window: Pair) -> Array:
        """See `Backend.average_pool_backward`."""
        (dy,) = _contiguous(dy)
        dx = self._work.empty((*dy.shape[:2], *size, dy.shape[4]), dy.dtype)
        pooling.average_pool_backward(dy, dx, *window)
        return dx

    def _pooled(self, x: Array, window: Pair) -> Array:
        members, channels, height, width, batch = x.shape
        return self._work.empty((members, channels, height // window[0], width // window[1], batch), x.dtype)

    # ---- batch norm -------------------------------------------------------------------------------------

    def batch_norm(
        self, rows: Array, gamma: Array, beta: Array, epsilon: float
    ) -> tuple[Array, Array, Array, Array]:
        """See `Backend.batch_norm`."""
        rows, gamma, beta = _contiguous(rows, gamma, beta)
        y = self._work.empty((max(len(rows), len(gamma)), *rows.shape[1:]), rows.dtype)
        mean, variance, inverse = (np.empty(rows.shape[:2], rows.dtype) for _ in range(3))
        batch_norm.forward_training(rows, gamma, beta, epsilon, y, mean, variance, inverse)
        return y, mean, variance, inverse

    def batch_norm_backward(
        self, drows: Array, rows: Array, gamma: Array, mean: Array, inverse: Array
    ) -> tuple[Array, Array, Array]:
        """See `Backend.batch_norm_backward`."""
        drows, rows, gamma, mean, inverse = _contiguous(drows, rows, gamma, mean, inverse)
        dx = self._work.empty(drows.shape, drows.dtype)
        dgamma, dbeta = (np.empty(drows.shape[:2], drows.dtype) for _ in range(2))
        batch_norm.backward_training(drows, rows, gamma, mean, inverse, dx, dgamma, dbeta)
        return dx, dgamma, dbeta

    def moments(self, rows: Array) -> tuple[Array, Array]:
        """See `Backend.moments`."""
        (rows,) = _contiguous(rows)
        mean, variance = (np.empty(rows.shape[:2], rows.dtype) for _ in range(2))
        batch_norm.moments(rows, mean, variance)
        return mean, variance

    def normalise(self, rows: Array, mean: Array, scale: Array, shift: Array) -> Array:
        """See `Backend.normalise`."""
        rows, mean, scale, shift = _contiguous(rows, mean, scale, shift)
        population = max(len(array) for array in (rows, mean, scale, shift))
        y = self._work.empty((population, *rows.shape[1:]), rows.dtype)
        batch_norm.normalise(rows, mean, scale, shift, y)
        return y

    def normalise_sums(self, drows: Array, rows: Array, mean: Array, inverse: Array) -> tuple[Array, Array]:
        """See `Backend.normalise_sums`."""
        drows, rows, mean, inverse = _contiguous(drows, rows, mean, inverse)
        dgamma, dbeta = (np.empty(drows.shape[:2], drows.dtype) for _ in range(2))
        batch_norm.normalise_sums(drows, rows, mean, inverse, dgamma, dbeta)
        return dgamma, dbeta

    def normalise_backward(
        self, drows: Array, rows: Array, mean: Array, slope: Array, shift: Array, scale: Array
    ) -> Array:
        """See `Backend.normalise_backward`."""
        drows, rows, mean, slope, shift, scale = _contiguous(drows, rows, mean, slope, shift, scale)
        dx = self._work.empty(drows.shape, drows.dtype)
        batch_norm.normalise_backward(drows, rows, mean, slope, shift, scale, dx)
        return dx


def _part(samples: int) -> int:
    return SAMPLES if samples <= 2 * SAMPLES else MORE_SAMPLES


def _contiguous(*arrays: Array) -> tuple[Array, ...]:
    """Return the arrays in the layout that kernels are compiled for, copied where they have another one."""
    for array in arrays:  # no more than this in most calls: they come in every step
        if not array.flags.c_contiguous:
            return tuple(np.ascontiguousarray(array) for array in arrays)
    return arrays
