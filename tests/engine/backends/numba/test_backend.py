"""The Numba backend as a whole: it agrees with NumPy's, on any number of threads, and reuses its memory."""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from tests.engine.backends.numba.recording import Anew, Watched
from tests.engine.twin import same_bits
from wn.data import catalogue
from wn.data.dataset import Dataset
from wn.engine import backends, models
from wn.engine.backends.numba.work_arrays import SMALL, WorkArrays
from wn.engine.network import Network
from wn.engine.noise import SiteNoise, additive, mixed, multiplicative
from wn.engine.optim import arrays
from wn.engine.training import Monitor, Population, TrainSettings, evaluate, train
from wn.testing.tolerances import assert_close

NUMPY, NUMBA = backends.get("numpy"), backends.get("numba")
DATA = catalogue.load("fashion-mini").limited(140, 300)  # in batches of 64: the last one is a partial one
KINDS = {
    "none": None,
    "additive": additive,
    "multiplicative": multiplicative,
    "mixed": lambda s: mixed(s, 0.5),
}


def network_of(model: str, batch_norm: str = "sites") -> Network:
    return models.build(model, DATA.image_shape, 10, batch_norm)


def noise_of(network: Network, kind: str, sigma: Any = 0.3) -> SiteNoise:
    operator = KINDS[kind]
    return {} if operator is None else {site: operator(sigma) for site in range(len(network.site_names))}


def trained(
    be: Any, network: Network, noise: SiteNoise, dtype: Any, seeds: tuple[int, ...] = (4,)
) -> Population:
    return train(be, network, DATA, TrainSettings(1, 64, 1e-3), seeds=seeds, noise=noise, dtype=dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["mlp-16", "lenet5"])
def test_trainings_agree_with_those_of_numpy(model: str, kind: str) -> None:
    network = network_of(model)
    noise = noise_of(network, kind)
    ours, theirs = (trained(be, network, noise, np.float64) for be in (NUMBA, NUMPY))
    for one, other in zip(arrays(tuple(ours)[:2]), arrays(tuple(theirs)[:2]), strict=True):
        # Adam divides by the size of gradients that are zero but for rounding (biases before batch norm)
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)
    counts = [evaluate(be, network, ours, DATA, noise=noise, dtype=np.float64) for be in (NUMBA, NUMPY)]
    np.testing.assert_array_equal(*counts)


@pytest.mark.parametrize("model", ["mlp-16", "lenet5", "cnn-s"])
def test_one_step_in_float32_agrees_with_numpy(model: str) -> None:
    class First(Monitor):
        def trained(self, state: Any) -> None:
            self.moments = [array.copy() for array in arrays(state.adam.first)]
            raise StopIteration

    shape = (1, 10, 49) if model == "cnn-s" else DATA.image_shape
    rng = np.random.default_rng(0)
    split = type(DATA.train)(rng.integers(0, 256, (64, *shape), np.uint8), rng.integers(0, 10, 64))
    data = Dataset("random", DATA.classes, split, split, DATA.recipe)
    network = models.build(model, shape, 10)
    found = []
    for be in (NUMBA, NUMPY):
        monitor = First()
        with pytest.raises(StopIteration):
            train(be, network, data, TrainSettings(1, 64), seeds=(4,), monitor=monitor)
        found.append(monitor.moments)
    for one, other in zip(*found, strict=True):
        scale = float(np.abs(other).max())
        assert_close(one, other, dtype=np.float32, reduction_length=64 * 24 * 24, magnitude=scale)


@pytest.mark.parametrize("kind", ["additive", "mixed"])
@pytest.mark.parametrize("model", ["mlp-16", "lenet5"])
def test_bits_do_not_depend_on_the_number_of_threads(model: str, kind: str) -> None:
    network = network_of(model)
    noise = noise_of(network, kind, np.array([0.1, 0.5]))
    found = []
    for threads in (1, 2):
        with NUMBA.working(threads):
            assert numba.get_num_threads() == min(threads, numba.config.NUMBA_NUM_THREADS)
            found.append(trained(NUMBA, network, noise, np.float32, (4, 4)))
    for one, other in zip(*(arrays(tuple(population)[:2]) for population in found), strict=True):
        assert same_bits(one, other)


