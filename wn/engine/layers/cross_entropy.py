"""Softmax cross-entropy, the loss. Derived in docs/layers/cross_entropy.md."""

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from wn.basics.errors import WnError
from wn.engine.layers.base import Formula
from wn.engine.layers.windows import Array


class CrossEntropyCache(NamedTuple):
    """What backward needs: log q (P, K, B), labels ℓ (B,), and each sample's share a (B,) of the mean."""

    log_q: Array
    labels: Array
    a: Array


def forward(
    xp: ModuleType,
    params: tuple[()],
    logits: Array,
    labels: Array,
    class_weights: Sequence[float] | None = None,
) -> tuple[Array, CrossEntropyCache]:
    """Each member's mean cross-entropy.

    loss[p] = −Σ_n a_n log q[p, ℓ_n, n] with q = softmax(z) of the logits z and a_n = 1/B, or with class
    weights v a_n = v[ℓ_n] / Σ_m v[ℓ_m] (PyTorch's weighted mean).

    logits: (P, K, B); labels: (B,) integers in 0…K−1; class_weights: (K,) or None; loss: (P,).
    Raises WnError for other labels. Derived in docs/layers/cross_entropy.md.
    """
    check_labels(labels, logits.shape[1])
    a = xp.full(len(labels), 1 / len(labels), logits.dtype)  # (B,)
    if class_weights is not None:
        check_labels(labels, len(class_weights))
        v = xp.asarray(class_weights, logits.dtype)[labels]  # (B,)
        a = v / v.sum()
    shifted = logits - logits.max(axis=1, keepdims=True)  # so that nothing overflows
    log_q = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))  # (P, K, B)
    picked = log_q[:, labels, xp.arange(len(labels))]  # (P, B)
    loss = -(picked * a).sum(axis=1)  # (P,)
    return loss, CrossEntropyCache(log_q, labels, a)


def backward(xp: ModuleType, dloss: None, cache: CrossEntropyCache) -> tuple[Array, tuple[()]]:
    """dz[p, k, n] = a_n (q[p, k, n] − [k = ℓ_n]): (P, K, B).

    The gradient of each member's own loss: dloss is 1, and not given.
    """
    log_q, labels, a = cache
    dz = xp.exp(log_q)
    dz[:, labels, xp.arange(len(labels))] -= 1
    dz *= a
    return dz, ()


def check_labels(labels: Array, classes: int) -> None:
    """Raise WnError unless labels are integers (B,) in 0 … classes − 1."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise WnError(f"labels are {labels.dtype} of shape {labels.shape}: integers (B,) are needed")
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise WnError(f"labels are from {labels.min()} to {labels.max()}: allowed are 0 to {classes - 1}")


FORMULA = Formula(forward, backward)
