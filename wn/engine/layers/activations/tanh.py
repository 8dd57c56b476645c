"""Hyperbolic tangent: y = tanh x. Derived in docs/layers/activations.md."""

from dataclasses import dataclass
from types import ModuleType

from wn.engine.layers.activations.base import Activation, Slope, backward_of_slope
from wn.engine.layers.base import Formula
from wn.engine.layers.windows import Array


def forward(xp: ModuleType, params: tuple[()], x: Array) -> tuple[Array, Slope]:
    """y = tanh x, ∂y/∂x = 1/cosh² x = 4 q/(1 + q)² with q = e^−2|x|. x, y: any shape (P, …, B).

    1 − y² is the same, and has no digits where y is close to ±1.
    """
    e = xp.exp(-xp.abs(x))
    q = e * e  # −2|x| may be out of range
    return xp.tanh(x), Slope(4 * q / ((1 + q) * (1 + q)))


FORMULA = Formula(forward, backward_of_slope)


@dataclass(frozen=True)
class Tanh(Activation):
    """A hyperbolic tangent in a network."""

    formula = FORMULA
    recordable = True
