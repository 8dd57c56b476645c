"""Identity: y = x. Derived in docs/layers/shapes.md."""

from dataclasses import dataclass
from types import ModuleType

from wn.engine.layers.base import Formula, OfFormula, Shape
from wn.engine.layers.windows import Array


def forward(xp: ModuleType, params: tuple[()], x: Array) -> tuple[Array, tuple[()]]:
    """y is x itself, of any shape (P, …, B)."""
    return x, ()


def backward(xp: ModuleType, dy: Array, cache: tuple[()]) -> tuple[Array, tuple[()]]:
    """dx is dy itself."""
    return dy, ()


FORMULA = Formula(forward, backward)


@dataclass(frozen=True)
class Identity(OfFormula):
    """An identity in a network; it has no noise site unless a node says so."""

    formula = FORMULA
    recordable = True
    noisy = False

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape stays as it is."""
        return shape
