"""A stand-in for CuPy where there is no GPU: NumPy's functions on `fake_device`, kernels of the host."""

import ctypes
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from tests.engine.backends.cuda import host
from tests.engine.backends.cuda.fake_device import (
    DEVICE,
    CUDARuntimeError,
    DeviceArray,
    OutOfMemoryError,
    Pool,
    call,
    on_device,
    unwrapped,
)
from wn.engine.backends.cuda import device as cuda_device

OF_THE_HOST = {"finfo", "iinfo", "result_type", "issubdtype", "dtype", "shape", "ndim", "errstate"}
HANDLE = 7  # of cuBLAS


# ---- functions --------------------------------------------------------------------------------------------


def asarray(values: Any, dtype: Any = None) -> DeviceArray:
    """Return an array of the device; one of the host crosses."""
    if isinstance(values, DeviceArray):
        found: DeviceArray = call(np.asarray, (values, dtype), {})
        return found
    array = np.asarray(values, dtype)
    DEVICE.cross(DEVICE.crossed.to_device, array.size)
    sent: DeviceArray = on_device(array.copy(), array.copy)
    return sent


def asnumpy(array: Any) -> Any:
    """Return an array of the host."""
    return array.get() if isinstance(array, DeviceArray) else np.asarray(array)


def empty(shape: Any, dtype: Any = float) -> DeviceArray:
    """Return an array that nobody has written to."""
    return DeviceArray(DEVICE.allocate((shape,) if isinstance(shape, int) else tuple(shape), dtype))


def empty_like(array: DeviceArray) -> DeviceArray:
    """Return an array like another, that nobody has written to."""
    return empty(array.shape, array.dtype)


def as_strided(array: DeviceArray, *arguments: Any) -> DeviceArray:
    """Return a view with other strides."""
    view: DeviceArray = call(np.lib.stride_tricks.as_strided, (array, *arguments), {})
    return view


# ---- kernels and products ---------------------------------------------------------------------------------


class Nvrtc:
    """NVRTC: programs are numbers, and what kernels.cu becomes is the name of its type."""

    class NVRTCError(RuntimeError):
        """A program does not compile."""

    def __init__(self) -> None:
        self.options: dict[int, tuple[str, ...]] = {}

    def getVersion(self) -> tuple[int, int]:
        """The version number."""
        return 13, 0

    def getSupportedArchs(self) -> tuple[int, ...]:
        """Return the compute capabilities that it knows."""
        return 75, 80, 90

    def createProgram(self, code: str, name: str, headers: tuple[str, ...], names: tuple[str, ...]) -> int:
        """Return a program."""
        assert (code, headers, names) == (host.SOURCE.read_text(encoding="utf-8"), (), ())
        self.options[len(self.options)] = ()
        return len(self.options) - 1

    def compileProgram(self, program: int, options: tuple[str, ...]) -> None:
        """Compile it; options that make other numbers of small ones are an AssertionError."""
        assert not [option for option in options if "ftz" in option or "fast" in option]
        if "-arch=sm_90" not in options:
            raise self.NVRTCError("NVRTC_ERROR_INVALID_OPTION (5)")
        self.options[program] = options

    def getCUBIN(self, program: int) -> bytes:
        """The compiled code: the dtype it is for stands for it."""
        (real,) = (one.removeprefix("-DREAL=") for one in self.options[program] if one.startswith("-DREAL="))
        (dtype,) = (name for name, kind in host.NAMES_OF_TYPES.items() if kind == real)
        return dtype.encode()

    def getProgramLog(self, program: int) -> str:
        """The log of the compiler."""
        return "nvrtc: error: invalid value for --gpu-architecture (-arch)"

    def destroyProgram(self, program: int) -> None:
        """Forget it."""
        del self.options[program]


