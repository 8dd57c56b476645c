"""Linear layer: y = W x + b. Derived in docs/layers/linear.md."""

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from wn.basics.errors import WnError
from wn.engine.layers.base import DrawUniform, Formula, OfWeights, Runner, Shape, Weights, without_bias
from wn.engine.layers.windows import Array, checked_flag


class LinearParams(NamedTuple):
    """Weights w (P, O, I) and biases b (P, O)."""

    w: Array
    b: Array


class LinearCache(NamedTuple):
    """What backward needs: the input and the weights."""

    x: Array
    w: Array


def forward(xp: ModuleType, params: LinearParams, x: Array) -> tuple[Array, LinearCache]:
    """Apply an affine map to every sample.

    y = W x + b, i.e. y[p,o,n] = Σ_i w[p,o,i] x[p,i,n] + b[p,o].

    x: (P|1, I, B); w: (P|1, O, I); b: (P|1, O); y: (P, O, B).
    Derived in docs/layers/linear.md.
    """
    w, b = params
    y = xp.matmul(w, x) + b[:, :, None]  # (P, O, B)
    return y, LinearCache(x, w)


def backward(
    xp: ModuleType, dy: Array, cache: LinearCache, need_dx: bool = True
) -> tuple[Array | None, LinearParams]:
    """The gradients of the affine map.

    dx = Wᵀ dy, dW = dy xᵀ, db = Σ_n dy.

    dy: (P, O, B); dx: (P, I, B), or None unless `need_dx`; dw: (P, O, I); db: (P, O).
    """
    x, w = cache
    dx = xp.matmul(w.transpose(0, 2, 1), dy) if need_dx else None  # (P, I, B)
    dw = xp.matmul(dy, x.transpose(0, 2, 1))  # (P, O, I)
    db = dy.sum(axis=2)  # (P, O)
    return dx, LinearParams(dw, db)


FORMULA = Formula(forward, backward)
WITHOUT_BIAS = without_bias(FORMULA, lambda xp, shape, dtype: xp.zeros(shape, dtype))


@dataclass(frozen=True)
class Linear(OfWeights):
    """A linear layer with `features` outputs in a network, with or without biases."""

    formula = FORMULA
    recordable = True
    features: int
    bias: bool = True

    def __post_init__(self) -> None:
        checked_flag("bias of a linear layer", self.bias)

    @property
    def usual(self) -> bool:
        """See `OfFormula.usual`."""
        return self.bias

    @property
    def run(self) -> Formula:
        """The formula with or without biases."""
        return FORMULA if self.bias else WITHOUT_BIAS

    def output_shape(self, shape: Shape) -> Shape:
        """(I,) → (O,)."""
        if len(shape) != 1:
            raise WnError(f"a linear layer takes (features,), got {shape}; put a flatten before it")
        return (self.features,)

    def initial_parameters(self, be: Runner, shape: Shape, draw: DrawUniform) -> LinearParams | Weights:
        """Draw w and b from U(−1/√I, 1/√I), as PyTorch does."""
        bound = shape[0] ** -0.5
        w = draw(0, (self.features, shape[0]), bound)
        return LinearParams(w, draw(1, (self.features,), bound)) if self.bias else Weights(w)
