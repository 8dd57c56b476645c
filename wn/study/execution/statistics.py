"""Statistics of the weights of networks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.engine.backends.plain.base import Backend
from wn.engine.layers.base import has_weights
from wn.engine.network import Network

Floats = NDArray[np.float64]


def weight_layers(network: Network, params: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the names of the layers whose weights are recorded: linear layers and convolutions."""
    return tuple(network.weights(params))


def weight_statistics(be: Backend, params: tuple[Any, ...]) -> Floats:
    """Return mean |w|, standard deviation and 2-norm of each layer's weights: (P, L, 3), in float64."""
    layers = [be.to_numpy(layer.w) for layer in params if has_weights(layer)]
    return np.stack([np.stack([_of_weights(w[p]) for w in layers]) for p in range(len(layers[0]))])


def _of_weights(w: NDArray[Any]) -> Floats:
    wide = w.astype(np.float64)
    return np.array([np.abs(wide).mean(), wide.std(), np.sqrt((wide * wide).sum())])