@pytest.mark.parametrize("model", ["mlp-16", "lenet5", "cnn-s"])
def test_bits_of_a_member_do_not_depend_on_the_population(model: str) -> None:
    network = network_of(model) if model != "cnn-s" else models.build(model, DATA.image_shape, 10)
    sigma = np.array([0.1, 0.5, 2.0])
    together = trained(NUMBA, network, noise_of(network, "mixed", sigma), np.float32, (4, 9, 4))
    for p, seed in enumerate((4, 9, 4)):
        noise = noise_of(network, "mixed", float(sigma[p]))
        alone = train(
            NUMBA, network, DATA, TrainSettings(1, 64, 1e-3), seeds=(seed,), noise=noise, data_seed=4
        )
        for one, other in zip(arrays(alone.params), arrays(together.params), strict=True):
            assert same_bits(one[0], other[p])


# ---- memory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [Watched, Anew])
def test_a_step_of_lenet5_allocates_nothing_large_after_the_first(backend: type[Anew]) -> None:
    class Memory(Monitor):
        def __init__(self) -> None:
            self.peaks: list[int] = []
            self.blocks: list[int] = []

        def step(self) -> None:
            now, peak = tracemalloc.get_traced_memory()
            self.peaks.append(peak - self.before if self.peaks else peak)
            tracemalloc.reset_peak()
            self.before = now
            self.blocks.append(be.blocks)

    be = backend()
    network = network_of("lenet5")
    monitor = Memory()
    tracemalloc.start()
    try:
        settings = TrainSettings(2, 64)
        noise = noise_of(network, "mixed")
        train(be, network, DATA.limited(128), settings, seeds=(1,), noise=noise, monitor=monitor)
    finally:
        tracemalloc.stop()
    first, *others = monitor.peaks
    assert first > 10 * 2**20  # or it would not be counted at all
    assert len(others) == 3
    assert max(others) < first / 20  # arrays below SMALL, together
    assert monitor.blocks[0] > 0
    assert monitor.blocks[1:] == monitor.blocks[:1] * 3


def test_work_arrays_are_used_again_only_when_nobody_holds_them() -> None:
    work = WorkArrays()
    one = work.empty((SMALL,), np.uint8)
    view = one.reshape(2, -1)[1, 5:]
    where = one.ctypes.data
    assert work.empty((SMALL,), np.uint8).ctypes.data != where  # given back at once
    del one
    other = work.empty((SMALL,), np.uint8)
    assert other.ctypes.data != where  # the view holds it
    del view
    assert work.empty((SMALL // 4,), np.float32).ctypes.data == where
    work.clear()
    other[:] = 1  # still there
    assert other.sum() == SMALL


def test_small_and_much_smaller_arrays_get_memory_of_their_own() -> None:
    work = WorkArrays()
    work.empty((SMALL - 1,), np.uint8)
    assert work.blocks == []
    large = work.empty((10 * SMALL,), np.uint8)
    where = large.ctypes.data
    del large
    assert work.empty((2 * SMALL,), np.uint8).ctypes.data != where
    assert work.empty((5 * SMALL,), np.uint8).ctypes.data == where
    assert work.sizes == [2 * SMALL, 10 * SMALL]


# ---- compiling ------------------------------------------------------------------------------------------


def test_the_first_run_says_that_it_compiles_and_the_second_does_not(tmp_path: Path) -> None:
    script = """
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
import numpy as np
from wn.engine import backends
from wn.engine.layers import relu
be = backends.get("numba")
print(be.multiply(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32)).sum())
print(be.forward(relu.FORMULA, (), np.ones((1, 2), np.float32))[0].sum())
"""

    def lines() -> list[str]:
        environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PATH": ""}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["2.0", "2.0"]
        return done.stderr.splitlines()

    first = lines()
    assert len(first) == 1
    assert "compiling" in first[0]
    assert lines() == []


def test_help_needs_neither_numba_nor_numpy() -> None:
    script = (
        "import sys, wn.cli.main; print(sorted({'numba', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
