"""Small correct layers that the checkers must pass, written for these tests alone."""

from typing import NamedTuple

import numpy as np


class LinearParams(NamedTuple):
    w: np.ndarray  # (P, O, I)
    b: np.ndarray  # (P, O)


class LinearCache(NamedTuple):
    x: np.ndarray
    params: LinearParams


def linear_forward(be, params, x):
    return params.w @ x + params.b[:, :, None], LinearCache(x, params)


def linear_backward(be, dy, cache):
    x, params = cache
    dw = dy @ x.transpose(0, 2, 1)  # (P, O, I)
    db = dy.sum(axis=2)  # (P, O)
    return params.w.transpose(0, 2, 1) @ dy, LinearParams(dw, db)


class MaskCache(NamedTuple):
    mask: np.ndarray


def relu_forward(be, params, x):
    return np.maximum(x, 0), MaskCache(x > 0)


def relu_backward(be, dy, cache):
    return dy * cache.mask, ()


class NormParams(NamedTuple):
    gamma: np.ndarray  # (P, F)
    beta: np.ndarray


class NormCache(NamedTuple):
    normalised: np.ndarray
    inverse: np.ndarray  # 1/√(variance + ε)
    gamma: np.ndarray


def norm_forward(be, params, x, epsilon=1e-5):
    axes = tuple(range(2, x.ndim))
    inverse = (x.var(axis=axes, keepdims=True) + epsilon) ** -0.5
    normalised = (x - x.mean(axis=axes, keepdims=True)) * inverse
    gamma, beta = (a.reshape(*a.shape, *[1] * (x.ndim - 2)) for a in params)
    return gamma * normalised + beta, NormCache(normalised, inverse, gamma)


def norm_backward(be, dy, cache):
    normalised, inverse, gamma = cache
    axes = tuple(range(2, dy.ndim))
    dbeta = dy.sum(axis=axes)
    dgamma = (dy * normalised).sum(axis=axes)
    d = gamma * dy
    centred = d - d.mean(axis=axes, keepdims=True)
    dx = inverse * (centred - normalised * (d * normalised).mean(axis=axes, keepdims=True))
    return dx, NormParams(dgamma, dbeta)


class PoolCache(NamedTuple):
    chosen: np.ndarray  # (P, C, U, KH, V, KW, B), True at the largest element of each window
    shape: tuple


def max_pool_forward(be, params, x, window):
    p, c, h, w, b = x.shape
    rows, columns = h // window[0], w // window[1]
    blocks = x[:, :, : rows * window[0], : columns * window[1]]
    blocks = blocks.reshape(p, c, rows, window[0], columns, window[1], b)
    y = blocks.max(axis=(3, 5))
    return y, PoolCache(blocks == y[:, :, :, None, :, None], x.shape)


def max_pool_backward(be, dy, cache):
    spread = cache.chosen * dy[:, :, :, None, :, None]
    p, c, u, i, v, j, b = spread.shape
    dx = np.zeros((p, *cache.shape[1:]), dy.dtype)
    dx[:, :, : u * i, : v * j] = spread.reshape(p, c, u * i, v * j, b)
    return dx, ()


class SmoothParams(NamedTuple):
    scale: np.ndarray | None  # (P, F)


class SmoothCache(NamedTuple):
    cosine: np.ndarray
    weight: np.ndarray
    scale: np.ndarray | None


def smooth_forward(be, params, x, weight):
    """y = scale · weight · sin x; weight: a static array with a row per member."""
    y = weight * np.sin(x)
    if params.scale is not None:
        y = y * params.scale[:, :, None]
    return y, SmoothCache(x, weight, params.scale)


def smooth_backward(be, dy, cache):
    x, weight, scale = cache
    d = dy * weight
    if scale is None:
        return d * np.cos(x), SmoothParams(None)
    return d * np.cos(x) * scale[:, :, None], SmoothParams((d * np.sin(x)).sum(axis=2))


LINEAR = (linear_forward, linear_backward)
RELU = (relu_forward, relu_backward)
NORM = (norm_forward, norm_backward)
MAX_POOL = (max_pool_forward, max_pool_backward)
SMOOTH = (smooth_forward, smooth_backward)


def linear_case(population=3, size=3, batch=4, seed=0):
    """Arguments of a square linear layer: a transposed weight would fit too."""
    z = np.random.default_rng(seed).standard_normal
    params = LinearParams(z((population, size, size)), z((population, size)))
    return params, z((population, size, batch))


def relu_case(seed=0):
    x = np.random.default_rng(seed).standard_normal((3, 4, 5))
    return (), x + np.copysign(0.05, x)


def norm_case(seed=0):
    z = np.random.default_rng(seed).standard_normal
    return NormParams(z((3, 2)), z((3, 2))), z((3, 2, 6))
