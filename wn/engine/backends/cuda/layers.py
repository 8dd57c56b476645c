"""What the CuPy backend does in layers: products by cuBLAS, everything else by the kernels of kernels.cu."""

from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar

import numpy as np

from wn.engine.backends import by_primitives
from wn.engine.backends.cuda.kernels import Kernels, by_element, by_sample, memory_errors, packed, reducing
from wn.engine.backends.plain.base import Array, Backend
from wn.engine.groups import GROUPS
from wn.engine.layers.base import Formula
from wn.engine.layers.windows import Pair, Sliding

OUTPUTS, ACROSS = 8, 4  # of a convolution's result, that one thread computes (kernels.cu)
ENTRIES = 8  # places of a convolution's kernel whose gradient one warp computes
WARPS = 8  # at most, in a block
SLICED_BLOCKS = 16  # of a member, for the gradient of a kernel: with fewer, the rows of y are divided


class CudaLayers(Backend):
    """The primitives of layers on a GPU."""

    own: ClassVar[Mapping[Formula, Formula]] = by_primitives.ALL

    def __init__(self, cupy: Any, tf32: bool = False) -> None:
        self.xp = cupy
        self._kernel = Kernels(cupy)
        blas, runtime = cupy.cuda.cublas, cupy.cuda.runtime
        single = blas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else blas.CUBLAS_COMPUTE_32F
        self._types = {
            np.dtype(np.float32): (runtime.CUDA_R_32F, single),
            np.dtype(np.float64): (runtime.CUDA_R_64F, blas.CUBLAS_COMPUTE_64F),
        }
        self._factors = {
            dtype: np.array([1, 0], dtype=str(dtype)) for dtype in self._types
        }  # of a product, and of what was

    def _contiguous(self, *arrays: Array) -> list[Array]:
        """Return the arrays in the layout that kernels take, copied where they have another one."""
        return [self.xp.ascontiguousarray(array) for array in arrays]

    # ---- products ---------------------------------------------------------------------------------------

    def linear(self, w: Array, x: Array, b: Array) -> Array:
        """See `Backend.linear`; one product for all members where they share x."""
        w, x, b = self._contiguous(w, x, b)
        y = self.xp.empty((max(len(w), len(x)), w.shape[1], x.shape[2]), x.dtype)
        if len(x) == 1:
            self._product(_stacked(w), x, _stacked(y))
        else:
            self._product(w, x, y)
        grid, threads = by_sample(prod(y.shape[:2]), y.shape[2])
        self._kernel("add_bias", y.dtype, grid, threads, y, b, np.int32(b.size), np.int32(y.shape[2]))
        return y

    def linear_gradients(self, dy: Array, x: Array) -> tuple[Array, Array]:
        """See `Backend.linear_gradients`; one product for all members where they share x."""
        dy, x = self._contiguous(dy, x)
        dw = self.xp.empty((*dy.shape[:2], x.shape[1]), dy.dtype)
        if len(x) == 1:
            self._product(_stacked(dy), x, _stacked(dw), transpose_b=True)
        else:
            self._product(dy, x, dw, transpose_b=True)
        return dw, self._row_sums(dy, dy.shape[:2])

    def linear_input_gradient(self, w: Array, dy: Array) -> Array:
        """See `Backend.linear_input_gradient`."""
        w, dy = self._contiguous(w, dy)
        dx = self.xp.empty((len(dy), w.shape[2], dy.shape[2]), dy.dtype)
        self._product(w, dy, dx, transpose_a=True)
        return dx

    def _product(
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
        with memory_errors():
            handle = self.xp.cuda.Device().cublas_handle  # made when a thread first asks for it
            blas.gemmStridedBatchedEx(
                *(handle, int(transpose_b), int(transpose_a), n, m, k, one),
                *(b.data.ptr, kind, b.shape[2], step_b),
                *(a.data.ptr, kind, a.shape[2], step_a, zero),
                *(c.data.ptr, kind, n, m * n, members, compute, blas.CUBLAS_GEMM_DEFAULT),
            )

    def _row_sums(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Return the sums of the rows of an array, which has one for each element of `shape`."""
        sums = self.xp.empty(shape, x.dtype)
        size = x.size // sums.size
        self._kernel("row_sums", x.dtype, (sums.size,), reducing(size), x, sums, np.int64(size))
        return sums

    # ---- element-wise -----------------------------------------------------------------------------------

    def relu(self, x: Array) -> Array:
        """y of `layers.relu`: the same bits."""
        (x,) = self._contiguous(x)
        y = self.xp.empty_like(x)
        self._kernel("relu", x.dtype, *by_element(x.size, 1), x, y, np.int64(x.size))
        return y

    def relu_backward(self, dy: Array, y: Array) -> Array:
        """dx of `layers.relu`: the same bits."""
        return self._by_member("relu_backward", dy, y)

    def multiply(self, dy: Array, m: Array) -> Array:
        """See `Backend.multiply`: the same bits."""
        return self._by_member("multiply", dy, m)

    def _by_member(self, name: str, dy: Array, other: Array) -> Array:
        """Return what a kernel makes of dy (P, …) and another array (P|1, …)."""
        dy, other = self._contiguous(dy, other)
        dx = self.xp.empty_like(dy)
        size = prod(dy.shape[1:])
        grid, threads = by_element(size, len(dy))
        self._kernel(name, dy.dtype, grid, threads, dy, other, dx, np.int64(size), np.int32(len(other)))
        return dx

    # ---- loss -------------------------------------------------------------------------------------------

    def check_labels(self, labels: Array, classes: int) -> None:
        """See `Backend.check_labels`: values are looked at by the kernels."""

    def cross_entropy(self, logits: Array, labels: Array, shares: Array) -> tuple[Array, Array]:
        """Loss and log-probabilities of `layers.cross_entropy`."""
        logits, labels, shares = self._contiguous(logits, labels, shares)
        (members, classes, batch), log_probabilities = logits.shape, self.xp.empty_like(logits)
        losses = self.xp.empty(members, logits.dtype)
        self._kernel(
            *("cross_entropy", logits.dtype, (members,), reducing(batch)),
            *(logits, labels, shares, log_probabilities, losses, np.int32(classes), np.int32(batch)),
        )
        return losses, log_probabilities

    def cross_entropy_backward(self, log_probabilities: Array, labels: Array, shares: Array) -> Array:
        """dlogits of `layers.cross_entropy`."""
        log_probabilities, labels, shares = self._contiguous(log_probabilities, labels, shares)
        (members, classes, batch), dlogits = log_probabilities.shape, self.xp.empty_like(log_probabilities)
        grid, threads = by_sample(members * classes, batch)
        self._kernel(
            *("cross_entropy_backward", dlogits.dtype, grid, threads),
            *(log_probabilities, labels, shares, dlogits, np.int32(classes), np.int32(batch)),
        )
        return dlogits

    def count_correct(self, logits: Array, labels: Array, groups: int | None = None) -> Array:
        """See `Backend.count_correct`: the same numbers."""
        logits, labels = self._contiguous(logits, labels)
        (members, classes, batch), parts = logits.shape, GROUPS if groups is None else groups
        correct, sizes = self.xp.empty((members, parts), np.int64), (classes, batch, len(labels))
        self._kernel(
            *("count_correct", logits.dtype, (members,), parts),
            *(logits, labels, correct, *map(np.int32, sizes)),
        )
        if groups is not None:
            return correct
        worst = correct.min(axis=1)
        return self.xp.where(worst < 0, worst, correct.sum(axis=1))

    # ---- convolution ------------------------------------------------------------------------------------

    def convolution(self, x: Array, w: Array, b: Array, stride: Pair, padding: Pair) -> Array:
        """See `Backend.convolution`."""
        if len(b) != len(w):
            w, b = (self.xp.broadcast_to(a, (max(len(w), len(b)), *a.shape[1:])) for a in (w, b))
        x, w, b = self._contiguous(x, w, b)
        places = Sliding(w.shape[3:], stride, padding).places(*x.shape[2:4])
        y = self.xp.empty((max(len(x), len(w)), w.shape[1], *places, x.shape[4]), x.dtype)
        shapes = self._sliding(len(x), len(w), x.shape[2:4], y, w.shape[1:], stride, padding)
        self._kernel("convolution", x.dtype, *_tiles(y), x, w, b, y, shapes)
        return y

    def convolution_gradients(
        self, dy: Array, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        """See `Backend.convolution_gradients`."""
        dy, x = self._contiguous(dy, x)
        members, outputs, rows = dy.shape[:3]
        shape = (outputs, x.shape[1], *kernel)
        tiles = -(-prod(shape[1:]) // ENTRIES)
        warps = _warps(tiles)
        blocks = -(-tiles // warps) * -(-outputs // OUTPUTS)
        slices = min(rows, -(-SLICED_BLOCKS // blocks))
        parts = self.xp.empty((slices, members, *shape), dy.dtype)
        shapes = self._sliding(len(x), members, x.shape[2:4], dy, shape, stride, padding, slices)
        grid = (blocks * members, slices)
        self._kernel("convolution_weight_gradient", dy.dtype, grid, 32 * warps, dy, x, parts, shapes)
        dw = parts[0] if slices == 1 else parts.sum(axis=0)
        return dw, self._row_sums(dy, dy.shape[:2])

    def convolution_input_gradient(
        self, w: Array, dy: Array, size: Pair, stride: Pair, padding: Pair
    ) -> Array:
        """See `Backend.convolution_input_gradient`."""
        w, dy = self._contiguous(w, dy)
        dx = self.xp.empty((len(dy), w.shape[2], *size, dy.shape[4]), dy.dtype)
        shapes = self._sliding(len(dy), len(w), size, dy, w.shape[1:], stride, padding)
        self._kernel("convolution_input_gradient", dy.dtype, *_tiles(dx), dy, w, dx, shapes)
        return dx

    def _sliding(
        self,
        x_members: int,
        w_members: int,
        size: Pair,
        y: Array,
        shape: tuple[int, ...],
        stride: Pair,
        padding: Pair,
        slices: int = 1,
    ) -> Any:
        """Return the struct of a convolution: who has which x and w, shapes, and how the kernel slides."""
        outputs, inputs, *kernel = shape
        members, _, rows, columns, batch = y.shape
        return packed(
            np.int32,
            *(members, x_members, w_members, inputs, outputs, *size, rows, columns),
            *(*kernel, *stride, *padding, batch, slices),
        )

    # ---- pooling ----------------------------------------------------------------------------------------

    def max_pool(self, x: Array, window: Pair) -> Array:
        """y of `layers.max_pooling`: the same bits."""
        return self._pooled("max_pool", x, window)

    def max_pool_backward(self, dy: Array, x: Array, y: Array, window: Pair) -> Array:
        """dx of `layers.max_pooling`: the same bits."""
        dy, x, y = self._contiguous(dy, x, y)
        dx = self._unpooled(dy, x.shape[2:4], window)
        self._pooling("max_pool_backward", dx, window, len(x), dy, x, y, dx)
        return dx

    def average_pool(self, x: Array, window: Pair) -> Array:
        """y of `layers.average_pooling`: the same bits."""
        return self._pooled("average_pool", x, window)

    def average_pool_backward(self, dy: Array, size: Pair, window: Pair) -> Array:
        """dx of `layers.average_pooling`: the same bits."""
        (dy,) = self._contiguous(dy)
        dx = self._unpooled(dy, size, window)
        self._pooling("average_pool_backward", dx, window, len(dx), dy, dx)
        return dx

    def _pooled(self, name: str, x: Array, window: Pair) -> Array:
        """Return what a kernel makes of the windows of x."""
        (x,) = self._contiguous(x)
        members, channels, height, width, batch = x.shape
        y = self.xp.empty((members, channels, height // window[0], width // window[1], batch), x.dtype)
        self._pooling(name, x, window, members, x, y)
        return y

    def _unpooled(self, dy: Array, size: Pair, window: Pair) -> Array:
        """Return an array for dx, with 0 where there is no window."""
        covered = size[0] % window[0] == 0 and size[1] % window[1] == 0
        return (self.xp.empty if covered else self.xp.zeros)((*dy.shape[:2], *size, dy.shape[4]), dy.dtype)

    def _pooling(self, name: str, image: Array, window: Pair, x_members: int, *arrays: Array) -> None:
        """Launch a pooling kernel; `image` has the shape of x."""
        members, channels, height, width, batch = image.shape
        grid, threads = by_sample(members * channels * (height // window[0]) * (width // window[1]), batch)
        sizes = packed(np.int32, channels, height, width, *window, batch, x_members)
        self._kernel(name, image.dtype, grid, threads, *arrays, sizes)

    # ---- batch norm -------------------------------------------------------------------------------------

    def batch_norm(
        self, rows: Array, gamma: Array, beta: Array, epsilon: float
    ) -> tuple[Array, Array, Array, Array, Array]:
        """See `Backend.batch_norm`."""
        rows, gamma, beta = self._contiguous(rows, gamma, beta)
        y = self.xp.empty((max(len(rows), len(gamma)), *rows.shape[1:]), rows.dtype)
        mean, residual, variance, inverse = (self.xp.empty(rows.shape[:2], rows.dtype) for _ in range(4))
        given = rows, gamma, beta, y, mean, residual, variance, inverse, rows.dtype.type(epsilon)
        self._by_row("batch_norm", y, given, len(rows), len(gamma))
        return y, mean, residual, variance, inverse

    def batch_norm_backward(
        self, drows: Array, rows: Array, gamma: Array, mean: Array, residual: Array, inverse: Array
    ) -> tuple[Array, Array, Array]:
        """See `Backend.batch_norm_backward`."""
        drows, rows, *others = self._contiguous(drows, rows, gamma, mean, residual, inverse)
        dx = self.xp.empty_like(drows)
        dgamma, dbeta = (self.xp.empty(drows.shape[:2], drows.dtype) for _ in range(2))
        given = drows, rows, *others, dx, dgamma, dbeta
        self._by_row("batch_norm_backward", dx, given, len(rows), len(gamma))
        return dx, dgamma, dbeta

    def normalise(self, rows: Array, mean: Array, scale: Array, shift: Array) -> Array:
        """See `Backend.normalise`."""
        shape = (max(len(array) for array in (rows, mean, scale, shift)), rows.shape[1])
        values = (self.xp.broadcast_to(array, shape) for array in (mean, scale, shift))
        rows, mean, scale, shift = self._contiguous(rows, *values)
        y = self.xp.empty((*shape, rows.shape[2]), rows.dtype)
        self._by_row("normalise", y, (rows, mean, scale, shift, y), len(rows), len(mean))
        return y

    def normaliser(
        self, gamma: Array, beta: Array, mean: Array, residual: Array, variance: Array, epsilon: float
    ) -> tuple[Array, Array, Array, Array]:
        """See `Backend.normaliser`."""
        real, shape = mean.dtype.type, (max(len(gamma), len(mean)), mean.shape[1])
        values = (self.xp.broadcast_to(a, shape) for a in (gamma, beta, mean, residual, variance))
        given = self._contiguous(*values)
        found = centre, scale, shift, inverse = tuple(self.xp.empty(shape, mean.dtype) for _ in range(4))
        size = prod(shape)
        self._kernel(
            "normaliser", mean.dtype, *by_element(size, 1), *given, *found, real(epsilon), np.int64(size)
        )
        return centre, scale, shift, inverse

    def running_statistics(
        self, old: tuple[Array, Array, Array], new: tuple[Array, Array, Array], share: float, factor: float
    ) -> tuple[Array, Array, Array]:
        """See `Backend.running_statistics`: the same bits."""
        given = self._contiguous(*old, *new)
        mean, residual, variance = (self.xp.empty_like(given[0]) for _ in range(3))
        dtype, size, batch_size = mean.dtype, mean.size, new[0].size
        factors = packed(dtype, 1 - share, 2 * share, share * factor)
        self._kernel(
            *("running_statistics", dtype, *by_element(size, 1), *given, mean, residual, variance),
            *(factors, np.int64(size), np.int64(batch_size)),
        )
        return mean, residual, variance

    def _by_row(self, name: str, y: Array, given: tuple[Any, ...], rows: int, gamma: int) -> None:
        """Launch a kernel with a block for each row of y (P, F, N); rows and gamma have so many members."""
        members, features, size = y.shape
        sizes = packed(np.int64, features, rows, gamma, size)
        self._kernel(name, y.dtype, (members * features,), reducing(size), *given, sizes)


def _stacked(array: Array) -> Array:
    """Return (P, A, B) as (1, P·A, B): what all members have in one product."""
    return array.reshape(1, -1, array.shape[2])


def _warps(tiles: int) -> int:
    """Return how many warps a block has if each of them has a tile: so that the fewest are idle."""
    return min(range(min(tiles, WARPS), min(tiles, WARPS) // 2, -1), key=lambda warps: -tiles % warps)


def _tiles(image: Array) -> tuple[tuple[int, ...], int]:
    """Return grid and threads of a convolution with that result (P, C, H, W, B)."""
    members, channels, height, width, batch = image.shape
    return by_sample(members * height * -(-channels // OUTPUTS) * -(-width // ACROSS), batch)
