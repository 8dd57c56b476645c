"""Adam, the cosine schedule and weight clamping as the formulas read, one element at a time."""

import math
from typing import Any, NamedTuple

import numpy as np

from reference.naive import Array, as_float64


class AdamStep(NamedTuple):
    """The parameter and its two moments after a step, all in the parameter's shape."""

    parameter: Array
    first: Array
    second: Array


def adam_step(
    parameter: Any,
    gradient: Any,
    first: Any,
    second: Any,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> AdamStep:
    """Take step number `step` = 1, 2, … of Adam (Kingma and Ba 2015, algorithm 1).

    m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²
    parameter ← parameter − lr · m/(1 − β₁^t) / (√(v/(1 − β₂^t)) + ε).
    """
    parameter, gradient, first, second = as_float64(parameter, gradient, first, second)
    new_parameter, new_first, new_second = (np.zeros(parameter.shape) for _ in range(3))
    for index in np.ndindex(parameter.shape):
        g = gradient[index]
        m = beta1 * first[index] + (1 - beta1) * g
        v = beta2 * second[index] + (1 - beta2) * g * g
        corrected_m, corrected_v = m / (1 - beta1**step), v / (1 - beta2**step)
        new_parameter[index] = parameter[index] - lr * corrected_m / (math.sqrt(corrected_v) + epsilon)
        new_first[index], new_second[index] = m, v
    return AdamStep(new_parameter, new_first, new_second)


def cosine_annealing(lr: float, epoch: int, epochs: int) -> float:
    """Return the learning rate of epoch 0 … epochs: lr/2 · (1 + cos(π · epoch/epochs))."""
    return lr / 2 * (1 + math.cos(math.pi * epoch / epochs))


def clamp_weights(w: Any, low: float = -1.0, high: float = 1.0) -> Array:
    """Return w with every element below `low` set to `low` and every one above `high` set to `high`."""
    (w,) = as_float64(w)
    clamped = np.zeros(w.shape)
    for index in np.ndindex(w.shape):
        clamped[index] = min(max(w[index], low), high)
    return clamped
