"""How kernels are called on a CPU, and what they are given: noted where a step is recorded."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from wn.engine.backends.numba.kernels import products
from wn.engine.backends.numba.pace import Pace
from wn.engine.backends.numba.process import PROCESS
from wn.engine.backends.numba.recorded_calls import RecordedCalls
from wn.engine.backends.numba.work_arrays import WorkArrays
from wn.engine.backends.plain.base import Array, Backend
from wn.engine.backends.sealed import Sealed, SealedNamespace
from wn.engine.backends.threads import blas_is_held, single_threaded_blas

ARRAYS = (np.ndarray, Sealed)


class _Local(threading.local):
    """What each thread has of its own: the pace of its steps, and the step that it records."""

    pace: Pace | None = None
    recording: RecordedCalls | None = None


class KernelCalls(Backend):
    """A backend of kernels.

    Every kernel is called by `run`, every large array comes from `empty`, and only a `primitive` looks into
    arrays: so steps can be recorded.
    """

    def __init__(self) -> None:
        self._work = WorkArrays()
        self._local = _Local()
        self.gemm = {np.dtype(kind): products.gemm_address(kind) for kind in ("float32", "float64")}

    @property
    def xp(self) -> Any:  # type: ignore[override]  # an attribute of other backends
        """NumPy; while a step is recorded nothing can be done with it, since it could not be repeated."""
        recording = self._local.recording
        return np if recording is None else SealedNamespace(recording.refuse)

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """See `Backend.asarray`; an array of that dtype is returned as it is, also in a recorded step."""
        fits = isinstance(values, ARRAYS) and (dtype is None or values.dtype == dtype)
        return values if fits else self.xp.asarray(values, dtype=dtype)

    def not_repeatable(self, what: str) -> None:
        """See `Backend.not_repeatable`."""
        if self._local.recording is not None:
            self._local.recording.refuse(what)

    def run(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function that writes to some of its arguments; where a step is recorded, note the call."""
        recording = self._local.recording
        if recording is not None:
            recording.run(function, arguments)
        else:
            PROCESS.call(function, arguments)

    def run_blas(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a kernel that calls BLAS: threads of BLAS within those of the kernel might wait for ever."""
        if blas_is_held():  # as it is in a training
            self.run(function, *arguments)
        else:
            with single_threaded_blas():
                self.run(function, *arguments)

    def run_last(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function that changes what outlives a step; where one is recorded, at its end."""
        recording = self._local.recording
        if recording is not None:
            recording.run_last(function, arguments)
        else:
            PROCESS.call(function, arguments)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array whose contents are undefined, if it is large on memory that is used again."""
        recording = self._local.recording
        return (self._work if recording is None else recording.work).empty(shape, dtype)

    def contiguous(self, *arrays: Array) -> tuple[Array, ...]:
        """Return the arrays in the layout that kernels are compiled for, copied where they have another."""
        for array in arrays:  # no more than this in most calls: they come in every step
            if not array.flags.c_contiguous:
                self.not_repeatable("an array that has to be copied first")
                return tuple(np.ascontiguousarray(array) for array in arrays)
        return arrays
