"""The readable backend: NumPy on the CPU, in blocks that fit the cache where that pays."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from wn.engine.backends import by_primitives
from wn.engine.backends.numpy.noise import fill_draws
from wn.engine.backends.plain.base import Array, Backend, DrawKey
from wn.engine.layers.base import Formula

# 16,384 floats are 64 KiB: the five arrays of an Adam block stay in a 512 KiB second-level cache.
ADAM_BLOCK = 16_384


class NumpyBackend(Backend):
    """NumPy arrays; every result equals the plain code of `Backend` bit by bit."""

    name = "numpy"
    xp = np
    own: ClassVar[Mapping[Formula, Formula]] = by_primitives.CAREFUL

    def _draws_of_seed(
        self, key: DrawKey, seed: int, features: int, repetition: int, distribution: str
    ) -> Any:
        out = np.empty((features, len(key.samples)), np.float32)
        fill_draws(out, seed, key.samples, key.epoch, key.purpose, key.site, repetition, distribution)
        return out

    def adam_update(
        self,
        parameter: Array,
        gradient: Array,
        first: Array,
        second: Array,
        constants: Sequence[float],
    ) -> None:
        """Apply the base class's update block by block, so that each block is read from memory once."""
        if not all(array.flags.c_contiguous for array in (parameter, first, second)):
            super().adam_update(parameter, gradient, first, second, constants)  # reshape would copy
            return
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
