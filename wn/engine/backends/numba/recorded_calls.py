"""Training steps as lists of calls: what a step calls is noted when it comes first, and then repeated.

A step of a small network takes as long in Python – layers, shapes, checks – as in compiled loops. All of that
comes out the same in each step with as many samples; what differs – sample ids, epoch, Adam's constants –
stands in arrays that stay where they are. CUDA graphs (`cuda/graph.py`) do the same on a GPU.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from threading import local
from typing import Any, NoReturn, TypeVar

import numpy as np

from wn.engine.backends.numba.process import PROCESS
from wn.engine.backends.numba.work_arrays import WorkArrays
from wn.engine.backends.plain.base import Array, TrainingStep
from wn.engine.backends.sealed import NotRecordable, opened, sealed
from wn.engine.backends.threads import single_threaded_blas

Method = TypeVar("Method", bound=Callable[..., Any])

log = logging.getLogger("wn")


class RecordedCalls:
    """The calls of a step with so many samples, and the arrays with what differs from step to step.

    What changes arrays that outlive the step is called last, when the step is known to be repeatable: a step
    that turns out not to be has changed nothing, and can be done anew.
    """

    def __init__(self, batch: int, work: WorkArrays) -> None:
        self.samples = np.empty(batch, np.uint32)
        self.epoch: Any = np.zeros(1, np.int64)
        self.constants: Any = np.zeros(5, np.float64)
        self.work = work
        self.refused = ""  # why it can't be repeated
        self.inside = False  # a primitive, whose own code may look into arrays
        self._kept: list[Array] = []
        self._calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._last: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def set(self, samples: Array, epoch: int, constants: Sequence[float]) -> None:
        """Write the step's samples, epoch and constants."""
        self.samples[:] = samples
        self.epoch[0] = epoch
        self.constants[:] = constants

    def refuse(self, what: str) -> NoReturn:
        """Raise NotRecordable; the step is not repeated even if someone catches that."""
        self.refused = self.refused or what
        raise NotRecordable(what)

    def run(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Do a call and note it; it keeps no work array from being used again later in the step."""
        if self._last:
            self.refuse("computing with what the step has changed")
        PROCESS.call(function, arguments)
        self._calls.append(self._unowned(function, arguments))

    def run_once(
        self, first: Callable[..., object], again: Callable[..., object], arguments: Sequence[Any]
    ) -> None:
        """Do a call, and note another one that is to be done in its place when the step is repeated."""
        if self._last:
            self.refuse("computing with what the step has changed")
        PROCESS.call(first, tuple(arguments))
        self._calls.append(self._unowned(again, tuple(arguments)))

    def run_last(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Note a call that changes arrays which outlive the step: it is done in `finish`."""
        self._last.append(self._unowned(function, arguments))

    def _unowned(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        return function, tuple(self.work.unowned(argument) for argument in arguments)

    def keep(self, arrays: Sequence[Sequence[Array]]) -> None:
        """Keep arrays of which a call knows the addresses only."""
        self._kept += [self.work.unowned(array) for some in arrays for array in some]

    def check(self) -> None:
        """Raise NotRecordable if the step can't be repeated."""
        if self.refused:
            raise NotRecordable(self.refused)

    def finish(self) -> None:
        """Run the deferred calls."""
        for function, arguments in self._last:
            PROCESS.call(function, arguments)
        self._calls += self._last

    def repeat(self) -> None:
        """Do all that was noted, in order."""
        with single_threaded_blas():
            PROCESS.call(self._repeat, ())

    def _repeat(self) -> None:
        for function, arguments in self._calls:
            function(*arguments)


def primitive(method: Method) -> Method:
    """Let a backend's primitive look into the arrays of a step that is being recorded, see `Sealed`.

    What it calls itself is part of it. `self._local.recording` is the recording of the calling thread.
    """

    @wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        calls: RecordedCalls | None = self._local.recording
        if calls is None or calls.inside:
            return method(self, *arguments, **named)
        given = [opened(argument) for argument in arguments]
        calls.inside = True
        try:
            result = method(self, *given, **{name: opened(value) for name, value in named.items()})
        finally:
            calls.inside = False
        return sealed(result, calls.refuse)

    return call  # type: ignore[return-value]  # the same but for what arrays are sealed


class RecordedStep(local):
    """A step that does what `step` does: as noted, once it has been done with so many samples.

    `recording(calls)` is the context in which a backend notes what it calls. All recordings use the same work
    arrays: nothing in them outlives a step. A step that can't be repeated is done anew each time. Each thread
    has recordings of its own, since its work arrays end with it.
    """

    def __init__(
        self, recording: Callable[[RecordedCalls], AbstractContextManager[None]], step: TrainingStep
    ) -> None:
        self._recording, self._step = recording, step
        self.recorded: dict[int, RecordedCalls] = {}
        self._work = WorkArrays()
        self.reason = ""  # why it can't be repeated
        self.repeats = 0  # steps that were repeated

    def __call__(self, samples: Array, epoch: int, constants: Sequence[float]) -> None:
        """Do a step."""
        calls = self.recorded.get(len(samples))
        if calls is not None:
            calls.set(samples, epoch, constants)
            calls.repeat()
            self.repeats += 1
        elif self.reason or not self._record(samples, epoch, constants):
            self._step(samples, epoch, constants)

    def _record(self, samples: Array, epoch: int, constants: Sequence[float]) -> bool:
        """Do a step and note its calls; False, with nothing done, where it can't be repeated."""
        calls = RecordedCalls(len(samples), self._work)
        calls.set(samples, epoch, constants)
        try:
            with self._recording(calls):
                self._step(*sealed((calls.samples, calls.epoch, calls.constants), calls.refuse))
            calls.check()
        except Exception as error:  # of any kind: a step may not expect sealed arrays
            self.reason = calls.refused or str(error) or type(error).__name__
            log.debug("steps are not recorded: %s", self.reason)
            self.recorded.clear()  # those of other batch sizes, whose calls know addresses in what goes now
            self._work.clear()
            return False
        calls.finish()
        self.recorded[len(samples)] = calls
        return True
