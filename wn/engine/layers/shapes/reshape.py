"""Reshape: the same values in another shape. Derived in docs/layers/shapes.md."""

from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import NamedTuple

from wn.basics.errors import WnError
from wn.basics.numbers import is_integer
from wn.engine.layers.base import Formula, OfFormula, Shape
from wn.engine.layers.windows import Array


class ReshapeCache(NamedTuple):
    """What backward needs: the feature axes of the input."""

    features: Shape


def forward(xp: ModuleType, params: tuple[()], x: Array, shape: Shape) -> tuple[Array, ReshapeCache]:
    """The values of a sample in another shape, in row-major order. x: (P|1, …, B); y: (P|1, *shape, B)."""
    return x.reshape(x.shape[0], *shape, x.shape[-1]), ReshapeCache(x.shape[1:-1])


def backward(xp: ModuleType, dy: Array, cache: ReshapeCache) -> tuple[Array, tuple[()]]:
    """Return dx: dy in the shape of x."""
    return dy.reshape(dy.shape[0], *cache.features, dy.shape[-1]), ()


FORMULA = Formula(forward, backward)


@dataclass(frozen=True)
class Reshape(OfFormula):
    """A reshape in a network: samples become (features,) or (channels, height, width); it has no noise site.

    Raises WnError for another shape, and where a sample has another number of values.
    """

    formula = FORMULA
    recordable = True
    noisy = False
    shape: Shape

    def __post_init__(self) -> None:
        given = tuple(self.shape) if isinstance(self.shape, tuple | list) else (self.shape,)
        if len(given) not in (1, 3) or not all(is_integer(size) and size >= 1 for size in given):
            raise WnError(
                f"shape of a reshape is {self.shape!r}: it must be (features,) or (channels, height, width), "
                "all at least 1"
            )
        sizes = tuple(int(size) for size in given)
        object.__setattr__(self, "shape", sizes)  # the one way to set a field of a frozen dataclass

    @property
    def static(self) -> tuple[Shape]:
        """The shape."""
        return (self.shape,)

    def output_shape(self, shape: Shape) -> Shape:
        """The layer's shape."""
        if prod(shape) != prod(self.shape):
            raise WnError(f"a reshape to {self.shape} takes {prod(self.shape)} values, got {shape}")
        return self.shape
