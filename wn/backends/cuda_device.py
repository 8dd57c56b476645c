"""Whether there is a GPU to compute on, found out without importing CuPy, which takes a second."""

import ctypes
import sys
from functools import cache
from importlib.util import find_spec
from typing import Any

from wn.errors import WnError

INSTALL = "pip install 'wn[gpu]' for CUDA 12, or pip install 'cupy-cuda13x[ctk]' for CUDA 13"
LIBRARIES = "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', whichever of the two is installed"


def missing() -> str | None:
    """Return what the CuPy backend lacks here, and how to get it; None if nothing is known to be missing."""
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
    """Return how many GPUs NVIDIA's driver offers to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


def import_cupy() -> Any:
    """Return the module `cupy`, after a look at all that the backend needs of it.

    Raises WnError, one line with what is missing and how to get it.
    """
    reason = missing()
    if reason is None:
        try:
            import cupy
            import cupy.cuda.cublas  # a library that is not there is noticed here

            cupy.cuda.nvrtc.getVersion()  # and here
            cupy.cuda.runtime.getDeviceCount()
        except Exception as error:  # of many kinds: ImportError, CUDARuntimeError, RuntimeError
            first = str(error).strip().partition("\n")[0] or type(error).__name__
            reason = f"CuPy does not find what it needs of CUDA ({first}): {LIBRARIES}"
        else:
            return cupy
    raise WnError(f"backend cupy can't be used: {reason}")
