"""Batch norm, softmax cross-entropy and noise as the formulas read. Conventions as in `naive`."""

import math
from typing import Any, NamedTuple

import numpy as np

from reference.naive import Array, as_float64, members, of_member

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.1


# ---- batch norm: x (P, F, B) or (P, C, H, W, B); statistics (P, F) over all axes after the second ---------


class BatchNormForward(NamedTuple):
    """y in the shape of x; mean and biased variance (P, F) of the batch."""

    y: Array
    mean: Array
    variance: Array


def _rows(x: Array) -> Array:
    """Return x as (P, F, N): the N values that one mean is taken over in a row."""
    return x.reshape(x.shape[0], x.shape[1], -1)


def batch_statistics(x: Any) -> tuple[Array, Array]:
    """mean[p,f] = Σ_n x[p,f,n] / N; variance[p,f] = Σ_n (x[p,f,n] − mean[p,f])² / N, the biased one."""
    rows = _rows(*as_float64(x))
    population, features, count = rows.shape
    mean, variance = np.zeros((population, features)), np.zeros((population, features))
    for p, f in np.ndindex(population, features):
        for n in range(count):
            mean[p, f] += rows[p, f, n] / count
        for n in range(count):
            variance[p, f] += (rows[p, f, n] - mean[p, f]) ** 2 / count
    return mean, variance


def batch_norm_forward(
    x: Any, gamma: Any, beta: Any, epsilon: float = BATCH_NORM_EPSILON
) -> BatchNormForward:
    """y = γ (x − mean) / √(variance + ε) + β with the statistics of the batch. gamma, beta: (P|1, F)."""
    x, gamma, beta = as_float64(x, gamma, beta)
    mean, variance = batch_statistics(x)
    y = batch_norm_inference_forward(x, gamma, beta, mean, variance, epsilon)
    return BatchNormForward(y, mean, variance)


def batch_norm_backward(
    dy: Any, x: Any, gamma: Any, epsilon: float = BATCH_NORM_EPSILON
) -> tuple[Array, Array, Array]:
    """Return dx, dgamma, dbeta by the chain rule through variance and mean (Ioffe and Szegedy 2015, sec. 3).

    With s = √(variance + ε), x̂ = (x − mean)/s and dx̂ = γ dy:
        dvariance = −Σ dx̂ (x − mean) / (2 s³)
        dmean     = −Σ dx̂ / s − dvariance · 2 Σ (x − mean) / N
        dx        = dx̂ / s + dvariance · 2 (x − mean) / N + dmean / N
        dgamma    = Σ dy x̂,   dbeta = Σ dy.
    """
    dy, x, gamma = as_float64(dy, x, gamma)
    mean, variance = batch_statistics(x)
    population, rows, upstream = members(dy, x, gamma), _rows(x), _rows(dy)
    features, count = rows.shape[1:]
    dx = np.zeros((population, features, count))
    dgamma, dbeta = np.zeros((population, features)), np.zeros((population, features))
    for p, f in np.ndindex(population, features):
        values, d = of_member(rows, p)[f], of_member(upstream, p)[f]
        g, m = of_member(gamma, p)[f], of_member(mean, p)[f]
        s = math.sqrt(of_member(variance, p)[f] + epsilon)
        dvariance = dmean = sum_of_deviations = 0.0
        for n in range(count):
            dvariance -= g * d[n] * (values[n] - m) / (2 * s**3)
            dmean -= g * d[n] / s
            sum_of_deviations += values[n] - m
            dgamma[p, f] += d[n] * (values[n] - m) / s
            dbeta[p, f] += d[n]
        dmean -= dvariance * 2 * sum_of_deviations / count
        for n in range(count):
            dx[p, f, n] = g * d[n] / s + dvariance * 2 * (values[n] - m) / count + dmean / count
    return dx.reshape(population, *x.shape[1:]), dgamma, dbeta


class BatchNormExact(NamedTuple):
    """Of a row (N,): y, dx; the mean as nearest number and rest, variance, dgamma, dbeta; and sizes.

    normalised: x̂; upstream: dy without its mean.
    """

    y: Array
    dx: Array
    mean: float
    rest: float
    variance: float
    dgamma: float
    dbeta: float
    normalised: Array
    upstream: Array


def without_mean(row: Any) -> tuple[float, float, Array]:
    """Return the mean of a row, what its rounding left, and the deviations, right to a rounding of theirs.

    `math.fsum` rounds once; x − m is exact for x near m, and the mean of what is left is taken out again.
    """
    (row,) = as_float64(row)
    mean = math.fsum(row) / len(row)
    rest = math.fsum(row - mean) / len(row)
    return mean, rest, (row - mean) - rest


