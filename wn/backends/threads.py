"""BLAS in one thread: work is divided above it, and no bits depend on how many threads BLAS would take."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

SCIPY_BLAS = "scipy.linalg.cython_blas"


class _Limit:
    """BLAS's number of threads belongs to the process: the first to ask sets it, the last one restores it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.holders = 0
        self.limits: Any = None


_limit = _Limit()


@cache
def _libraries(with_scipy: bool) -> ThreadpoolController:
    """Return the BLAS libraries of the process: looked for once, and again when SciPy's has been loaded."""
    return ThreadpoolController()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold every BLAS call of the process to one thread; may be nested, and entered by several threads."""
    with _limit.lock:
        if _limit.holders == 0:
            _limit.limits = _libraries(SCIPY_BLAS in sys.modules).limit(limits=1, user_api="blas")
        _limit.holders += 1
    try:
        yield
    finally:
        with _limit.lock:
            _limit.holders -= 1
            if _limit.holders == 0 and _limit.limits is not None:
                _limit.limits.restore_original_limits()
