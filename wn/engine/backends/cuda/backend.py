"""The backend on NVIDIA GPUs: CuPy's arrays, the kernels of kernels.cu, matrix products by cuBLAS."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from threading import local
from typing import Any, ClassVar

import numpy as np

from wn import random
from wn.engine.backends.cuda import device as cuda_device
from wn.engine.backends.cuda import layers
from wn.engine.backends.cuda.graph import GraphStep
from wn.engine.backends.cuda.kernels import FLAT, FLAT_BLOCKS, by_element, by_sample, memory_errors, packed
from wn.engine.backends.cuda.launches import Device
from wn.engine.backends.plain.base import Array, DrawKey, Draws, Room, TrainingStep
from wn.engine.backends.sealed import NotRecordable
from wn.engine.layers.base import Formula
from wn.engine.layers.noise import members as members_of
from wn.random import Purpose

ABSENT = 0xFFFFFFFF  # the stream word of a part of a noise operator that is not there
SHARING = 16  # members, at most, for which one thread draws: those with the same seed share its draws
ENOUGH_BLOCKS = 4096  # that apply noise: with fewer, a thread has fewer members
ARRAYS = 64  # parameters that one launch of Adam takes (kernels.cu)
KEPT = 1024  # small arrays of the host that are kept on the device
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, which CuPy has no name for
SHARE = 0.4  # of the free memory that a population may be planned with
MOST_MEMBERS = 1024  # of a population


class _Own(local):
    """A thread's stream and device buffers."""

    def __init__(self, cupy: Any) -> None:
        self.stream: Any = None
        self.recording = False
        self.kept: dict[Any, Array] = {}
        self.epoch, self.epoch_there = cupy.zeros(1, np.uint32), 0
        self.adam, self.adam_there = cupy.zeros(7, np.float64), (0.0,) * 7


