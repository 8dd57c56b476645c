"""How the kernels are compiled: decorators, and which liberties with rounding a kernel may take.

Numba keeps compiled code on disk and looks at the file of a kernel alone to see whether it is still valid:
functions that a kernel calls stand in the same file, or in one that hardly ever changes.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

# a·b + c rounded once instead of twice: more precise, and the same at every place of an array.
FUSED = frozenset({"contract"})
# Sums may also be taken in lanes: their order is fixed at compile time, and depends on lengths alone.
SUMS = frozenset({"contract", "reassoc"})
NOTHING: frozenset[str] = frozenset()


def parallel(fastmath: frozenset[str] = NOTHING) -> Callable[[Function], Function]:
    """Compile a kernel whose `prange` loops run on Numba's threads; each item is one thread's work alone."""
    return _decorator(parallel=True, fastmath=fastmath)


def serial(fastmath: frozenset[str] = NOTHING) -> Callable[[Function], Function]:
    """Compile a function that runs in one thread: a small kernel, or a part of a parallel one."""
    return _decorator(parallel=False, fastmath=fastmath)


def _decorator(parallel: bool, fastmath: frozenset[str]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        compiled: Function = numba.njit(
            cache=True, nogil=True, error_model="numpy", parallel=parallel, fastmath=set(fastmath) or False
        )(function)
        return compiled

    return decorate
