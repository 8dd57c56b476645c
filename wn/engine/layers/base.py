"""What a network asks of a layer."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

from wn.engine.layers.windows import Array

Shape = tuple[int, ...]  # of one sample: (F,) or (C, H, W)

# draw(index of the parameter within its layer, shape of one member, bound) → (P, *shape) in U(−bound, bound).
# Every call has draws of its own: one that repeats an index, too, as layers within a layer do.
DrawUniform = Callable[[int, Shape, float], Array]


class Formula(NamedTuple):
    """The mathematics of a layer, in plain array code over a namespace `xp` (NumPy or CuPy).

    forward(xp, params, x, …static…) → (y, cache); backward(xp, dy, cache) → (dx, grads). Pure functions:
    inputs are never modified. A backend may run a pair of its own in their place, see `Runner`.
    """

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., tuple[Array | None, Any]]


class Weights(NamedTuple):
    """The weights w of a layer without biases."""

    w: Array


def without_bias(pair: Formula, zeros: Callable[[Any, Shape, Any], Array]) -> Formula:
    """A pair for `Weights`, made of one for weights w (P, O, …) and biases b (P, O): b is 0.

    zeros(xp or backend, shape, dtype): what is put in the place of b; its gradient is dropped.
    """

    def forward(xp: Any, params: Weights, x: Array, *static: Any, **named: Any) -> tuple[Array, Any]:
        w = params.w
        return pair.forward(xp, _WithBias(w, zeros(xp, w.shape[:2], w.dtype)), x, *static, **named)

    def backward(xp: Any, dy: Array, cache: Any, need_dx: bool = True) -> tuple[Array | None, Weights]:
        dx, grads = pair.backward(xp, dy, cache, need_dx=need_dx)
        return dx, Weights(grads.w)

    return Formula(forward, backward)


class _WithBias(NamedTuple):
    w: Array
    b: Array


class Runner(Protocol):
    """What runs the formulas of layers: a backend, by functions of its own or as they stand."""

    xp: Any

    def forward(self, layer: Formula, *given: Any, **static: Any) -> tuple[Array, Any]:
        """Return (y, cache) of a layer."""
        ...

    def backward(self, layer: Formula, dy: Array, cache: Any, **static: Any) -> tuple[Array | None, Any]:
        """Return (dx, grads) of a layer."""
        ...


class Runnable(Protocol):
    """Forward and backward of a layer in a phase, training or inference."""

    def forward(self, be: Runner, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """Return (y, cache, new state)."""
        ...

    def backward(self, be: Runner, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """Return (dx, grads); dx may be None unless `need_dx`."""
        ...


class Layer(Protocol):
    """A layer's place in a network: static settings, shapes, initial parameters, what is run in which phase.

    Parameters and gradients are NamedTuples of arrays, `()` for a layer that has none; a state holds what
    training updates without a gradient (running statistics of batch norm), `()` for most layers.
    """

    learns: ClassVar[bool]  # whether it has parameters
    # What follows counts only where the layer's own class says it, see `declares`.
    recordable: ClassVar[bool]  # whether all it does with arrays is done by its backend

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of one output sample; raise WnError if `shape` does not fit."""
        ...

    def initial_parameters(self, be: Runner, shape: Shape, draw: DrawUniform) -> Any:
        """Return the parameters of a fresh population."""
        ...

    def initial_state(self, be: Runner, shape: Shape, population: int, dtype: Any) -> Any:
        """Return the state of a fresh population."""
        ...

    def for_phase(self, training: bool) -> Runnable:
        """What is run in training or in inference: the layer itself, unless the two differ."""
        ...


def has_weights(params: Any) -> bool:
    """Whether parameters are those of a linear layer or a convolution: weights `w` among them."""
    return "w" in getattr(params, "_fields", ())


def declares(thing: Any, name: str) -> bool:
    """Whether the class of a layer, or of another part of a step, itself says `name = True`.

    What a class inherits does not count: it may well do something else in its forward and backward than the
    class that said so. Neither does an object that has a method of its own in place of its class's.
    """
    return vars(type(thing)).get(name) is True and not own_methods(thing)


def joins(layer: Any) -> bool:
    """Whether a layer takes several inputs; one that does not say so takes one."""
    return bool(getattr(type(layer), "joins", False))


def own_methods(thing: Any) -> bool:
    """Whether an object has a method of its own in place of its class's."""
    return any(callable(getattr(type(thing), name, None)) for name in getattr(thing, "__dict__", ()))


class Stateless:
    """Defaults for a layer without parameters and state, the same in both phases."""

    learns: ClassVar[bool] = False
    joins: ClassVar[bool] = False  # whether it takes several inputs: x and shapes are tuples, and so is dx
    noisy: ClassVar[bool] = True  # whether its output is a noise site where nothing else is said
    recordable: ClassVar[bool] = False
    draws: ClassVar[bool] = False  # whether its forward takes the address of random draws, a `DrawKey`, last

    def initial_parameters(self, be: Runner, shape: Shape, draw: DrawUniform) -> Any:
        """Return no parameters."""
        return ()

    def initial_state(self, be: Runner, shape: Shape, population: int, dtype: Any) -> Any:
        """Return no state."""
        return ()

    def for_phase(self, training: bool) -> Any:
        """The same in training and in inference."""
        return self


class OfFormula(Stateless):
    """A layer in a network that is one formula, the same in both phases."""

    formula: ClassVar[Formula]

    @property
    def usual(self) -> bool:
        """Whether it does what the formula of its class says, without settings that another one is for.

        What is made for the class – fused pairs, closed forms of the theory – holds for such layers alone.
        """
        return True

    @property
    def run(self) -> Formula:
        """The formula that is run: that of its class, unless its settings are not the usual ones."""
        return self.formula

    @property
    def static(self) -> tuple[Any, ...]:
        """The settings that the formula's forward takes after x."""
        return ()

    def forward(self, be: Runner, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `forward` of the layer's module."""
        y, cache = be.forward(self.run, params, x, *self.static)
        return y, cache, state

    def backward(self, be: Runner, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `backward` of the layer's module."""
        return be.backward(self.run, dy, cache)


class OfWeights(OfFormula):
    """A layer that is one formula with weights: its backward leaves dx out where nothing needs it."""

    learns: ClassVar[bool] = True

    def backward(self, be: Runner, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `backward` of the layer's module."""
        return be.backward(self.run, dy, cache, need_dx=need_dx)
