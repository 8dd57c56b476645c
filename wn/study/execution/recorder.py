"""The record of a study's trainings: statistics of the weights, and checkpoints."""

from collections.abc import Sequence
from pathlib import Path

from wn.engine.backends.plain.base import Backend
from wn.engine.halving import Members
from wn.engine.training import TrainingState
from wn.study.execution.checkpoints import Checkpoint
from wn.study.unit import Unit
from wn.walking.observed.weights import WeightRecorder


class Recorder(WeightRecorder):
    """Keeps the statistics of the weights of a task's units after each epoch, and writes checkpoints.

    `folder` is that of the checkpoints, None for none.
    """

    def __init__(self, be: Backend, units: Sequence[Unit], folder: str | None) -> None:
        super().__init__(be, units[0].epochs, len(units))
        self.units, self.folder = units, folder
        self.checkpoint: Checkpoint | None = None
        self.used: list[str] = []  # checkpoints that may have been written

    def resume(self, members: Members, fresh: TrainingState, state: TrainingState | None) -> TrainingState:
        """Return the state from which these members are trained: that given, or their checkpoint's.

        `fresh` is their state before the first step.
        """
        start = fresh if state is None else state
        self.begin(members, start)
        self.checkpoint = None
        if self.folder is not None:
            self.checkpoint = Checkpoint(Path(self.folder), [self.units[p].key for p in members], self.be)
            self.used.append(str(self.checkpoint.path))
            saved = self.checkpoint.load(fresh)
            if saved is not None and saved[0].steps > start.steps:
                start, statistics = saved
                self.state = start
                for epoch, values in enumerate(statistics):
                    self.record(epoch, values)
        return start

    def trained(self, state: TrainingState) -> None:
        """Write a checkpoint if it is time for one."""
        super().trained(state)
        if self.checkpoint is not None and self.checkpoint.due:
            self.checkpoint.save(state, list(self.weights[: state.epoch, self.members]))
