"""Softplus: y = ln(1 + e^βx)/β. Derived in docs/layers/activations.md."""

from dataclasses import dataclass
from types import ModuleType

from wn.basics.errors import WnError
from wn.engine.layers.activations.base import (
    Activation,
    Slope,
    backward_of_slope,
    checked_number,
    logistic,
)
from wn.engine.layers.base import Formula
from wn.engine.layers.windows import Array

FAR = 1000.0  # e^−FAR is 0 in every dtype


def forward(
    xp: ModuleType, params: tuple[()], x: Array, beta: float = 1.0, threshold: float = 20.0
) -> tuple[Array, Slope]:
    """y = ln(1 + e^βx)/β = max(x, 0) + ln(1 + e^−|βx|)/β, and y = x where βx > threshold.

    ∂y/∂x = 1/(1 + e^−βx), or 1. x, y: any shape (P, …, B). β and threshold as in `torch.nn.Softplus`.
    """
    t = beta * xp.clip(x, -FAR / beta, FAR / beta)  # βx may be out of range
    one, linear = x.dtype.type(1), t > threshold
    y = xp.where(linear, x, xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(t))) / beta)
    return y, Slope(xp.where(linear, one, logistic(xp, t)[0]))


FORMULA = Formula(forward, backward_of_slope)


@dataclass(frozen=True)
class Softplus(Activation):
    """A softplus in a network: beta above 0, threshold at least 0, both finite."""

    formula = FORMULA
    recordable = True
    beta: float = 1.0
    threshold: float = 20.0

    def __post_init__(self) -> None:
        if checked_number("threshold of a softplus", self.threshold) < 0:
            raise WnError(f"threshold of a softplus is {self.threshold!r}: it must be at least 0")
        for name, least in (("beta", 0.0), ("threshold", None)):
            value = checked_number(f"{name} of a softplus", getattr(self, name), least)
            object.__setattr__(self, name, value)  # the one way to set a field of a frozen dataclass

    @property
    def static(self) -> tuple[float, float]:
        """β and the threshold."""
        return self.beta, self.threshold
