"""How the kernels are compiled: decorators, and which liberties with rounding a kernel may take.

Compiled code is kept on disk (`kept`), and is valid for the sources that it was made from.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core import event

from wn.basics.errors import WnError
from wn.engine.backends.numba.kernels import kept

Function = TypeVar("Function", bound=Callable[..., Any])

# a·b + c rounded once instead of twice: more precise, and the same at every place of an array.
FUSED = frozenset({"contract"})
# Sums may also be taken in lanes: their order is fixed at compile time, and depends on lengths alone.
SUMS = frozenset({"contract", "reassoc"})
NOTHING: frozenset[str] = frozenset()


log = logging.getLogger("wn")

if numba.config.DISABLE_JIT:
    raise WnError("NUMBA_DISABLE_JIT is set: loops would not be compiled; unset it, or use --backend numpy")


class _Announcer(event.Listener):  # type: ignore[misc]  # Numba has no types
    """Says once that kernels are being compiled: Numba is silent about it, and it takes a while."""

    def __init__(self) -> None:
        self.told = False

    def on_start(self, event: Any) -> None:
        """Called where a kernel is compiled, not where it is read from disk."""
        module = event.data["dispatcher"].py_func.__module__ or ""  # None for code made at run time
        if not self.told and module.startswith("wn."):
            self.told = True
            log.info("compiling loops for this processor: once, for a minute or two; they are kept on disk")

    def on_end(self, event: Any) -> None:
        """Nothing is said at the end: other kernels follow."""


event.register("numba:compile", _Announcer())


def parallel(fastmath: frozenset[str] = NOTHING) -> Callable[[Function], Function]:
    """Compile a kernel whose `prange` loops run on Numba's threads; each item is one thread's work alone."""
    return _decorator(parallel=True, fastmath=fastmath)


def serial(fastmath: frozenset[str] = NOTHING) -> Callable[[Function], Function]:
    """Compile a function that runs in one thread: a small kernel, or a part of a parallel one."""
    return _decorator(parallel=False, fastmath=fastmath)


def _decorator(parallel: bool, fastmath: frozenset[str]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        compiled: Function = numba.njit(
            nogil=True, error_model="numpy", parallel=parallel, fastmath=set(fastmath) or False
        )(function)
        kept.on_disk(compiled)
        return compiled

    return decorate
