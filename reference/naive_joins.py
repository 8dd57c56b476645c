"""Layers with several inputs, in loops over every element; NumPy alone, in float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reference.naive import Array, as_float64


def add_forward(x: Sequence[Any]) -> Array:
    """y = Σ_j x_j, element by element. x_j: (P|1, …, B); y: (P, …, B)."""
    parts = as_float64(*x)
    y = np.zeros(np.broadcast_shapes(*(part.shape for part in parts)))
    for index in np.ndindex(y.shape):
        for part in parts:
            y[index] += part[(index[0] % len(part), *index[1:])]
    return y


def concatenate_forward(x: Sequence[Any]) -> Array:
    """y[p, …] has the channels of x₁, then those of x₂, …. x_j: (P|1, C_j, …, B); y: (P, ΣC_j, …, B)."""
    parts = as_float64(*x)
    y = np.zeros((max(map(len, parts)), sum(part.shape[1] for part in parts), *parts[0].shape[2:]))
    for p, c, *rest in np.ndindex(y.shape):
        number, channel = 0, c
        while channel >= parts[number].shape[1]:
            channel -= parts[number].shape[1]
            number += 1
        part = parts[number]
        y[(p, c, *rest)] = part[(p % len(part), channel, *rest)]
    return y


def concatenate_backward(dy: Any, channels: Sequence[int]) -> list[Array]:
    """dx_j has the gradient of the channels that x_j became."""
    (dy,) = as_float64(dy)
    found = [np.zeros((dy.shape[0], count, *dy.shape[2:])) for count in channels]
    for p, c, *rest in np.ndindex(dy.shape):
        number, channel = 0, c
        while channel >= channels[number]:
            channel -= channels[number]
            number += 1
        found[number][(p, channel, *rest)] = dy[(p, c, *rest)]
    return found
