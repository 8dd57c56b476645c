"""Logistic function: y = 1/(1 + e^−x). Derived in docs/layers/activations.md."""

from dataclasses import dataclass
from types import ModuleType

from wn.engine.layers.activations.base import Activation, Slope, backward_of_slope, logistic
from wn.engine.layers.base import Formula
from wn.engine.layers.windows import Array


def forward(xp: ModuleType, params: tuple[()], x: Array) -> tuple[Array, Slope]:
    """y = 1/(1 + e^−x), ∂y/∂x = y (1 − y), in (0, 1). x, y: any shape (P, …, B)."""
    y, rest = logistic(xp, x)
    return y, Slope(y * rest)


FORMULA = Formula(forward, backward_of_slope)


@dataclass(frozen=True)
class Sigmoid(Activation):
    """A logistic function in a network."""

    formula = FORMULA
    recordable = True
