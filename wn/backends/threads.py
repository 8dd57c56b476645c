"""BLAS in one thread: work is divided above it, and no bits depend on how many threads BLAS would take."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from threadpoolctl import threadpool_limits


class _Limit:
    """BLAS's number of threads belongs to the process: the first to ask sets it, the last one restores it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.holders = 0
        self.limits: threadpool_limits | None = None


_limit = _Limit()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold every BLAS call of the process to one thread; may be nested, and entered by several threads."""
    with _limit.lock:
        if _limit.holders == 0:
            _limit.limits = threadpool_limits(limits=1, user_api="blas")
        _limit.holders += 1
    try:
        yield
    finally:
        with _limit.lock:
            _limit.holders -= 1
            if _limit.holders == 0 and _limit.limits is not None:
                _limit.limits.restore_original_limits()