def batch_norm_exact(
    row: Any, upstream: Any, gamma: float, beta: float, epsilon: float = BATCH_NORM_EPSILON
) -> BatchNormExact:
    """Batch norm of one row and its gradients, with sums that are rounded once, at any offset and scale.

    y = γ x̂ + β, dγ = Σ (dy − mean dy) x̂ (as Σ x̂ = 0), dβ = Σ dy, dx = γ (dy − mean dy − x̂ dγ/N)/√(v + ε).
    """
    mean, rest, deviations = without_mean(row)
    _, _, centred = without_mean(upstream)
    count = len(deviations)
    variance = math.fsum(deviations**2) / count
    width = 1 / math.sqrt(variance + epsilon)
    normalised = deviations * width
    dgamma = math.fsum(centred * normalised)
    dx = gamma * width * (centred - normalised * (dgamma / count))
    y = gamma * normalised + beta
    dbeta = math.fsum(*as_float64(upstream))
    return BatchNormExact(y, dx, mean, rest, variance, dgamma, dbeta, normalised, centred)


def batch_norm_running(
    running_mean: Any,
    running_variance: Any,
    x: Any,
    momentum: float = BATCH_NORM_MOMENTUM,
) -> tuple[Array, Array]:
    """Return the running statistics after a batch: (1 − momentum)·old + momentum·new.

    The new ones are the batch's mean and its unbiased variance, N/(N − 1) times the biased one.
    running_mean, running_variance: (P|1, F); N is the number of values per feature and must be at least 2.
    """
    running_mean, running_variance, x = as_float64(running_mean, running_variance, x)
    mean, variance = batch_statistics(x)
    count = _rows(x).shape[2]
    if count < 2:
        raise ValueError("the unbiased variance of a single value does not exist")
    population, features = members(running_mean, running_variance, mean), mean.shape[1]
    new_mean, new_variance = np.zeros((population, features)), np.zeros((population, features))
    for p, f in np.ndindex(population, features):
        unbiased = of_member(variance, p)[f] * count / (count - 1)
        new_mean[p, f] = (1 - momentum) * of_member(running_mean, p)[f] + momentum * of_member(mean, p)[f]
        new_variance[p, f] = (1 - momentum) * of_member(running_variance, p)[f] + momentum * unbiased
    return new_mean, new_variance


def batch_norm_inference_forward(
    x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, epsilon: float = BATCH_NORM_EPSILON
) -> Array:
    """y = γ (x − mean) / √(variance + ε) + β with given statistics. gamma, beta, mean, variance: (P|1, F)."""
    x, gamma, beta, mean, variance = as_float64(x, gamma, beta, mean, variance)
    population, rows = members(x, gamma, beta, mean, variance), _rows(x)
    y = np.zeros((population, *rows.shape[1:]))
    for p, f, n in np.ndindex(y.shape):
        s = math.sqrt(of_member(variance, p)[f] + epsilon)
        normalised = (of_member(rows, p)[f, n] - of_member(mean, p)[f]) / s
        y[p, f, n] = of_member(gamma, p)[f] * normalised + of_member(beta, p)[f]
    return y.reshape(population, *x.shape[1:])


def batch_norm_inference_backward(
    dy: Any, x: Any, gamma: Any, mean: Any, variance: Any, epsilon: float = BATCH_NORM_EPSILON
) -> tuple[Array, Array, Array]:
    """dx = γ dy/s, dgamma = Σ dy (x − mean)/s, dbeta = Σ dy; s = √(variance + ε) is constant."""
    dy, x, gamma, mean, variance = as_float64(dy, x, gamma, mean, variance)
    population, rows, upstream = members(dy, x, gamma, mean, variance), _rows(x), _rows(dy)
    dx = np.zeros((population, *rows.shape[1:]))
    dgamma, dbeta = np.zeros(dx.shape[:2]), np.zeros(dx.shape[:2])
    for p, f, n in np.ndindex(dx.shape):
        s = math.sqrt(of_member(variance, p)[f] + epsilon)
        d = of_member(upstream, p)[f, n]
        dx[p, f, n] = of_member(gamma, p)[f] * d / s
        dgamma[p, f] += d * (of_member(rows, p)[f, n] - of_member(mean, p)[f]) / s
        dbeta[p, f] += d
    return dx.reshape(population, *x.shape[1:]), dgamma, dbeta


# ---- softmax cross-entropy: logits (P, K, B), labels (B,) ------------------------------------------------


