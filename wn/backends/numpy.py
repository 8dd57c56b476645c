"""The readable backend: NumPy on the CPU, in blocks that fit the cache where that pays."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wn.backends.base import Array, Backend, DrawKey
from wn.backends.numpy_noise import fill_normals

# 16,384 floats are 64 KiB: the five arrays of an Adam block stay in a 512 KiB second-level cache.
ADAM_BLOCK = 16_384

# Values of a block of rows in batch norm: with its scratch copy 256 KiB in float32.
ROWS_BLOCK = 32_768


class NumpyBackend(Backend):
    """NumPy arrays; every result equals the plain code of `Backend` bit by bit."""

    name = "numpy"
    xp = np

    def _normals_of_seed(self, key: DrawKey, seed: int, features: int, repetition: int) -> Any:
        out = np.empty((features, len(key.samples)), np.float32)
        fill_normals(out, seed, key.samples, key.epoch, key.purpose, key.site, repetition)
        return out

    def relu_backward(self, dy: Array, y: Array) -> Array:
        return np.multiply(dy, y > 0)

    def adam_update(
        self,
        parameter: Array,
        gradient: Array,
        first: Array,
        second: Array,
        constants: Sequence[float],
    ) -> None:
        """Apply the base class's update block by block, so that each block is read from memory once."""
        arrays = [array.reshape(-1) for array in (parameter, gradient, first, second)]
        for start in range(0, parameter.size, ADAM_BLOCK):
            p, g, m, v = (array[start : start + ADAM_BLOCK] for array in arrays)
            super().adam_update(p, g, m, v, constants)

    # ---- convolution ------------------------------------------------------------------------------------

    def _product_into(self, part: Array, w: Array, x: Array) -> None:
        """Let the products be written in place where the part's strides allow it."""
        flat = part.reshape(part.shape[0], part.shape[1], x.shape[2])
        if np.may_share_memory(flat, part):
            np.matmul(w, x, out=flat)
        else:  # reshape made a copy: the part is some samples of a larger batch
            super()._product_into(part, w, x)

    # ---- batch norm, in blocks of whole rows -----------------------------------------------------------

    def moments(self, rows: Array) -> tuple[Array, Array]:
        mean = rows.mean(axis=2)
        variance = np.empty_like(mean)
        with np.errstate(over="ignore", invalid="ignore"):  # the layer looks for infinities itself
            for block in _row_blocks(rows.shape):
                deviations = rows[block] - mean[block][:, :, None]
                deviations *= deviations
                variance[block] = deviations.mean(axis=2)
        return mean, variance

    def normalise(self, rows: Array, mean: Array, scale: Array, shift: Array) -> Array:
        y = np.empty((max(map(len, (rows, mean, scale, shift))), *rows.shape[1:]), rows.dtype)
        for block in _row_blocks(y.shape):
            part = y[block]
            np.subtract(_of(rows, block), _of(mean, block)[:, :, None], out=part)
            part *= _of(scale, block)[:, :, None]
            part += _of(shift, block)[:, :, None]
        return y

    def normalise_sums(self, drows: Array, rows: Array, mean: Array, inverse: Array) -> tuple[Array, Array]:
        products = np.empty(drows.shape[:2], drows.dtype)
        for block in _row_blocks(drows.shape):
            deviations = _of(rows, block) - _of(mean, block)[:, :, None]
            products[block] = (drows[block] * deviations).sum(axis=2)
        return products * inverse, drows.sum(axis=2)

    def normalise_backward(
        self, drows: Array, rows: Array, mean: Array, factors: tuple[Array, Array, Array]
    ) -> Array:
        dx = np.empty(drows.shape, drows.dtype)
        for block in _row_blocks(dx.shape):
            part = dx[block]
            a, b, c = (_of(factor, block)[:, :, None] for factor in factors)
            np.subtract(_of(rows, block), _of(mean, block)[:, :, None], out=part)
            part *= b
            part += drows[block] * a
            part += c
        return dx


RowBlock = tuple[slice, slice]  # members, features


def _row_blocks(shape: tuple[int, ...]) -> Iterator[RowBlock]:
    """Cut (P, F, N) into blocks of whole rows with at most ROWS_BLOCK values, or one row."""
    population, features, length = shape
    features_step = min(max(ROWS_BLOCK // length, 1), features)
    members_step = max(ROWS_BLOCK // (length * features), 1)
    for p in range(0, population, members_step):
        for f in range(0, features, features_step):
            yield slice(p, p + members_step), slice(f, f + features_step)


def _of(array: Array, block: RowBlock) -> Array:
    """Return a block of an array (P, F, …) or (1, F, …)."""
    return array[:, block[1]] if len(array) == 1 else array[block]
