"""A whole network from the naive layers: loss, and its gradient for every parameter and the input.

A network is a list of layer tuples:

    ("linear", w, b)                       ("convolution", w, b, stride, padding)
    ("relu",)                              ("max_pool", window)
    ("flatten",)                           ("average_pool", window)
    ("batch_norm", gamma, beta)            ("batch_norm_inference", gamma, beta, mean, variance)
    ("noise", gain, offset, order)         gain, offset: (R, P|1, …, B) or None, see `naive_statistics`
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from reference import naive, naive_statistics
from reference.naive import Array

LayerTuple = tuple[Any, ...]
Draws = tuple[Any, Any, str]  # gain, offset, order


class NetworkGradients(NamedTuple):
    """What one pass gives.

    loss: (P,); logits: (P, K, B); dx: (P, …, B); gradients: for each layer but noise the gradients of its
    parameters in the order of the tuple: (dw, db), (dgamma, dbeta), or () for a layer that has none.
    """

    loss: Array
    logits: Array
    dx: Array
    gradients: list[tuple[Array, ...]]


def has_site(layer: LayerTuple) -> bool:
    """Whether a layer's output is a noise site: every layer's is, but flatten's and that of noise itself."""
    return layer[0] not in ("flatten", "noise")


def with_noise(layers: Sequence[LayerTuple], draws: Mapping[int, Draws]) -> list[LayerTuple]:
    """Return the layers with noise put in at sites: 0 is the input, then one site per layer output.

    ValueError if a site does not exist.
    """
    sites = 1 + sum(has_site(layer) for layer in layers)
    wrong = [site for site in draws if not 0 <= site < sites]
    if wrong:
        raise ValueError(f"there is no site {wrong[0]}: the network has sites 0 to {sites - 1}")
    noisy: list[LayerTuple] = [("noise", *draws[0])] if 0 in draws else []
    site = 0
    for layer in layers:
        noisy.append(layer)
        if has_site(layer):
            site += 1
            if site in draws:
                noisy.append(("noise", *draws[site]))
    return noisy


def layer_forward(layer: LayerTuple, x: Any) -> Array:
    """Return a layer's output."""
    kind, *settings = layer
    if kind == "batch_norm":
        return naive_statistics.batch_norm_forward(x, *settings).y
    forwards: dict[str, Any] = {
        "linear": naive.linear_forward,
        "relu": naive.relu_forward,
        "flatten": naive.flatten_forward,
        "convolution": naive.convolution_forward,
        "max_pool": naive.max_pool_forward,
        "average_pool": naive.average_pool_forward,
        "batch_norm_inference": naive_statistics.batch_norm_inference_forward,
        "noise": naive_statistics.noise_forward,
    }
    if kind not in forwards:
        raise ValueError(f"unknown layer {kind!r}: allowed are batch_norm, {', '.join(forwards)}")
    y: Array = forwards[kind](x, *settings)
    return y


def layer_backward(layer: LayerTuple, dy: Array, x: Any) -> tuple[Array, ...]:
    """Return (dx, gradients of the parameters …) of a layer."""
    match layer:
        case ("linear", w, _):
            return naive.linear_backward(dy, x, w)
        case ("convolution", w, _, *settings):
            return naive.convolution_backward(dy, x, w, *settings)
        case ("relu",):
            return (naive.relu_backward(dy, x),)
        case ("flatten",):
            return (naive.flatten_backward(dy, np.shape(x)),)
        case ("max_pool", window):
            return (naive.max_pool_backward(dy, x, window),)
        case ("average_pool", window):
            return (naive.average_pool_backward(dy, np.shape(x), window),)
        case ("batch_norm", gamma, _):
            return naive_statistics.batch_norm_backward(dy, x, gamma)
        case ("batch_norm_inference", gamma, _, mean, variance):
            return naive_statistics.batch_norm_inference_backward(dy, x, gamma, mean, variance)
        case ("noise", *settings):
            return (naive_statistics.noise_backward(dy, x, *settings),)
    raise ValueError(f"unknown layer {layer[0]!r}")


def network_gradients(
    layers: Sequence[LayerTuple],
    x: Any,
    labels: Any,
    class_weights: Any = None,
    draws: Mapping[int, Draws] | None = None,
) -> NetworkGradients:
    """Return loss and gradients of a network under mean (or class-weighted) cross-entropy.

    x: (P|1, F, B) or (P|1, C, H, W, B); labels: (B,); draws: noise per site, see `with_noise`.
    """
    noisy = with_noise(layers, draws or {})
    inputs = [np.asarray(x, dtype=np.float64)]
    for layer in noisy:
        inputs.append(layer_forward(layer, inputs[-1]))
    logits = inputs.pop()
    d = naive_statistics.cross_entropy_backward(logits, labels, class_weights)
    gradients: list[tuple[Array, ...]] = []
    for layer, layer_input in zip(reversed(noisy), reversed(inputs), strict=True):
        d, *of_parameters = layer_backward(layer, d, layer_input)
        if layer[0] != "noise":
            gradients.insert(0, tuple(of_parameters))
    loss = naive_statistics.cross_entropy_forward(logits, labels, class_weights)
    return NetworkGradients(loss, logits, d, gradients)
