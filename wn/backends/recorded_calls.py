"""Training steps as lists of calls: what a step calls is noted when it comes first, and then repeated.

A step of a small network takes as long in Python – layers, shapes, checks – as in compiled loops. All of that
comes out the same in each step with as many samples; what differs – sample ids, epoch, Adam's constants –
stands in arrays that stay where they are. CUDA graphs (`cuda_graph`) do the same on a GPU.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from wn.backends.base import Array, TrainingStep
from wn.backends.work_arrays import WorkArrays


class NotRecordable(RuntimeError):
    """A step did what can't be repeated; nothing has been changed in place by then."""


class RecordedCalls:
    """The calls of a step with so many samples, and the arrays with what differs from step to step."""

    def __init__(self, batch: int, work: WorkArrays) -> None:
        self.samples = np.empty(batch, np.uint32)
        self.epoch = np.zeros(1, np.int64)
        self.constants = np.zeros(5, np.float64)
        self.work = work
        self._kept: list[Array] = []
        self._calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def set(self, samples: Array, epoch: int, constants: Sequence[float]) -> None:
        """Write what is different in this step to where the calls find it."""
        self.samples[:] = samples
        self.epoch[0] = epoch
        self.constants[:] = constants

    def note(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Note a call; it keeps no work array from being used again later in the step."""
        self._calls.append((function, tuple(self.work.unowned(argument) for argument in arguments)))

    def keep(self, arrays: Sequence[Sequence[Array]]) -> None:
        """Keep arrays of which a call knows the addresses only."""
        self._kept += [self.work.unowned(array) for some in arrays for array in some]

    def repeat(self) -> None:
        """Do all that was noted, in order."""
        for function, arguments in self._calls:
            function(*arguments)


class RecordedStep:
    """A step that does what `step` does: as noted, once it has been done with so many samples.

    `recording(calls)` is the context in which a backend notes what it calls. All recordings use the same work
    arrays: nothing in them outlives a step.
    """

    def __init__(
        self, recording: Callable[[RecordedCalls], AbstractContextManager[None]], step: TrainingStep
    ) -> None:
        self._recording, self._step = recording, step
        self.recorded: dict[int, RecordedCalls] = {}
        self._work = WorkArrays()
        self._repeatable = True

    def __call__(self, samples: Array, epoch: int, constants: Sequence[float]) -> None:
        """Do a step."""
        calls = self.recorded.get(len(samples))
        if calls is not None:
            calls.set(samples, epoch, constants)
            calls.repeat()
        elif not (self._repeatable and self._record(samples, epoch, constants)):
            self._step(samples, epoch, constants)

    def _record(self, samples: Array, epoch: int, constants: Sequence[float]) -> bool:
        """Do a step and note its calls; return whether that was possible."""
        calls = RecordedCalls(len(samples), self._work)
        calls.set(samples, epoch, constants)
        try:
            with self._recording(calls):
                self._step(calls.samples, epoch, constants)
        except NotRecordable:
            self._repeatable = False
            self._work.clear()  # nothing will use it again
            return False
        self.recorded[len(samples)] = calls
        return True
