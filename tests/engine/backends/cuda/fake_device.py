"""The device of the stand-in for CuPy: its memory, and its arrays, which are NumPy's behind CuPy's interface.

It is as strict as CuPy: its arrays don't mix with NumPy's, and become none unless asked to. It counts what
crosses between host and device, has as much memory as it is given, marks what nobody has written to, finds
kernels that write beside their arrays, and records what is done like a CUDA graph.
"""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

GUARD = 64  # bytes before and after each array that nobody may write to


class OutOfMemoryError(MemoryError):
    """The device has no memory left."""


class CUDARuntimeError(RuntimeError):
    """An error of the CUDA runtime."""

    def __init__(self, message: str, status: int = 900) -> None:
        super().__init__(message)
        self.status = status


class CUDADriverError(CUDARuntimeError):
    """An error of the driver (in CuPy not one of the runtime)."""


class CUBLASError(CUDARuntimeError):
    """An error of cuBLAS."""


class Pool:
    """The account of a memory pool other than CuPy's default one: bytes in use, and free ones that it keeps.

    As in CuPy 14, a pool that ends while it has some never gives them back.
    """

    def __init__(self) -> None:
        self.used = self.free = 0

    def take(self, size: int, array: Any) -> None:
        """Take memory for an array."""
        self.free -= min(size, self.free)
        self.used += size
        weakref.finalize(array, self._freed, size)

    def _freed(self, size: int) -> None:
        self.used -= size
        self.free += size

    def give_back(self) -> None:
        """Give back what is free."""
        self.free = 0

    def end(self) -> None:
        """There is no such pool any more."""
        DEVICE.lost += self.free + self.used


class Crossings:
    """What was sent between host and device: the number of elements, crossing by crossing."""

    def __init__(self) -> None:
        self.to_device: list[int] = []
        self.to_host: list[int] = []


class Device:
    """The state of the fake: memory in use, crossings, the stream, and the recording that is going on."""

    def __init__(self) -> None:
        self.limit, self.used, self.peak = 1 << 40, 0, 0
        self.allocations, self.refused = 0, 0  # how many there were
        self.crossed = Crossings()
        self.blocks: dict[int, Any] = {}  # address → (bytes with guards, size)
        self.recording: list[Callable[[], None]] | None = None
        self.kept: list[Any] = []  # what is allocated meanwhile: a graph's own memory
        self.backwards = False  # the order of threads and blocks
        self.launches: list[str] = []
        self.pool: Pool | None = None  # where memory is taken from; None: CuPy's default one
        self.lost = 0  # bytes that no pool will ever give back

    def allocate(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return an unwritten NumPy array in the device's memory."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if self.used + size > self.limit:
            self.refused += 1
            raise OutOfMemoryError(f"out of memory allocating {size} bytes")
        whole = np.full(size + 2 * GUARD, 0xFF, np.uint8)
        array = whole[GUARD : GUARD + size].view(dtype).reshape(shape)
        self.used += size
        self.allocations += 1
        self.peak = max(self.peak, self.used)
        address = whole.ctypes.data
        self.blocks[address] = weakref.ref(whole), size
        weakref.finalize(whole, self._free, address, size)
        if self.pool is not None:
            self.pool.take(size, whole)
        if self.recording is not None:
            self.kept.append(array)
        return array

    def _free(self, address: int, size: int) -> None:
        self.used -= size
        self.blocks.pop(address, None)

    def check_guards(self, array: Any) -> None:
        """Raise AssertionError if anything was written beside an array."""
        while array.base is not None:
            array = array.base
        assert (array[:GUARD] == 0xFF).all(), "a kernel wrote before its array"
        assert (array[-GUARD:] == 0xFF).all(), "a kernel wrote behind its array"

    def cross(self, direction: list[int], size: int) -> None:
        """Count elements that cross between host and device."""
        if self.recording is not None:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureUnsupported: something crosses while steps are recorded"
            )
        direction.append(size)

    def do(self, operation: Callable[[], None]) -> None:
        """Do something on the device, or record it."""
        operation()
        if self.recording is not None:
            self.recording.append(operation)


DEVICE = Device()


# ---- arrays -----------------------------------------------------------------------------------------------


def unwrapped(value: Any) -> Any:
    """The array for NumPy to compute with; TypeError for arrays of the host."""
    if isinstance(value, DeviceArray):
        return value.there
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: CuPy's arrays don't mix with NumPy's")
    return type(value)(map(unwrapped, value)) if type(value) in (list, tuple) else value


