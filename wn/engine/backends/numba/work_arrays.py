"""Memory that is used again: large arrays of a training step, without asking the system for them every time.

The system hands large blocks out as untouched pages and takes them back when they are freed: writing to them
for the first time then costs more than the computation that fills them.
"""

import sys
import threading
from bisect import bisect_left
from math import prod
from typing import Any

import numpy as np

SMALL = 1 << 16  # bytes; below this NumPy's own allocation is fast
CACHE_LINE = 64  # bytes; loops over arrays that begin at one are 12 to 17 % faster than 16 bytes off


class WorkArrays(threading.local):
    """Blocks of memory, each thread its own; a block is free when no array but the pool's own refers to it.

    An array on a block, and every view of such an array, holds a reference to the block. So an array can be
    kept as long as anyone likes, and its memory is used again only after the last view of it is gone.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []  # ascending
        self.offsets: list[int] = []  # of the first cache line in each block
        self.blocks: list[Any] = [np.empty(1, np.uint8)]
        self.idle = self._references(0)
        self.blocks.clear()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return an array whose contents are undefined."""
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        if size < SMALL:
            return np.empty(shape, dtype)
        index = self._free_block(size)
        return np.ndarray(shape, dtype, self.blocks[index], self.offsets[index])

    def unowned(self, value: Any) -> Any:
        """Return an array on a block as one that does not keep the block from being used again.

        Anything else is returned as it is. Whoever keeps the result keeps this object too.
        """
        if not isinstance(value, np.ndarray):
            return value
        owner = value
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        if not any(owner is block for block in self.blocks):
            return value
        return np.asarray(_Memory(value.__array_interface__))

    def clear(self) -> None:
        """Give back the blocks; arrays on them stay valid."""
        self.sizes.clear()
        self.offsets.clear()
        self.blocks.clear()

    def _free_block(self, size: int) -> int:
        """Return the number of a free block of `size` to twice as many bytes, a new one if there is none."""
        first = bisect_left(self.sizes, size)
        for index in range(first, len(self.sizes)):
            if self.sizes[index] > 2 * size:
                break
            if self._references(index) == self.idle:
                return index
        self.sizes.insert(first, size)
        block = np.empty(size + CACHE_LINE, np.uint8)
        self.offsets.insert(first, -block.ctypes.data % CACHE_LINE)
        self.blocks.insert(first, block)
        return first

    def _references(self, index: int) -> int:
        return sys.getrefcount(self.blocks[index])


class _Memory:
    """A place in memory that NumPy makes an array of, without knowing whose it is."""

    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface
