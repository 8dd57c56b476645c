"""Training steps as CUDA graphs: the launches of a step are recorded once, and repeated as one.

A recorded launch finds its arguments as they were. What changes from step to step – sample ids, epoch, Adam's
constants – is written to places in the device's memory that never change, and kernels read it there. Memory
that a recorded step uses for its intermediate results comes from a pool of its own: nobody else is given it.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from threading import local
from typing import Any

from wn.basics.errors import WnError
from wn.engine.backends.cuda.kernels import memory_errors
from wn.engine.backends.plain.base import TrainingStep
from wn.engine.backends.sealed import NotRecordable

WARM_UP = 2  # steps that are launched one by one first: kernels are compiled, and memory is taken

log = logging.getLogger("wn")


class GraphStep(local):
    """A step that does what `step` does; from its third call with so many samples on, as a graph.

    Each thread has graphs of its own, as it has the places in memory that they read.
    """

    def __init__(self, be: Any, step: TrainingStep) -> None:
        self._be, self._step = be, step
        self._recordings: dict[int, _Recording] = {}
        self.reason = ""  # why it can't be recorded
        self.repeats = 0  # steps that were repeated

    def __call__(self, samples: Any, epoch: int, constants: Sequence[float]) -> None:
        """Do a step; where memory ends it raises MemoryError, and nothing of the step is done."""
        with memory_errors():
            if not self.reason and self._be.records:
                try:
                    self.repeats += self._recording(len(samples)).run(samples, epoch, constants)
                    return
                except NotRecordable as error:  # nothing of the step is done
                    self._end_recording(error)
            self._step(samples, epoch, constants)

    def _recording(self, batch: int) -> "_Recording":
        if batch not in self._recordings:
            self._recordings[batch] = _Recording(self._be, self._step, batch)
        return self._recordings[batch]

    def _end_recording(self, reason: NotRecordable) -> None:
        """Launch this step one by one from now on; the log says so for the first such step of the process."""
        self.reason = " ".join(str(reason).split()) or "CUDA refuses"
        self._recordings.clear()
        if not self._be.not_recorded:
            log.warning("steps are not recorded as CUDA graphs: %s", self.reason)
        self._be.not_recorded += 1


class _Recording:
    """The steps with so many samples: where their ids are, the memory that they use, and their graph."""

    def __init__(self, be: Any, step: TrainingStep, batch: int) -> None:
        self.be, self.step, self.cupy = be, step, be.xp
        self.pool = self.cupy.cuda.MemoryPool(be.new_memory)
        self.samples = self.cupy.empty(batch, self.cupy.uint32)
        self.graph: Any = None
        self.constants: list[Any] = []
        self.calls = 0

    def __del__(self) -> None:
        """Give memory back: a pool that ends with free blocks never does (CuPy 14)."""
        self.graph = None
        self.pool.free_all_blocks()

    def run(self, samples: Any, epoch: int, constants: Sequence[float]) -> bool:
        """Do a step with these samples, one by one or as a graph; return whether it was a graph.

        Raises NotRecordable, with nothing of the step done, if its launches can't be recorded.
        """
        self.samples[...] = samples
        self.be.set_epoch(epoch)
        self.be.set_constants(constants)
        if self.graph is None and self.calls >= WARM_UP:
            self.graph = self._recorded(epoch, constants)
        if self.graph is not None:
            # It takes the memory that cuBLAS asked for as it was recorded. Without it the launch fails before
            # anything has begun: nothing of the step is done. What is written above is no part of it.
            self.graph.launch()
            return True
        self.calls += 1
        with self.cupy.cuda.using_allocator(self.pool.malloc):
            self.step(self.samples, epoch, constants)
        return False

    def _recorded(self, epoch: int, constants: Sequence[float]) -> Any:
        """Return the graph of a step, which is not executed meanwhile; else raise NotRecordable."""
        stream = self.cupy.cuda.get_current_stream()
        try:
            stream.begin_capture()
            with memory_errors():  # also at the end, which makes the graph ready to be launched
                with self.be.recording(), self.cupy.cuda.using_allocator(self.pool.malloc):
                    self.step(self.samples, epoch, constants)
                self.constants = self.be.kept()  # the graph reads them: they have to stay
                return stream.end_capture()
        except Exception as error:
            with suppress(Exception):  # the recording has to end, and has failed
                stream.end_capture()
            if isinstance(error, MemoryError | WnError):
                raise
            raise NotRecordable(str(error)) from error
