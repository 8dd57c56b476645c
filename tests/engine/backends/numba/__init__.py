"""Tests of the compiled kernels, each against the NumPy backend."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np

DTYPES = [np.float32, np.float64]


def blank(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array to write to: NaN stays where a kernel forgets to."""
    return np.full(shape, np.nan, dtype)


def same_bits(first: Any, second: Any) -> bool:
    return bool(first.dtype == second.dtype and first.shape == second.shape) and (
        first.tobytes() == second.tobytes()
    )


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = numba.get_num_threads()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def check_threads(compute: Callable[[], tuple[Any, ...]]) -> None:
    """Assert that what `compute` returns has the same bits with one thread and with two."""
    with threads(1):
        alone = compute()
    with threads(2):
        together = compute()
    assert all(same_bits(first, second) for first, second in zip(alone, together, strict=True))
