"""Memory of the device: a step takes none after the first ones, and without enough a population is halved."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.engine.backends.cuda import fake_cupy, needs_compiler
from tests.engine.backends.cuda.fake_device import DEVICE, CUDARuntimeError
from tests.engine.backends.cuda.test_networks import network_of, noise_of
from tests.walking.small_walks import changed, run, small_data, walk_for
from wn.engine import backends
from wn.engine.training import Monitor, TrainSettings, train
from wn.walking.walk import Walk

pytestmark = needs_compiler
NUMPY = backends.get("numpy")
DATA = small_data(72, 60, flip=True)
BATCHES = 3  # of an epoch, 32 images each; the last one has 8
SIGMA = np.array([0.0, 0.1, 0.3])


@pytest.fixture
def be() -> Iterator[Any]:
    """A backend of its own, on a device with as much memory as it asks for."""
    gc.collect()  # what other tests left is gone before memory is looked at
    yield fake_cupy.backend()
    DEVICE.limit = 1 << 40


class AfterSteps(Monitor):
    """Calls a function after each step."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look

    def step(self) -> None:
        """Call it."""
        self.look()


def trained(be: Any, epochs: int, look: Callable[[], None]) -> None:
    network, settings = network_of("mlp-8"), TrainSettings(epochs, 32, clamp_weights=True)
    noise = noise_of(network, "mixed", SIGMA)
    with be.working():
        train(be, network, DATA, settings, seeds=(4, 5, 5), noise=noise, monitor=AfterSteps(look))


def test_a_repeated_step_takes_no_memory(be: Any) -> None:
    counts: list[int] = []
    trained(be, 4, lambda: counts.append(DEVICE.allocations))
    taken = np.diff(counts)
    assert taken[0] > 30
    # In the last epoch all batches are repeated; it begins with the order of its samples.
    assert taken[-BATCHES + 1 :].tolist() == [0] * (BATCHES - 1)


@pytest.mark.parametrize("graphs", [True, False])
def test_a_training_leaves_no_memory_behind(be: Any, graphs: bool) -> None:
    be.graphs = graphs
    trained(be, 1, lambda: None)
    before, DEVICE.lost = DEVICE.used, 0
    trained(be, 4, lambda: None)
    assert be.not_recorded == 0
    assert (DEVICE.used, DEVICE.lost) == (before, 0)


def test_constants_hold_back_no_memory_of_a_recorded_step(be: Any) -> None:
    pool = be.xp.cuda.MemoryPool()
    with be.xp.cuda.using_allocator(pool.malloc):
        kept = be.constant([1.0, 2.0])
        assert be.xp.empty(3).shape == (3,)
    assert kept.get().tolist() == [1, 2]
    assert (pool.account.used, pool.account.free) == (0, 24)
    pool.free_all_blocks()


def without_memory(be: Any, monkeypatch: pytest.MonkeyPatch, *statuses: int) -> list[str]:
    """Let the device refuse memory with these errors, one after the other; return what is done meanwhile."""
    done, left = [], list(statuses)

    def memory(size: int) -> int:
        if left:
            done.append("refused")
            raise CUDARuntimeError("no memory", left.pop(0))
        return size

    monkeypatch.setattr(be.xp.cuda, "Memory", memory, raising=False)
    monkeypatch.setattr(be.xp.cuda, "MemoryPointer", lambda memory, offset: (memory, offset), raising=False)
    monkeypatch.setattr(be, "release", lambda: done.append("released"))
    return done


def test_where_memory_ends_other_pools_give_theirs_back(be: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = without_memory(be, monkeypatch, 2)
    assert be.new_memory(512) == (512, 0)
    assert done == ["refused", "released"]


def test_while_a_step_is_recorded_no_memory_is_given_back(be: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pool would give back blocks that recorded kernels use."""
    done = without_memory(be, monkeypatch, 2)
    with pytest.raises(MemoryError, match="512 bytes"), be.recording():
        be.new_memory(512)
    assert done == ["refused"]


def test_other_errors_of_the_device_are_none_of_memory(be: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    without_memory(be, monkeypatch, 700)
    with pytest.raises(CUDARuntimeError):
        be.new_memory(512)


def test_single_steps_take_the_same_memory_again(be: Any) -> None:
    be.graphs = False
    used: list[tuple[int, int]] = []

    def look() -> None:
        used.append((DEVICE.used, DEVICE.peak))
        DEVICE.peak = 0

    trained(be, 4, look)
    assert used[BATCHES : 2 * BATCHES] == used[2 * BATCHES : 3 * BATCHES] == used[3 * BATCHES :]
    assert all(0 < now < peak for now, peak in used)


def walked(be: Any, walk: Walk) -> Any:
    return run(walk, be=be)


def test_a_device_with_memory_for_two_trains_three(be: Any) -> None:
    """It is the device that runs out of memory here: wherever that happens, the numbers are the same."""
    plan = walk_for("mlp-8", kind="mixed", sigma=SIGMA, members=3, dtype=np.float64, phases=("training",))
    plan = changed(plan, places=plan.places[:1])
    expected = walked(NUMPY, plan)
    DEVICE.peak = 0
    assert walked(be, changed(plan, members=2)) == expected
    for_two, DEVICE.peak = DEVICE.peak, 0
    assert walked(be, plan) == expected
    for_three, DEVICE.refused = DEVICE.peak, 0
    for share in (0.3, 0.9):  # it ends in another place of a step
        DEVICE.limit = for_two + int(share * (for_three - for_two))
        assert walked(be, plan) == expected
    assert DEVICE.refused >= 2