class CuPyBackend(Device):
    """CuPy's arrays; results agree with the NumPy backend's, noise bit by bit.

    float32 means float32: with `tf32` products are rounded to TF32 first, and the backend has another name.
    """

    own: ClassVar[Mapping[Formula, Formula]] = layers.OWN
    takes_jobs_side_by_side = False  # they would share one GPU

    def __init__(self, tf32: bool = False) -> None:
        self.name = "cupy-tf32" if tf32 else "cupy"
        cupy = cuda_device.import_cupy(self.name)
        super().__init__(cupy, tf32)
        self.libraries = cuda_device.distributions()
        self.graphs = True  # whether training steps may be recorded
        self.not_recorded = 0  # trainings whose step could not be recorded
        self._own = _Own(cupy)
        self._kept_pool = cupy.cuda.MemoryPool()  # else what stays would hold back large blocks
        self._resident: dict[int, Array] = {}  # by the array of the host
        cuda_device.not_in_forks(self)

    # ---- arrays, memory, and what is done in which order ------------------------------------------------

    def to_numpy(self, array: Array) -> Any:
        """See `Backend.to_numpy`; waits until the array is computed."""
        return self.xp.asnumpy(array)

    def resident(self, values: Any) -> Array:
        """See `Backend.resident`: it is sent once, and stays on the device as long as the host has it."""
        if not isinstance(values, np.ndarray):
            return self.asarray(values)
        key = id(values)  # of no other array before this one is gone
        if key not in self._resident:
            sent = self.asarray(values)
            self.xp.cuda.get_current_stream().synchronize()  # other threads, with other streams, use it too
            self._resident[key] = sent
            weakref.finalize(values, self._resident.pop, key, None).atexit = False
        return self._resident[key]

    def all_finite(self, array: Array) -> bool:
        """True without looking, which would stop the device: `batch_norm` makes NaN of what is infinite."""
        return True

    @contextmanager
    def working(self, threads: int = 1) -> Iterator[None]:
        """Work in a stream of its own, in which steps can be recorded; at the end give free memory back."""
        if self._own.stream is None:
            self._own.stream = self.xp.cuda.Stream(non_blocking=True)
        self.xp.cuda.get_current_stream().synchronize()  # what it was told is done before the other begins
        try:
            with self._own.stream:
                yield
        finally:
            self._own.stream.synchronize()
            self.release()

    def release(self) -> None:
        """Give back the memory that no array uses."""
        self.xp.get_default_memory_pool().free_all_blocks()

    @property
    def lost(self) -> bool:
        """See `Backend.lost`: after a kernel that failed CUDA gives the same error for whatever is asked."""
        try:
            with memory_errors():
                self.xp.cuda.runtime.deviceSynchronize()
        except RuntimeError:
            return True
        except MemoryError:
            pass
        return False

    def new_memory(self, size: int) -> Any:
        """Return memory of the device, for the pool of a recorded step.

        Where there is no more, the other pool gives back what no array uses. A pool that is refused memory
        gives back its own, which the steps that are being recorded use: then it is a MemoryError at once.
        """
        cuda = self.xp.cuda
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError as error:
            if error.status != OUT_OF_MEMORY:
                raise
            if self._own.recording:
                raise MemoryError(f"no {size} bytes are left to record a step with") from error
        self.release()
        return cuda.MemoryPointer(cuda.Memory(size), 0)

    @property
    def room(self) -> Room:
        """See `Backend.room`: it follows from the free memory."""
        free, _ = self.xp.cuda.Device().mem_info
        return Room(int(SHARE * (free + self.xp.get_default_memory_pool().free_bytes())), MOST_MEMBERS)

    def kept(self) -> list[Array]:
        """Return all that `constant` and `resident` have sent to the device and keep there."""
        return [*self._own.kept.values(), *self._resident.values()]

    def constant(self, values: Any, dtype: Any = None) -> Array:
        """See `Backend.constant`: the same values are sent to the device once."""
        values = np.asarray(values, dtype)
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._own.kept:
            if self._own.recording:
                raise NotRecordable("a recorded step can't take new values from the host")
            if len(self._own.kept) >= KEPT:
                self._own.kept.clear()
            with self.xp.cuda.using_allocator(self._kept_pool.malloc):
                self._own.kept[key] = self.xp.asarray(values)
        return self._own.kept[key]

    # ---- recorded steps ---------------------------------------------------------------------------------

    def recorded(self, step: TrainingStep) -> TrainingStep:
        """Return a function that does what `step` does, in one launch once it knows the step."""
        return GraphStep(self, step)

    @property
    def records(self) -> bool:
        """Whether a step can be recorded here: in a stream of its own, as within `working`."""
        return (
            self.graphs
            and self._own.stream is not None
            and self.xp.cuda.get_current_stream() == self._own.stream
        )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """What is launched meanwhile is recorded, and may depend on no value that changes on the host."""
        self._own.recording = True
        try:
            yield
        finally:
            self._own.recording = False

    def set_epoch(self, epoch: int) -> Array:
        """Write the epoch, if it is another one, to where kernels find it; return that place."""
        epoch = random.checked_integer("epoch", epoch, 32)
        if epoch != self._own.epoch_there:
            self.not_repeatable("the epoch changed within a recorded step")
            self.kernel("set_epoch", np.float32, (1,), 1)(self._own.epoch, np.uint32(epoch))
            self._own.epoch_there = epoch
        return self._own.epoch

    def set_constants(self, constants: Sequence[float]) -> Array:
        """Write Adam's constants, if they are others, to where the kernel finds them; return that place."""
        step_size, beta1, beta2, second_correction, epsilon = constants
        values = (step_size, beta1, 1 - beta1, beta2, 1 - beta2, second_correction, epsilon)
        if values != self._own.adam_there:
            self.not_repeatable("the step size changed within a recorded step")
            self.kernel("set_constants", np.float32, (1,), 7)(self._own.adam, packed(np.float64, *values))
            self._own.adam_there = values
        return self._own.adam

    def not_repeatable(self, what: str) -> None:
        """See `Backend.not_repeatable`."""
        if self._own.recording:
            raise NotRecordable(what)

    # ---- batches ----------------------------------------------------------------------------------------

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
        return self._gather(images, samples, (scale, mean, std), dtype, (0, 0, 0, 0, 0, 0), 0)

    def gather_augmented(
        self,
        images: Array,
        samples: Array,
        scale: float,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: Any,
        padding: int,
        flip: bool,
        seed: int,
        epoch: int,
    ) -> Array:
        """See `Backend.gather_augmented`: the same bits."""
        drawn = (random.stream_word(Purpose.AUGMENT), *random.seed_key(seed))
        return self._gather(images, samples, (scale, mean, std), dtype, (padding, 1, flip, *drawn), epoch)

    def _gather(
        self,
        images: Array,
        samples: Array,
        standard: tuple[Any, ...],
        dtype: Any,
        how: tuple[int, ...],
        epoch: int,
    ) -> Array:
        """Crop and flip as `how` says: padding, whether to, whether to flip, and where that is drawn from."""
        dtype = np.dtype(dtype)
        images, samples = self.contiguous(images, self._ids(samples))
        shape = (*images.shape[1:], len(samples))
        scale, *both = standard
        mean, std = (tuple(v) * (shape[0] if len(v) == 1 else 1) for v in both)  # one for all channels
        x = self.xp.empty((1, *shape), dtype)
        if x.size:
            grid, threads = by_sample(prod(shape[:-1]), shape[-1])
            there = self.set_epoch(epoch) if how[1] else self._own.epoch
            given = images, samples, self.constant([mean, std], dtype), there
            launch = self.kernel(f"gather_{images.dtype}", dtype, grid, threads)
            launch(*given, x, dtype.type(scale), packed(np.uint32, *shape, *how))
        return x

    def _ids(self, samples: Array) -> Array:
        """Return sample ids as uint32; those that are not are checked, which waits for the device."""
        return samples if samples.dtype == np.uint32 else random.checked_samples(self.xp, samples)

    # ---- initial parameters -----------------------------------------------------------------------------

    def uniforms(
        self, seeds: Sequence[int], count: int, purpose: Purpose, site: int = 0, repetition: int = 0
    ) -> Array:
        """See `Backend.uniforms`: the same bits, for all members in one launch."""
        u = self.xp.empty((len(seeds), random.checked_integer("count", count, 34)), np.float32)
        if u.size:
            sizes = by_element(-(-count // 4), len(seeds))
            keys = self._keys(tuple(seeds), len(seeds))
            word = random.stream_word(purpose, site, repetition)
            self.kernel("uniforms", np.float32, *sizes)(u, keys, np.uint32(word), np.int64(count))
        return u

    # ---- noise ------------------------------------------------------------------------------------------

    def standard_draws(
        self, key: DrawKey, features: int, repetition: int = 0, distribution: str = "normal"
    ) -> Array:
        """See `Backend.standard_draws`: the same bits."""
        features = random.checked_integer("features", features, 32)
        number = np.int32(random.of_distribution(distribution))
        word, ids = random.stream_word(key.purpose, key.site, repetition), self._ids(key.samples)
        seeds = key.seeds if len(set(key.seeds)) > 1 else key.seeds[:1]
        z = self.xp.empty((len(seeds), features, len(ids)), np.float32)
        if z.size:
            (_, parts), threads = by_sample(1, len(ids))
            grid = -(-features // 4), parts, len(seeds)
            keys, epoch = self._keys(seeds, len(seeds)), self.set_epoch(key.epoch)
            sizes = np.uint32(word), np.int32(features), np.int32(len(ids))
            self.kernel("standard_draws", np.float32, grid, threads)(z, keys, ids, epoch, *sizes, number)
        return z

    def apply_draws(
        self, x: Array, multiplier: Draws | None, offset: Draws | None, add_first: bool, keep: bool
    ) -> tuple[Array, Array | None]:
        """See `Backend.apply_draws`: the same bits; the draws themselves are never stored."""
        some = multiplier or offset
        if some is None:
            return x, None
        (x,), key, number = self.contiguous(x), some.key, random.of_distribution(some.distribution)
        features, batch, kept = prod(x.shape[1:-1]), x.shape[-1], members_of(multiplier)
        population = max(len(x), kept, members_of(offset))
        y = self.xp.empty((population, *x.shape[1:]), x.dtype)
        m = self.xp.empty((kept, *x.shape[1:]), x.dtype) if keep and multiplier is not None else None
        if y.size:
            blocks = -(-features // 4)
            members = min(max(population * blocks // ENOUGH_BLOCKS, 1), SHARING)
            (_, parts), threads = by_sample(1, batch)
            sizes = (population, len(x), 0 if m is None else kept, features, batch, members)
            values = self._values(multiplier, offset, population, x.dtype)
            address = self._keys(key.seeds, population), self._ids(key.samples), self.set_epoch(key.epoch)
            struct = packed(np.uint32, *sizes, _word(multiplier), _word(offset), add_first, number)
            grid = blocks, parts, -(-population // members)
            launch = self.kernel("apply_draws", x.dtype, grid, threads)
            launch(x, y, y if m is None else m, values, *address, struct)
        return y, m

    def _keys(self, seeds: tuple[int, ...], population: int) -> Array:
        """Return the keys of a population's seeds on the device, (P, 2)."""
        keys = np.array([random.seed_key(seed) for seed in seeds], np.uint32)
        return self.constant(np.broadcast_to(keys if len(set(seeds)) > 1 else keys[:1], (population, 2)))

    def _values(self, multiplier: Draws | None, offset: Draws | None, population: int, dtype: Any) -> Array:
        """Return scale and shift of M and of D for each member, on the device: (4, P)."""
        values = np.zeros((4, population), dtype)
        for rows, draws in ((values[:2], multiplier), (values[2:], offset)):
            if draws is not None:
                rows[0], rows[1] = draws.scale, draws.shift
        return self.constant(values)

    # ---- optimiser --------------------------------------------------------------------------------------

    def adam_updates(
        self,
        parameters: list[Array],
        gradients: list[Array],
        first: list[Array],
        second: list[Array],
        constants: Sequence[float],
    ) -> None:
        """See `Backend.adam_updates`: the same bits, in one launch for up to 64 arrays."""
        if not all(array.flags.c_contiguous for array in (*parameters, *first, *second)):
            super().adam_updates(parameters, gradients, first, second, constants)  # one by one
            return
        there = self.set_constants(constants)
        gradients = self.contiguous(*gradients)
        for start in range(0, len(parameters), ARRAYS):
            groups = [arrays[start : start + ARRAYS] for arrays in (parameters, gradients, first, second)]
            sizes = [array.size for array in groups[0]]
            table = np.zeros((5, ARRAYS), np.uint64)
            for row, arrays in zip(table, groups, strict=False):
                row[: len(arrays)] = [array.data.ptr for array in arrays]
            table[4, : len(sizes)] = sizes
            grid = (min(-(-max(sizes) // FLAT), FLAT_BLOCKS), len(sizes))
            self.kernel("adam", groups[0][0].dtype, grid, FLAT)(packed(np.uint64, table), there)

    def adam_update(
        self, parameter: Array, gradient: Array, first: Array, second: Array, constants: Sequence[float]
    ) -> None:
        """See `Backend.adam_update`: the same bits."""
        if all(array.flags.c_contiguous for array in (parameter, first, second)):
            self.adam_updates([parameter], [gradient], [first], [second], constants)
        else:  # in place, whatever the layout
            super().adam_update(parameter, gradient, first, second, constants)

    def clip(self, w: Array, limit: float) -> None:
        """See `Backend.clip`: the same bits. (CuPy's own makes 0 of the smallest numbers.)"""
        if not w.flags.c_contiguous:
            super().clip(w, limit)
        elif w.size:
            launch = self.kernel("clip", w.dtype, *by_element(w.size, 1))
            launch(w, w.dtype.type(limit), np.int64(w.size))


def _word(draws: Draws | None) -> int:
    return ABSENT if draws is None else random.stream_word(draws.key.purpose, draws.key.site)
