"""Softmax cross-entropy, the loss. Derived in docs/layers/cross_entropy.md."""

from collections.abc import Sequence
from typing import NamedTuple

from wn.engine.backends.plain.base import Array, Backend


class CrossEntropyCache(NamedTuple):
    """What backward needs: log-probabilities, labels, and each sample's share of the mean."""

    log_probabilities: Array
    labels: Array
    shares: Array


def forward(
    be: Backend, logits: Array, labels: Array, class_weights: Sequence[float] | None = None
) -> tuple[Array, CrossEntropyCache]:
    """Return each member's mean cross-entropy.

    loss[p] = −Σ_n a_n log softmax(logits[p, :, n])[label_n] with a_n = 1/B, or with class weights
    a_n = weight[label_n] / Σ_m weight[label_m] (PyTorch's weighted mean).

    logits: (P, K, B); labels: (B,) integers in 0…K−1; class_weights: (K,) or None; loss: (P,).
    Derived in docs/layers/cross_entropy.md.
    """
    shares = be.shares(labels, class_weights, logits.dtype)  # (B,)
    loss, log_probabilities = be.cross_entropy(logits, labels, shares)  # (P,), (P, K, B)
    return loss, CrossEntropyCache(log_probabilities, labels, shares)


def backward(be: Backend, cache: CrossEntropyCache) -> Array:
    """Return dlogits[p, k, n] = a_n (softmax(logits)[p, k, n] − [k = label_n]): (P, K, B)."""
    return be.cross_entropy_backward(cache.log_probabilities, cache.labels, cache.shares)