class Module:
    """Compiled kernels."""

    def load(self, code: bytes) -> None:
        """Take them from what NVRTC made."""
        self.dtype = code.decode()

    def get_function(self, name: str) -> Callable[..., None]:
        """Return a kernel."""
        kernel = host.library(self.dtype)[name]

        def launch(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
            given = tuple(value.there if isinstance(value, DeviceArray) else value for value in arguments)
            (threads,) = block
            DEVICE.launches.append(name)
            DEVICE.do(lambda: kernel(grid, threads, given, DEVICE.backwards))
            for value in arguments:
                if isinstance(value, DeviceArray):
                    DEVICE.check_guards(value.there)

        return launch


def gemm(
    *sizes: int,  # handle, are B and A transposed, columns of C, rows of C, the sum's length, its factor
) -> None:
    """cublasGemmStridedBatchedEx: C = op(A) op(B) as cuBLAS sees them, first columns, then rows."""
    handle, transpose_a, transpose_b, m, n, k, alpha, *rest = sizes
    a, kind, lda, step_a, b, kind_b, ldb, step_b, beta, c, kind_c, ldc, step_c, *rest = rest
    count, compute, algorithm = rest
    assert (handle, algorithm, kind_b, kind_c) == (HANDLE, CUBLAS["CUBLAS_GEMM_DEFAULT"], kind, kind)
    dtype = np.dtype((np.float32, np.float64)[kind])
    assert compute in ((68, 77), (70,))[kind]
    factors = [
        np.frombuffer((ctypes.c_char * dtype.itemsize).from_address(p), dtype)[0] for p in (alpha, beta)
    ]
    assert factors == [1, 0]
    shape_a, shape_b = ((k, m) if transpose_a else (m, k)), ((n, k) if transpose_b else (k, n))
    left, right = (
        _matrices(a, dtype, shape_a, lda, step_a, count),
        _matrices(b, dtype, shape_b, ldb, step_b, count),
    )
    result = _matrices(c, dtype, (m, n), ldc, step_c, count)
    left = left.transpose(0, 2, 1) if transpose_a else left
    right = right.transpose(0, 2, 1) if transpose_b else right
    DEVICE.launches.append("gemm")
    DEVICE.do(lambda: result.__setitem__(..., left @ right))


def _matrices(address: int, dtype: Any, shape: tuple[int, int], leading: int, step: int, count: int) -> Any:
    """Return matrices in memory (count, rows, columns), columns first; they must lie within one array."""
    rows, columns = shape
    assert leading >= rows
    last = (count - 1) * step + (columns - 1) * leading + rows  # elements
    inside = (
        start + 64 <= address and address + last * dtype.itemsize <= start + 64 + size
        for start, (_, size) in DEVICE.blocks.items()
    )
    assert any(inside), "cuBLAS would leave the array"
    memory = np.frombuffer((ctypes.c_char * (last * dtype.itemsize)).from_address(address), dtype)
    strides = (step * dtype.itemsize, dtype.itemsize, leading * dtype.itemsize)
    return np.lib.stride_tricks.as_strided(memory, (count, rows, columns), strides)


CUBLAS = {
    "CUBLAS_COMPUTE_32F": 68,
    "CUBLAS_COMPUTE_32F_FAST_TF32": 77,
    "CUBLAS_COMPUTE_64F": 70,
    "CUBLAS_GEMM_DEFAULT": -1,
}


# ---- streams, graphs, memory ------------------------------------------------------------------------------


class Graph:
    """What was recorded."""

    def __init__(self, operations: list[Callable[[], None]], kept: list[Any]) -> None:
        self.operations, self.kept = operations, kept

    def launch(self, stream: Any = None) -> None:
        """Do it again."""
        DEVICE.launches.append("graph")
        for operation in self.operations:
            operation()


class Stream:
    """A stream; while it records, what is done is undone at the end, since a GPU would not do it."""

    current: list["Stream"] = []  # noqa: RUF012 – the stack of streams of this process
    numbers = iter(range(10, 10**9))

    def __init__(self, non_blocking: bool = False, ptr: int | None = None) -> None:
        self.ptr = next(Stream.numbers) if ptr is None else ptr

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __enter__(self) -> "Stream":
        Stream.current.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        Stream.current.pop()

    def synchronize(self) -> None:
        """Wait."""
        if DEVICE.recording is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: waiting while steps are recorded")

    def begin_capture(self) -> None:
        """Record from now on."""
        if self.ptr == 0 or DEVICE.recording is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")
        blocks = [reference() for reference, _ in DEVICE.blocks.values()]
        self.before = [(whole, whole.copy()) for whole in blocks if whole is not None]
        DEVICE.recording, DEVICE.kept = [], []

    def end_capture(self) -> Graph:
        """The recorded graph; the device's memory is as before."""
        if DEVICE.recording is None:
            raise CUDARuntimeError("cudaErrorIllegalState")
        graph = Graph(DEVICE.recording, DEVICE.kept)
        DEVICE.recording, DEVICE.kept = None, []
        for whole, contents in self.before:
            whole[...] = contents
        self.before = []
        return graph


class Event:
    """A point in time: work on the fake is done when the call returns."""

    def record(self, stream: Any = None) -> None:
        """Take the time."""
        self.time = time.perf_counter()


def get_elapsed_time(start: Event, end: Event) -> float:
    """Return the time between two events, in milliseconds."""
    return 1e3 * (end.time - start.time)


class MemoryPool:
    """A pool; of its memory `fake_device.Pool` keeps the account, and CuPy's default one keeps nothing."""

    def __init__(self, allocator: Callable[[int], Any] | None = None) -> None:
        self.account = Pool()
        weakref.finalize(self, self.account.end).atexit = False

    def malloc(self, size: int) -> Any:
        """Is not called by the fake."""
        raise NotImplementedError

    def free_all_blocks(self) -> None:
        """Give back what is free."""
        self.account.give_back()

    def free_bytes(self) -> int:
        """There are none."""
        return 0


class GpuDevice:
    """The one GPU."""

    cublas_handle, id, compute_capability = HANDLE, 0, "90"

    @property
    def mem_info(self) -> tuple[int, int]:
        """Free memory, and all."""
        return DEVICE.limit - DEVICE.used, DEVICE.limit


@contextmanager
def using_allocator(allocator: Any = None) -> Iterator[None]:
    """Take memory from the pool that `allocator` is of."""
    assert allocator is not None
    before, DEVICE.pool = DEVICE.pool, allocator.__self__.account
    try:
        yield
    finally:
        DEVICE.pool = before


NULL = Stream(ptr=0)
Stream.null = NULL  # type: ignore[attr-defined]  # as CuPy has it
POOL = MemoryPool()


class FakeCupy(ModuleType):
    """The module `cupy`: what is not named here is NumPy's, on arrays of the device."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found) or name in OF_THE_HOST:
            return found
        return lambda *arguments, **named: call(found, arguments, named)


def modules() -> dict[str, ModuleType]:
    """Return the modules `cupy` and `cupy.cuda`; in CuPy too cublas is no module to be imported."""
    fake, cuda, cublas = FakeCupy("cupy"), ModuleType("cupy.cuda"), ModuleType("cupy.cuda.cublas")
    for module in (fake, cuda, cublas):
        module.__spec__ = ModuleSpec(module.__name__, None)
    vars(cublas).update(CUBLAS, gemmStridedBatchedEx=gemm)
    runtime = SimpleNamespace(
        CUDA_R_32F=0,
        CUDA_R_64F=1,
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda device: {"name": b"stand-in"},
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13000,
        deviceSynchronize=lambda: None,
    )
    vars(cuda).update(
        cublas=cublas,
        runtime=runtime,
        nvrtc=Nvrtc(),
        Module=Module,
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        Device=GpuDevice,
        Stream=Stream,
        MemoryPool=MemoryPool,
        Event=Event,
        get_elapsed_time=get_elapsed_time,
        using_allocator=using_allocator,
        get_current_stream=lambda: Stream.current[-1] if Stream.current else NULL,
    )
    vars(fake).update(
        __version__="0",
        cuda=cuda,
        ndarray=DeviceArray,
        asarray=asarray,
        array=asarray,
        asnumpy=asnumpy,
        empty=empty,
        empty_like=empty_like,
        lib=SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=as_strided)),
        get_default_memory_pool=lambda: POOL,
    )
    return {"cupy": fake, "cupy.cuda": cuda}


@contextmanager
def installed() -> Iterator[None]:
    """Let `import cupy` find the fake, and a GPU answer."""
    with mock.patch.dict(sys.modules, modules()), mock.patch.object(cuda_device, "gpu_count", return_value=1):
        yield


def backend(tf32: bool = False) -> Any:
    """Return the CuPy backend on the fake."""
    from wn.engine.backends.cuda.backend import CuPyBackend

    with installed():
        return CuPyBackend(tf32)


__all__ = ["DEVICE", "backend", "installed", "unwrapped"]
