"""Whole networks through the CuPy backend, on the stand-in: they agree with NumPy's."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import wn
from tests.engine.backends.cuda import host, needs_compiler
from tests.engine.backends.cuda.fake_cupy import backend, installed
from tests.engine.backends.cuda.fake_device import DEVICE
from tests.engine.layers import average_pooling
from tests.walking.small_walks import NOISES, images, small_data
from wn.data.dataset import Dataset
from wn.engine import backends, models
from wn.engine.backends.plain.base import DrawKey
from wn.engine.network import Network
from wn.engine.noise import SiteNoise
from wn.engine.optim import arrays
from wn.engine.training import Population, TrainSettings, evaluate, train
from wn.random import Purpose

pytestmark = needs_compiler
NUMPY, CUDA = backends.get("numpy"), backend()
LARGE = small_data(40, 60)  # in batches of 32: the last one is a partial one
SMALL = replace(LARGE, train=images(40, 1, (1, 7, 29)), test=images(60, 2, (1, 7, 29)))
SIGMA = np.array([0.0, 0.3])


def data_of(model: str) -> Dataset:
    return SMALL if model.startswith("cnn") else LARGE


def network_of(model: str, batch_norm: str = "sites") -> Network:
    return models.build(model, data_of(model).image_shape, 10, batch_norm)


def noise_of(network: Network, kind: str, sigma: Any = SIGMA) -> SiteNoise:
    return dict.fromkeys(range(len(network.site_names)), NOISES[kind](sigma))


def trained(
    be: Any, network: Network, noise: SiteNoise, dtype: Any, seeds: tuple[int, ...], **settings: Any
) -> Population:
    chosen = TrainSettings(1, 32, 1e-3, **settings)
    return train(be, network, data_of(network.name), chosen, seeds=seeds, noise=noise, dtype=dtype)


def on_host(population: Population) -> list[Any]:
    return [CUDA.to_numpy(array) for array in arrays((population.params, population.states))]


CASES = [
    *(("mlp-8", "sites", kind) for kind in NOISES),
    ("mlp-8", "none", "mixed"),
    ("lenet5", "sites", "mixed"),
    ("lenet5", "none", "multiplicative"),
    ("cnn-s", "hidden", "mixed, add first"),  # strides
]


@pytest.mark.parametrize(("model", "batch_norm", "kind"), CASES)
def test_trainings_agree_with_those_of_numpy(model: str, batch_norm: str, kind: str) -> None:
    network = network_of(model, batch_norm)
    noise = noise_of(network, kind)
    found = trained(CUDA, network, noise, np.float64, (4, 5))
    expected = trained(NUMPY, network, noise, np.float64, (4, 5))
    for one, other in zip(on_host(found), arrays((expected.params, expected.states)), strict=True):
        # Adam divides by the size of gradients that are zero but for rounding (biases before batch norm)
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)
    ours = evaluate(CUDA, network, found, data_of(model), noise=noise, dtype=np.float64)
    np.testing.assert_array_equal(
        ours, evaluate(NUMPY, network, expected, data_of(model), noise=noise, dtype=np.float64)
    )


@pytest.mark.parametrize("model", ["mlp-8", "lenet5"])
def test_initial_parameters_have_the_same_bits(model: str) -> None:
    network = network_of(model)
    found = [network.initial_parameters(be, (4, 5, 4), np.float32) for be in (CUDA, NUMPY)]
    for one, other in zip(*map(arrays, found), strict=True):
        assert CUDA.to_numpy(one).tobytes() == other.tobytes()


@pytest.mark.parametrize("weights", [None, tuple(range(1, 11))])
def test_classes_may_have_weights_and_weights_limits(weights: Any) -> None:
    network = network_of("mlp-8")
    settings = {"clamp_weights": True, "class_weights": weights}
    found, expected = (trained(be, network, {}, np.float64, (4,), **settings) for be in (CUDA, NUMPY))
    for one, other in zip(on_host(found), arrays((expected.params, expected.states)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)


def test_float32_stays_float32_on_the_device() -> None:
    network = network_of("lenet5")
    found = trained(CUDA, network, noise_of(network, "mixed"), np.float32, (4, 5))
    assert {array.dtype for array in arrays(tuple(found)[:2])} == {np.dtype(np.float32)}
    assert not any(np.isnan(array).any() for array in on_host(found))


@pytest.mark.parametrize("name", ["cupy", "cupy-tf32"])
def test_a_record_says_whether_products_were_rounded(name: str) -> None:
    backends._made.cache_clear()
    sizes: dict[str, Any] = {"train_limit": 40, "test_limit": 40, "epochs": 1, "batch_size": 32}
    with installed():
        found = wn.train(dataset="fashion-mini", model="mlp-8", backend=name, **sizes)
    backends._made.cache_clear()
    assert found.record["backend"] == name
    assert found.total == 40


def test_all_kernels_are_used() -> None:
    """Nothing in kernels.cu is left over."""
    DEVICE.launches.clear()
    network, xp = network_of("lenet5"), CUDA.xp
    noise, settings = noise_of(network, "mixed"), {"clamp_weights": True}
    evaluate(CUDA, network, trained(CUDA, network, noise, np.float32, (4, 5), **settings), LARGE)
    CUDA.standard_draws(DrawKey((4,), CUDA.asarray([1]), 1, Purpose.TRAIN_ADD, 0), 3)
    average_pooling.backward(CUDA, *average_pooling.forward(CUDA, (), xp.ones((1, 1, 4, 4, 2)), (2, 2)))
    CUDA.gather(xp.ones((3, 1, 2, 2), np.float32), CUDA.asarray([0]), 1.0, (0.0,), (1.0,), np.float32)
    assert set(host.library("float32")) == set(DEVICE.launches) - {"gemm"}
