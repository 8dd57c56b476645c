"""Statistics of the weights of networks, of the layers that `Network.weights` names."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.engine.backends.plain.base import Backend
from wn.engine.layers.base import has_weights

Floats = NDArray[np.float64]


def weight_statistics(be: Backend, params: tuple[Any, ...]) -> Floats:
    """Return mean |w|, standard deviation and 2-norm of each layer's weights: (P, L, 3), in float64."""
    layers = [be.to_numpy(layer.w) for layer in params if has_weights(layer)]
    return np.stack([np.stack([_of_weights(w[p]) for w in layers]) for p in range(len(layers[0]))])


def _of_weights(w: NDArray[Any]) -> Floats:
    wide = w.astype(np.float64)
    return np.array([np.abs(wide).mean(), wide.std(), np.sqrt((wide * wide).sum())])
