"""Errors of CUDA's libraries: those of memory halve a population, and what can't be recorded is launched."""

import gc
import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from tests.engine.backends.cuda import fake_cupy, needs_compiler
from tests.engine.backends.cuda.fake_device import DEVICE, CUBLASError, CUDADriverError, CUDARuntimeError
from tests.engine.backends.cuda.test_memory import NUMPY, SIGMA, trained, walked
from tests.walking.small_walks import changed, walk_for
from wn.basics.errors import WnError
from wn.engine.backends.cuda.kernels import LARGEST_GRID, NO_MEMORY, Kernels, memory_errors
from wn.engine.layers import linear, relu

OUT_OF_MEMORY = "out of memory, says CUDA"


@pytest.fixture
def be() -> Iterator[Any]:
    """A backend of its own; memory is given back at once, and not when garbage happens to be collected."""
    gc.collect()
    gc.disable()
    DEVICE.launches.clear()
    yield fake_cupy.backend()
    gc.enable()


# ---- which errors are of memory ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status"), [(CUDARuntimeError, 2), (CUDADriverError, 2), (CUBLASError, 3)], ids=NO_MEMORY
)
def test_a_library_without_memory_is_a_memory_error(kind: type[CUDARuntimeError], status: int) -> None:
    with pytest.raises(MemoryError, match=OUT_OF_MEMORY), memory_errors():
        raise kind(OUT_OF_MEMORY, status)
    with pytest.raises(kind), memory_errors():
        raise kind("something else", 5 - status)


def test_other_errors_stay_what_they_are() -> None:
    for error in (RuntimeError("one"), ValueError("another"), MemoryError("of CuPy")):
        with pytest.raises(type(error)) as found, memory_errors():
            raise error
        assert found.value is error


@pytest.mark.skipif(find_spec("cupy") is None, reason="CuPy is not installed: its errors can't be looked at")
def test_cupy_has_errors_of_these_names_and_statuses() -> None:
    cuda = import_module("cupy").cuda
    for module, name in ((cuda.runtime, "CUDARuntimeError"), (cuda.cublas, "CUBLASError")):
        with pytest.raises(MemoryError, match=r"cudaErrorMemoryAllocation|ALLOC_FAILED"), memory_errors():
            raise getattr(module, name)(NO_MEMORY[name])
    assert issubclass(cuda.driver.CUDADriverError, RuntimeError)  # it needs a driver to be made


# ---- where they come up -----------------------------------------------------------------------------------


def launch(be: Any) -> tuple[Any, str, CUDARuntimeError]:
    return fake_cupy.Graph, "launch", CUDARuntimeError(OUT_OF_MEMORY, 2)


def end_of_recording(be: Any) -> tuple[Any, str, CUDARuntimeError]:
    return fake_cupy.Stream, "end_capture", CUDARuntimeError(OUT_OF_MEMORY, 2)


def product(be: Any) -> tuple[Any, str, CUDARuntimeError]:
    return be.xp.cuda.cublas, "gemmStridedBatchedEx", CUBLASError(OUT_OF_MEMORY, 3)


def module(be: Any) -> tuple[Any, str, CUDARuntimeError]:
    be.kernel = Kernels(be.xp)  # which has loaded none
    return fake_cupy.Module, "load", CUDADriverError(OUT_OF_MEMORY, 2)


PLACES = [launch, end_of_recording, product, module]


def failing_once(
    place: Callable[[Any], tuple[Any, str, CUDARuntimeError]], be: Any, patch: pytest.MonkeyPatch
) -> list[CUDARuntimeError]:
    """Let it fail the next time; return the errors that are still to come."""
    owner, name, error = place(be)
    real, left = getattr(owner, name), [error]

    def call(*arguments: Any) -> Any:
        if left and name != "end_capture":
            raise left.pop()
        result = real(*arguments)
        if left:  # what was recorded has ended by then; it is the graph that there is no memory for
            raise left.pop()
        return result

    patch.setattr(owner, name, call)
    return left


@needs_compiler
@pytest.mark.parametrize("place", PLACES)
def test_a_training_that_ends_so_leaves_nothing_behind(
    be: Any, place: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained(be, 2, lambda: None)  # the data and constants are there now
    before = DEVICE.used
    left = failing_once(place, be, monkeypatch)
    with pytest.raises(MemoryError, match=OUT_OF_MEMORY):
        trained(be, 2, lambda: None)
    assert left == []
    assert DEVICE.used == before
    DEVICE.launches.clear()
    trained(be, 2, lambda: None)
    assert "graph" in DEVICE.launches  # steps are recorded as before
    assert caplog.records == []


@needs_compiler
@pytest.mark.parametrize("place", PLACES)
def test_a_population_goes_on_in_halves(be: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its last step: the one that failed has changed nothing."""
    plan = walk_for("mlp-8", kind="mixed", sigma=SIGMA, members=3, dtype=np.float64, phases=("training",))
    plan = changed(plan, places=plan.places[:1])
    expected = walked(NUMPY, plan)
    left = failing_once(place, be, monkeypatch)
    assert walked(be, plan) == expected
    assert left == []


@needs_compiler
def test_a_handle_that_cublas_has_no_memory_for(be: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: Any) -> Any:
        raise CUBLASError(OUT_OF_MEMORY, 3)

    monkeypatch.setattr(fake_cupy.GpuDevice, "cublas_handle", property(refuse))
    w, x, b = (be.xp.ones(shape, np.float32) for shape in ((1, 2, 3), (1, 3, 4), (1, 2)))
    with pytest.raises(MemoryError, match=OUT_OF_MEMORY):
        be.forward(linear.FORMULA, linear.LinearParams(w, b), x)


# ---- a device that failed ---------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize(
    ("error", "lost"),
    [(None, False), (CUDARuntimeError("illegal address", 700), True), (CUDARuntimeError("none", 2), False)],
    ids=["works", "failed", "memory"],
)
def test_a_device_is_lost_when_it_answers_with_errors(
    be: Any, error: CUDARuntimeError | None, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(be.xp.cuda.runtime, "deviceSynchronize", answer)
    assert be.lost is lost


# ---- steps that can't be recorded, launches that are too large --------------------------------------------


@needs_compiler
def test_one_step_that_cannot_be_recorded_is_no_other(be: Any, caplog: pytest.LogCaptureFixture) -> None:
    """And the log says it once, however many there are."""
    own = be.own[relu.FORMULA]

    def asking(be: Any, params: Any, x: Any) -> Any:
        assert bool(be.xp.isfinite(x).all())
        return own.forward(be, params, x)

    be.own = {**be.own, relu.FORMULA: own._replace(forward=asking)}
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            trained(be, 3, lambda: None)
    assert len(caplog.records) == 1
    assert be.not_recorded == 3
    assert "graph" not in DEVICE.launches
    be.own = {**be.own, relu.FORMULA: own}
    trained(be, 3, lambda: None)
    assert DEVICE.launches.count("graph") == 5  # of 6 whole batches and 3 short ones, all but the first two


def test_more_blocks_than_a_gpu_launches_are_one_clear_error() -> None:
    kernels, launched = Kernels(None), []
    kernels._found["relu", "float32"] = lambda *launch: launched.append(launch)
    kernels("relu", np.float32, (LARGEST_GRID, 2), 128)()
    with pytest.raises(
        WnError, match=r"^kernel relu would need 2147483648 blocks, and a GPU launches 2147483647"
    ):
        kernels("relu", np.float32, (LARGEST_GRID + 1, 2), 128)
    assert launched == [((LARGEST_GRID, 2), (128,), ())]
