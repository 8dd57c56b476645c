"""The readable backend: NumPy on the CPU, in blocks that fit the cache where that pays."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from wn.engine.backends.numpy import batch_norm, convolution, grouped, linear
from wn.engine.backends.numpy.draws import fill_draws
from wn.engine.backends.plain.base import Array, Backend, DrawKey
from wn.engine.layers import batch_norm as batch_norm_layer
from wn.engine.layers import convolution as convolution_layer
from wn.engine.layers import linear as linear_layer
from wn.engine.layers.base import Formula, without_bias
from wn.engine.layers.sliding import convolution as grouped_layer

# 16,384 floats are 64 KiB: the five arrays of an Adam block stay in a 512 KiB second-level cache.
ADAM_BLOCK = 16_384


def _zeros(be: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    return np.zeros(shape, dtype)


class NumpyBackend(Backend):
    """NumPy arrays; products and batch norm with more care than the layers' formulas take.

    So that bits depend neither on the batch nor on the population, and a large mean costs no digits.
    """

    name = "numpy"
    xp = np
    own: ClassVar[Mapping[Formula, Formula]] = {
        linear_layer.FORMULA: linear.PAIR,
        linear_layer.WITHOUT_BIAS: without_bias(linear.PAIR, _zeros),
        convolution_layer.FORMULA: convolution.PAIR,
        convolution_layer.WITHOUT_BIAS: without_bias(convolution.PAIR, _zeros),
        grouped_layer.FORMULA: grouped.PAIR,
        batch_norm_layer.TRAINING: batch_norm.TRAINING,
        batch_norm_layer.INFERENCE: batch_norm.INFERENCE,
    }

    def _draws_of_seed(
        self, key: DrawKey, seed: int, features: int, repetition: int, distribution: str
    ) -> Any:
        out = np.empty((features, len(key.samples)), np.float32)
        fill_draws(out, seed, key.samples, key.epoch, key.purpose, key.site, repetition, distribution)
        return out

    def adam_update(
        self, parameter: Array, gradient: Array, first: Array, second: Array, constants: Sequence[float]
    ) -> None:
        """Apply the base class's update block by block, so that each block is read from memory once."""
        if not all(array.flags.c_contiguous for array in (parameter, first, second)):
            super().adam_update(parameter, gradient, first, second, constants)  # reshape would copy
            return
        arrays = [array.reshape(-1) for array in (parameter, gradient, first, second)]
        for start in range(0, parameter.size, ADAM_BLOCK):
            p, g, m, v = (array[start : start + ADAM_BLOCK] for array in arrays)
            super().adam_update(p, g, m, v, constants)
