"""kernels.cu built by a C++ compiler of this machine, for float32 and float64; see host.h."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from wn.engine.backends.cuda.kernels import NAMES_OF_TYPES, SOURCE, names_in

HEADER = Path(__file__).with_name("host.h")
COMPILER = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "g++", "c++", "clang++"))), None)
NO_COMPILER = "kernels.cu is tested by building it with a C++ compiler: none is installed (g++, clang++)"
FLAGS = (
    "-std=c++17",
    "-O1",
    "-U_FORTIFY_SOURCE",  # its check of jumps does not know stacks of our own
    "-ffp-contract=off",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wno-unknown-pragmas",
)

Argument = Any  # an array, a NumPy scalar, or a struct as `packed` makes it


class HostKernel:
    """One kernel: its argument types, and how it is launched."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self.name = name
        self._launch = getattr(library, f"launch_{name}")
        types = getattr(library, f"types_{name}")
        types.restype = ctypes.c_char_p
        self.types: list[str] = types().decode().strip(",").split(",")

    def __call__(
        self, grid: tuple[int, ...], threads: int, arguments: tuple[Argument, ...], backwards: bool = False
    ) -> None:
        """Launch it; what CUDA would not notice, arguments of another type, is an AssertionError."""
        assert len(arguments) == len(self.types), (
            f"{self.name} takes {self.types}, not {len(arguments)} arguments"
        )
        pointers = [self._pointer(*pair) for pair in zip(arguments, self.types, strict=True)]
        sizes = (ctypes.c_uint * 4)(*(*grid, 1, 1)[:3], threads)
        assert min(sizes) > 0, f"{self.name}: a grid of {grid} blocks of {threads} threads can't be launched"
        assert max(sizes[1:3]) < 2**16, f"{self.name}: a grid of {grid} blocks can't be launched"
        assert threads <= 1024
        array = (ctypes.c_void_p * len(pointers))(*(ctypes.addressof(pointer) for pointer in pointers))
        assert self._launch(array, sizes, int(backwards)) == 0, f"{self.name}: some threads wait, others end"

    def _pointer(self, argument: Argument, kind: str) -> Any:
        """The address of the argument's value, as CUDA wants it."""
        if kind.startswith(("read ", "write ")):
            assert isinstance(argument, np.ndarray), f"{self.name} takes an array ({kind}), not {argument!r}"
            assert argument.dtype.name == kind.split()[1], f"{self.name} takes {kind}, not {argument.dtype}"
            assert argument.flags.c_contiguous, f"{self.name} takes contiguous arrays"
            return ctypes.c_void_p(argument.ctypes.data)
        size = int(kind.removeprefix("struct ")) if kind.startswith("struct ") else np.dtype(kind).itemsize
        dtype = argument.dtype
        assert (dtype.names is not None) == kind.startswith("struct "), f"{self.name} takes {kind}"
        assert dtype.names is not None or dtype.name == kind, f"{self.name} takes {kind}, not {dtype}"
        assert dtype.itemsize == size, f"{self.name} takes {kind}, not {dtype.itemsize} bytes"
        return (ctypes.c_char * size).from_buffer_copy(argument.tobytes())


def library(dtype: str) -> dict[str, HostKernel]:
    """Return the kernels of kernels.cu for float32 or float64, by name."""
    return built(dtype, "")


@cache
def built(dtype: str, more: str) -> dict[str, HostKernel]:
    """Return the kernels of kernels.cu, or of another text that uses its macros; they are built once."""
    assert COMPILER is not None, NO_COMPILER
    source = SOURCE.read_text(encoding="utf-8")
    source = source if not more else source[: source.index("// ---- arithmetic")] + more
    names = names_in(source)
    whole = f"#define REAL {NAMES_OF_TYPES[dtype]}\n{HEADER.read_text(encoding='utf-8')}\n{source}\n"
    whole += "".join(f"ENTRY({name})\n" for name in names)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.cpp")
        path.write_text(whole, encoding="utf-8")
        command = [str(COMPILER), *FLAGS, "-o", f"{folder}/kernels.so", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        loaded = ctypes.CDLL(f"{folder}/kernels.so")
    return {name: HostKernel(loaded, name) for name in names}
