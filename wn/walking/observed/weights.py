"""Statistics of the weights of a population, layer by layer, after each epoch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.analysis.weights import STATISTICS, Floats, statistics
from wn.engine.backends.plain.base import Backend
from wn.engine.halving import Members
from wn.engine.layers.base import has_weights
from wn.engine.training import Monitor, TrainingState


def weight_statistics(be: Backend, params: tuple[Any, ...]) -> Floats:
    """The statistics of each layer's weights: (P, L, S), S as in `wn.analysis.weights.STATISTICS`.

    The layers are those that `Network.weights` names.
    """
    layers = [be.to_numpy(layer.w) for layer in params if has_weights(layer)]
    return np.stack([np.stack([statistics(w[p]) for w in layers]) for p in range(len(layers[0]))])


class WeightRecorder(Monitor):
    """Keeps the statistics of the weights of P members after each of E epochs, `weights` (E, P, L, S).

    It follows the training of the members that `begin` names. `monitor` is told of all that happens.
    """

    def __init__(self, be: Backend, epochs: int, members: int, monitor: Monitor | None = None) -> None:
        self.be, self.epochs, self.monitor = be, epochs, Monitor() if monitor is None else monitor
        self.weights = np.empty((0, members))
        self.members = list(range(members))
        self.state: TrainingState | None = None

    def begin(self, members: Members, state: TrainingState | None) -> TrainingState | None:
        """Follow these members from the state that is there."""
        self.members, self.state = list(members), state
        return state

    def step(self) -> None:
        """Pass it on."""
        self.monitor.step()

    def trained(self, state: TrainingState) -> None:
        """Keep the state for the end of the epoch."""
        self.state = state
        self.monitor.trained(state)

    def epoch(self, epoch: int, loss: NDArray[np.float64]) -> None:
        """Record the weights."""
        if self.state is not None:
            self.record(epoch, weight_statistics(self.be, self.state.params))
        self.monitor.epoch(epoch, loss)

    def given_up(self, members: int, epoch: int) -> None:
        """Pass it on."""
        self.monitor.given_up(members, epoch)

    def record(self, epoch: int, values: Floats) -> None:
        """Record statistics (P, L, S) of the members that are followed."""
        if not self.weights.size:
            shape = (self.epochs, self.weights.shape[1], values.shape[1], len(STATISTICS))
            self.weights = np.full(shape, np.nan)
        # A checkpoint of an older version has fewer statistics: those that are missing stay NaN
        self.weights[epoch, self.members, :, : values.shape[-1]] = values
