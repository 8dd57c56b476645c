"""How kernels and products of cuBLAS are launched, and what they are given."""

from math import prod
from typing import Any

import numpy as np

from wn.basics.groups import GROUPS
from wn.engine.backends.cuda.kernels import Kernels, by_element, memory_errors, packed, reducing
from wn.engine.backends.plain.base import Array, Backend
from wn.engine.layers.batch_norm import MOMENTUM, BatchStatistics, RunningStatistics, unbiased


class Device(Backend):
    """A backend of kernels on a GPU: `be.kernel(name, dtype, grid, threads)(arrays…)` launches one."""

    def __init__(self, cupy: Any, tf32: bool = False) -> None:
        self.xp = cupy
        self.kernel = Kernels(cupy)
        blas, runtime = cupy.cuda.cublas, cupy.cuda.runtime
        single = blas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else blas.CUBLAS_COMPUTE_32F
        self._types = {
            np.dtype(np.float32): (runtime.CUDA_R_32F, single),
            np.dtype(np.float64): (runtime.CUDA_R_64F, blas.CUBLAS_COMPUTE_64F),
        }
        # c ← 1·product + 0·c: cuBLAS reads both factors from the host's memory
        self._factors = {dtype: np.array([1, 0], dtype=str(dtype)) for dtype in self._types}

    def contiguous(self, *arrays: Array) -> list[Array]:
        """Return the arrays in the layout that kernels take, copied where they have another one."""
        return [self.xp.ascontiguousarray(array) for array in arrays]

    def product(
        self, a: Array, b: Array, c: Array, transpose_a: bool = False, transpose_b: bool = False
    ) -> None:
        """Write c[p] = a[p] b[p], either of them transposed if asked for; a, b: (P|1, …), c: (P, M, N).

        cuBLAS counts columns first: what it sees of these arrays is transposed, and cᵀ = bᵀ aᵀ.
        """
        (members, m, n), k = c.shape, a.shape[1] if transpose_a else a.shape[2]
        kind, compute = self._types[c.dtype]
        one, zero = self._factors[c.dtype].ctypes.data, self._factors[c.dtype][1:].ctypes.data
        blas = self.xp.cuda.cublas
        step_a, step_b = (0 if len(array) == 1 else prod(array.shape[1:]) for array in (a, b))
        first, second = (b.data.ptr, kind, b.shape[2], step_b), (a.data.ptr, kind, a.shape[2], step_a)
        with memory_errors():
            handle = self.xp.cuda.Device().cublas_handle  # made when a thread first asks for it
            how = handle, int(transpose_b), int(transpose_a), n, m, k, one
            result = zero, c.data.ptr, kind, n, m * n, members, compute, blas.CUBLAS_GEMM_DEFAULT
            blas.gemmStridedBatchedEx(*how, *first, *second, *result)

    def row_sums(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Return the sums of the rows of an array, which has one for each element of `shape`."""
        sums = self.xp.empty(shape, x.dtype)
        size = x.size // sums.size
        self.kernel("row_sums", x.dtype, (sums.size,), reducing(size))(x, sums, np.int64(size))
        return sums

    def multiply(self, dy: Array, m: Array) -> Array:
        """See `Backend.multiply`: the same bits."""
        return self.by_member("multiply", dy, m)

    def by_member(self, name: str, dy: Array, other: Array) -> Array:
        """The result of a kernel for dy (P, …) and another array (P|1, …)."""
        dy, other = self.contiguous(dy, other)
        dx = self.xp.empty_like(dy)
        size = prod(dy.shape[1:])
        launch = self.kernel(name, dy.dtype, *by_element(size, len(dy)))
        launch(dy, other, dx, np.int64(size), np.int32(len(other)))
        return dx

    # ---- statistics -------------------------------------------------------------------------------------

    def update_running(
        self, running: RunningStatistics, batch: BatchStatistics, momentum: float = MOMENTUM
    ) -> RunningStatistics:
        """See `Backend.update_running`: the same bits."""
        old = running.mean, running.residual, running.variance
        given = self.contiguous(*old, batch.mean, batch.residual, batch.variance)
        mean, residual, variance = (self.xp.empty_like(given[0]) for _ in range(3))
        factors = 1 - momentum, 2 * momentum, momentum * unbiased(batch.values)
        sizes = packed(mean.dtype, *factors), np.int64(mean.size), np.int64(batch.mean.size)
        launch = self.kernel("running_statistics", mean.dtype, *by_element(mean.size, 1))
        launch(*given, mean, residual, variance, *sizes)
        return RunningStatistics(mean, variance, residual)

    def accumulate(self, total: Array, values: Array, factor: int) -> None:
        """See `Backend.accumulate`: the same bits. It takes no memory: a step is done as a whole or not."""
        (values,) = self.contiguous(values)
        sizes = by_element(total.size, 1)
        launch = self.kernel("accumulate", values.dtype, *sizes)
        launch(total, values, np.float64(factor), np.int64(total.size))

    def count_correct(self, logits: Array, labels: Array, groups: int | None = None) -> Array:
        """See `Backend.count_correct`: the same numbers; −2 where a label is none, as no one waits for it."""
        logits, labels = self.contiguous(logits, labels)
        (members, classes, batch), parts = logits.shape, GROUPS if groups is None else groups
        correct, sizes = self.xp.empty((members, parts), np.int64), (classes, batch, len(labels))
        launch = self.kernel("count_correct", logits.dtype, (members,), parts)
        launch(logits, labels, correct, *map(np.int32, sizes))
        if groups is not None:
            return correct
        worst = correct.min(axis=1)
        return self.xp.where(worst < 0, worst, correct.sum(axis=1))
