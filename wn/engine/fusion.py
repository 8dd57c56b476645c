"""Fusion: neighbours that a backend can do at once become one layer, with the bits of one after the other.

A fused layer has a formula, that of one layer after the other; a backend that does them at once has a pair of
its own for it, and calls `fused` in its `rewritten`. Without this file networks run their layers one by one,
slower. What pays: docs/backends.md.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from wn.engine.layers import batch_norm, convolution, linear, max_pooling, relu
from wn.engine.layers.base import Formula, OfFormula, OfWeights, Runnable, own_methods
from wn.engine.layers.batch_norm import BatchNormInference, BatchNormTraining
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.layers.windows import Array, Pair


def fused(
    layers: Sequence[Runnable], quiet: Sequence[bool], formulas: Container[Formula]
) -> list[tuple[Runnable, int]]:
    """The layers in order, some replaced by one that stands for several; each with how many it stands for.

    quiet: for each layer, whether no noise is active at its output. Noise is never taken into a fused layer.
    formulas: those of fused layers that a backend can do at once, see `NEIGHBOURS`.
    """
    possible = [neighbours for neighbours in NEIGHBOURS if neighbours.formula in formulas]
    found, start = list[tuple[Runnable, int]](), 0
    while start < len(layers):
        fitting = (some for some in possible if _begin(layers[start:], quiet[start:], some.kinds))
        first = next(fitting, None)
        count = 1 if first is None else len(first.kinds)
        group = layers[start : start + count]
        found.append((group[0] if first is None else Fused(first.formula, tuple(group)), count))
        start += count
    return found


class Neighbours(NamedTuple):
    """Neighbours of these kinds, and the formula that stands for them."""

    kinds: tuple[type, ...]
    formula: Formula


def _begin(layers: Sequence[Runnable], quiet: Sequence[bool], kinds: tuple[type, ...]) -> bool:
    """Whether layers begin with those: of exactly these types, as a subclass of ReLU may be leaky."""
    count = len(kinds)
    same = tuple(type(layer) for layer in layers[:count]) == kinds
    return same and all(quiet[: count - 1]) and all(map(_as_its_class, layers[:count]))


def _as_its_class(layer: Any) -> bool:
    """Whether a layer does what fused formulas have for its class: no method of its own, usual settings."""
    return layer.usual and not own_methods(layer)


@dataclass(frozen=True)
class Fused:
    """Neighbours as one layer. The first has the parameters and the state; the others have none."""

    formula: Formula
    layers: tuple[Any, ...]

    @cached_property
    def static(self) -> tuple[Pair, ...]:
        """The settings that the formula takes: a window, and those of the first layer."""
        first, last = self.layers[0], self.layers[-1]
        window = last.static if isinstance(last, MaxPooling) else ()
        return (*window, *first.static) if isinstance(first, OfFormula) else window

    def forward(self, be: Any, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See the layers."""
        given = (state,) if isinstance(self.layers[0], BatchNormInference) else ()
        y, cache = be.forward(self.formula, params, x, *self.static, *given)
        if isinstance(self.layers[0], BatchNormTraining):
            state = be.update_running(state, batch_norm.statistics(cache[-1]))
        return y, cache, state

    def backward(self, be: Any, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See the layers."""
        static = {"need_dx": need_dx} if isinstance(self.layers[0], OfWeights) else {}
        found: tuple[Array | None, Any] = be.backward(self.formula, dy, cache, **static)
        return found


# ---- formulas: the last part of each cache is the first layer's -------------------------------------------


def _then_relu(first: Formula) -> Formula:
    """y = max(what a layer makes, 0). Backwards dy is masked by y: where that is 0, so is the gradient."""

    def forward(xp: Any, params: Any, x: Array, *static: Any) -> tuple[Array, Any]:
        made, cache = first.forward(xp, params, x, *static)
        y, mask = relu.forward(xp, (), made)
        return y, (mask, cache)

    def backward(xp: Any, dy: Array, cache: Any, **static: Any) -> tuple[Array | None, Any]:
        mask, before = cache
        dmade, _ = relu.backward(xp, dy, mask)
        return first.backward(xp, dmade, before, **static)

    return Formula(forward, backward)


def _then_max_pooling(rectified: Formula) -> Formula:
    """The largest value of each window of what a layer with a ReLU makes."""

    def forward(xp: Any, params: Any, x: Array, window: Pair, *static: Any) -> tuple[Array, Any]:
        made, (mask, before) = rectified.forward(xp, params, x, *static)
        y, largest = max_pooling.forward(xp, (), made, window)
        return y, (largest, mask, before)

    def backward(xp: Any, dy: Array, cache: Any, **static: Any) -> tuple[Array | None, Any]:
        largest, *before = cache
        dmade, _ = max_pooling.backward(xp, dy, largest)
        return rectified.backward(xp, dmade, before, **static)

    return Formula(forward, backward)


LINEAR_RELU = _then_relu(linear.FORMULA)
CONVOLUTION_RELU = _then_relu(convolution.FORMULA)
TRAINING_RELU = _then_relu(batch_norm.TRAINING)
INFERENCE_RELU = _then_relu(batch_norm.INFERENCE)
CONVOLUTION_RELU_POOLING = _then_max_pooling(CONVOLUTION_RELU)
TRAINING_RELU_POOLING = _then_max_pooling(TRAINING_RELU)
INFERENCE_RELU_POOLING = _then_max_pooling(INFERENCE_RELU)

NEIGHBOURS = (  # the longest first
    Neighbours((Convolution, Relu, MaxPooling), CONVOLUTION_RELU_POOLING),
    Neighbours((BatchNormTraining, Relu, MaxPooling), TRAINING_RELU_POOLING),
    Neighbours((BatchNormInference, Relu, MaxPooling), INFERENCE_RELU_POOLING),
    Neighbours((Linear, Relu), LINEAR_RELU),
    Neighbours((Convolution, Relu), CONVOLUTION_RELU),
    Neighbours((BatchNormTraining, Relu), TRAINING_RELU),
    Neighbours((BatchNormInference, Relu), INFERENCE_RELU),
)
