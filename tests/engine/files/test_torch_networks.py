"""Networks that PyTorch made and trained: logits, gradients under noise, and ten optimiser steps agree.

What PyTorch computed is in files, made by `python -m tests.engine.files.torch_networks.make`.
"""

import numpy as np
import pytest

import wn
from tests.engine.files.torch_networks import HERE, NETWORKS, NOISE_AT
from tests.engine.twin import by_name
from wn.engine import backends, noise, optim, training
from wn.engine import loss as losses
from wn.engine.network import Conditions
from wn.engine.optim import arrays, with_arrays

SIGMA, SEED, RATE, STEPS = 0.3, 5, 1e-2, 10
TENSORS = {"w": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}


def known(name):
    return np.load(HERE / f"{name}.npz")


def images(x, dtype):
    return np.ascontiguousarray(np.moveaxis(x, 0, -1)[None]).astype(dtype)


def in_float64(found):
    tree = tuple(found.population)[:2]
    return with_arrays(tree, (array.astype(np.float64) for array in arrays(tree)))


def conditions_of(network, name, epoch=0):
    site = network.site_names.index(NOISE_AT[name])
    return Conditions({site: noise.additive(SIGMA)}, (SEED,), np.arange(12), epoch, training=True)


def logits(be, network, params, states, x):
    conditions = Conditions({}, (0,), np.arange(x.shape[-1]), 0, training=False)
    return network.forward_from_site(be, params, states, x, conditions, 0)[0].T


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_of_weights_and_of_onnx_files(name, backend):
    be, kept = backends.get(backend), known(name)
    for found in (
        wn.load_weights(NETWORKS[name](), HERE / f"{name}.safetensors"),
        wn.load_network(HERE / f"{name}.onnx"),
    ):
        params, states, _ = found.population
        y = logits(be, found.network, params, states, images(kept["x"], np.float32))
        np.testing.assert_allclose(y, kept["logits"], rtol=1e-5, atol=1e-5)
    double = wn.load_network(HERE / f"{name}-double.onnx")
    y = logits(be, double.network, *tuple(double.population)[:2], images(kept["x"], np.float64))
    np.testing.assert_allclose(y, kept["logits"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_under_the_same_noise(name, backend):
    be, kept, network = backends.get(backend), known(name), NETWORKS[name]()
    params, states = in_float64(wn.load_weights(network, HERE / f"{name}.safetensors"))
    y, cache, _ = network.forward(
        be, params, states, images(kept["x"], np.float64), conditions_of(network, name)
    )
    loss, loss_cache = losses.forward(be, y, kept["labels"])
    dx, grads = network.backward(be, losses.backward(be, loss_cache), cache, need_dx=True)
    assert loss[0] == pytest.approx(kept["loss"], rel=1e-12)
    found = {"dx": np.moveaxis(dx[0], -1, 0)}
    for key, value in by_name(network, grads).items():
        layer, _, field = key.rpartition(".")
        found[f"d.{layer}.{TENSORS[field]}"] = value[0]
    assert {key for key in kept.files if key.startswith("d.")} == set(found) - {"dx"}
    for key, value in found.items():
        assert np.abs(value - kept[key]).max() <= 1e-9 * max(1, np.abs(kept[key]).max()), key


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", NETWORKS)
def test_ten_steps_of_adam_under_noise(name, backend):
    be, kept, network = backends.get(backend), known(name), NETWORKS[name]()
    params, states = in_float64(wn.load_weights(network, HERE / f"{name}.safetensors"))
    x, adam = images(kept["x"], np.float64), optim.adam_start(be, params)
    for step in range(STEPS):
        loss, grads, states = training.loss_and_gradients(
            be, network, params, states, x, kept["labels"], conditions_of(network, name, step)
        )
        assert loss[0] == pytest.approx(kept["losses"][step], rel=1e-8)
        optim.adam_update(be, params, grads, adam, optim.adam_constants(step + 1, RATE))
    for key, value in by_name(network, params).items():
        layer, _, field = key.rpartition(".")
        expected = kept[f"after.{layer}.{TENSORS[field]}"]
        assert np.abs(value[0] - expected).max() <= 1e-7 * max(1, np.abs(expected).max()), key


def small_data():
    rng = np.random.default_rng(1)

    def split(count):
        labels = rng.integers(0, 3, count)
        x = rng.standard_normal((count, 1, 12, 12)).astype(np.float32) * 0.5
        x[np.arange(count), 0, 3 * labels + 1] += 1
        return x, labels

    return wn.dataset(*split(96), *split(60), mean=0.0, std=1.0, name="stripes")


@pytest.mark.parametrize("name", NETWORKS)
def test_noise_walks_through_every_site(name):
    found = wn.load_network(HERE / f"{name}.onnx")
    result = wn.walk(network=found, data=small_data(), phase="inference", sigma="0.1:100:4")
    assert list(dict.fromkeys(result.curves["site_name"]))[: len(found.network.site_names)] == list(
        found.network.site_names
    )
    highest = result.curves["accuracy"][result.curves["sigma"] == result.curves["sigma"].min()]
    assert highest.min() > 0.5


@pytest.mark.parametrize("name", NETWORKS)
def test_training_under_noise_on_two_backends(name):
    class Losses(training.Monitor):
        def __init__(self):
            self.found = []

        def epoch(self, epoch, loss):
            self.found.append(np.array(loss))

    network, found = NETWORKS[name](), []
    settings = training.TrainSettings(3, 16, 1e-2)
    for backend in ("numpy", "numba"):
        monitor = Losses()
        site = network.site_names.index(NOISE_AT[name])
        training.train(
            backends.get(backend), network, small_data(), settings, seeds=(1, 2),
            noise={site: noise.additive(SIGMA)}, monitor=monitor,
        )  # fmt: skip
        found.append(np.array(monitor.found))
    np.testing.assert_allclose(*found, rtol=1e-3)
    assert (found[0][-1] < found[0][0]).all()
