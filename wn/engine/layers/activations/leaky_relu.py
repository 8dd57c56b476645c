"""Leaky ReLU: y = x where x > 0, else slope·x. Derived in docs/layers/activations.md."""

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from wn.engine.layers.activations.base import Activation, checked_number
from wn.engine.layers.base import Formula
from wn.engine.layers.windows import Array


class LeakyReluCache(NamedTuple):
    """What backward needs: where x is above 0, and the slope."""

    positive: Array
    slope: float


def forward(xp: ModuleType, params: tuple[()], x: Array, slope: float = 0.01) -> tuple[Array, LeakyReluCache]:
    """y = x where x > 0, else slope·x; NaN stays NaN. x, y: any shape (P, …, B)."""
    positive = x > 0
    return xp.where(positive, x, slope * xp.minimum(x, 0)), LeakyReluCache(positive, slope)


def backward(xp: ModuleType, dy: Array, cache: LeakyReluCache) -> tuple[Array, tuple[()]]:
    """dx = dy where x > 0, else slope·dy, at the kink x = 0 as well, as PyTorch does."""
    return xp.where(cache.positive, dy, cache.slope * dy), ()


FORMULA = Formula(forward, backward)


@dataclass(frozen=True)
class LeakyRelu(Activation):
    """A leaky ReLU in a network; slope: of the negative side, any finite number."""

    formula = FORMULA
    recordable = True
    slope: float = 0.01

    def __post_init__(self) -> None:
        value = checked_number("slope of a leaky ReLU", self.slope)
        object.__setattr__(self, "slope", value)  # the one way to set a field of a frozen dataclass

    @property
    def static(self) -> tuple[float]:
        """The slope."""
        return (self.slope,)
