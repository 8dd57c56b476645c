"""The record of a study's trainings: statistics of the weights, and checkpoints."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wn.analysis.weights import STATISTICS
from wn.engine.backends.plain.base import Backend
from wn.engine.halving import Members
from wn.engine.training import Monitor, TrainingState
from wn.study.execution.checkpoints import Checkpoint
from wn.study.unit import Unit
from wn.walking.observed.weights import weight_statistics


class Recorder(Monitor):
    """Keeps the statistics of the weights after each epoch, (E, P, L, S), and writes checkpoints.

    It follows the training of all units of a task or, after `begin`, of some of them. `folder` is that of the
    checkpoints, None for none.
    """

    def __init__(self, be: Backend, units: Sequence[Unit], folder: str | None) -> None:
        self.be, self.units, self.folder = be, units, folder
        self.weights = np.empty((0, len(units)))
        self.used: list[str] = []  # checkpoints that may have been written

    def begin(self, members: Members, fresh: TrainingState, state: TrainingState | None) -> TrainingState:
        """Return the state from which these members are trained: that given, or their checkpoint's.

        `fresh` is their state before the first step.
        """
        self.members, self.state = list(members), fresh if state is None else state
        self.checkpoint = None
        if self.folder is not None:
            self.checkpoint = Checkpoint(Path(self.folder), [self.units[p].key for p in members], self.be)
            self.used.append(str(self.checkpoint.path))
            saved = self.checkpoint.load(fresh)
            if saved is not None and saved[0].steps > self.state.steps:
                self.state, statistics = saved
                for epoch, values in enumerate(statistics):
                    self._record(epoch, values)
        return self.state

    def trained(self, state: TrainingState) -> None:
        """Write a checkpoint if it is time for one."""
        self.state = state
        if self.checkpoint is not None and self.checkpoint.due:
            self.checkpoint.save(state, list(self.weights[: state.epoch, self.members]))

    def epoch(self, epoch: int, loss: NDArray[np.float64]) -> None:
        """Record the weights."""
        self._record(epoch, weight_statistics(self.be, self.state.params))

    def _record(self, epoch: int, values: NDArray[np.float64]) -> None:
        if not self.weights.size:
            shape = (self.units[0].epochs, len(self.units), values.shape[1], len(STATISTICS))
            self.weights = np.full(shape, np.nan)
        # A checkpoint of an older version has fewer statistics: those that are missing stay NaN
        self.weights[epoch, self.members, :, : values.shape[-1]] = values
