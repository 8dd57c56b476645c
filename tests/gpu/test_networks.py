"""Whole trainings on the GPU: they agree with NumPy's, repeat themselves bit by bit, take no more memory."""

from typing import Any

import numpy as np
import pytest

from tests.walking.small_walks import NOISES, run, small_data, walk_for
from wn.engine import backends, models
from wn.engine.backends.plain.base import Backend, DrawKey
from wn.engine.network import Network
from wn.engine.noise import SiteNoise
from wn.engine.optim import arrays
from wn.engine.training import Monitor, Population, TrainSettings, evaluate, train
from wn.random import Purpose
from wn.walking.places import PHASES

DATA = small_data(200, 300, flip=True)
SIGMA = np.array([0.0, 0.1, 0.3])
NUMPY = backends.get("numpy")


@pytest.fixture(scope="module")
def gpu() -> Backend:
    """The backend under test."""
    return backends.get("cupy")


def network_of(model: str, batch_norm: str = "sites") -> Network:
    return models.build(model, DATA.image_shape, 10, batch_norm)


def trained(
    be: Backend,
    network: Network,
    noise: SiteNoise,
    dtype: Any,
    monitor: Monitor | None = None,
    epochs: int = 3,
) -> Population:
    settings = TrainSettings(epochs, 32, 1e-3)
    with be.working():
        return train(be, network, DATA, settings, seeds=(4, 5, 5), noise=noise, dtype=dtype, monitor=monitor)


def noise_of(network: Network, kind: str) -> SiteNoise:
    return dict.fromkeys(range(len(network.site_names)), NOISES[kind](SIGMA))


def on_host(be: Backend, population: Population) -> list[Any]:
    return [be.to_numpy(array) for array in arrays((population.params, population.states))]


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("model", ["mlp-16", "lenet5"])
def test_trainings_agree_with_those_of_numpy(gpu: Backend, model: str, kind: str) -> None:
    network = network_of(model)
    noise = noise_of(network, kind)
    found, expected = (trained(be, network, noise, np.float64) for be in (gpu, NUMPY))
    for one, other in zip(on_host(gpu, found), on_host(NUMPY, expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)
    counts = [
        evaluate(be, network, population, DATA, noise=noise, dtype=np.float64)
        for be, population in ((gpu, found), (NUMPY, expected))
    ]
    np.testing.assert_array_equal(*counts)


def test_normals_in_large_numbers_have_the_same_bits(gpu: Backend) -> None:
    ids = np.arange(7, 7 + 4096, dtype=np.uint32)
    key = DrawKey((1, 2**63 + 5), ids, 3, Purpose.TRAIN_ADD, 4)
    found = gpu.to_numpy(gpu.standard_draws(key._replace(samples=gpu.asarray(ids)), 1001))
    assert found.tobytes() == NUMPY.standard_draws(key, 1001).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_recorded_steps_have_the_bits_of_single_ones(gpu: Any, dtype: Any) -> None:
    network = network_of("lenet5")
    noise = noise_of(network, "mixed")
    results = []
    try:
        for graphs in (True, True, False):
            gpu.graphs = graphs
            results.append(on_host(gpu, trained(gpu, network, noise, dtype)))
            assert gpu.not_recorded == 0
    finally:
        gpu.graphs = True
    for repeated, single in ((results[1], results[0]), (results[2], results[0])):
        for one, other in zip(repeated, single, strict=True):
            assert one.tobytes() == other.tobytes()


def test_a_step_takes_no_more_memory_after_the_first_ones(gpu: Any) -> None:
    sizes: list[int] = []
    pool = gpu.xp.get_default_memory_pool()

    class Memory(Monitor):
        def step(self) -> None:
            free, _ = gpu.xp.cuda.Device().mem_info
            sizes.append(pool.total_bytes() - free)

    network = network_of("lenet5")
    trained(gpu, network, noise_of(network, "mixed"), np.float32, Memory(), epochs=5)
    steps = -(-200 // 32)
    assert len(set(sizes[3 * steps :])) == 1  # in the third epoch the short batch is recorded
    gpu.release()
    free, _ = gpu.xp.cuda.Device().mem_info
    for _ in range(3):  # a training gives back what its recorded steps took
        trained(gpu, network, noise_of(network, "mixed"), np.float32)
    assert abs(gpu.xp.cuda.Device().mem_info[0] - free) < 1 << 26


def test_a_walk_gives_the_numbers_of_numpy(gpu: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = walk_for("mlp-8", kind="mixed", dtype=np.float64)
    monkeypatch.setattr("tests.walking.small_walks.BE", gpu)
    found = run(plan)
    monkeypatch.setattr("tests.walking.small_walks.BE", NUMPY)
    assert found == run(plan)
    assert plan.phases == PHASES


def test_without_memory_the_device_says_so_and_goes_on(gpu: Any) -> None:
    with pytest.raises(MemoryError):
        gpu.xp.empty(1 << 50, np.uint8)
    gpu.release()
    assert float(gpu.xp.ones(10).sum()) == 10
    assert gpu.room.job_bytes > 0
