"""Rectified linear unit: y = max(x, 0). Derived in docs/layers/relu.md."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from wn.engine.backends.plain.base import Array, Backend
from wn.engine.layers.base import Shape, Stateless


class ReluCache(NamedTuple):
    """What backward needs: the output, whose sign is the mask."""

    y: Array


def forward(be: Backend, params: tuple[()], x: Array) -> tuple[Array, ReluCache]:
    """Cut off what is negative.

    y = max(x, 0) element by element. x, y: any shape (P, …, B). Derived in docs/layers/relu.md.
    """
    y = be.relu(x)
    return y, ReluCache(y)


def backward(be: Backend, dy: Array, cache: ReluCache) -> tuple[Array, tuple[()]]:
    """Return the gradient of the cut-off.

    dx = dy where x > 0, else 0: at the kink x = 0 the subgradient 0 is taken, as PyTorch does.
    """
    return be.relu_backward(dy, cache.y), ()


@dataclass(frozen=True)
class Relu(Stateless):
    """A ReLU in a network."""

    recordable: ClassVar[bool] = True

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape stays as it is."""
        return shape

    def forward(self, be: Backend, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `forward` of this module."""
        y, cache = forward(be, params, x)
        return y, cache, state

    def backward(self, be: Backend, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `backward` of this module."""
        return backward(be, dy, cache)
