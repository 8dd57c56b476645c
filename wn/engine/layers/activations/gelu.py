"""GELU: y = x Φ(x), exact or by its approximation with tanh. Derived in docs/layers/activations.md."""

from dataclasses import dataclass
from importlib import import_module
from math import pi
from types import ModuleType

from wn.basics.errors import WnError
from wn.engine.layers.activations.base import Activation, Slope, backward_of_slope, logistic
from wn.engine.layers.base import Formula
from wn.engine.layers.windows import Array

FORMS = ("none", "tanh")
CUBIC = 0.044715  # of the approximation
FAR = 40.0  # Φ(−FAR) and its approximation are 0 in every dtype


def forward(xp: ModuleType, params: tuple[()], x: Array) -> tuple[Array, Slope]:
    """y = x Φ(x), ∂y/∂x = Φ(x) + x φ(x). x, y: any shape (P, …, B).

    φ, Φ: density and distribution function of the standard normal, Φ(x) = erfc(−x/√2)/2.
    Hendrycks and Gimpel 2016, equation 2.
    """
    t = xp.clip(x, -FAR, FAR)  # its square is in range
    probability = 0.5 * _erfc(xp, t * -(0.5**0.5))
    density = xp.exp(-0.5 * t * t) * (2 * pi) ** -0.5
    return x * probability, Slope(probability + t * density)


def tanh_forward(xp: ModuleType, params: tuple[()], x: Array) -> tuple[Array, Slope]:
    """y = x s, s = (1 + tanh u)/2 = 1/(1 + e^−2u), u = √(2/π) (x + 0.044715 x³).

    ∂y/∂x = s + 2 x s (1 − s) ∂u/∂x. x, y: any shape (P, …, B). Hendrycks and Gimpel 2016, section 2.
    """
    t = xp.clip(x, -FAR, FAR)
    root, square = (2 / pi) ** 0.5, t * t
    s, rest = logistic(xp, 2 * root * t * (1 + CUBIC * square))
    return x * s, Slope(s + 2 * t * s * rest * (root * (1 + 3 * CUBIC * square)))


def _erfc(xp: ModuleType, x: Array) -> Array:
    """The complementary error function of SciPy, or of CuPy's copy of it, in the dtype of x."""
    return import_module("scipy.special" if xp.__name__ == "numpy" else "cupyx.scipy.special").erfc(x)


EXACT = Formula(forward, backward_of_slope)
TANH = Formula(tanh_forward, backward_of_slope)


@dataclass(frozen=True)
class Gelu(Activation):
    """A GELU in a network; approximate: "none" for x Φ(x), "tanh" for the approximation with tanh."""

    formula = EXACT
    recordable = True
    approximate: str = "none"

    def __post_init__(self) -> None:
        if self.approximate not in FORMS:
            allowed = " or ".join(map(repr, FORMS))
            raise WnError(f"approximate of a GELU is {self.approximate!r}: it must be {allowed}")

    @property
    def run(self) -> Formula:
        """The formula of this form."""
        return EXACT if self.approximate == "none" else TANH
