"""A trained network as the maps that moments go through: affine maps, ReLUs and max poolings.

Affine maps are run by the backend's own forward of the layer: with its weights for means, without biases for
tangents, with squared weights for variances of independent elements, and with transposed weights backwards.
Arrays are population first and batch last; the population is that of σ, of rows or of points.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine.backends.plain.base import Backend
from wn.engine.layers import average_pooling, convolution, linear
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.base import Shape, joins
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution, ConvolutionParams
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear, LinearParams
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.network import Network, Placed
from wn.engine.training import Population

Array = NDArray[Any]
Map = Callable[[Array], Array]


class Affine(NamedTuple):
    """An affine map y = A x + b of one sample, applied to (P, *input, B).

    mean: A x + b; tangent: A x; variance: A² x with squared elements; transposed: Aᵀ y. scaled(a, c) is the
    map a·(A x + b) + c with a scale and a shift of each feature, where that is a map of the same kind; a
    batch norm has such a `scale`. mixes: whether an output can be a sum over several inputs.
    """

    mean: Map
    tangent: Map
    variance: Map
    transposed: Map
    scaled: "Callable[[Array, Array], Affine] | None" = None
    scale: tuple[Array, Array] | None = None
    mixes: bool = True


class Step(NamedTuple):
    """A step of the chain: kind "affine", "relu", "max" or "relu-max", and the noise site at its output."""

    kind: str
    site: int | None
    name: str
    map: Affine | None = None


@dataclass(frozen=True)
class Chain:
    """The steps of a network at inference behind site `first`, 0 being the input; K `classes` are behind."""

    steps: tuple[Step, ...]
    classes: int
    first: int = 0

    def behind(self, site: int, noisy: frozenset[int]) -> tuple[Step, ...]:
        """The steps behind a site, neighbours as one where no noise is between.

        These are a ReLU with a max pooling, and a linear layer or convolution with its batch norm.
        """
        start = 0 if site == self.first else next(i for i, s in enumerate(self.steps) if s.site == site) + 1
        found: list[Step] = []
        for step in self.steps[start:]:
            last = found[-1] if found and found[-1].site not in noisy else None
            one = None if last is None else _as_one(last, step)
            if one is None:
                found.append(step)
            else:
                found[-1] = one
        return tuple(found)


def _as_one(first: Step, second: Step) -> Step | None:
    """Two steps as one, if they can be."""
    if (first.kind, second.kind) == ("relu", "max"):
        return second._replace(kind="relu-max")
    before, behind = first.map, second.map
    if before and behind and before.scaled and behind.scale:
        return second._replace(map=before.scaled(*behind.scale))
    return None


def chain_of(network: Network, population: Population, be: Backend, first: int = 0) -> Chain:
    """The chain of one trained network behind site `first`: population of one, arrays of `be`, on a CPU.

    Raises WnError for a layer whose moments are not known; what is before the site may be anything.
    """
    steps, sites = [], first
    nodes = list(zip(network.nodes, network.placed, population.params, population.states, strict=True))
    for node, place, params, state in nodes[network.site_depths[first] :]:
        sites += node.site
        kind, affine = _step_of(place, params, state, be)
        steps.append(Step(kind, sites if node.site else None, node.name, affine))
    return Chain(tuple(steps), network.classes, first)


def _step_of(place: Placed, params: Any, state: Any, be: Backend) -> tuple[str, Affine | None]:
    # exact types: a layer of one's own that inherits from one of these may compute something else
    layer: Any = place.layer
    kind = type(layer)
    if kind is not BatchNorm and not getattr(layer, "usual", True):
        raise WnError(
            f"layer {place.name!r}: moments through {layer} are not known: only with the usual settings"
        )
    if kind is Linear:
        return "affine", _linear(params, be)
    if kind is Convolution:
        return "affine", _convolution(layer, place, params, be)
    if kind is BatchNorm:
        return "affine", _batch_norm(layer, params, state)
    if kind is Flatten:
        return "affine", _reshape(place)
    if kind is AveragePooling:
        return "affine", _average_pooling(layer, place, be)
    if kind is Relu:
        return "relu", None
    if kind is MaxPooling and layer.window == (2, 2):
        return "max", None
    if kind is MaxPooling:
        raise WnError(f"layer {place.name!r}: moments through max pooling are known for 2×2 windows only")
    why = ": what it joins may be correlated" if joins(layer) else ""
    raise WnError(f"layer {place.name!r}: moments through {kind.__name__} are not known{why}")


def _linear(params: LinearParams, be: Backend) -> Affine:
    w, b = params
    transposed = np.ascontiguousarray(w.transpose(0, 2, 1))

    def product(weights: Array, bias: Array) -> Map:
        return lambda x: be.forward(linear.FORMULA, LinearParams(weights, bias), x)[0]

    def scaled(a: Array, c: Array) -> Affine:
        return _linear(LinearParams(w * a[:, None], b * a + c), be)

    nothing, back = np.zeros_like(b), np.zeros((1, w.shape[2]), w.dtype)
    return Affine(
        product(w, b), product(w, nothing), product(w * w, nothing), product(transposed, back), scaled
    )


def _convolution(layer: Any, place: Placed, params: ConvolutionParams, be: Backend) -> Affine:
    w, b = params

    def slide(kernels: Array, bias: Array) -> Map:
        given = ConvolutionParams(kernels, bias)
        return lambda x: be.forward(convolution.FORMULA, given, x, layer.stride, layer.padding)[0]

    flipped = np.ascontiguousarray(w[..., ::-1, ::-1].transpose(0, 2, 1, 3, 4))
    turned = ConvolutionParams(flipped, np.zeros((1, flipped.shape[1]), w.dtype))
    (stride_h, stride_w), (pad_h, pad_w) = layer.stride, layer.padding
    (kernel_h, kernel_w), (height, width) = layer.kernel, place.input_shape[1:]

    def transposed(dy: Array) -> Array:
        """dx as a convolution of dy, its elements a stride apart, with turned kernels."""
        shape = (height + 2 * pad_h - kernel_h + 1, width + 2 * pad_w - kernel_w + 1)
        if dy.shape[2:4] != shape:
            apart = np.zeros((*dy.shape[:2], *shape, dy.shape[4]), dy.dtype)
            apart[:, :, ::stride_h, ::stride_w] = dy
            dy = apart
        margin = (kernel_h - 1 - pad_h, kernel_w - 1 - pad_w)
        dx: Array = be.forward(convolution.FORMULA, turned, dy, (1, 1), margin)[0]
        return dx

    def scaled(a: Array, c: Array) -> Affine:
        return _convolution(layer, place, ConvolutionParams(w * a[:, None, None, None], b * a + c), be)

    nothing = np.zeros_like(b)
    return Affine(slide(w, b), slide(w, nothing), slide(w * w, nothing), transposed, scaled)


def _batch_norm(layer: BatchNorm, params: Any, state: Any) -> Affine:
    """y = a x + c with a = γ/√(v + ε), c = β − a·mean; γ = 1 and β = 0 where it has none."""
    gamma, beta = (params.gamma[0], params.beta[0]) if layer.affine else (1.0, 0.0)
    exact = gamma / np.sqrt(state.variance[0].astype(np.float64) + layer.eps)
    shift = beta - exact * (state.mean[0].astype(np.float64) + state.residual[0])
    a, c = (values.astype(state.mean.dtype) for values in (exact, shift))

    def by(factor: Array) -> Map:
        return lambda x: x * factor.reshape(-1, *(1,) * (x.ndim - 2))

    def mean(x: Array) -> Array:
        result: Array = by(a)(x) + c.reshape(-1, *(1,) * (x.ndim - 2))
        return result

    return Affine(mean, by(a), by(a * a), by(a), scale=(a, c), mixes=False)


def _reshape(place: Placed) -> Affine:
    def to(shape: Shape) -> Map:
        return lambda x: x.reshape(len(x), *shape, x.shape[-1])

    there = to(place.output_shape)
    return Affine(there, there, there, to(place.input_shape), mixes=False)


def _average_pooling(layer: Any, place: Placed, be: Backend) -> Affine:
    size = layer.window[0] * layer.window[1]
    shape: Any = place.input_shape[1:]
    cache = average_pooling.AveragePoolingCache(shape, layer.window)

    def mean(x: Array) -> Array:
        y: Array = be.forward(average_pooling.FORMULA, (), x, layer.window)[0]
        return y

    def transposed(dy: Array) -> Array:
        dx: Any = be.backward(average_pooling.FORMULA, dy, cache)[0]
        return np.asarray(dx)

    return Affine(mean, mean, lambda v: mean(v) / v.dtype.type(size), transposed)
