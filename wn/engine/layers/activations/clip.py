"""Clip: y = min(max(x, low), high), and ReLU6. Derived in docs/layers/activations.md."""

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from wn.basics.errors import WnError
from wn.engine.layers.activations.base import Activation, checked_number
from wn.engine.layers.base import Formula
from wn.engine.layers.windows import Array


class ClipCache(NamedTuple):
    """What backward needs: where the gradient passes."""

    passes: Array


def forward(
    xp: ModuleType, params: tuple[()], x: Array, low: float | None = None, high: float | None = None
) -> tuple[Array, ClipCache]:
    """y = min(max(x, low), high), a bound of None left out; NaN stays NaN. x, y: any shape (P, …, B)."""
    y, passes = x.copy(), xp.ones(x.shape, bool)
    if low is not None:
        y, passes = xp.maximum(y, low), passes & (x >= low)
    if high is not None:
        y, passes = xp.minimum(y, high), passes & (x <= high)
    return y, ClipCache(passes)


def relu6_forward(xp: ModuleType, params: tuple[()], x: Array) -> tuple[Array, ClipCache]:
    """y = min(max(x, 0), 6); NaN stays NaN. x, y: any shape (P, …, B)."""
    return xp.minimum(xp.maximum(x, 0), 6), ClipCache((x > 0) & (x < 6))


def backward(xp: ModuleType, dy: Array, cache: ClipCache) -> tuple[Array, tuple[()]]:
    """dx = dy between the bounds, else 0.

    At a bound the gradient passes, as `torch.clamp` has it; that of ReLU6 does not, as `torch.nn.ReLU6` has
    it.
    """
    return xp.where(cache.passes, dy, dy.dtype.type(0)), ()


FORMULA = Formula(forward, backward)
RELU6 = Formula(relu6_forward, backward)


@dataclass(frozen=True)
class Clip(Activation):
    """Values cut off below `low` and above `high` in a network; None: not cut off there.

    Raises WnError unless bounds are finite numbers and low is at most high.
    """

    formula = FORMULA
    recordable = True
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                value = checked_number(f"{name} of a clip", getattr(self, name))
                object.__setattr__(self, name, value)  # the one way to set a field of a frozen dataclass
        if self.low is not None and self.high is not None and self.low > self.high:
            raise WnError(f"a clip from {self.low:g} to {self.high:g}: low must be at most high")

    @property
    def static(self) -> tuple[float | None, float | None]:
        """The bounds."""
        return self.low, self.high


@dataclass(frozen=True)
class Relu6(Activation):
    """A ReLU that is cut off at 6 in a network."""

    formula = RELU6
    recordable = True
