"""The fast backend on a CPU: loops compiled by Numba, matrix products by BLAS."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np

from wn.backends.numba_kernels import products
from wn.backends.numpy import NumpyBackend
from wn.backends.work_arrays import WorkArrays

# Parts of a matrix product, one thread's work each. Which parts there are decides how BLAS rounds: they depend
# on the shapes of one member alone. docs/benchmarks.md has what was measured.
SAMPLES = 64  # columns of y and dx in a batch of up to 128
MORE_SAMPLES = 128  # and in larger ones
INPUTS = 392  # columns of dw: half of an MNIST image


class NumbaBackend(NumpyBackend):
    """NumPy's arrays, compiled loops; results agree with the NumPy backend's, noise bit by bit.

    Work is divided among `numba.get_num_threads()` processors; no result depends on how many there are.
    """

    name = "numba"

    def __init__(self) -> None:
        self._work = WorkArrays()
        self._depth = threading.local()
        self._gemm = {np.dtype(kind): products.gemm_address(kind is np.float32) for kind in FLOATS}

    @contextmanager
    def working(self, threads: int = 1) -> Iterator[None]:
        """Give the work of the calling thread so many processors, and its work arrays back at the end."""
        before = numba.get_num_threads()
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        try:
            yield
        finally:
            numba.set_num_threads(before)
            self._work.clear()
