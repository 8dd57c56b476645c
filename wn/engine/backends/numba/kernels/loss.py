"""Kernels of the loss, softmax cross-entropy, and of counting what is classified correctly.

A thread takes a member. Letters: P members, K classes, B samples; derived in docs/layers/cross_entropy.md.
"""

from typing import Any

import numba
import numpy as np

from wn.engine.backends.numba.kernels.compile import FUSED, parallel, serial

Array = Any

# exp(x) = 2^k · exp(r) with |r| ≤ ln 2 / 2; ln 2 in two parts, so that k times the first, 355/512, is exact.
LOG2_E = np.float32(1.44269504)
LN_2_HIGH, LN_2_LOW = np.float32(355 / 512), np.float32(-2.1219444e-4)
LOWEST = np.float32(-87)  # exp(x) is below 2e-38 from there on, and counts as 0


@parallel()
def cross_entropy(logits: Array, labels: Array, a: Array, log_q: Array, loss: Array) -> None:
    """Write log softmax(logits) over the classes, and loss[p] = −Σ_n a[n]·log softmax[p, label_n, n].

    logits, log_q: (P, K, B); labels: (B,) integers in 0 … K − 1; a: (B,) in the dtype of
    the logits; loss: (P,).
    """
    for p in numba.prange(len(logits)):
        _log_softmax(logits[p], log_q[p])
        loss[p] = -_weighted_sum(log_q[p], labels, a)


@serial()
def _log_softmax(logits: Array, y: Array) -> None:
    """Write y = shifted − log Σ_k exp(shifted) with shifted = logits − max_k logits: (K, B)."""
    classes, batch = logits.shape
    largest, total, term = np.empty(batch, y.dtype), np.zeros(batch, y.dtype), np.empty(batch, y.dtype)
    for n in range(batch):
        largest[n] = logits[0, n]
    for k in range(1, classes):
        for n in range(batch):
            largest[n] = np.maximum(largest[n], logits[k, n])
    for k in range(classes):
        for n in range(batch):
            y[k, n] = logits[k, n] - largest[n]
        _exponential(y[k], term)
        for n in range(batch):
            total[n] += term[n]
    for n in range(batch):
        total[n] = np.log(total[n])
    for k in range(classes):
        for n in range(batch):
            y[k, n] -= total[n]


@serial()
def _weighted_sum(log_q: Array, labels: Array, a: Array) -> Any:
    """Return Σ_n a[n]·log_q[label_n, n], added in float64; NaN for a label out of range."""
    total = np.float64(0)
    for n in range(len(labels)):
        known = 0 <= labels[n] < len(log_q)
        total += a[n] * (log_q[labels[n], n] if known else np.nan)
    return log_q.dtype.type(total)


@parallel()
def cross_entropy_backward(log_q: Array, labels: Array, a: Array, dlogits: Array) -> None:
    """Write dlogits[p,k,n] = a[n]·(exp(log_q[p,k,n]) − [k = label_n]): (P, K, B)."""
    members, classes, batch = dlogits.shape
    one, zero = dlogits.dtype.type(1), dlogits.dtype.type(0)
    for item in numba.prange(members * classes):
        p, k = item // classes, item % classes
        target = dlogits[p, k]
        _exponential(log_q[p, k], target)
        for n in range(batch):
            target[n] = (target[n] - (one if labels[n] == k else zero)) * a[n]


# ---- exponentials ---------------------------------------------------------------------------------------


@serial()
def _exponential(x: Array, y: Array) -> None:
    """Write y = exp(x) for x ≤ 0."""
    if x.itemsize == 4:  # the library's exp takes values one at a time: several times as long
        for n in range(len(x)):
            y[n] = _exponential_32(np.float32(x[n]))
    else:
        for n in range(len(x)):
            y[n] = np.exp(x[n])


@serial(FUSED)
def _exponential_32(x: Any) -> Any:
    """Return exp(x) for x ≤ 0 with a relative error of about 1e-7; 0 below LOWEST, NaN for NaN."""
    inside = x if x > LOWEST else LOWEST  # NaN too: it has no integer below
    k = np.rint(inside * LOG2_E)
    r = (inside - k * LN_2_HIGH) - k * LN_2_LOW
    series = np.float32(1 / 5040)  # Σ_i r^i / i!, i ≤ 7: the next term is below 1e-8
    series = series * r + np.float32(1 / 720)
    series = series * r + np.float32(1 / 120)
    series = series * r + np.float32(1 / 24)
    series = series * r + np.float32(1 / 6)
    series = series * r + np.float32(1 / 2)
    series = series * r + np.float32(1)
    series = series * r + np.float32(1)
    power = np.int32((np.int32(k) + 127) << 23).view(np.float32)  # 2^k: k is the exponent of a float32
    value = series * power if x > LOWEST else np.float32(0)
    return value if x == x else x  # only NaN differs from itself


# ---- evaluation -----------------------------------------------------------------------------------------


@parallel()
def count_correct(logits: Array, labels: Array, hits: Array) -> None:
    """Write how many of the labels (B,) are the class of the largest logit; a tie goes to the smaller class.

    logits: (P, K, ≥B), of which the first B samples count; hits: (P, G) integers, for samples n mod G; −1
    where one of these logits is not finite: no class is the largest then.
    """
    for p in numba.prange(len(logits)):
        _hits(logits[p], labels, hits[p])


@serial()
def _hits(logits: Array, labels: Array, hits: Array) -> None:
    batch, groups = len(labels), len(hits)
    largest, winner = np.empty(batch, logits.dtype), np.zeros(batch, np.int64)
    for n in range(batch):
        largest[n] = logits[0, n]
    outside = 0
    for k in range(logits.shape[0]):
        for n in range(batch):
            value = logits[k, n]
            outside += not np.isfinite(value)
            winner[n] = k if value > largest[n] else winner[n]
            largest[n] = np.maximum(largest[n], value)
    hits[:] = 0
    for n in range(batch):
        hits[n % groups] += winner[n] == labels[n]
    for n in range(batch if outside else 0):
        if not np.isfinite(logits[:, n]).all():
            hits[n % groups] = -1
