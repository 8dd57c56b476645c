"""Rectified linear unit: y = max(x, 0). Derived in docs/layers/relu.md."""

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from wn.engine.layers.base import Formula, OfFormula, Shape
from wn.engine.layers.windows import Array


class ReluCache(NamedTuple):
    """What backward needs: the output, whose sign is the mask."""

    y: Array


def forward(xp: ModuleType, params: tuple[()], x: Array) -> tuple[Array, ReluCache]:
    """Cut off what is negative.

    y = max(x, 0) element by element; NaN stays NaN. x, y: any shape (P, …, B).
    Derived in docs/layers/relu.md.
    """
    y = xp.maximum(x, 0)
    return y, ReluCache(y)


def backward(xp: ModuleType, dy: Array, cache: ReluCache) -> tuple[Array, tuple[()]]:
    """The gradient of the cut-off.

    dx = dy where y > 0, else 0: at the kink x = 0 the subgradient 0 is taken, as PyTorch does.
    """
    dx = xp.where(cache.y > 0, dy, dy.dtype.type(0))
    return dx, ()


FORMULA = Formula(forward, backward)


@dataclass(frozen=True)
class Relu(OfFormula):
    """A ReLU in a network."""

    formula = FORMULA
    recordable = True

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape stays as it is."""
        return shape
