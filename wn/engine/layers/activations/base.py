"""What activations have in common: their place in a network, the logistic function, the inputs they keep."""

from types import ModuleType
from typing import Any, NamedTuple

from wn.basics.errors import WnError
from wn.basics.numbers import is_number
from wn.engine.layers.base import OfFormula, Shape
from wn.engine.layers.windows import Array


class Activation(OfFormula):
    """An activation in a network: the shape stays as it is."""

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape stays as it is."""
        return shape


class Slope(NamedTuple):
    """What backward needs where the derivative was found on the way: it."""

    slope: Array


def backward_of_slope(xp: ModuleType, dy: Array, cache: Slope) -> tuple[Array, tuple[()]]:
    """dx = dy · ∂y/∂x. dy: (P, …, B); the derivative (P|1, …, B)."""
    return dy * cache.slope, ()


def logistic(xp: ModuleType, x: Array) -> tuple[Array, Array]:
    """σ(x) = 1/(1 + e^−x) and 1 − σ(x), each to a few roundings of its own size for every x.

    With e = e^−|x| ≤ 1 the larger of them is 1/(1 + e), the smaller e/(1 + e): nothing overflows or cancels.
    """
    e = xp.exp(-xp.abs(x))
    large, small = 1 / (1 + e), e / (1 + e)
    positive = x >= 0
    return xp.where(positive, large, small), xp.where(positive, small, large)


def checked_number(what: str, value: Any, above: float | None = None) -> float:
    """A finite number as one of Python; WnError for anything else, or unless it is above a bound."""
    if not is_number(value) or not abs(value) < float("inf") or (above is not None and value <= above):
        bound = "" if above is None else f" above {above:g}"
        raise WnError(f"{what} is {value!r}: it must be a finite number{bound}")
    return float(value)
