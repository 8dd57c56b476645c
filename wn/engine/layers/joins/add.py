"""The sum of several inputs, as where a residual branch ends. Derived in docs/layers/joins.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar, NamedTuple

from wn.basics.errors import WnError
from wn.engine.layers.base import Formula, OfFormula, Shape
from wn.engine.layers.windows import Array


class AddCache(NamedTuple):
    """What backward needs: the number of inputs."""

    inputs: int


def forward(xp: ModuleType, params: tuple[()], x: Sequence[Array]) -> tuple[Array, AddCache]:
    """Add the inputs, from the first to the last.

    y = x₁ + x₂ + … + x_J, each sum rounded. x: J arrays (P|1, …, B) of one shape; y: (P|1, …, B).
    Derived in docs/layers/joins.md.
    """
    first, *others = x
    y = first
    for other in others:
        y = y + other
    return y, AddCache(len(x))


def backward(xp: ModuleType, dy: Array, cache: AddCache) -> tuple[tuple[Array, ...], tuple[()]]:
    """Every input has the gradient of the sum: dx_j = dy."""
    return (dy,) * cache.inputs, ()


FORMULA = Formula(forward, backward)


@dataclass(frozen=True)
class Add(OfFormula):
    """A sum of several inputs in a network."""

    formula = FORMULA
    recordable = True
    joins: ClassVar[bool] = True

    def output_shape(self, shape: Sequence[Shape]) -> Shape:
        """All inputs have one shape, and so has the sum."""
        if len(set(shape)) != 1 or len(shape) < 2:
            raise WnError(f"a sum takes at least two inputs of one shape, got {', '.join(map(str, shape))}")
        return shape[0]
