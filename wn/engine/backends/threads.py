"""BLAS in one thread: work is divided above it, and no bits depend on how many threads BLAS would take.

Whatever calls BLAS holds it to one thread itself – the passes of a network, kernels with products, repeated
steps –, so every way in does. Whoever does so often holds it around all of it: then it costs next to nothing.
"""

import os
import sys
from contextlib import AbstractContextManager
from functools import cache
from threading import Lock, local
from typing import Any

from threadpoolctl import ThreadpoolController

BRING_BLAS = ("numpy", "scipy.linalg.cython_blas", "torch")


class _Limit:
    """BLAS's number of threads belongs to the process: the first to ask sets it, the last one restores it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.holders = 0
        self.thread = local()
        self.restore: list[tuple[Any, int]] = []  # libraries, and how many threads they had

    def enter(self) -> None:
        """Set every library to one thread."""
        with self.lock:
            if self.holders == 0:
                found = ((library, library.get_num_threads()) for library in _libraries(*_loaded()))
                self.restore = [(library, threads) for library, threads in found if threads != 1]
                for library, _ in self.restore:
                    _set_threads(library, 1)
            self.holders += 1

    def leave(self) -> None:
        """Give every library the threads that it had."""
        with self.lock:
            self.holders -= 1
            if self.holders == 0:
                for library, threads in self.restore:
                    _set_threads(library, threads)

    def after_fork(self) -> None:
        """Make the lock anew, which another thread may have held; the numbers stay as they were."""
        self.lock = Lock()


_limit = _Limit()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_limit.after_fork)


def _set_threads(library: Any, threads: int) -> None:
    """Set a library's number of threads, whichever thread set it before.

    threadpoolctl (from 3.8 on) listens to the first thread that set it, and ignores all others without a word
    as long as that one lives. Here a lock sees to it that no two fight.
    """
    anyone = getattr(library, "clear_controlling_thread", lambda force: None)
    anyone(force=True)
    library.set_num_threads(threads)
    anyone(force=True)  # limits of the user's own, in other threads, can be set and taken back


def _loaded() -> tuple[bool, ...]:
    """For each module that brings a BLAS, whether it is loaded."""
    return tuple(name in sys.modules for name in BRING_BLAS)


@cache
def _libraries(*_loaded: bool) -> list[Any]:
    """Return the BLAS libraries of the process: looked for once, and again when more may have been loaded."""
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


class _Hold:
    """A hold on BLAS's threads; within another one of the same thread it has nothing to do."""

    __slots__ = ("_limit", "_state")

    def __enter__(self) -> None:
        self._limit, self._state = _limit, vars(_limit.thread)
        if self._state.get("holds"):
            self._state = {}
        else:
            self._limit.enter()
            self._state["holds"] = True

    def __exit__(self, *_: object) -> None:
        if self._state:  # perhaps in another thread: a generator may end anywhere
            self._state["holds"] = False
            self._limit.leave()


def single_threaded_blas() -> AbstractContextManager[None]:
    """Hold every BLAS call of the process to one thread; may be nested, and entered by several threads."""
    return _Hold()


def blas_is_held() -> bool:
    """Whether the calling thread holds BLAS to one thread already."""
    return bool(vars(_limit.thread).get("holds"))


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
