"""Softmax cross-entropy, the loss. Derived in docs/layers/cross_entropy.md."""

from typing import NamedTuple

from wn.backends.base import Array, Backend


class CrossEntropyCache(NamedTuple):
    """What backward needs: log-probabilities, labels, and each sample's share of the mean."""

    log_probabilities: Array
    labels: Array
    shares: Array


def forward(
    be: Backend, logits: Array, labels: Array, class_weights: Array | None = None
) -> tuple[Array, CrossEntropyCache]:
    """Return each member's mean cross-entropy.

    loss[p] = −Σ_n a_n log softmax(logits[p, :, n])[label_n] with a_n = 1/B, or with class weights
    a_n = weight[label_n] / Σ_m weight[label_m] (PyTorch's weighted mean).

    logits: (P, K, B); labels: (B,) integers in 0…K−1; class_weights: (K,) or None; loss: (P,).
    Derived in docs/layers/cross_entropy.md.
    """
    xp = be.xp
    log_probabilities = be.log_softmax(logits)  # (P, K, B)
    batch = logits.shape[2]
    if class_weights is None:
        shares = xp.full(batch, 1 / batch, logits.dtype)  # (B,)
    else:
        weights = xp.asarray(class_weights, logits.dtype)[labels]
        shares = weights / weights.sum()
    picked = log_probabilities[:, labels, xp.arange(batch)]  # (P, B)
    return -(picked * shares).sum(axis=1), CrossEntropyCache(log_probabilities, labels, shares)


def backward(be: Backend, cache: CrossEntropyCache) -> Array:
    """Return dlogits[p, k, n] = a_n (softmax(logits)[p, k, n] − [k = label_n]): (P, K, B)."""
    xp = be.xp
    dlogits = xp.exp(cache.log_probabilities)
    dlogits[:, cache.labels, xp.arange(len(cache.labels))] -= 1
    dlogits *= cache.shares
    return dlogits
