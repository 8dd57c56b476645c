"""Fusion: neighbours that a backend can do at once become one layer, with the bits of one after the other.

Nothing else in the engine knows of it: without this file a network runs its layers one by one, slower.
What pays is written down in docs/backends.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from wn.engine.backends import by_primitives
from wn.engine.layers import batch_norm, convolution, linear
from wn.engine.layers.base import Runnable, Runner, own_methods
from wn.engine.layers.batch_norm import BatchNormInference, BatchNormTraining
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.layers.windows import Array


def fused(layers: Sequence[Runnable], quiet: Sequence[bool]) -> list[tuple[Runnable, int]]:
    """The layers in order, some replaced by one that stands for several; each with how many it stands for.

    quiet: for each layer, whether no noise is active at its output. Noise is never taken into a fused layer.
    """
    found, start = list[tuple[Runnable, int]](), 0
    while start < len(layers):
        rule = next((rule for rule in RULES if _fits(rule, layers[start:], quiet[start:])), None)
        count = 1 if rule is None else len(rule.kinds)
        group = layers[start : start + count]
        found.append((group[0] if rule is None else rule.layer(*group), count))
        start += count
    return found


class Rule(NamedTuple):
    """The layer that stands for neighbours of these kinds."""

    kinds: tuple[type, ...]
    layer: Callable[..., Runnable]


def _fits(rule: Rule, layers: Sequence[Runnable], quiet: Sequence[bool]) -> bool:
    """Whether layers begin with those of a rule: of exactly its types, as a subclass of ReLU may be leaky."""
    count = len(rule.kinds)
    kinds = tuple(type(layer) for layer in layers[:count])
    return kinds == rule.kinds and all(quiet[: count - 1]) and not any(map(own_methods, layers[:count]))


# ---- the layers -------------------------------------------------------------------------------------------
# Each has the parameters and the state of its first layer; the others have none. Backwards it masks dy by the
# ReLU's y: where that is 0, so is the gradient.


@dataclass(frozen=True)
class LinearRelu:
    """y = max(W x + b, 0)."""

    linear: Linear
    relu: Relu

    def forward(self, be: Any, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `linear` and `relu`."""
        y = be.linear_relu(params.w, x, params.b)  # (P, O, B)
        return y, (y, x, params.w), state

    def backward(self, be: Any, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `linear` and `relu`."""
        y, x, w = cache
        dx, dw, db = be.linear_relu_backward(dy, y, x, w, need_dx)
        return dx, linear.LinearParams(dw, db)


@dataclass(frozen=True)
class ConvolutionRelu:
    """y = max(w ∗ x + b, 0)."""

    convolution: Convolution
    relu: Relu

    def forward(self, be: Any, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `convolution` and `relu`."""
        sliding = self.convolution.stride, self.convolution.padding
        y = be.convolution_relu(x, params.w, params.b, *sliding)  # (P, O, H', W', B)
        return y, (y, convolution.ConvolutionCache(x, params.w, *sliding)), state

    def backward(self, be: Any, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `convolution` and `relu`."""
        return self.masked_backward(be, be.relu_backward(dy, cache[0]), cache, need_dx)

    def masked_backward(self, be: Runner, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """Gradients for a dy of the convolution itself."""
        return be.backward(convolution.FORMULA, dy, cache[1], need_dx=need_dx)


@dataclass(frozen=True)
class BatchNormTrainingRelu:
    """y = max(γ x̂ + β, 0) with the statistics of the batch."""

    norm: BatchNormTraining
    relu: Relu

    def forward(self, be: Any, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `batch_norm` and `relu`."""
        y, cache = by_primitives.normalised_by_batch(be, be.batch_norm_relu, params, x)
        return y, (y, cache), batch_norm.update_running(be, state, batch_norm.statistics(cache))

    def backward(self, be: Any, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `batch_norm` and `relu`."""
        y, (x, gamma, mean, residual, _, inverse) = cache
        dy_rows, y_rows, rows = (batch_norm.rows(array) for array in (dy, y, x))
        given = gamma, mean, residual, inverse
        dx, dgamma, dbeta = be.batch_norm_relu_backward(dy_rows, y_rows, rows, *given)
        return dx.reshape(dy.shape), batch_norm.BatchNormParams(dgamma, dbeta)

    def masked_backward(self, be: Runner, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """Gradients for a dy of the batch norm itself."""
        return be.backward(batch_norm.TRAINING, dy, cache[1])


@dataclass(frozen=True)
class BatchNormInferenceRelu:
    """y = max(γ x̂ + β, 0) with the running statistics."""

    norm: BatchNormInference
    relu: Relu

    def forward(self, be: Any, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `batch_norm` and `relu`."""
        y, cache = by_primitives.normalised_by_running(be, be.normalise_relu, params, x, state)
        return y, (y, cache), state

    def backward(self, be: Any, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `batch_norm` and `relu`."""
        return self.masked_backward(be, be.relu_backward(dy, cache[0]), cache, need_dx)

    def masked_backward(self, be: Runner, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """Gradients for a dy of the batch norm itself."""
        return be.backward(batch_norm.INFERENCE, dy, cache[1])


@dataclass(frozen=True)
class _Pooled:
    """The largest values of each window of what a layer with a ReLU makes.

    Backwards the gradient is masked while it is sent to its pixels, not in a pass of its own.
    """

    first: ConvolutionRelu | BatchNormTrainingRelu | BatchNormInferenceRelu
    pooling: MaxPooling

    def forward(self, be: Any, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See the layer and `max_pooling`."""
        y, cache, state = self.first.forward(be, params, x, state)
        z = be.max_pool(y, self.pooling.window)  # (P, C, ⌊H/KH⌋, ⌊W/KW⌋, B)
        return z, (z, cache), state

    def backward(self, be: Any, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See the layer and `max_pooling`."""
        z, before = cache
        dy = be.max_pool_backward_relu(dy, before[0], z, self.pooling.window)
        return self.first.masked_backward(be, dy, before, need_dx)


class ConvolutionReluMaxPooling(_Pooled):
    """The largest values of max(w ∗ x + b, 0)."""


class BatchNormTrainingReluMaxPooling(_Pooled):
    """The largest values of max(γ x̂ + β, 0) with the statistics of the batch."""


class BatchNormInferenceReluMaxPooling(_Pooled):
    """The largest values of max(γ x̂ + β, 0) with the running statistics.

    The largest value of each window is found first, so that a quarter is normalised where windows have four
    pixels. Backwards all of it is computed.
    """

    def forward(self, be: Any, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `batch_norm`, `relu` and `max_pooling`."""
        y = by_primitives.normalised_and_pooled(be, params, x, state, self.pooling.window)
        return y, (params, x, state), state

    def backward(self, be: Any, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `batch_norm`, `relu` and `max_pooling`."""
        _, whole, _ = super().forward(be, *cache)
        return super().backward(be, dy, whole, need_dx)


def _pooled(kind: type[_Pooled], first: Callable[[Any, Relu], Any]) -> Callable[..., Runnable]:
    return lambda layer, relu, pooling: kind(first(layer, relu), pooling)


RULES = (  # the longest first
    Rule((Convolution, Relu, MaxPooling), _pooled(ConvolutionReluMaxPooling, ConvolutionRelu)),
    Rule(
        (BatchNormTraining, Relu, MaxPooling), _pooled(BatchNormTrainingReluMaxPooling, BatchNormTrainingRelu)
    ),
    Rule(
        (BatchNormInference, Relu, MaxPooling),
        _pooled(BatchNormInferenceReluMaxPooling, BatchNormInferenceRelu),
    ),
    Rule((Linear, Relu), LinearRelu),
    Rule((Convolution, Relu), ConvolutionRelu),
    Rule((BatchNormTraining, Relu), BatchNormTrainingRelu),
    Rule((BatchNormInference, Relu), BatchNormInferenceRelu),
)
