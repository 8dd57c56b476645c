"""Layers with every setting once more, as the formulas read: float64, one element at a time.

Convolutions in groups, with gaps and any padding, and poolings of any windows; shapes as in `naive`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from reference import streams
from reference.naive import Array, Pair, as_float64, members, of_member

Sides = tuple[Pair, Pair]


class Window(NamedTuple):
    """How a window moves."""

    size: Pair
    stride: Pair
    padding: Sides
    dilation: Pair = (1, 1)
    ceil_mode: bool = False

    def places(self, image: Pair) -> Pair:
        """How many places (u, v) the window has, counted one by one."""
        counts = []
        for axis in (0, 1):
            before, after = self.padding[axis]
            extent = (self.size[axis] - 1) * self.dilation[axis] + 1
            count = 0
            while True:
                start = count * self.stride[axis] - before
                allowed = self.stride[axis] - 1 if self.ceil_mode else 0  # pixels beyond the padding
                if start + extent > image[axis] + after + allowed:
                    break
                if self.ceil_mode and start >= image[axis]:
                    break
                count += 1
            counts.append(count)
        return counts[0], counts[1]

    def pixels(self, u: int, v: int) -> Iterator[tuple[int, int, int, int]]:
        """Each place (i, j) of window (u, v) in row-major order, with its pixel (r, s): perhaps outside."""
        for i, j in np.ndindex(*self.size):
            r = u * self.stride[0] + i * self.dilation[0] - self.padding[0][0]
            s = v * self.stride[1] + j * self.dilation[1] - self.padding[1][0]
            yield i, j, r, s


def same(image: Pair, size: Pair, stride: Pair, dilation: Pair, lower: bool = False) -> Sides:
    """The padding for ⌈length / stride⌉ places; where it is odd, one more after, or before (`lower`)."""
    sides = []
    for axis in (0, 1):
        places = (image[axis] + stride[axis] - 1) // stride[axis]
        needed = (places - 1) * stride[axis] + (size[axis] - 1) * dilation[axis] + 1 - image[axis]
        total = needed if needed > 0 else 0
        small, large = total // 2, (total + 1) // 2
        sides.append((large, small) if lower else (small, large))
    return sides[0], sides[1]


# ---- convolution ----------------------------------------------------------------------------------------


def convolution_forward(x: Any, w: Any, b: Any, window: Window, groups: int) -> Array:
    """y[p,o,u,v,n] = b[p,o] + Σ_c,i,j w[p,o,c,i,j] x[p, g·C/G + c, r, s, n], g the group of o.

    (r, s) is the pixel of place (i, j) of window (u, v); x outside the image is 0. w: (P|1, O, C/G, KH, KW).
    """
    x, w, b = as_float64(x, w, b)
    _, _, height, width, batch = x.shape
    outputs, channels = w.shape[1:3]
    y = np.zeros((members(x, w, b), outputs, *window.places((height, width)), batch))
    for p, o, u, v, n in np.ndindex(y.shape):
        xp, wp, first = of_member(x, p), of_member(w, p), o // (outputs // groups) * channels
        total = of_member(b, p)[o]
        for i, j, r, s in window.pixels(u, v):
            if 0 <= r < height and 0 <= s < width:
                for c in range(channels):
                    total += wp[o, c, i, j] * xp[first + c, r, s, n]
        y[p, o, u, v, n] = total
    return y


def convolution_backward(dy: Any, x: Any, w: Any, window: Window, groups: int) -> tuple[Array, Array, Array]:
    """Each term w·x of y[p,o,u,v,n] gives w·dy to its dx and x·dy to its dw; db[p,o] = Σ_u,v,n dy."""
    dy, x, w = as_float64(dy, x, w)
    population, (_, _, height, width, _) = members(dy, x, w), x.shape
    outputs, channels = w.shape[1:3]
    dx, dw = np.zeros((population, *x.shape[1:])), np.zeros((population, *w.shape[1:]))
    db = np.zeros((population, outputs))
    for p, o, u, v, n in np.ndindex(population, *dy.shape[1:]):
        xp, wp, upstream = of_member(x, p), of_member(w, p), of_member(dy, p)[o, u, v, n]
        first = o // (outputs // groups) * channels
        db[p, o] += upstream
        for i, j, r, s in window.pixels(u, v):
            if 0 <= r < height and 0 <= s < width:
                for c in range(channels):
                    dx[p, first + c, r, s, n] += wp[o, c, i, j] * upstream
                    dw[p, o, c, i, j] += xp[first + c, r, s, n] * upstream
    return dx, dw, db


# ---- pooling --------------------------------------------------------------------------------------------


def _inside(window: Window, image: Pair, u: int, v: int) -> list[Pair]:
    """The pixels of the image in window (u, v), in row-major order of its places."""
    return [(r, s) for _, _, r, s in window.pixels(u, v) if 0 <= r < image[0] and 0 <= s < image[1]]


def max_pooling(dy: Any, x: Any, window: Window) -> tuple[Array, Array]:
    """y: the largest pixel of each window; dx: dy at the first of the largest, added up over windows.

    dy: None for ones, (P, C, U, V, B); x: (P|1, C, H, W, B). Returns (y, dx).
    """
    (x,) = as_float64(x)
    image = (x.shape[2], x.shape[3])
    y = np.zeros((*x.shape[:2], *window.places(image), x.shape[4]))
    dy = np.ones(y.shape) if dy is None else np.asarray(dy, np.float64)
    dx = np.zeros((len(dy), *x.shape[1:]))
    for p, c, u, v, n in np.ndindex(dy.shape):
        xp = of_member(x, p)[c, :, :, n]
        best = None
        for pixel in _inside(window, image, u, v):
            if best is None or xp[pixel] > xp[best]:
                best = pixel
        assert best is not None
        y[p % len(y), c, u, v, n] = xp[best]
        dx[(p, c, *best, n)] += dy[p, c, u, v, n]
    return y, dx


def average_pooling(dy: Any, x: Any, window: Window, count_include_pad: bool) -> tuple[Array, Array]:
    """y: the sum of the pixels of each window, divided by their number or by that of the places in the padded
    image; dx: that share of dy, added up over windows. Arguments and result as `max_pooling`.
    """
    (x,) = as_float64(x)
    height, width = image = (x.shape[2], x.shape[3])
    (top, bottom), (left, right) = window.padding
    y = np.zeros((*x.shape[:2], *window.places(image), x.shape[4]))
    dy = np.ones(y.shape) if dy is None else np.asarray(dy, np.float64)
    dx = np.zeros((len(dy), *x.shape[1:]))
    for p, c, u, v, n in np.ndindex(dy.shape):
        pixels = _inside(window, image, u, v)
        count = len(pixels)
        if count_include_pad:
            count = 0
            for _, _, r, s in window.pixels(u, v):
                count += -top <= r < height + bottom and -left <= s < width + right
        y[p % len(y), c, u, v, n] = sum(of_member(x, p)[c, r, s, n] for r, s in pixels) / count
        for r, s in pixels:
            dx[p, c, r, s, n] += dy[p, c, u, v, n] / count
    return y, dx


# ---- activations ----------------------------------------------------------------------------------------


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _sigmoid_slope(x: float) -> float:
    return math.exp(-abs(x)) / (1 + math.exp(-abs(x))) ** 2


def _normal(x: float) -> tuple[float, float]:
    """Density and distribution function of the standard normal."""
    density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi) if abs(x) < 1e100 else 0.0
    return density, math.erfc(-x / math.sqrt(2)) / 2


def _gelu_tanh(x: float) -> tuple[float, float]:
    """y and its derivative: s = (1 + tanh u)/2 is the logistic function of 2u."""
    if abs(x) > 1e50:
        return (x, 1.0) if x > 0 else (0.0, 0.0)
    root = math.sqrt(2 / math.pi)
    u, du = root * (x + 0.044715 * x**3), root * (1 + 3 * 0.044715 * x**2)
    return x * _sigmoid(2 * u), _sigmoid(2 * u) + x * _sigmoid_slope(2 * u) * 2 * du


def _softplus(x: float, beta: float, threshold: float) -> tuple[float, float]:
    if beta * x > threshold:
        return x, 1.0
    rest = math.log1p(math.exp(-abs(beta * x))) / beta
    return (x + rest if x > 0 else rest), _sigmoid(beta * x)


def activation(name: str, value: float, *settings: Any) -> tuple[float, float]:
    """y and ∂y/∂x of one element; at kinks as PyTorch has it."""
    x = float(value)
    if name == "sigmoid":
        return _sigmoid(x), _sigmoid_slope(x)
    if name == "tanh":
        q = math.exp(-2 * abs(x))
        return math.tanh(x), 4 * q / (1 + q) ** 2
    if name == "silu":
        return x * _sigmoid(x), _sigmoid(x) + x * _sigmoid_slope(x)
    if name == "gelu":
        density, probability = _normal(x)
        return x * probability, probability + x * density
    if name == "gelu_tanh":
        return _gelu_tanh(x)
    if name == "softplus":
        return _softplus(x, *settings)
    if name == "leaky_relu":
        return (x, 1.0) if x > 0 else (settings[0] * x, settings[0])
    low, high = (0.0, 6.0) if name == "relu6" else settings
    y = x if low is None or x > low else low
    y = y if high is None or y < high else high
    inside = (low is None or x >= low) and (high is None or x <= high)
    return y, float(inside and not (name == "relu6" and x in (0.0, 6.0)))


# ---- shapes, and dropout --------------------------------------------------------------------------------


def zero_padding(x: Any, sides: Sides) -> Array:
    """y[p, c, top + h, left + w, n] = x[p,c,h,w,n], else 0."""
    (x,) = as_float64(x)
    (top, bottom), (left, right) = sides
    members_, channels, height, width, batch = x.shape
    y = np.zeros((members_, channels, top + height + bottom, left + width + right, batch))
    for p, c, h, w, n in np.ndindex(x.shape):
        y[p, c, top + h, left + w, n] = x[p, c, h, w, n]
    return y


def dropout_mask(
    seeds: Sequence[int], samples: Sequence[int], epoch: int, place: int, p: float, features: int
) -> Array:
    """(P, F, B): 0 where the uniform draw of seed, sample and feature is among the share p of the smallest.

    The draw is that of purpose 9 at the layer's place.
    """
    word = 9 * 2**24 + place * 2**12
    mask = np.zeros((len(seeds), features, len(samples)))
    for m, f, n in np.ndindex(mask.shape):
        z = streams.draw(seeds[m], samples[n], f, epoch, word, "uniform")
        mask[m, f, n] = 0 if (z / math.sqrt(3) + 1) / 2 < p else 1 / (1 - p)
    return mask
