"""The primitives of other backends by the formulas of the layers, in NumPy: what they are compared with."""

from typing import Any

from wn.engine.backends.numpy.backend import NumpyBackend
from wn.engine.layers import average_pooling, cross_entropy, max_pooling, relu
from wn.engine.layers.average_pooling import AveragePoolingCache
from wn.engine.layers.cross_entropy import CrossEntropyCache
from wn.engine.layers.max_pooling import MaxPoolingCache
from wn.engine.layers.relu import ReluCache


class ByFormulas(NumpyBackend):
    """The NumPy backend with a primitive for every formula that it takes as it stands."""

    def relu(self, x: Any) -> Any:
        return relu.forward(self.xp, (), x)[0]

    def relu_backward(self, dy: Any, y: Any) -> Any:
        return relu.backward(self.xp, dy, ReluCache(y))[0]

    def max_pool(self, x: Any, window: Any) -> Any:
        return max_pooling.forward(self.xp, (), x, window)[0]

    def max_pool_backward(self, dy: Any, x: Any, y: Any, window: Any) -> Any:
        return max_pooling.backward(self.xp, dy, MaxPoolingCache(x, y, window))[0]

    def average_pool(self, x: Any, window: Any) -> Any:
        return average_pooling.forward(self.xp, (), x, window)[0]

    def average_pool_backward(self, dy: Any, size: Any, window: Any) -> Any:
        return average_pooling.backward(self.xp, dy, AveragePoolingCache(size, window))[0]

    def cross_entropy(self, logits: Any, labels: Any, shares: Any) -> Any:
        """The loss with any shares, and log-probabilities."""
        _, (log_probabilities, *_) = cross_entropy.forward(self.xp, (), logits, labels)
        picked = log_probabilities[:, labels, self.xp.arange(len(labels))]
        return -(picked * shares).sum(axis=1), log_probabilities

    def cross_entropy_backward(self, *cache: Any) -> Any:
        return cross_entropy.backward(self.xp, None, CrossEntropyCache(*cache))[0]

    def log_softmax(self, logits: Any) -> Any:
        labels = self.xp.zeros(logits.shape[2], "i8")
        return cross_entropy.forward(self.xp, (), logits, labels)[1].log_probabilities