def on_device(result: Any, compute: Callable[[], Any]) -> Any:
    """Return a result of NumPy as arrays of the device; new ones are copied there, and recorded."""
    if isinstance(result, tuple | list):
        parts = [on_device(part, lambda i=i: compute()[i]) for i, part in enumerate(result)]
        return type(result)(parts)
    if not isinstance(result, np.ndarray | np.generic):
        return result
    if isinstance(result, np.ndarray) and _is_view(result):
        return DeviceArray(result)
    array = DEVICE.allocate(np.shape(result), result.dtype)
    array[...] = result
    if DEVICE.recording is not None:
        DEVICE.recording.append(lambda: array.__setitem__(..., compute()))
    return DeviceArray(array)


def _is_view(array: Any) -> bool:
    """Whether an array of NumPy is a view of the device's memory."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return isinstance(array, np.ndarray) and array.ctypes.data in DEVICE.blocks


def call(function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Call a function of NumPy on arrays of the device."""
    out = named.pop("out", None)
    given, options = unwrapped(arguments), {name: unwrapped(value) for name, value in named.items()}

    def compute(**target: Any) -> Any:
        with np.errstate(all="ignore"):  # CuPy does not warn
            return function(*given, **options, **target)

    if out is None:
        return on_device(compute(), compute)
    (out,) = out if isinstance(out, tuple) else (out,)
    DEVICE.do(lambda: compute(out=out.there))
    return out


class DeviceArray:
    """An array in the device's memory: `there` is NumPy's view of it."""

    __slots__ = ("__weakref__", "there")
    __hash__ = None  # type: ignore[assignment]  # as NumPy's

    def __init__(self, there: Any) -> None:
        self.there = there

    @property
    def data(self) -> Any:
        """Its place in memory."""
        return Pointer(self.there.ctypes.data)

    @property
    def T(self) -> Any:
        """Transposed."""
        return DeviceArray(self.there.T)

    def get(self) -> Any:
        """Return it in the host's memory."""
        DEVICE.cross(DEVICE.crossed.to_host, self.there.size)
        return self.there.copy()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.there, name)
        if not callable(found):
            return found
        return lambda *arguments, **named: call(getattr(np.ndarray, name), (self, *arguments), named)

    def __getitem__(self, key: Any) -> Any:
        key = _index(key)
        found = self.there[key]
        if isinstance(found, np.generic):
            found = self.there[(*key, ...) if isinstance(key, tuple) else (key, ...)]
        return on_device(found, lambda: self.there[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        key, value = _index(key), unwrapped(value)
        DEVICE.do(lambda: self.there.__setitem__(key, value))

    def __len__(self) -> int:
        return len(self.there)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def _scalar(self) -> Any:
        return self.get().item()

    def __bool__(self) -> bool:
        return bool(self._scalar())

    def __int__(self) -> int:
        return int(self._scalar())

    __index__ = __int__

    def __float__(self) -> float:
        return float(self._scalar())

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        assert method == "__call__"
        return call(ufunc, inputs, named)

    def __array_function__(self, function: Any, _types: Any, arguments: Any, named: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of an array on the device")


class Pointer:
    """A place in the device's memory."""

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr


def _index(key: Any) -> Any:
    """Return an index for NumPy; arrays of the host cross."""
    if isinstance(key, tuple):
        return tuple(map(_index, key))
    if isinstance(key, np.ndarray):
        DEVICE.cross(DEVICE.crossed.to_device, key.size)
        return key
    return unwrapped(key)


OPERATORS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
    "matmul": np.matmul,
}
COMPARISONS = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater}
COMPARISONS |= {"ge": np.greater_equal}


def _operator(name: str, ufunc: Any) -> None:
    setattr(DeviceArray, f"__{name}__", lambda self, other: call(ufunc, (self, other), {}))
    setattr(DeviceArray, f"__r{name}__", lambda self, other: call(ufunc, (other, self), {}))
    setattr(DeviceArray, f"__i{name}__", lambda self, other: call(ufunc, (self, other), {"out": self}))


for _name, _ufunc in OPERATORS.items():
    _operator(_name, _ufunc)
for _name, _ufunc in COMPARISONS.items():
    setattr(DeviceArray, f"__{_name}__", lambda self, other, ufunc=_ufunc: call(ufunc, (self, other), {}))
for _name, _ufunc in {"neg": np.negative, "invert": np.invert, "abs": np.absolute}.items():
    setattr(DeviceArray, f"__{_name}__", lambda self, ufunc=_ufunc: call(ufunc, (self,), {}))
