"""Trainings on the stand-in for a GPU: what crosses, what is recorded, and what happens without memory."""

import gc
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.engine.backends.cuda import fake_cupy, needs_compiler
from tests.engine.backends.cuda.fake_device import DEVICE, CUDARuntimeError
from tests.engine.backends.cuda.test_networks import network_of, noise_of
from tests.walking.small_walks import changed, images, small_data, told, walk_for
from wn.basics.errors import WnError
from wn.data.dataset import Split
from wn.engine import backends
from wn.engine.backends.cuda.backend import MOST_MEMBERS
from wn.engine.layers import linear, relu
from wn.engine.optim import arrays
from wn.engine.training import Monitor, Population, TrainSettings, train
from wn.walking.measurement import members_at_once
from wn.walking.walk import Walk

pytestmark = needs_compiler
NUMPY = backends.get("numpy")
DATA = small_data(104, 100, flip=True)
WIDE = replace(DATA, train=images(104, 1, (1, 7, 29)))
BATCHES = 4  # of an epoch, 32 images each; the last one has 8
SIGMA = np.array([0.0, 0.1, 0.3])


@pytest.fixture
def be() -> Iterator[Any]:
    """A backend of its own: nothing is kept on the device yet."""
    DEVICE.launches.clear()
    DEVICE.crossed.to_device.clear()
    DEVICE.crossed.to_host.clear()
    yield fake_cupy.backend()
    DEVICE.limit = 1 << 40


def trained(be: Any, epochs: int = 2, monitor: Monitor | None = None, model: str = "mlp-8") -> Population:
    network, data = network_of(model), WIDE if model == "cnn-s" else DATA
    settings = TrainSettings(epochs, 32, 1e-3, clamp_weights=True, class_weights=tuple(range(1, 11)))
    with be.working():
        return train(
            *(be, network, data, settings),
            seeds=(4, 5, 5),
            noise=noise_of(network, "mixed", SIGMA),
            dtype=np.float64,
            monitor=monitor,
        )


class AfterSteps(Monitor):
    """Calls a function after each step."""

    def __init__(self, look: Callable[[], object]) -> None:
        self.look = look

    def step(self) -> None:
        """Call it."""
        self.look()


def on_host(be: Any, population: Population) -> list[Any]:
    return [be.to_numpy(array) for array in arrays((population.params, population.states))]


