"""What Numba's threads ask of a process: that they can be started, who may call them, and what a fork leaves.

Numba has three threading layers. `omp` and `tbb` may be called by several threads at once, and not at all in
a process that was forked after they had been started: it would be killed, or wait for ever. `workqueue` bears
a fork, and no second thread: it ends the process.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import numba
import numpy as np

from wn.basics.errors import WnError
from wn.engine.backends.numba.kernels import elementwise

ONE_AT_A_TIME = "workqueue"
SETTINGS = ("NUMBA_THREADING_LAYER", "NUMBA_THREADING_LAYER_PRIORITY", "NUMBA_NUM_THREADS")
FORKED = (
    "this process was forked from one that computes in threads, which it has not got: start processes with "
    'multiprocessing.get_context("spawn"), or use backend numpy in them'
)


class _Process:
    """How kernels may be called in this process."""

    def __init__(self) -> None:
        self.plain = False  # whether nothing has to be looked at: threads are there, for any caller
        self.layer = ""  # Numba's threading layer, once it is started
        self.forked = False
        self.lock = RLock()

    def call(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Call what calls kernels."""
        if self.plain:
            function(*arguments)
        else:
            with self.calling():
                function(*arguments)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Enclose calls of kernels: in turn with other threads, where Numba's layer bears one caller only."""
        self.start()
        if self.layer == ONE_AT_A_TIME:
            with self.lock:
                yield
        else:
            yield

    def start(self) -> None:
        """Start Numba's threads, if need be; WnError where they can't be, and in a process without them."""
        if self.forked:
            raise WnError(FORKED)
        with self.lock:
            if not self.layer:
                self.layer = _started_layer()
                self.plain = self.layer != ONE_AT_A_TIME

    def after_fork(self) -> None:
        """Take note that this is a new process: it has none of the threads that the old one had started."""
        self.lock = RLock()  # another thread may have held it
        try:
            layer = numba.threading_layer()  # someone else may have started it
        except ValueError:  # nobody has: it can be started here
            return
        if layer != ONE_AT_A_TIME:
            self.forked, self.plain = True, False


def _started_layer() -> str:
    """Start Numba's threads and return the name of their layer."""
    try:
        elementwise.relu(np.zeros(1, np.float32), np.zeros(1, np.float32))  # the layer is chosen at first use
        return str(numba.threading_layer())
    except (ValueError, RuntimeError, ImportError) as error:
        given = ", ".join(f"{name}={os.environ[name]}" for name in SETTINGS if name in os.environ)
        reason = " ".join(str(error).split())
        raise WnError(f"backend numba can't start its threads ({given or 'no settings'}): {reason}") from None


PROCESS = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PROCESS.after_fork)
