"""Correct primitives in plain NumPy, independent of wn, that random layers are put together from.

forward(params, x) -> (y, cache);  backward(params, dy, cache) -> (dx, [gradients of params]).

Arrays are (P, F, B), or (P, C, H, W, B) for images.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Primitive(NamedTuple):
    """A forward, a backward, and what draws the parameters for an input of a shape."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    draw: Callable[..., list[np.ndarray]] = lambda rng, shape: []


def elementwise(function, derivative):
    """y = function(x); derivative(x, y)."""

    def forward(params, x):
        y = function(x)
        return y, (x, y)

    return Primitive(forward, lambda params, dy, cache: (dy * derivative(*cache), []))


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x)).astype(x.dtype)


def scaled(factor):
    return elementwise(lambda x: x * factor, lambda x, y: np.full_like(x, factor))


def shifted(offset):
    return elementwise(lambda x: x + offset, lambda x, y: np.ones_like(x))


# ---- with parameters ------------------------------------------------------------------------------------


def per_feature(array, x):
    """(P, F) in the shape that fits x."""
    return array.reshape(*array.shape, *[1] * (x.ndim - 2))


def sum_samples(dy):
    return dy.sum(axis=tuple(range(2, dy.ndim)))


def draw_linear(rng, shape):
    outputs = int(rng.integers(1, 5))
    return [rng.standard_normal((shape[0], outputs, shape[1])), rng.standard_normal((shape[0], outputs))]


LINEAR = Primitive(
    lambda params, x: (params[0] @ x + params[1][:, :, None], x),
    lambda params, dy, x: (
        params[0].transpose(0, 2, 1) @ dy,
        [dy @ x.transpose(0, 2, 1), dy.sum(axis=2)],
    ),
    draw_linear,
)


def draw_bias(rng, shape):
    return [rng.choice([0.0, 10.0]) + rng.standard_normal(shape[:2])]


BIAS = Primitive(
    lambda params, x: (x + per_feature(params[0], x), None),
    lambda params, dy, cache: (dy.copy(), [sum_samples(dy)]),
    draw_bias,
)
MULTIPLY = Primitive(
    lambda params, x: (x * per_feature(params[0], x), x),
    lambda params, dy, x: (dy * per_feature(params[0], x), [sum_samples(dy * x)]),
    lambda rng, shape: [rng.standard_normal(shape[:2])],
)


def batch_norm_forward(params, x):
    axes = tuple(range(2, x.ndim))
    mean = x.mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True) + 1e-5)
    n = (x - mean) * inverse
    return per_feature(params[0], x) * n + per_feature(params[1], x), (n, inverse)


def batch_norm_backward(params, dy, cache):
    n, inverse = cache
    axes = tuple(range(2, dy.ndim))
    d = dy * per_feature(params[0], dy)
    centred = d - d.mean(axis=axes, keepdims=True) - n * (d * n).mean(axis=axes, keepdims=True)
    return centred * inverse, [sum_samples(dy * n), sum_samples(dy)]


BATCH_NORM = Primitive(
    batch_norm_forward,
    batch_norm_backward,
    lambda rng, shape: [rng.standard_normal(shape[:2]), rng.standard_normal(shape[:2])],
)


def convolve(x, w):
    """y[o, i, j] = Σ w[o, c, k, l] x[c, i + k, j + l], inside of the image only."""
    rows, columns = x.shape[2] - w.shape[3] + 1, x.shape[3] - w.shape[4] + 1
    y = 0
    for k in range(w.shape[3]):
        for column in range(w.shape[4]):
            part = x[:, :, k : k + rows, column : column + columns]
            y = y + np.einsum("poc,pcijb->poijb", w[:, :, :, k, column], part)
    return y


def convolution_backward(params, dy, x):
    (w,) = params
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    rows, columns = dy.shape[2:4]
    for k in range(w.shape[3]):
        for column in range(w.shape[4]):
            part = x[:, :, k : k + rows, column : column + columns]
            dw[:, :, :, k, column] = np.einsum("poijb,pcijb->poc", dy, part)
            dx[:, :, k : k + rows, column : column + columns] += np.einsum(
                "poc,poijb->pcijb", w[:, :, :, k, column], dy
            )
    return dx, [dw]