def check_equal(be: Any, found: Population, expected: Population) -> None:
    for one, other in zip(on_host(be, found), on_host(NUMPY, expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)


# ---- recorded steps ---------------------------------------------------------------------------------------


def test_repeated_steps_do_what_single_ones_do(be: Any) -> None:
    recorded = trained(be)
    assert DEVICE.launches.count("graph") == 2 * (BATCHES - 1) - 2  # of whole batches, but for the first two
    DEVICE.launches.clear()
    be.graphs = False
    single = trained(be)
    assert "graph" not in DEVICE.launches
    for one, other in zip(on_host(be, recorded), on_host(be, single), strict=True):
        assert one.tobytes() == other.tobytes()
    check_equal(be, recorded, trained(NUMPY))


def test_short_batches_are_recorded_too(be: Any) -> None:
    found = trained(be, epochs=4)
    assert DEVICE.launches.count("graph") == 4 * BATCHES - 2 - 2
    check_equal(be, found, trained(NUMPY, epochs=4))


def test_a_repeated_step_is_one_launch_besides_what_changes(be: Any) -> None:
    counts = [0]
    trained(be, monitor=AfterSteps(lambda: counts.append(len(DEVICE.launches))))
    per_step = np.diff(counts)
    assert per_step[:2].min() > 30
    assert per_step[BATCHES] == 3  # the epoch, Adam's constants, the graph
    assert set(per_step[BATCHES + 1 : 2 * BATCHES - 1]) == {2}  # the epoch is as it was


def test_what_cannot_be_recorded_is_done_step_by_step(be: Any, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: Any) -> Any:
        raise CUDARuntimeError("no graphs\nhere")

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(fake_cupy.Stream, "begin_capture", refuse)
        found = trained(be)
    messages = [record.message for record in caplog.records]
    assert messages == ["steps are not recorded as CUDA graphs: no graphs here"]
    assert "graph" not in DEVICE.launches
    check_equal(be, found, trained(NUMPY))


def test_a_step_that_asks_the_host_is_not_recorded(be: Any, caplog: pytest.LogCaptureFixture) -> None:
    """As a layer does that looks at a value: the recording ends, and the training is right all the same."""
    own = be.own[relu.FORMULA]

    def asking(be: Any, params: Any, x: Any) -> Any:
        assert bool(be.xp.isfinite(x).all())
        return own.forward(be, params, x)

    be.own = {**be.own, relu.FORMULA: own._replace(forward=asking)}
    with caplog.at_level(logging.WARNING):
        found = trained(be)
    assert len(caplog.records) == 1
    assert "graph" not in DEVICE.launches
    check_equal(be, found, trained(NUMPY))


def test_without_a_stream_of_its_own_nothing_is_recorded(be: Any) -> None:
    train(be, network_of("mlp-8"), DATA, TrainSettings(1, 32), seeds=(4,))
    assert "graph" not in DEVICE.launches
    assert len(DEVICE.launches) > 30


# ---- the bus ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("model", ["mlp-8", "cnn-s"])
def test_nothing_crosses_during_an_epoch(be: Any, model: str, graphs: bool) -> None:
    be.graphs = graphs
    crossed: list[tuple[list[int], list[int]]] = []

    def look() -> None:
        crossed.append((list(DEVICE.crossed.to_device), list(DEVICE.crossed.to_host)))
        DEVICE.crossed.to_device.clear()
        DEVICE.crossed.to_host.clear()

    trained(be, 2, AfterSteps(look), model)
    assert len(crossed) == 2 * BATCHES
    first, *others = crossed
    assert max(first[0]) >= 104 * 7 * 29  # the images
    assert first[1] == []
    for number, (sent, fetched) in enumerate(others, 1):
        if number == BATCHES:  # between epochs: the order of the samples; losses and sums of squares (P,)
            assert sent == [104]
            assert set(fetched) == {3}
        else:
            assert sent == []
            assert fetched == []


def test_a_data_set_is_sent_once_and_leaves_with_the_host(be: Any) -> None:
    data = replace(DATA, train=Split(DATA.train.images.copy(), DATA.train.labels.copy()))
    network, size, sent = network_of("mlp-8"), data.train.images.size, []
    for _ in range(2):
        DEVICE.crossed.to_device.clear()
        train(be, network, data, TrainSettings(1, 32), seeds=(4,))
        sent.append(DEVICE.crossed.to_device.count(size))
    assert sent == [1, 0]
    gc.collect()
    before, there = DEVICE.used, data.train.images.nbytes + data.train.labels.nbytes
    del data
    gc.collect()
    assert before - DEVICE.used == there


def test_augmentation_has_the_bits_of_numpy(be: Any) -> None:
    given = (255.0, (0.5,), (0.25,), np.float32, 2, True, 2**40 + 3, 9)
    samples = np.arange(3, 101, dtype=np.uint32)
    expected = NUMPY.gather_augmented(DATA.train.images, samples, *given)
    found = be.gather_augmented(be.asarray(DATA.train.images), be.asarray(samples), *given)
    assert be.to_numpy(found).tobytes() == np.ascontiguousarray(expected).tobytes()


def test_one_mean_for_all_channels_has_the_bits_of_numpy(be: Any) -> None:
    images = np.random.default_rng(5).integers(0, 256, (7, 3, 4, 5), np.uint8)
    samples, given = np.arange(7, dtype=np.uint32), (255.0, (0.5,), (0.25,), np.float32)
    expected = NUMPY.gather(images, samples, *given)
    found = be.gather(be.asarray(images), be.asarray(samples), *given)
    assert be.to_numpy(found).tobytes() == np.ascontiguousarray(expected).tobytes()


# ---- memory -----------------------------------------------------------------------------------------------


def test_memory_is_given_back(be: Any) -> None:
    gc.collect()  # what other tests have left
    before = DEVICE.used
    found = trained(be)
    gc.collect()
    there = sum(array.nbytes for array in (*arrays((found.params, found.states)), *be.kept()))
    assert DEVICE.used - before == there
    assert DEVICE.peak > DEVICE.used


def test_members_follow_from_free_memory(be: Any) -> None:
    network, settings = network_of("lenet5"), TrainSettings(1, 128)
    DEVICE.limit = DEVICE.used + (1 << 30)
    few = members_at_once(network, settings, np.float32, be.room)
    DEVICE.limit = DEVICE.used + (1 << 32)
    assert 3 * few < members_at_once(network, settings, np.float32, be.room) <= 5 * few
    DEVICE.limit = 1 << 50
    assert members_at_once(network, settings, np.float32, be.room) == MOST_MEMBERS
    DEVICE.limit = DEVICE.used
    assert members_at_once(network, settings, np.float32, be.room) == 1


def walked(be: Any, walk: Walk) -> tuple[Any, list[int]]:
    """Return the numbers of a walk, and what it reported."""
    return told(walk, be=be)


def three_members() -> Walk:
    plan = walk_for("mlp-8", kind="mixed", sigma=SIGMA, members=3, dtype=np.float64)
    return changed(plan, places=plan.places[:2])


def watch_linear(be: Any, look: Callable[[Any, Any], None]) -> None:
    """Let a function see the parameters and the input of linear layers before they are computed."""
    own = be.own[linear.FORMULA]

    def forward(be: Any, params: Any, x: Any) -> Any:
        look(params, x)
        return own.forward(be, params, x)

    be.own = {**be.own, linear.FORMULA: own._replace(forward=forward)}


@pytest.mark.parametrize("layers", [0, 1, 6, 4 * 3 - 1, 4 * 3])  # of a training's 3 steps, 4 layers each
def test_without_memory_a_walk_goes_on_in_halves(be: Any, layers: int) -> None:
    """It ends in the same numbers, wherever memory ends: in training or in evaluation."""
    plan = three_members()
    expected, reports = walked(NUMPY, plan)
    left = layers

    def looking(params: Any, x: Any) -> None:
        nonlocal left
        left -= len(params.w) == 3
        if left < 0 and len(params.w) == 3:
            raise MemoryError

    watch_linear(be, looking)
    found, parts = walked(be, plan)
    assert left < 0
    assert found == expected
    assert sum(parts) == sum(reports)


def test_no_step_is_done_twice(be: Any) -> None:
    plan, sizes = changed(three_members(), phases=("training",)), list[int]()

    def looking(params: Any, x: Any) -> None:
        if x.shape[-1] == 32 and params.w.shape[1] == 10:  # the logits of a training step
            if len(params.w) == 3 and sizes.count(3) == 2:
                raise MemoryError
            sizes.append(len(params.w))

    watch_linear(be, looking)
    walked(be, plan)
    # Place by place: two steps of three members, then one of one member and one of two; the clean network.
    assert sizes.count(2) == 1 + 3
    assert sizes.count(3) == 2
    assert sizes.count(1) == 1 + 3 + 3


def test_at_inference_fewer_levels_stand_side_by_side(be: Any) -> None:
    plan = changed(three_members(), phases=("inference",))
    expected, _ = walked(NUMPY, plan)
    refused = 0

    def looking(params: Any, x: Any) -> None:
        nonlocal refused
        if len(x) == 3:
            refused += 1
            raise MemoryError

    watch_linear(be, looking)
    seen, count = [], be.count_correct

    def counted(logits: Any, labels: Any, groups: int | None = None) -> Any:
        seen.append(len(logits))
        return count(logits, labels, groups)

    be.count_correct = counted
    assert walked(be, plan)[0] == expected
    assert refused == 1
    # What is done is not done again: in each batch a clean network, twice 1 + 2 levels at both places.
    assert sorted(seen) == sorted((1, 1, 2, 1, 2) * (len(seen) // 5))


@pytest.mark.parametrize("phases", [("inference",), ("training",)])
def test_a_network_that_does_not_fit_alone_ends_the_run(be: Any, phases: tuple[str, ...]) -> None:
    DEVICE.limit = DEVICE.used + 600_000
    with pytest.raises(WnError, match="a single network does not fit into memory"):
        walked(be, walk_for("mlp-8", sigma=SIGMA, phases=phases))


def test_an_image_too_large_at_inference_ends_the_run(be: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = changed(three_members(), phases=("inference",))
    monkeypatch.setattr(type(plan.setup.network), "clean_starts", no_memory)
    with pytest.raises(WnError, match="a single network does not fit into memory"):
        walked(be, plan)


def no_memory(*_: Any) -> Any:
    raise MemoryError
