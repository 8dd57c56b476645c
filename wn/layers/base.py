"""What a network asks of a layer."""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from wn.backends.base import Array, Backend

Shape = tuple[int, ...]  # of one sample: (F,) or (C, H, W)

# draw(index of the parameter within its layer, shape of one member, bound) → (P, *shape) in U(−bound, bound)
DrawUniform = Callable[[int, Shape, float], Array]


class Layer(Protocol):
    """A layer's place in a network: static settings, shapes, initial parameters, forward and backward.

    Parameters and gradients are NamedTuples of arrays, `()` for a layer that has none; a state holds what
    training updates without a gradient (running statistics of batch norm), `()` for most layers.
    """

    learns: ClassVar[bool]  # whether it has parameters

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of one output sample; raise WnError if `shape` does not fit."""
        ...

    def initial_parameters(self, be: Backend, shape: Shape, draw: DrawUniform) -> Any:
        """Return the parameters of a fresh population."""
        ...

    def initial_state(self, be: Backend, shape: Shape, population: int, dtype: Any) -> Any:
        """Return the state of a fresh population."""
        ...

    def forward(
        self, be: Backend, params: Any, x: Array, state: Any, training: bool
    ) -> tuple[Array, Any, Any]:
        """Return (y, cache, new state)."""
        ...

    def backward(self, be: Backend, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """Return (dx or None, grads)."""
        ...


class Stateless:
    """Defaults for a layer without parameters and state."""

    learns: ClassVar[bool] = False

    def initial_parameters(self, be: Backend, shape: Shape, draw: DrawUniform) -> Any:
        """Return no parameters."""
        return ()

    def initial_state(self, be: Backend, shape: Shape, population: int, dtype: Any) -> Any:
        """Return no state."""
        return ()
