"""The stand-in for CuPy, and the host's build of kernels, notice what they are there to notice."""

from typing import Any

import numpy as np
import pytest

from tests.engine.backends.cuda import fake_cupy, host, needs_compiler
from tests.engine.backends.cuda.fake_device import DEVICE, CUDARuntimeError, OutOfMemoryError
from wn.engine.backends.cuda.kernels import compiled, packed

CUPY: Any = fake_cupy.modules()["cupy"]


# ---- arrays -----------------------------------------------------------------------------------------------


def test_arrays_of_host_and_device_do_not_mix() -> None:
    there, here = CUPY.zeros(3), np.zeros(3)
    mixing: list[Any] = [
        lambda: there + here,
        lambda: here + there,
        lambda: CUPY.add(there, here),
        lambda: np.asarray(there),
        lambda: np.concatenate([there]),
        lambda: there.__setitem__(..., here),
        lambda: CUPY.stack([here]),
    ]
    for mix in mixing:
        with pytest.raises(TypeError):
            mix()
    assert (np.float32(2) * (there + 1)).get().tolist() == [2, 2, 2]
    assert np.sqrt(there + 4).get().tolist() == [2, 2, 2]


def test_crossings_are_counted() -> None:
    DEVICE.crossed.to_device.clear()
    DEVICE.crossed.to_host.clear()
    array = CUPY.asarray(np.arange(6))
    assert int(array.sum()) == 15
    assert CUPY.asnumpy(array[np.array([1, 2])]).tolist() == [1, 2]
    assert bool((array >= 0).all())
    assert DEVICE.crossed.to_device == [6, 2]
    assert DEVICE.crossed.to_host == [1, 2, 1]


def test_views_share_memory_and_copies_do_not() -> None:
    array = CUPY.zeros((2, 3), np.float32)
    array.reshape(-1)[1:3] += 2
    array[1, 2] = 5
    array.T.copy()[...] = 9
    assert array.get().tolist() == [[0, 2, 2], [0, 0, 5]]
    assert array[0, 1].shape == ()
    assert (array > 1).dtype == bool


def test_memory_is_counted_limited_and_given_back() -> None:
    before, limit = DEVICE.used, DEVICE.limit
    array = CUPY.empty((100, 10), np.float32)
    assert np.isnan(array.get()).all()  # nobody has written to it
    assert DEVICE.used == before + 4000
    DEVICE.limit = DEVICE.used + 100
    try:
        with pytest.raises(OutOfMemoryError):
            array + 1
    finally:
        DEVICE.limit = limit
    del array
    assert DEVICE.used == before


def test_memory_that_a_pool_never_gives_back_is_noticed() -> None:
    for gives_back in (True, False):
        pool, DEVICE.lost = CUPY.cuda.MemoryPool(), 0
        with CUPY.cuda.using_allocator(pool.malloc):
            array = CUPY.empty(5, np.float32)
        del array
        if gives_back:
            pool.free_all_blocks()
        del pool
        assert DEVICE.lost == (0 if gives_back else 20)


# ---- recording --------------------------------------------------------------------------------------------


def test_what_is_recorded_is_done_later_and_again() -> None:
    x, total = CUPY.ones(2), CUPY.zeros(2)
    stream = CUPY.cuda.Stream()
    with stream:
        stream.begin_capture()
        y = x * 2
        y += 1
        total += y[1:].copy()
        graph = stream.end_capture()
    assert total.get().tolist() == [0, 0]
    graph.launch()
    assert total.get().tolist() == [3, 3]
    x[...] = 5
    graph.launch()
    assert total.get().tolist() == [14, 14]


def test_nothing_crosses_while_steps_are_recorded() -> None:
    array = CUPY.ones(2)
    stream = CUPY.cuda.Stream()
    crossing: list[Any] = [
        array.get,
        lambda: CUPY.asarray([1]),
        lambda: bool(array.all()),
        stream.synchronize,
        stream.begin_capture,
    ]
    for cross in crossing:
        stream.begin_capture()
        try:
            with pytest.raises(CUDARuntimeError):
                cross()
        finally:
            stream.end_capture()
    with pytest.raises(CUDARuntimeError):
        CUPY.cuda.Stream.null.begin_capture()


