"""What a study records beside accuracies: statistics of weights, and the signal's power at noisy sites."""

from collections.abc import Callable
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


class SignalPower:
    """The mean of y² at noisy sites before their noise, over features and samples, each member's own."""

    def __init__(self, be: Backend) -> None:
        self._be = be
        self._sums: dict[int, Floats] = {}
        self._counts: dict[int, int] = {}

    def watch(self, samples: int) -> Callable[[int, Any], None]:
        """Return what is to see a batch, of which the first `samples` count: the rest fills a tile."""

        def see(site: int, x: Any) -> None:
            x = self._be.to_numpy(x)
            # Member by member: where the sums of a whole population are cut depends on its size.
            sums = np.array([_sum_of_squares(member[..., :samples]) for member in x])
            self._sums[site] = self._sums.get(site, 0.0) + sums
            self._counts[site] = self._counts.get(site, 0) + x[0, ..., :samples].size

        return see

    def of_member(self, p: int) -> tuple[tuple[int, float], ...]:
        """Return (site, power) for the sites that member p was seen at."""
        return tuple(
            (site, float(sums[p % len(sums)]) / self._counts[site])
            for site, sums in sorted(self._sums.items())
        )


def _sum_of_squares(x: NDArray[Any]) -> float:
    flat = x.reshape(-1)
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))