def draw_kernel(rng, shape):
    size = [int(rng.integers(1, min(3, extent) + 1)) for extent in shape[2:4]]
    return [rng.standard_normal((shape[0], int(rng.integers(1, 3)), shape[1], *size))]


CONVOLUTION = Primitive(lambda params, x: (convolve(x, params[0]), x), convolution_backward, draw_kernel)


# ---- between features, rows or columns ------------------------------------------------------------------


def layer_norm_forward(params, x):
    mean = x.mean(axis=1, keepdims=True)
    inverse = 1 / np.sqrt(((x - mean) ** 2).mean(axis=1, keepdims=True) + 1e-5)
    n = (x - mean) * inverse
    return n, (n, inverse)


def layer_norm_backward(params, dy, cache):
    n, inverse = cache
    return (dy - dy.mean(axis=1, keepdims=True) - n * (dy * n).mean(axis=1, keepdims=True)) * inverse, []


def softmax_forward(params, x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return p, p


def softmax_backward(params, dy, p):
    return p * (dy - (dy * p).sum(axis=1, keepdims=True)), []


def normalise_forward(params, x):
    size = np.sqrt((x * x).sum(axis=1, keepdims=True) + 1e-12)
    return x / size, (x, size)


def normalise_backward(params, dy, cache):
    x, size = cache
    return dy / size - x * (dy * x).sum(axis=1, keepdims=True) / size**3, []


def mean_forward(params, x):
    return (x[:, :, :-1] + x[:, :, 1:]) / 2, None


def mean_backward(params, dy, cache):
    none = np.zeros_like(dy[:, :, :1])
    return (np.concatenate([dy, none], axis=2) + np.concatenate([none, dy], axis=2)) / 2, []


def max_forward(params, x):
    first = x[:, :, :-1] > x[:, :, 1:]
    return np.maximum(x[:, :, :-1], x[:, :, 1:]), first


def max_backward(params, dy, first):
    none = np.zeros_like(dy[:, :, :1])
    above, below = dy * first, dy * ~first
    return np.concatenate([above, none], axis=2) + np.concatenate([none, below], axis=2), []


def flatten_forward(params, x):
    return x.reshape(x.shape[0], -1, x.shape[-1]), x.shape[1:]


def flatten_backward(params, dy, shape):
    return dy.reshape(dy.shape[0], *shape), []


FLATTEN = Primitive(flatten_forward, flatten_backward)

ANYWHERE = {
    "relu": elementwise(lambda x: np.maximum(x, 0), lambda x, y: (x > 0).astype(x.dtype)),
    "leaky relu": elementwise(
        lambda x: np.where(x > 0, x, 0.1 * x).astype(x.dtype),
        lambda x, y: np.where(x > 0, 1.0, 0.1).astype(x.dtype),
    ),
    "tanh": elementwise(np.tanh, lambda x, y: 1 - y * y),
    "sigmoid": elementwise(sigmoid, lambda x, y: y * (1 - y)),
    "exp": elementwise(np.exp, lambda x, y: y),
    "softplus": elementwise(lambda x: np.logaddexp(x, 0).astype(x.dtype), lambda x, y: sigmoid(x)),
    "square": elementwise(lambda x: x * x, lambda x, y: 2 * x),
    "sine": elementwise(np.sin, lambda x, y: np.cos(x)),
    "residual": elementwise(lambda x: x + np.tanh(x), lambda x, y: 2 - np.tanh(x) ** 2),
    "plus 10": shifted(10.0),
    "plus 1e4": shifted(1e4),
    "times 1e-4": scaled(1e-4),
    "times 1e-2": scaled(1e-2),
    "times 100": scaled(100.0),
    "times 1e4": scaled(1e4),
    "bias": BIAS,
    "multiply": MULTIPLY,
    "batch norm": BATCH_NORM,
    "layer norm": Primitive(layer_norm_forward, layer_norm_backward),
    "softmax": Primitive(softmax_forward, softmax_backward),
    "normalise": Primitive(normalise_forward, normalise_backward),
}
OF_FEATURES = {"linear": LINEAR}
OF_IMAGES = {
    "convolution": CONVOLUTION,
    "mean pooling": Primitive(mean_forward, mean_backward),
    "max pooling": Primitive(max_forward, max_backward),
    "flatten": FLATTEN,
}
