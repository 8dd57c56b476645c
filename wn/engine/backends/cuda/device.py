"""Whether there is a GPU to compute on, found out without importing CuPy, which takes a second."""

import ctypes
import os
import sys
import weakref
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Any

from wn.basics.errors import WnError

DISTRIBUTIONS = ("cupy-cuda12x", "cupy-cuda13x", "cupy")
INSTALL = "pip install 'walking-noise[gpu]' for CUDA 12, or pip install 'cupy-cuda13x[ctk]' for CUDA 13"
LIBRARIES = (
    "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', whichever of the two is installed, "
    "or update NVIDIA's driver"
)
FORKED = (
    "this process was forked from one that uses a GPU, where CUDA can't be used: start processes with "
    'multiprocessing.get_context("spawn"), or use backend numpy in them'
)


def missing() -> str | None:
    """The first thing that the CuPy backend lacks here, and its cure; None if it seems to lack nothing."""
    if find_spec("cupy") is None:
        return f"CuPy is not installed: {INSTALL}"
    if gpu_count() == 0:
        return (
            "no NVIDIA GPU answers: it needs a GPU that CUDA_VISIBLE_DEVICES does not hide, and "
            "NVIDIA's driver (nvidia-smi lists both); without one use --backend numba"
        )
    return None


@cache
def gpu_count() -> int:
    """The number of GPUs that NVIDIA's driver offers to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


def distributions() -> tuple[str, ...]:
    """The names under which CuPy is installed: it has one for each version of CUDA."""
    found = []
    for name in DISTRIBUTIONS:
        with suppress(PackageNotFoundError):
            found.append(distribution(name).metadata["Name"])
    return tuple(found)


def check(name: str) -> None:
    """Raise WnError, one line, if a backend on a GPU can't be used here; CuPy is not imported for it."""
    reason = missing()
    if reason is not None:
        raise _unusable(name, reason)


def import_cupy(name: str) -> Any:
    """Return the module `cupy`, after a look at all that the backend of that name needs of it.

    Raises WnError, one line with what is missing and how to get it.
    """
    reason = missing()
    if reason is None:
        try:
            import cupy

            _ask_libraries(cupy)
        except Exception as error:  # of many kinds: ImportError, CUDARuntimeError, RuntimeError
            first = str(error).strip().partition("\n")[0] or type(error).__name__
            reason = f"CuPy does not find what it needs of CUDA ({first}): {LIBRARIES}"
        else:
            return cupy
    raise _unusable(name, reason)


class _Gone:
    """What a forked process has in place of a GPU: CUDA does not work in one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise WnError(FORKED)

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise WnError(FORKED)


def not_in_forks(be: Any) -> None:
    """Let the backend raise WnError in processes that are forked from this one."""
    backend = weakref.ref(be)

    def after_fork() -> None:
        found = backend()
        if found is not None:
            found.xp = found._kernel = found._own = _Gone()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=after_fork)


def _unusable(name: str, reason: str) -> WnError:
    return WnError(f"backend {name} can't be used: {reason}")


def _ask_libraries(cupy: Any) -> tuple[Any, ...]:
    """Ask each library of CUDA that is needed for something: one that is not there raises an error.

    cuBLAS is an attribute of `cupy.cuda` that is loaded when it is asked for, and no module to be imported.
    """
    cuda = cupy.cuda
    return cuda.runtime.getDeviceCount(), cuda.nvrtc.getVersion(), cuda.cublas, cuda.Device().cublas_handle
