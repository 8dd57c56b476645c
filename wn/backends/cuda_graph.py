"""Training steps as CUDA graphs: the launches of a step are recorded once, and repeated as one.

A recorded launch finds its arguments as they were. What changes from step to step – sample ids, epoch, Adam's
constants – is written to places in the device's memory that never change, and kernels read it there. Memory
that a recorded step uses for its intermediate results comes from a pool of its own: nobody else is given it.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from wn.backends.base import TrainingStep
from wn.errors import WnError

WARM_UP = 2  # steps that are launched one by one first: kernels are compiled, and memory is taken

log = logging.getLogger("wn")


class NotRecordable(RuntimeError):
    """A step did what a recording can't repeat: it took something from the host that may be another later."""


class RecordedStep:
    """A step that does what `step` does; from its third call with so many samples on, as a graph."""

    def __init__(self, be: Any, step: TrainingStep) -> None:
        self._be, self._step = be, step
        self._recordings: dict[int, _Recording] = {}

    def __call__(self, samples: Any, epoch: int, constants: Sequence[float]) -> None:
        """Do a step."""
        if not self._be.records:
            self._step(samples, epoch, constants)
            return
        recording = self._recordings.get(len(samples))
        if recording is None:
            recording = self._recordings[len(samples)] = _Recording(self._be, self._step, len(samples))
        recording.run(samples, epoch, constants)


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

    def run(self, samples: Any, epoch: int, constants: Sequence[float]) -> None:
        """Do a step with these samples, one by one or as a graph."""
        self.samples[...] = samples
        self.be.set_epoch(epoch)
        self.be.set_constants(constants)
        if self.graph is None and self.calls >= WARM_UP:
            self.graph = self._recorded(epoch, constants)
        if self.graph is not None:
            self.graph.launch()
            return
        self.calls += 1
        with self.cupy.cuda.using_allocator(self.pool.malloc):
            self.step(self.samples, epoch, constants)

    def _recorded(self, epoch: int, constants: Sequence[float]) -> Any:
        """Return the graph of a step, which is not executed meanwhile; None where that can't be had."""
        stream = self.cupy.cuda.get_current_stream()
        try:
            stream.begin_capture()
            with self.be.recording(), self.cupy.cuda.using_allocator(self.pool.malloc):
                self.step(self.samples, epoch, constants)
            self.constants = self.be.kept()  # the graph reads them: they have to stay
            return stream.end_capture()
        except Exception as error:
            with suppress(Exception):  # the recording has to end, and has failed
                stream.end_capture()
            if isinstance(error, MemoryError | WnError):
                raise
            log.warning("steps are not recorded as CUDA graphs: %s", " ".join(str(error).split()))
            self.be.graphs = False
            return None
