"""Mean and covariance through each layer of the engine.

Layers with weights, poolings and batch norm at inference are run by the engine's own forward, in float64, as
linear maps of columns of the covariance. Derived in docs/theory/moments.md.
"""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.layers.activations.clip import Clip, Relu6
from wn.engine.layers.activations.leaky_relu import LeakyRelu
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.base import joins, own_methods
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.layers.windows import Pair, tiles
from wn.theory.maximum import maximum_clark, maximum_independent
from wn.theory.rectified import (
    Rectified,
    clip_covariance,
    clip_moments,
    leaky_covariance,
    leaky_moments,
    relu_joint,
    relu_moments,
)
from wn.theory.through.forms import LARGEST, Diagonal, Factored, Form, Full, signs, variances

Floats = NDArray[np.float64]
Map = Callable[[Floats], Floats]  # (*features, N) → (*outputs, N)

RECTIFIERS = (Relu, LeakyRelu, Clip, Relu6)
KNOWN = (Linear, Convolution, BatchNorm, AveragePooling, MaxPooling, *RECTIFIERS, Flatten)
TERMS = 4  # of the series of a ReLU's covariance


class Affine(NamedTuple):
    """An affine layer y = L·x + c: what it does to a mean, L alone, and the squares of L's elements."""

    whole: Map
    linear: Map
    squared: Map


def through(
    layer: Any, params: Any, state: Any, moments: Form, *, terms: int = TERMS, seed: int = 0, first: int = 0
) -> Form:
    """Mean and covariance behind a layer at inference, in the form they are given in.

    params, state: of one member, in the engine's structures, float64.
    Affine layers (linear, convolution, batch norm, average pooling, flatten): E = L·m + c, and L·C·Lᵀ (full),
    its diagonal for independent elements (diagonal), or the factor L·A (factored). There the independent part
    d of a linear layer or convolution joins the factor first, as √d·ξ/√r with random signs ξ of the seed,
    for the samples from `first` on: right in the mean over the signs.
    ReLU, leaky ReLU, clip, ReLU6: exact mean and variance; covariance by `terms` of its series (full) or by
    the mean gates, with the rest of the variance as independent part (factored). Slopes are in [0, 1], and a
    clip has both bounds.
    Max pooling: exact for independent elements (diagonal), Clark's recursion and mean gates (full, factored).
    Raises WnError for a layer that is none of these, naming it, and for other slopes and clips. Derived in
    docs/theory/moments.md.
    """
    kind = known(layer)
    if kind in RECTIFIERS:
        return _rectified(layer, moments, terms)
    if kind is MaxPooling:
        return max_pooling(layer.sliding.size, moments)
    affine = affine_of(layer, params, state)
    mean = affine.whole(moments.mean)
    if isinstance(moments, Diagonal):
        return Diagonal(mean, affine.squared(moments.variance))
    if isinstance(moments, Full):
        return Full(mean, _of_covariance(affine.linear, moments))
    factor, variance = moments.factor, moments.variance
    if kind in (Linear, Convolution):  # they mix elements; the others leave what is independent so
        columns = factor.shape[-2]
        drawn = signs(moments.mean.shape, columns, seed, first)
        factor = factor + np.sqrt(variance / columns)[..., None, :] * drawn
        variance = np.zeros_like(variance)
    return Factored(mean, _columns(affine.linear, factor), affine.squared(variance))


def correlated(layer: Any, params: Any, state: Any, moments: Form) -> Full:
    """Mean and full covariance L·C·Lᵀ behind an affine layer, exact for every form of C.

    Arguments and errors as `through`; a layer that is not affine is refused, and more than 4096 features.
    """
    if known(layer) in (*RECTIFIERS, MaxPooling):
        raise WnError(f"layer {type(layer).__name__} is not affine")
    affine = affine_of(layer, params, state)
    mean = affine.whole(moments.mean)
    if isinstance(moments, Full):
        return Full(mean, _of_covariance(affine.linear, moments))
    shape = moments.mean.shape[:-1]
    features, batch = prod(shape), moments.mean.shape[-1]
    if features > LARGEST:
        raise WnError(f"covariances of {features} features are too many: at most {LARGEST}")
    matrix = affine.linear(np.eye(features).reshape(*shape, features)).reshape(-1, features)  # L, (O, F)
    variance = moments.variance.reshape(features, batch)
    covariance = np.empty((len(matrix), len(matrix), batch))
    for o, row in enumerate(matrix):  # Σ_f L_of·L_pf·d_f, a product of matrices for each o
        covariance[o, : o + 1] = (row * matrix[: o + 1]) @ variance
        covariance[: o + 1, o] = covariance[o, : o + 1]
    if isinstance(moments, Factored):
        factor = matrix @ moments.factor.reshape(features, -1, batch).transpose(2, 0, 1)  # (B, O, r)
        covariance += (factor @ factor.transpose(0, 2, 1)).transpose(1, 2, 0)
    return Full(mean, covariance)


