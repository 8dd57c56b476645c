"""Several threads compute at once: none sees what another one records, or the epoch that it is in.

The kind: state of a backend that threads shared – on a GPU a stream, in which the launches of one thread were
recorded into the graph of another, and the places where kernels find epoch and constants; on a CPU work
arrays of a thread that had ended, to which a recorded step went on writing.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from tests.engine.backends.cuda import needs_compiler
from tests.engine.backends.cuda.fake_cupy import backend as cuda
from tests.walking.small_walks import small_data
from wn.engine import models, noise
from wn.engine.backends import threads
from wn.engine.backends.numba.backend import NumbaBackend
from wn.engine.backends.numba.recorded_calls import RecordedStep
from wn.engine.backends.numba.work_arrays import SMALL
from wn.engine.backends.sealed import NotRecordable
from wn.engine.backends.threads import processors, single_threaded_blas
from wn.engine.layers import cross_entropy, relu
from wn.engine.network import Conditions, Network
from wn.engine.optim import arrays
from wn.engine.training import Monitor, TrainSettings, train

DATA = small_data(48, 10)
NETWORK = models.build("mlp-8", DATA.image_shape, 10, "sites")
NOISE = {0: noise.of_kind("mixed", 0.3), 2: noise.of_kind("mixed", 0.3)}
BACKENDS = [NumbaBackend, pytest.param(cuda, marks=needs_compiler)]


def elsewhere(function: Callable[[], Any]) -> Any:
    """Do something in a thread of its own."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result()


def trained(be: Any, monitor: Monitor | None = None) -> list[bytes]:
    with be.working():
        found = train(be, NETWORK, DATA, TrainSettings(4, 16), seeds=(3,), noise=NOISE, monitor=monitor)
        return [be.to_numpy(array).tobytes() for array in arrays(tuple(found)[:2])]


class Interfering(Monitor):
    """After each step another thread trains, or looks at another epoch."""

    def __init__(self, be: Any) -> None:
        self.be, self.left = be, 8

    def step(self) -> None:
        """Let it."""
        self.left -= 1
        if self.left == 3:
            elsewhere(lambda: trained(self.be))
        elif self.left > 0:
            elsewhere(lambda: another_epoch(self.be))


def another_epoch(be: Any) -> None:
    params = NETWORK.initial_parameters(be, (9,), np.float32)
    states = NETWORK.initial_states(be, 1, np.float32)
    x, samples = (
        be.asarray(np.ones((1, *DATA.image_shape, 4), np.float32)),
        be.asarray(np.arange(4, dtype="u4")),
    )
    with be.working():
        NETWORK.forward(be, params, states, x, Conditions(NOISE, (9,), samples, 77, training=True))


@pytest.mark.parametrize("make", BACKENDS)
def test_a_training_is_the_same_while_other_threads_compute(make: Callable[[], Any]) -> None:
    assert isinstance(NETWORK, Network)
    be = make()
    assert trained(be, Interfering(be)) == trained(make())


@needs_compiler
def test_on_a_gpu_each_thread_has_its_own_stream_and_recording() -> None:
    be, values = cuda(), np.array([1.5, 2.5])

    def other() -> tuple[Any, bool]:
        with be.working():
            be.constant(values)  # refused where this thread records
            return be.xp.cuda.get_current_stream(), be.records

    with be.working():
        mine = be.xp.cuda.get_current_stream()
        with be.recording():
            with pytest.raises(NotRecordable):
                be.constant(values)
            theirs, records = elsewhere(other)
        assert records
        assert be.records
    assert theirs != mine


def test_a_step_that_was_recorded_in_a_thread_that_has_ended() -> None:
    be, total = NumbaBackend(), np.zeros(1)
    x = np.arange(2.0 * SMALL).reshape(1, 2, -1)

    def step(samples: Any, epoch: int, constants: Any) -> None:
        y, _ = be.forward(relu.FORMULA, (), be.enclosed(x))  # in a work array of the thread
        labels = be.take(np.zeros(len(samples), np.int64), samples)
        loss, _ = be.forward(cross_entropy.FORMULA, (), y, labels)
        be.accumulate(be.enclosed(total), loss, 1)

    recorded, samples = RecordedStep(be.recording, step), np.arange(SMALL, dtype=np.uint32)

    def do() -> int:
        recorded(samples, 0, (0.0,) * 5)
        return len(recorded.recorded)

    assert elsewhere(do) == 1
    assert not recorded.recorded
    assert do() == do() == 1
    assert recorded.repeats == 1


def blas_threads() -> set[int]:
    """How many threads the BLAS libraries of the process have."""
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return {library.get_num_threads() for library in libraries}


def held() -> set[int]:
    with single_threaded_blas():
        return blas_threads()


def test_blas_is_held_to_one_thread_by_whichever_thread_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """threadpoolctl listens to the thread that set a number first, and passes over others without a word."""
    monkeypatch.setattr(threads, "_limit", threads._Limit())  # the tests' own holds BLAS already
    with threadpool_limits(2, user_api="blas"):  # sets it in this thread
        assert blas_threads() == {2}
        with ThreadPoolExecutor(1) as executor:
            assert executor.submit(held).result() == {1}
            assert blas_threads() == {2}
            assert held() == {1}
            with threadpool_limits(3, user_api="blas"):  # of the user's own, while the other thread lives
                assert blas_threads() == {3}
            assert executor.submit(held).result() == {1}
        assert blas_threads() == {2}


def test_processors_are_counted_also_where_they_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processors() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert processors() == (os.cpu_count() or 1)
