"""The kernels of kernels.cu for CuPy: compiled when first asked for, and how large their launches are."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from wn.basics.errors import WnError

SOURCE = Path(__file__).with_name("kernels.cu")
NAMES_OF_TYPES = {"float32": "float", "float64": "double"}

SAMPLES = 128  # threads of a block that are samples, at most
REDUCING = 256  # threads that add up a row, at most; `block_sum` has room for so many
FLAT = 256  # threads of a block that go element by element
FLAT_BLOCKS = 4096  # blocks that go element by element through a member: each takes several elements then
LARGEST_GRID = 2**31 - 1  # blocks in a launch's first direction
# The errors by which CUDA's libraries say that there is no memory left, and the status with which they do
NO_MEMORY = {"CUDARuntimeError": 2, "CUDADriverError": 2, "CUBLASError": 3}

Grid = tuple[int, ...]


class Kernels:
    """The functions of kernels.cu, for float32 and float64."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._found: dict[tuple[str, str], Any] = {}

    def __call__(self, name: str, dtype: Any, grid: Grid, threads: int) -> Callable[..., None]:
        """Return the launch of a kernel, for arrays of the device, NumPy scalars and `packed` structs."""
        if grid[0] > LARGEST_GRID:
            raise WnError(
                f"kernel {name} would need {grid[0]} blocks, and a GPU launches {LARGEST_GRID} at most: "
                "use smaller images, or fewer networks side by side"
            )
        with memory_errors():
            kernel = self._found.get((name, np.dtype(dtype).name)) or self._loaded(name, np.dtype(dtype).name)

        def launch(*arguments: Any) -> None:
            with memory_errors():
                kernel(grid, (threads,), arguments)

        return launch

    def _loaded(self, name: str, dtype: str) -> Any:
        """Load all kernels of a dtype at once: so memory does not end for one in the middle of a step."""
        cuda = self._cupy.cuda
        module = cuda.Module()
        module.load(compiled(cuda.nvrtc, dtype, int(cuda.Device().compute_capability)))
        names = names_in(SOURCE.read_text(encoding="utf-8"))
        self._found.update({(one, dtype): module.get_function(one) for one in names})
        return self._found[name, dtype]


def names_in(source: str) -> list[str]:
    """Return the names of the kernels of a text like kernels.cu."""
    return re.findall(r"^KERNEL (?:__launch_bounds__\(.*\)\s+)?(\w+)\(", source, re.MULTILINE)


def compiled(nvrtc: Any, dtype: str, capability: int) -> bytes:
    """Return kernels.cu for GPUs of that compute capability (90: 9.0), as PTX if NVRTC does not know it.

    CuPy's RawModule is no way to do it: it adds -ftz=true, which makes 0 of what NumPy rounds to 1e-40.
    """
    known = max((known for known in nvrtc.getSupportedArchs() if known <= capability), default=capability)
    own = known == capability
    options = "--std=c++17", f"-DREAL={NAMES_OF_TYPES[dtype]}", f"-arch={'sm' if own else 'compute'}_{known}"
    program = nvrtc.createProgram(SOURCE.read_text(encoding="utf-8"), SOURCE.name, (), ())
    try:
        nvrtc.compileProgram(program, options)
        return bytes(nvrtc.getCUBIN(program) if own else nvrtc.getPTX(program))
    except nvrtc.NVRTCError as error:
        raise RuntimeError(f"NVRTC does not compile kernels.cu: {nvrtc.getProgramLog(program)}") from error
    finally:
        nvrtc.destroyProgram(program)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Make a MemoryError of what CUDA's libraries raise where memory ends: CuPy's pools alone do so already.

    They take memory themselves: for a module, a handle of cuBLAS, a graph, and what a graph takes as it runs.
    """
    try:
        yield
    except RuntimeError as error:
        status = getattr(error, "status", None)
        if status is None or NO_MEMORY.get(type(error).__name__) != status:
            raise
        raise MemoryError(str(error)) from error


def packed(dtype: Any, *values: Any) -> Any:
    """Return numbers, or an array of them, of one type as a struct that is passed to a kernel by value."""
    flat = np.array(values, dtype).reshape(-1)
    return flat.view(_struct(flat.dtype.str, flat.size))


@cache
def _struct(dtype: str, count: int) -> np.dtype[Any]:
    return np.dtype([("values", dtype, (count,))])


# ---- launch sizes -------------------------------------------------------------------------------------


def by_sample(rows: int, batch: int) -> tuple[Grid, int]:
    """Return grid and threads where a block has a row, and its threads are samples."""
    threads = min(-(-batch // 32) * 32, SAMPLES)
    return (rows, -(-batch // threads)), threads


def by_element(size: int, members: int) -> tuple[Grid, int]:
    """Return grid and threads where a thread takes elements of a member."""
    return (min(-(-size // FLAT), FLAT_BLOCKS), members), FLAT


def reducing(size: int) -> int:
    """Return the threads that add up a row of so many values: a power of two."""
    return min(1 << max(size - 1, 31).bit_length(), REDUCING)