def max_pooling(window: Pair, moments: Form, low: float | None = None) -> Form:
    """Mean and covariance of the largest of each window, and of `low` if given: 0 for a ReLU before it.

    Both at once are better than one after the other, which takes rectified elements for Gaussian. Shapes and
    forms as `through`: (C, H, W, B) → (C, ⌊H/KH⌋, ⌊W/KW⌋, B).
    """
    mean = _windows(moments.mean, window)  # (places, C, H', W', B)
    if isinstance(moments, Diagonal):
        found = maximum_independent(mean, _windows(moments.variance, window), low)
        return Diagonal(found.mean, found.variance)
    if isinstance(moments, Factored):
        parts = _windows(moments.factor, window)  # (places, C, H', W', r, B)
        inside = np.einsum("i...rb,j...rb->ij...b", parts, parts)
        places = np.arange(len(parts))
        inside[places, places] += _windows(moments.variance, window)
        found = maximum_clark(mean, inside, low)
        factor = (found.gates[..., None, :] * parts).sum(axis=0)
        rest = np.maximum(found.variance - (factor**2).sum(axis=-2), 0)
        return Factored(found.mean, factor, rest)
    return _largest_of_full(moments, window, low)


def affine_of(layer: Any, params: Any, state: Any) -> Affine:
    """The maps of an affine layer, run by the engine's formulas. Raises WnError as `through`."""
    be = backends.get("numpy")
    run = layer.for_phase(False)

    def mapped(with_params: Any, with_state: Any, factor: float = 1.0) -> Map:
        def run_it(x: Floats) -> Floats:
            y: Floats = run.forward(be, with_params, np.ascontiguousarray(x)[None], with_state)[0][0]
            return y if factor == 1 else y * factor

        return run_it

    kind, whole = known(layer), mapped(params, state)
    if kind in (Linear, Convolution):
        nothing = np.zeros_like(params.b)
        return Affine(
            whole,
            mapped(params._replace(b=nothing), state),
            mapped(params._replace(w=params.w**2, b=nothing), state),
        )
    if kind is BatchNorm:
        gamma = params.gamma[0] if layer.affine else 1.0
        scale = gamma * (state.variance[0] + layer.eps) ** -0.5  # (F,)
        return Affine(whole, _scaled(scale), _scaled(scale**2))
    return Affine(whole, whole, mapped((), (), 1 / prod(layer.window)) if kind is AveragePooling else whole)


def _scaled(scale: Floats) -> Map:
    """x times a number for each feature, the first axis of x."""
    return lambda x: x * scale.reshape(-1, *(1,) * (x.ndim - 1))


def known(layer: Any) -> type:
    """The kind of a layer. Raises WnError unless it is one of `KNOWN`, with the engine's own methods."""
    kind = type(layer)
    if kind not in KNOWN:
        if joins(layer):
            raise WnError(f"theory has no moments of {kind.__name__}: what it joins may be correlated")
        allowed = ", ".join(each.__name__ for each in KNOWN)
        raise WnError(f"theory has no moments of layer {kind.__name__}: only of {allowed}")
    if own_methods(layer):
        raise WnError(f"theory has no moments of a {kind.__name__} with methods of its own")
    if kind is not BatchNorm and not layer.usual:
        raise WnError(f"theory has no moments of {layer}: only of a {kind.__name__} with the usual settings")
    return kind


# ---- parts ------------------------------------------------------------------------------------------------


def _rectified(layer: Any, moments: Form, terms: int) -> Form:
    if isinstance(moments, Full):
        flat = moments.mean.reshape(len(moments.covariance), -1)
        mean, covariance = _joint(layer, flat, moments.covariance, terms)
        return Full(mean.reshape(moments.mean.shape), covariance)
    mean, variance, gate = _of_each(layer, moments.mean, variances(moments))
    if isinstance(moments, Diagonal):
        return Diagonal(mean, variance)
    factor = gate[..., None, :] * moments.factor
    return Factored(mean, factor, np.maximum(variance - (factor**2).sum(axis=-2), 0))


def _of_each(layer: Any, mean: Floats, variance: Floats) -> Rectified:
    """Mean, variance and gate of each element behind one of `RECTIFIERS`."""
    if isinstance(layer, Relu):
        return relu_moments(mean, variance)
    if isinstance(layer, LeakyRelu):
        return leaky_moments(mean, variance, layer.slope)
    return clip_moments(mean, variance, *_bounds(layer))


def _joint(layer: Any, mean: Floats, covariance: Floats, terms: int) -> tuple[Floats, Floats]:
    """Mean (F, B) and covariance (F, F, B) behind one of `RECTIFIERS`."""
    if isinstance(layer, Relu):
        joint, found = relu_joint(mean, covariance, terms)
        return joint.mean, found
    own = _of_each(layer, mean, np.einsum("ffb->fb", covariance)).mean
    if isinstance(layer, LeakyRelu):
        return own, leaky_covariance(mean, covariance, layer.slope, terms)
    return own, clip_covariance(mean, covariance, *_bounds(layer), terms)


def _bounds(layer: Any) -> tuple[float, float]:
    """Both bounds of a clip; WnError where one is left out."""
    low, high = (0.0, 6.0) if isinstance(layer, Relu6) else (layer.low, layer.high)
    if low is None or high is None:
        raise WnError("theory has no moments of a Clip with one bound: only with both")
    return low, high


def _columns(linear: Map, columns: Floats) -> Floats:
    """A linear map of every column: (*features, r, B) → (*outputs, r, B)."""
    count, batch = columns.shape[-2:]
    out = linear(columns.reshape(*columns.shape[:-2], count * batch))
    return out.reshape(*out.shape[:-1], count, batch)


def _of_covariance(linear: Map, moments: Full) -> Floats:
    """L·C·Lᵀ: the map along the first axis of (F, F, B), then along the second of each row."""
    shape, (_, features, batch) = moments.mean.shape[:-1], moments.covariance.shape
    rows = linear(moments.covariance.reshape(*shape, features * batch)).reshape(
        -1, features, batch
    )  # (O, F, B)
    result = np.empty((len(rows), len(rows), batch))
    for o, row in enumerate(rows):
        result[o] = linear(row.reshape(*shape, batch)).reshape(-1, batch)
    return result


def _windows(x: Floats, window: Pair) -> Floats:
    """The places of each window of images: (C, H, W, …) → (places, C, H', W', …)."""
    found = np.stack(tiles(x.reshape(1, *x.shape[:3], -1), window))  # (places, 1, C, H', W', rest)
    return found.reshape(len(found), *found.shape[2:5], *x.shape[3:])


def _largest_of_full(moments: Full, window: Pair, low: float | None) -> Full:
    """Clark's recursion in each window, and mean gates between windows."""
    mean, image = _windows(moments.mean, window), moments.mean.shape[:3]
    features, batch = moments.covariance.shape[1:]
    places, outputs = len(mean), prod(mean.shape[1:4])
    rows = _windows(moments.covariance.reshape(*image, features, batch), window)
    turned = rows.reshape(places, outputs, features, batch).transpose(2, 0, 1, 3)  # (F, places, F', B)
    both = _windows(turned.reshape(*image, places, outputs, batch), window)
    both = both.reshape(places, outputs, places, outputs, batch)
    index = np.arange(outputs)
    inside = both[:, index, :, index].transpose(1, 2, 0, 3)  # (places, places, F', B)
    found = maximum_clark(mean.reshape(places, outputs, batch), inside, low)
    result = np.einsum("pfb,pfqgb,qgb->fgb", found.gates, both, found.gates, optimize=True)
    result[index, index] = found.variance
    return Full(found.mean.reshape(mean.shape[1:]), result)
