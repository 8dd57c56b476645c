"""Statistics of the weights of a population, layer by layer."""

from typing import Any

import numpy as np

from wn.analysis.weights import Floats, statistics
from wn.engine.backends.plain.base import Backend
from wn.engine.layers.base import has_weights


def weight_statistics(be: Backend, params: tuple[Any, ...]) -> Floats:
    """The statistics of each layer's weights: (P, L, S), S as in `wn.analysis.weights.STATISTICS`.

    The layers are those that `Network.weights` names.
    """
    layers = [be.to_numpy(layer.w) for layer in params if has_weights(layer)]
    return np.stack([np.stack([statistics(w[p]) for w in layers]) for p in range(len(layers[0]))])
