"""SiLU, or swish: y = x/(1 + e^−x). Derived in docs/layers/activations.md."""

from dataclasses import dataclass
from types import ModuleType

from wn.engine.layers.activations.base import Activation, Slope, backward_of_slope, logistic
from wn.engine.layers.base import Formula
from wn.engine.layers.windows import Array


def forward(xp: ModuleType, params: tuple[()], x: Array) -> tuple[Array, Slope]:
    """y = x s, ∂y/∂x = s (1 + x (1 − s)), with s = 1/(1 + e^−x). x, y: any shape (P, …, B).

    Hendrycks and Gimpel 2016; Ramachandran et al. 2017.
    """
    s, rest = logistic(xp, x)
    return x * s, Slope(s * (1 + x * rest))


FORMULA = Formula(forward, backward_of_slope)


@dataclass(frozen=True)
class Silu(Activation):
    """A SiLU in a network."""

    formula = FORMULA
    recordable = True
