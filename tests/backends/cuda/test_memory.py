"""Memory of the device: a step takes none after the first ones, and without enough a population is halved."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.backends.cuda import fake_cupy, needs_compiler
from tests.backends.cuda.fake_device import DEVICE
from tests.backends.cuda.test_networks import network_of, noise_of
from tests.small_walks import plain, plan_for, small_data
from wn import backends, walking
from wn.training import Monitor, TrainSettings, train

pytestmark = needs_compiler
NUMPY = backends.get("numpy")
DATA = small_data(72, 60, flip=True)
BATCHES = 3  # of an epoch, 32 images each; the last one has 8
SIGMA = np.array([0.0, 0.1, 0.3])


@pytest.fixture
def be() -> Iterator[Any]:
    """A backend of its own, on a device with as much memory as it asks for."""
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


def test_single_steps_take_the_same_memory_again(be: Any) -> None:
    be.graphs = False
    used: list[tuple[int, int]] = []

    def look() -> None:
        used.append((DEVICE.used, DEVICE.peak))
        DEVICE.peak = 0

    trained(be, 4, look)
    assert used[BATCHES : 2 * BATCHES] == used[2 * BATCHES : 3 * BATCHES] == used[3 * BATCHES :]
    assert all(0 < now < peak for now, peak in used)


def walked(be: Any, plan: walking.WalkPlan) -> Any:
    with ThreadPoolExecutor(1) as executor:
        results = walking.run_jobs(be, walking.jobs(plan), executor, lambda members: None)
    return plain(*walking.merge(plan, results))


def test_a_device_with_memory_for_two_trains_three(be: Any) -> None:
    """It is the device that runs out of memory here: wherever that happens, the numbers are the same."""
    plan = plan_for("mlp-8", kind="mixed", sigma=SIGMA, members=3, dtype=np.float64, phases=("training",))
    plan = plan._replace(places=plan.places[:1])
    expected = walked(NUMPY, plan)
    DEVICE.peak = 0
    assert walked(be, plan._replace(members=2)) == expected
    for_two, DEVICE.peak = DEVICE.peak, 0
    assert walked(be, plan) == expected
    for_three, DEVICE.refused = DEVICE.peak, 0
    for share in (0.3, 0.9):  # it ends in another place of a step
        DEVICE.limit = for_two + int(share * (for_three - for_two))
        assert walked(be, plan) == expected
    assert DEVICE.refused >= 2
