"""Dropout: y = m x with a mask m that belongs to samples and features. Derived in docs/layers/dropout.md."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from wn.basics.errors import WnError
from wn.basics.numbers import is_number
from wn.engine.layers.base import Shape, Stateless
from wn.engine.layers.noise import DrawKey
from wn.engine.layers.shapes.identity import Identity
from wn.engine.layers.windows import Array


class DropoutCache(NamedTuple):
    """What backward needs: the mask, 0 or 1/(1 − p)."""

    mask: Array


def threshold(p: float) -> np.float32:
    """c = √3·(2p − 1): a draw z of variance 1, uniform on (−√3, √3), is below c with probability p."""
    return np.float32(3**0.5 * (2 * p - 1))


def forward(be: Any, x: Array, p: float, key: DrawKey) -> tuple[Array, DropoutCache]:
    """Drop each element with probability p, and scale the others.

    y = m x, m = 0 where the element's draw z < √3·(2p − 1), else 1/(1 − p): E m = 1. z belongs to seed,
    sample id, feature, epoch and the layer's place, which are its address `key`.

    x: (P|1, …, B); y: (P, …, B), where P is that of x or of seeds that differ. Srivastava et al. 2014.
    """
    mask = be.dropout_mask(key, x, p)
    larger, other = (mask, x) if len(mask) > len(x) else (x, mask)
    return be.multiply(larger, other), DropoutCache(mask)


def backward(be: Any, dy: Array, cache: DropoutCache) -> Array:
    """dx = m dy with the mask of the forward pass."""
    dx: Array = be.multiply(dy, cache.mask)
    return dx


@dataclass(frozen=True)
class Dropout(Stateless):
    """A dropout in a network: in training each element is 0 with probability p, at inference all are kept.

    It has no noise site unless a node says so. Raises WnError unless 0 ≤ p < 1.
    """

    recordable = True
    noisy = False
    draws: ClassVar[bool] = True
    p: float = 0.5

    def __post_init__(self) -> None:
        if not is_number(self.p) or not 0 <= self.p < 1:
            raise WnError(f"p of a dropout is {self.p!r}: it must be at least 0 and below 1")
        object.__setattr__(self, "p", float(self.p))  # the one way to set a field of a frozen dataclass

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape stays as it is."""
        return shape

    def for_phase(self, training: bool) -> Any:
        """Itself in training, the identity at inference and for p = 0."""
        return self if training and self.p else Identity()

    def forward(self, be: Any, params: Any, x: Array, state: Any, key: DrawKey) -> tuple[Array, Any, Any]:
        """See `forward` of this module; `key` is the address of the draws of this layer."""
        y, cache = forward(be, x, self.p, key)
        return y, cache, state

    def backward(self, be: Any, dy: Array, cache: DropoutCache, need_dx: bool) -> tuple[Array, tuple[()]]:
        """See `backward` of this module."""
        return backward(be, dy, cache), ()