# ---- kernels ----------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([np.ones(3, np.float32), np.ones(3, np.float32)], "arguments"),
        ([np.ones(3), np.ones(3, np.float32), np.int64(3)], "float32"),
        ([np.ones((3, 2), np.float32)[:, 0], np.ones(3, np.float32), np.int64(3)], "contiguous"),
        ([np.ones(3, np.float32), np.ones(3, np.float32), np.int32(3)], "int64"),
        ([np.ones(3, np.float32), np.ones(3, np.float32), packed(np.int64, 3)], "int64"),
        ([np.ones(3, np.float32), np.float32(1), np.int64(3)], "takes an array"),
    ],
)
def test_arguments_of_another_type_are_noticed(arguments: list[Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        host.library("float32")["relu"](((1,)), 32, tuple(arguments))


@needs_compiler
def test_structs_of_another_size_are_noticed() -> None:
    y = np.ones(3, np.float32)
    with pytest.raises(AssertionError, match="struct"):
        host.library("float32")["max_pool"]((1,), 32, (y, y, packed(np.int32, *range(6))))


@needs_compiler
@pytest.mark.parametrize(("grid", "threads"), [((0,), 32), ((1, 1 << 16), 32), ((1,), 2048)])
def test_grids_that_cannot_be_launched_are_noticed(grid: tuple[int, ...], threads: int) -> None:
    y = np.ones(3, np.float32)
    with pytest.raises(AssertionError):
        host.library("float32")["relu"](grid, threads, (y, y, np.int64(3)))


@needs_compiler
def test_writing_beside_an_array_is_noticed() -> None:
    module = CUPY.cuda.Module()
    module.load(compiled(CUPY.cuda.nvrtc, "float32", 90))
    x = CUPY.ones(5, np.float32)
    y = CUPY.empty(4, np.float32)
    with pytest.raises(AssertionError, match="behind its array"):
        module.get_function("relu")((1,), (32,), (x, y, np.int64(5)))


PLANTED = """
template <class T> __device__ T without_barrier(T value) {
    __shared__ T parts[64];
    parts[threadIdx.x] = value;
    BARRIER
    T sum = 0;
    for (unsigned i = 0; i < blockDim.x; ++i) sum += parts[i];
    __syncthreads();
    return sum;
}
KERNEL planted(REAL* sums) { sums[threadIdx.x] = without_barrier((threadIdx.x + 1) * sums[threadIdx.x]); }
KERNEL divergent(REAL* sums) { if (threadIdx.x > 3) __syncthreads(); sums[threadIdx.x] = 1; }
"""


@needs_compiler
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("barrier", "right"), [("__syncthreads();", True), ("", False)])
def test_a_missing_barrier_shows(barrier: str, right: bool, backwards: bool) -> None:
    kernels = host.built("float32", PLANTED.replace("BARRIER", barrier))
    factor = 2 + backwards  # what the other run left in shared memory is not right in this one
    sums = np.full(64, factor, np.float32)
    kernels["planted"]((1,), 64, (sums,), backwards)
    assert (sums == factor * 64 * 65 / 2).all() == right


@needs_compiler
def test_threads_that_wait_for_others_that_have_ended_show() -> None:
    kernels = host.built("float32", PLANTED.replace("BARRIER", ""))
    with pytest.raises(AssertionError, match="some threads wait"):
        kernels["divergent"]((1,), 8, (np.zeros(8, np.float32),))


def test_cublas_stays_within_its_arrays() -> None:
    a, b, c = (
        CUPY.ones((1, 2, 3), np.float32),
        CUPY.ones((1, 3, 4), np.float32),
        CUPY.empty((1, 2, 4), np.float32),
    )
    factors = np.array([1, 0], np.float32)
    one, zero = factors.ctypes.data, factors[1:].ctypes.data

    def product(n: int, count: int) -> None:
        given = (7, 0, 0, n, 2, 3, one, b.data.ptr, 0, 4, 12, a.data.ptr, 0, 3, 6, zero, c.data.ptr, 0, 4, 8)
        CUPY.cuda.cublas.gemmStridedBatchedEx(*given, count, 68, -1)

    product(4, 1)
    assert (c.get() == 3).all()
    for wrong in ((4, 2), (5, 1)):
        with pytest.raises(AssertionError):
            product(*wrong)
