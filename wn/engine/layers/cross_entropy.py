"""Softmax cross-entropy, the loss. Derived in docs/layers/cross_entropy.md."""

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from wn.basics.errors import WnError
from wn.engine.layers.base import Formula
from wn.engine.layers.windows import Array


class CrossEntropyCache(NamedTuple):
    """What backward needs: log-probabilities, labels, and each sample's share of the mean."""

    log_probabilities: Array
    labels: Array
    shares: Array


def forward(
    xp: ModuleType,
    params: tuple[()],
    logits: Array,
    labels: Array,
    class_weights: Sequence[float] | None = None,
) -> tuple[Array, CrossEntropyCache]:
    """Each member's mean cross-entropy.

    loss[p] = −Σ_n a_n log softmax(logits[p, :, n])[label_n] with a_n = 1/B, or with class weights
    a_n = weight[label_n] / Σ_m weight[label_m] (PyTorch's weighted mean).

    logits: (P, K, B); labels: (B,) integers in 0…K−1; class_weights: (K,) or None; loss: (P,).
    Raises WnError for other labels. Derived in docs/layers/cross_entropy.md.
    """
    check_labels(labels, logits.shape[1])
    shares = xp.full(len(labels), 1 / len(labels), logits.dtype)  # a: (B,)
    if class_weights is not None:
        check_labels(labels, len(class_weights))
        weights = xp.asarray(class_weights, logits.dtype)[labels]  # (B,)
        shares = weights / weights.sum()
    shifted = logits - logits.max(axis=1, keepdims=True)  # so that nothing overflows
    log_probabilities = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))  # (P, K, B)
    picked = log_probabilities[:, labels, xp.arange(len(labels))]  # (P, B)
    loss = -(picked * shares).sum(axis=1)  # (P,)
    return loss, CrossEntropyCache(log_probabilities, labels, shares)


def backward(xp: ModuleType, dloss: None, cache: CrossEntropyCache) -> tuple[Array, tuple[()]]:
    """dlogits[p, k, n] = a_n (softmax(logits)[p, k, n] − [k = label_n]): (P, K, B).

    The gradient of each member's own loss: dloss is 1, and not given.
    """
    log_probabilities, labels, shares = cache
    dlogits = xp.exp(log_probabilities)
    dlogits[:, labels, xp.arange(len(labels))] -= 1
    dlogits *= shares
    return dlogits, ()


def check_labels(labels: Array, classes: int) -> None:
    """Raise WnError unless labels are integers (B,) in 0 … classes − 1."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise WnError(f"labels are {labels.dtype} of shape {labels.shape}: integers (B,) are needed")
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise WnError(f"labels are from {labels.min()} to {labels.max()}: allowed are 0 to {classes - 1}")


FORMULA = Formula(forward, backward)
