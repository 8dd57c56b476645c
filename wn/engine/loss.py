"""The loss of a training: softmax cross-entropy, as a backend computes it."""

from collections.abc import Sequence

from wn.engine.backends.plain.base import Array, Backend
from wn.engine.layers import cross_entropy


def forward(
    be: Backend, logits: Array, labels: Array, class_weights: Sequence[float] | None = None
) -> tuple[Array, cross_entropy.CrossEntropyCache]:
    """Each member's mean cross-entropy (P,), and the cache for backward: see `layers.cross_entropy`."""
    return be.forward(cross_entropy.FORMULA, (), logits, labels, class_weights)


def backward(be: Backend, cache: cross_entropy.CrossEntropyCache) -> Array:
    """The gradient of each member's loss for its logits: (P, K, B)."""
    dlogits, _ = be.backward(cross_entropy.FORMULA, None, cache)
    return dlogits
