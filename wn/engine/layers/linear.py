"""Linear layer: y = W x + b. Derived in docs/layers/linear.md."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from wn.engine.backends.plain.base import Array, Backend
from wn.engine.layers.base import DrawUniform, Shape, Stateless
from wn.errors import WnError


class LinearParams(NamedTuple):
    """Weights w (P, O, I) and biases b (P, O)."""

    w: Array
    b: Array


class LinearCache(NamedTuple):
    """What backward needs: the input and the weights."""

    x: Array
    w: Array


def forward(be: Backend, params: LinearParams, x: Array) -> tuple[Array, LinearCache]:
    """Apply an affine map to every sample.

    y = W x + b, i.e. y[p,o,n] = Σ_i w[p,o,i] x[p,i,n] + b[p,o].

    x: (P|1, I, B); w: (P|1, O, I); b: (P|1, O); y: (P, O, B).
    Derived in docs/layers/linear.md.
    """
    y = be.linear(params.w, x, params.b)  # (P, O, B)
    return y, LinearCache(x, params.w)


def backward(
    be: Backend, dy: Array, cache: LinearCache, need_dx: bool = True
) -> tuple[Array | None, LinearParams]:
    """Return the gradients of the affine map.

    dx = Wᵀ dy, dW = dy xᵀ, db = Σ_n dy.

    dy: (P, O, B); dx: (P, I, B), or None unless `need_dx`; dw: (P, O, I); db: (P, O).
    """
    dx, dw, db = be.linear_backward(dy, cache.x, cache.w, need_dx)  # (P, I, B) or None, (P, O, I), (P, O)
    return dx, LinearParams(dw, db)


@dataclass(frozen=True)
class Linear(Stateless):
    """A linear layer with `features` outputs in a network."""

    features: int
    recordable: ClassVar[bool] = True
    learns: ClassVar[bool] = True

    def output_shape(self, shape: Shape) -> Shape:
        """(I,) → (O,)."""
        if len(shape) != 1:
            raise WnError(f"a linear layer takes (features,), got {shape}; put a flatten before it")
        return (self.features,)

    def initial_parameters(self, be: Backend, shape: Shape, draw: DrawUniform) -> LinearParams:
        """Draw w and b from U(−1/√I, 1/√I), as PyTorch does."""
        bound = shape[0] ** -0.5
        return LinearParams(draw(0, (self.features, shape[0]), bound), draw(1, (self.features,), bound))

    def forward(self, be: Backend, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `forward` of this module."""
        y, cache = forward(be, params, x)
        return y, cache, state

    def backward(self, be: Backend, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `backward` of this module."""
        return backward(be, dy, cache, need_dx)