def _log_sum_exp(column: Array) -> float:
    largest = max(column)
    return float(largest + math.log(sum(math.exp(value - largest) for value in column)))


def _shares(labels: Any, class_weights: Any, classes: int) -> Array:
    """Return each sample's share of the loss: 1/B, or w_label / Σ_n w_label(n) with class weights (K,)."""
    weights = [1.0] * classes if class_weights is None else class_weights
    total = sum(float(weights[label]) for label in labels)
    return np.array([float(weights[label]) / total for label in labels])


def cross_entropy_forward(logits: Any, labels: Any, class_weights: Any = None) -> Array:
    """loss[p] = Σ_n a_n (log Σ_k exp logits[p,k,n] − logits[p,label_n,n]), a_n a sample's share."""
    (logits,) = as_float64(logits)
    population, classes, batch = logits.shape
    shares = _shares(labels, class_weights, classes)
    loss = np.zeros(population)
    for p, n in np.ndindex(population, batch):
        loss[p] += shares[n] * (_log_sum_exp(logits[p, :, n]) - logits[p, labels[n], n])
    return loss


def cross_entropy_backward(logits: Any, labels: Any, class_weights: Any = None) -> Array:
    """dlogits[p,k,n] = a_n (exp logits[p,k,n] / Σ_j exp logits[p,j,n] − [k = label_n]): (P, K, B)."""
    (logits,) = as_float64(logits)
    shares = _shares(labels, class_weights, logits.shape[1])
    dlogits = np.zeros(logits.shape)
    for p, k, n in np.ndindex(logits.shape):
        probability = math.exp(logits[p, k, n] - _log_sum_exp(logits[p, :, n]))
        dlogits[p, k, n] = shares[n] * (probability - (1.0 if k == labels[n] else 0.0))
    return dlogits


# ---- noise: draws are given, repetitions first: gain M and offset D (R, P, …, B) -------------------------


def noise_forward(x: Any, gain: Any = None, offset: Any = None, order: str = "mul_add") -> Array:
    """y = (1/R) Σ_r (x·M_r + D_r), or with order "add_mul" (1/R) Σ_r (x + D_r)·M_r.

    Additive noise has no gain (M = 1), multiplicative noise no offset (D = 0).
    x: (P|1, …, B); gain, offset: (R, P|1, …, B) or None; y: (P, …, B).
    """
    x, gain, offset, repetitions, population = _draws(x, gain, offset, order)
    y = np.zeros((population, *x.shape[1:]))
    for r in range(repetitions):
        for index in np.ndindex(y.shape):
            p, rest = index[0], index[1:]
            value, m, d = of_member(x, p)[rest], of_member(gain[r], p)[rest], of_member(offset[r], p)[rest]
            y[index] += (value * m + d if order == "mul_add" else (value + d) * m) / repetitions
    return y


def noise_backward(dy: Any, x: Any, gain: Any = None, offset: Any = None, order: str = "mul_add") -> Array:
    """dx = dy · (1/R) Σ_r M_r in either order; additive noise has M = 1. dx: (P, …, B)."""
    (dy,) = as_float64(dy)
    x, gain, _, repetitions, population = _draws(x, gain, offset, order)
    population = max(population, dy.shape[0])
    dx = np.zeros((population, *x.shape[1:]))
    for r in range(repetitions):
        for index in np.ndindex(dx.shape):
            p, rest = index[0], index[1:]
            dx[index] += of_member(dy, p)[rest] * of_member(gain[r], p)[rest] / repetitions
    return dx


def _draws(x: Any, gain: Any, offset: Any, order: str) -> tuple[Array, Array, Array, int, int]:
    """Return x, gain and offset as arrays with ones and zeros for what is None, R, and P."""
    if order not in ("mul_add", "add_mul"):
        raise ValueError(f"order is {order!r}: it must be 'mul_add' or 'add_mul'")
    (x,) = as_float64(x)
    given = [np.asarray(draw, dtype=np.float64) for draw in (gain, offset) if draw is not None]
    repetitions = given[0].shape[0] if given else 1
    if any(draw.shape[0] != repetitions for draw in given):
        raise ValueError("gain and offset have different numbers of repetitions")
    shape = (repetitions, 1, *x.shape[1:])
    gain = np.ones(shape) if gain is None else np.asarray(gain, dtype=np.float64)
    offset = np.zeros(shape) if offset is None else np.asarray(offset, dtype=np.float64)
    return x, gain, offset, repetitions, members(x, gain[0], offset[0])
