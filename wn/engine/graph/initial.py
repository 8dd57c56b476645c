"""Draws of initial parameters, each at an address of its own."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from wn.basics.errors import WnError
from wn.engine.layers.base import Shape
from wn.engine.layers.windows import Array
from wn.random import REPETITION_BITS, SITE_BITS, Purpose, checked_integer

PART_BITS = 2 + REPETITION_BITS  # of the number of a parameter within its layer
MOST_LAYERS = 1 << SITE_BITS - 2  # whose initial values can be drawn: a layer has four sites


class InitialDraws:
    """Draws of a layer's initial parameters, see `DrawUniform`: every call has a stream of its own.

    Parameter `part` of layer `index` has site 4·index + part mod 4 and repetition ⌊part/4⌋; one that has been
    drawn before gets the last part that has not.
    """

    def __init__(self, be: Any, seeds: Sequence[int], dtype: Any, index: int) -> None:
        self.be, self.seeds, self.dtype, self.index = be, seeds, dtype, index
        self.drawn: set[int] = set()
        self.last = (1 << PART_BITS) - 1  # for parts that have been drawn before

    def __call__(self, part: int, shape: Shape, bound: float) -> Array:
        """Draw U(−bound, bound) for each seed: (P, *shape)."""
        part = checked_integer("the part of a layer whose initial values are drawn", part, PART_BITS)
        while part in self.drawn:
            part, self.last = self.last, self.last - 1
        if part < 0 or self.index >= MOST_LAYERS:
            raise WnError(
                f"initial values are drawn for {MOST_LAYERS} layers of {1 << PART_BITS} parameters at most"
            )
        self.drawn.add(part)
        site, repetition = 4 * self.index + part % 4, part // 4
        uniforms = self.be.uniforms(self.seeds, prod(shape), Purpose.INIT, site, repetition)
        values = (2 * uniforms - 1) * np.float32(bound)
        return self.be.asarray(values, self.dtype).reshape(len(self.seeds), *shape)
