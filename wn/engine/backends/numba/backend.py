"""The fast backend on a CPU: loops compiled by Numba, matrix products by BLAS."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from math import prod
from types import ModuleType
from typing import Any, ClassVar

import numba
import numpy as np

from wn.engine.backends.numba import layers, plain
from wn.engine.backends.numba.kernel_calls import KernelCalls
from wn.engine.backends.numba.kernels import draws, elementwise, loss, noise, small
from wn.engine.backends.numba.pace import Pace
from wn.engine.backends.numba.process import PROCESS
from wn.engine.backends.numba.recorded_calls import RecordedCalls, RecordedStep, primitive
from wn.engine.backends.plain.base import Array, DrawKey, Draws, TrainingStep
from wn.engine.backends.sealed import sealed
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.layers import dropout
from wn.engine.layers.base import Formula, Runnable
from wn.engine.layers.batch_norm import MOMENTUM, BatchStatistics, RunningStatistics, unbiased
from wn.engine.layers.cross_entropy import check_labels
from wn.engine.layers.noise import members
from wn.engine.ranges import not_finite


def _fused() -> ModuleType | None:
    """The pairs for neighbours at once. Without one of these files layers are run one by one, slower."""
    if not all(map(find_spec, ("wn.engine.fusion", "wn.engine.backends.numba.fused"))):
        return None
    from wn.engine.backends.numba import fused

    return fused


FUSED = _fused()


class NumbaBackend(KernelCalls):
    """NumPy's arrays and compiled loops; results agree with the NumPy backend's, noise bit by bit.

    Work is divided among `numba.get_num_threads()` processors; no result depends on how many there are.
    Large arrays are taken from memory that is used again, each thread's its own. The calls of a training step
    are noted when it comes first, and repeated from then on.
    """

    name = "numba"
    libraries = ("numba",)
    own: ClassVar[Mapping[Formula, Formula]] = layers.OWN | plain.OWN | (FUSED.OWN if FUSED else {})

    @staticmethod
    def rewritten(layers: Sequence[Runnable], quiet: Sequence[bool]) -> list[tuple[Runnable, int]]:
        """See `Backend.rewritten`: neighbours become one layer, with the same bits."""
        found: list[tuple[Runnable, int]] = (FUSED or KernelCalls).rewritten(layers, quiet)
        return found

    @property
    def takes_jobs_side_by_side(self) -> bool:  # type: ignore[override]
        """Whether Numba's threading layer lets several threads call kernels at once."""
        PROCESS.start()
        return PROCESS.plain

    @contextmanager
    def working(self, threads: int = 1) -> Iterator[None]:
        """Give the work of the calling thread so many processors; at the end give its work arrays back."""
        PROCESS.start()
        before, pace = numba.get_num_threads(), self._local.pace
        most = min(threads, numba.config.NUMBA_NUM_THREADS)
        numba.set_num_threads(most)
        self._local.pace = Pace(most)
        try:
            with single_threaded_blas():
                yield
        finally:
            numba.set_num_threads(before)
            self._local.pace = pace
            self._work.clear()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Give a step as many threads as were fastest of late, see `wn.engine.backends.numba.pace`."""
        pace = self._local.pace
        if pace is None or pace.most == 1:
            yield
            return
        threads = pace.threads()
        if threads != pace.most:
            numba.set_num_threads(threads)
        started = time.perf_counter()
        try:
            yield
        finally:
            pace.step(time.perf_counter() - started)
            if threads != pace.most:
                numba.set_num_threads(pace.most)

    # ---- recorded steps ---------------------------------------------------------------------------------

    def recorded(self, step: TrainingStep) -> TrainingStep:
        """See `Backend.recorded`: the calls of kernels are noted, and repeated without the code between."""
        return RecordedStep(self.recording, step)

    @contextmanager
    def recording(self, calls: RecordedCalls) -> Iterator[None]:
        """Note the calls of this thread meanwhile; what can't be repeated raises NotRecordable.

        Arrays are sealed meanwhile (`wn.engine.backends.sealed`): primitives alone can look into them.
        """
        self._local.recording = calls
        try:
            yield
        finally:
            self._local.recording = None

    def enclosed(self, state: Any) -> Any:
        """See `Backend.enclosed`."""
        recording = self._local.recording
        return state if recording is None else sealed(state, recording.refuse)

    # ---- batches ----------------------------------------------------------------------------------------

    @primitive
    def gather(
        self,
        images: Array,
        samples: Array,
        scale: float,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: Any,
    ) -> Array:
        """See `Backend.gather`: the same bits."""
        count, *shape = images.shape
        x = self.empty((1, *shape, len(samples)), dtype)
        pixels = (shape[0], prod(shape[1:]))
        self.run(
            elementwise.gather,
            np.ascontiguousarray(images).reshape(count, *pixels),
            samples,
            scale,
            np.asarray(mean, dtype),
            np.asarray(std, dtype),
            x.reshape(*pixels, len(samples)),
        )
        return x

    # ---- small arrays -----------------------------------------------------------------------------------

    @primitive
    def take(self, values: Array, samples: Array) -> Array:
        """See `Backend.take`."""
        out = np.empty(len(samples), values.dtype)
        self.run(small.take, values, samples, out)
        return out

    @primitive
    def update_running(
        self, running: RunningStatistics, batch: BatchStatistics, momentum: float = MOMENTUM
    ) -> RunningStatistics:
        """See `Backend.update_running`: the same bits."""
        mean, variance, residual = (np.empty_like(running.mean) for _ in range(3))
        old, new = (
            (running.mean, running.residual, running.variance),
            (batch.mean, batch.residual, batch.variance),
        )
        factors = momentum, unbiased(batch.values)
        self.run(small.running_statistics, *old, *new, *factors, mean, residual, variance)
        return RunningStatistics(mean, variance, residual)

    @primitive
    def count_correct(self, logits: Array, labels: Array, groups: int | None = None) -> Array:
        """See `Backend.count_correct`: the same numbers."""
        check_labels(labels, logits.shape[1])
        logits, labels = self.contiguous(logits, labels)
        hits = np.zeros((len(logits), 1 if groups is None else groups), np.int64)
        self.run(loss.count_correct, logits, labels, hits)
        return hits[:, 0] if groups is None else hits

    @primitive
    def square_sums(self, x: Array) -> Array:
        """See `Backend.square_sums`: the same bits."""
        (x,) = self.contiguous(x)
        sums = np.empty((len(x), x.shape[-1]))
        self.run(elementwise.square_sums, x.reshape(len(x), -1, x.shape[-1]), sums)
        return sums

    @primitive
    def assign(self, target: Array, values: Array) -> None:
        """See `Backend.assign`."""
        self.run_last(np.copyto, target, values)

    @primitive
    def accumulate(self, total: Array, values: Array, factor: int) -> None:
        """See `Backend.accumulate`: the same bits."""
        self.run_last(small.accumulate, total, values, factor)

    @primitive
    def check_finite(self, array: Array, what: str) -> None:
        """See `Backend.check_finite`."""
        self.run(_check_finite, array, what)

    # ---- optimiser --------------------------------------------------------------------------------------

    @primitive
    def adam_updates(
        self,
        parameters: list[Array],
        gradients: list[Array],
        first: list[Array],
        second: list[Array],
        constants: Sequence[float],
    ) -> None:
        """See `Backend.adam_updates`: the same bits, in one call."""
        recording, kinds = self._local.recording, (parameters, gradients, first, second)
        if not parameters:
            return
        if recording is not None and constants is not recording.constants:
            recording.refuse("constants of Adam that are not the step's")  # the kernel would find the step's
        misfit = ""
        if len({array.dtype for kind in kinds for array in kind}) > 1:
            misfit = "parameters and gradients of several types"
        elif not all(array.flags.c_contiguous for array in (*parameters, *first, *second)):
            misfit = "parameters in another layout"  # a copy would be updated in their place
        if misfit:
            self.not_repeatable(misfit)
            super().adam_updates(*kinds, list(map(float, constants)))
            return
        arrays = [self.contiguous(*kind) for kind in kinds]
        rows = zip(*arrays, strict=True)
        addresses = np.array([[array.ctypes.data for array in row] for row in rows], np.int64)
        sizes = np.array([array.size for array in parameters], np.int64)
        if recording is not None:
            recording.keep(arrays)
        like, numbers = parameters[0].reshape(-1), np.asarray(constants, np.float64)
        self.run_last(elementwise.adam, addresses, sizes, like, numbers)

    @primitive
    def clip(self, w: Array, limit: float) -> None:
        """See `Backend.clip`."""
        if w.flags.c_contiguous:
            self.run_last(elementwise.clip, w.reshape(-1), float(limit))
        else:
            self.not_repeatable("weights in another layout")
            super().clip(w, limit)  # reshape would copy

    # ---- noise ------------------------------------------------------------------------------------------

    def _draws_of_seed(self, key: Any, seed: int, features: int, repetition: int, distribution: str) -> Any:
        out = self.empty((features, len(key.samples)), np.float32)
        self.not_repeatable("draws that are stored")
        stream = seed, key.samples, key.epoch, key.purpose, key.site, repetition, distribution
        self.run(draws.fill_draws, out, *stream)
        return out

    @primitive
    def apply_draws(
        self, x: Array, multiplier: Draws | None, offset: Draws | None, add_first: bool, keep: bool
    ) -> tuple[Array, Array | None]:
        """See `Backend.apply_draws`: the same bits; the draws themselves are never stored."""
        if multiplier is None and offset is None:
            return x, None
        (x,) = self.contiguous(x)
        shape = (prod(x.shape[1:-1]), x.shape[-1])  # features, samples
        kept = members(multiplier)
        y = self.empty((max(len(x), kept, members(offset)), *x.shape[1:]), x.dtype)
        m = self.empty((kept, *x.shape[1:]), x.dtype) if keep and multiplier is not None else None
        recording = self._local.recording
        if recording is not None:
            multiplier, offset = (_in_step(draws, recording) for draws in (multiplier, offset))
        arguments = noise.apply_arguments(
            x.reshape(-1, *shape),
            y.reshape(-1, *shape),
            None if m is None else m.reshape(-1, *shape),
            multiplier,
            offset,
            add_first,
            None if recording is None else recording.epoch,
        )
        if y.size:
            self.run(noise.apply, *arguments)
        return y, m

    @primitive
    def dropout_mask(self, key: DrawKey, x: Array, p: float) -> Array:
        """See `Backend.dropout_mask`: the same bits."""
        seeds, recording = tuple(dict.fromkeys(key.seeds)), self._local.recording
        if recording is not None and key.epoch is not recording.epoch:
            recording.refuse("draws of an epoch that is not the step's")
        mask = self.empty((1 if len(seeds) == 1 else len(key.seeds), *x.shape[1:]), x.dtype)
        z = np.empty((prod(x.shape[1:-1]), x.shape[-1]), np.float32)
        rows = [[i for i, own in enumerate(key.seeds) if own == seed] for seed in seeds]
        members_of_seed = [[0]] if len(seeds) == 1 else rows
        self.run(_fill_mask, mask, z, list(zip(seeds, members_of_seed, strict=True)), key, key.epoch, p)
        return mask

    @primitive
    def multiply(self, dy: Array, m: Array) -> Array:
        """See `Backend.multiply`: the same bits."""
        dy, m = self.contiguous(dy, m)
        dx = self.empty(dy.shape, dy.dtype)
        self.run(noise.multiply, dy.reshape(len(dy), -1), m.reshape(len(m), -1), dx.reshape(len(dy), -1))
        return dx


def _fill_mask(mask: Array, z: Array, seeds: Any, key: DrawKey, epoch: Any, p: float) -> None:
    """Write a mask; `epoch` is a number, or in a recorded step the array with it."""
    number = int(epoch[0]) if isinstance(epoch, np.ndarray) else epoch
    kept, dropped = (mask.dtype.type(value) for value in (1 / (1 - p), 0))
    for seed, members_of_seed in seeds:
        draws.fill_draws(z, seed, key.samples, number, key.purpose, key.site, 0, "uniform")
        drawn = np.where(z < dropout.threshold(p), dropped, kept).reshape(mask.shape[1:])
        for member in members_of_seed:
            mask[member] = drawn


def _in_step(draws: Draws | None, recording: RecordedCalls) -> Draws | None:
    """Return draws of the step's epoch with its number; the kernel finds the one of each step itself."""
    if draws is None:
        return None
    epoch: Any = draws.key.epoch
    if epoch is not recording.epoch:
        recording.refuse("draws of an epoch that is not the step's")
    return draws._replace(key=draws.key._replace(epoch=int(epoch[0])))


def _check_finite(array: Array, what: str) -> None:
    if not small.all_finite(array):
        raise not_finite(what, array)
