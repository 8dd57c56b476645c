"""Neighbours that are done at once: the bits of one after the other, and of an engine without fusion."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.engine.own_layers import Leaky
from tests.engine.twin import same_bits
from tests.walking.small_walks import small_data
from wn.data.dataset import batch
from wn.engine import backends, models
from wn.engine import network as networks
from wn.engine import noise as noises
from wn.engine.backends.numba.backend import NumbaBackend
from wn.engine.layers.linear import Linear
from wn.engine.layers.relu import Relu
from wn.engine.network import Conditions, Network, Node
from wn.engine.optim import arrays
from wn.engine.training import TrainSettings, train

NUMBA = NumbaBackend()
DTYPES = (np.float32, np.float64)
BATCHES = (5, 64, 300)


def normals(shape: tuple[int, ...], dtype: Any, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def relu_output(shape: tuple[int, ...], dtype: Any, seed: int) -> Any:
    return np.maximum(normals(shape, dtype, seed), 0)


def check(found: Any, expected: Any) -> None:
    """Assert that both have the same bits."""
    found, expected = (value if isinstance(value, tuple) else (value,) for value in (found, expected))
    assert len(found) == len(expected)
    for array, value in zip(found, expected, strict=True):
        assert array is value is None or same_bits(array, value)


def rectified(found: tuple[Any, ...]) -> tuple[Any, ...]:
    """The ReLU of the first of some results, and the others."""
    return NUMBA.relu(found[0]), *found[1:]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("shared", [False, True])
def test_linear(shared: bool, batch: int, dtype: Any) -> None:
    x = relu_output((1 if shared else 3, 20, batch), dtype, 0)
    w, b = normals((3, 7, 20), dtype, 1), normals((3, 7), dtype, 2)
    check(NUMBA.linear_relu(w, x, b), NUMBA.relu(NUMBA.linear(w, x, b)))
    y = relu_output((3, 7, batch), dtype, 4)
    for need_dx in (True, False):
        dy = normals((3, 7, batch), dtype, 3)
        expected = NUMBA.linear_backward(NUMBA.relu_backward(dy, y), x, w, need_dx)
        check(NUMBA.linear_relu_backward(dy, y, x, w, need_dx), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [3, 70])  # by sums of slices, and by columns
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_convolution(stride: tuple[int, int], outputs: int, dtype: Any) -> None:
    x, w = normals((2, 3, 9, 8, 33), dtype, 0), normals((2, outputs, 3, 3, 3), dtype, 1)
    given = x, w, normals((2, outputs), dtype, 2), stride, (1, 1)
    check(NUMBA.convolution_relu(*given), NUMBA.relu(NUMBA.convolution(*given)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_max_pooling(shared: bool, window: tuple[int, int], dtype: Any) -> None:
    x = relu_output((1 if shared else 2, 3, 7, 9, 10), dtype, 0)
    y = NUMBA.max_pool(x, window)
    given = normals((2, *y.shape[1:]), dtype, 1), x, y, window
    expected = NUMBA.relu_backward(NUMBA.max_pool_backward(*given), x)
    check(NUMBA.max_pool_backward_relu(*given), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", [False, True])
def test_batch_norm(shared: bool, dtype: Any) -> None:
    rows = normals((1 if shared else 2, 4, 5000), dtype, 0)
    gamma, beta = normals((2, 4), dtype, 1), normals((2, 4), dtype, 2)
    given = rows, gamma, beta, 1e-5
    check(NUMBA.batch_norm_relu(*given), rectified(NUMBA.batch_norm(*given)))
    y, mean, residual, _, inverse = NUMBA.batch_norm_relu(rows, gamma, beta, 1e-5)
    dy, others = normals(y.shape, dtype, 4), (rows, gamma, mean, residual, inverse)
    expected = NUMBA.batch_norm_backward(NUMBA.relu_backward(dy, y), *others)
    check(NUMBA.batch_norm_relu_backward(dy, y, *others), expected)
    given = rows, normals((2, 4), dtype, 3), gamma, beta
    check(NUMBA.normalise_relu(*given), NUMBA.relu(NUMBA.normalise(*given)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_batch_norm_and_pooling(shared: bool, window: tuple[int, int], dtype: Any) -> None:
    x = normals((1 if shared else 2, 6, 7, 9, 10), dtype, 0)
    mean, scale, shift = normals((3, 2, 6), dtype, 1)  # some scales are negative
    assert (scale < 0).any()
    assert (scale > 0).any()
    check(NUMBA.normalise_relu_pool(x, mean, scale, shift, window), one_by_one(x, mean, scale, shift, window))
    x[:, :, 2, 3] = np.nan
    found = NUMBA.normalise_relu_pool(x, mean, scale, shift, window)
    expected = one_by_one(x, mean, scale, shift, window)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


def one_by_one(x: Any, mean: Any, scale: Any, shift: Any, window: tuple[int, int]) -> Any:
    """The max pooling of the ReLU of what is normalised, each on its own."""
    y = NUMBA.relu(NUMBA.normalise(x.reshape(*x.shape[:2], -1), mean, scale, shift))
    return NUMBA.max_pool(y.reshape(-1, *x.shape[1:]), window)


class Pooled(NumbaBackend):
    """Counts the poolings that are done with the batch norm before them."""

    count = 0

    def normalise_relu_pool(self, *arguments: Any) -> Any:
        self.count += 1
        return super().normalise_relu_pool(*arguments)


def test_evaluations_have_the_bits_of_those_with_every_layer_on_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = small_data(64, 10)
    network = models.build("lenet5", data.image_shape, 10, "sites")
    population = train(NUMBA, network, data, TrainSettings(1, 32), seeds=(1, 2))
    together = Pooled()
    x = batch(together, data.test, np.arange(10, dtype=np.uint32), data.recipe.preprocessing)
    for site, name in enumerate(network.site_names):
        conditions = Conditions(
            {site: noises.mixed(0.3, 0.5)}, (1, 2), np.arange(10, dtype=np.uint32), 0, training=False
        )
        together.count = 0
        found = network.forward_from_site(together, *population[:2], x, conditions, 0)
        with monkeypatch.context() as apart:
            without_fusion(apart)
            alone = replace(network)  # prepared anew
            assert same_bits(found, alone.forward_from_site(NUMBA, *population[:2], x, conditions, 0))
        assert together.count == 2 - (name.startswith(("bn1", "relu1", "bn2", "relu2"))), name


def test_nan_infinity_and_negative_zero() -> None:
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0], np.float32)[None, None]
    ones, zeros = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
    for y in (NUMBA.linear_relu(ones[None], x, zeros), NUMBA.normalise_relu(x, zeros, ones, zeros)):
        np.testing.assert_array_equal(y[0, 0], [np.nan, np.inf, 0, 0, 0, 1])  # which NaN is not promised
        assert not np.signbit(y[0, 0, 1:]).any()
    y = np.maximum(x, 0)
    dx, _, _ = NUMBA.linear_relu_backward(np.full_like(x, np.nan), np.zeros_like(x), y, ones[None], True)
    np.testing.assert_array_equal(dx, np.zeros_like(x))  # 0 whatever dy is there
    dx, _, _ = NUMBA.linear_relu_backward(np.ones_like(x), y, x, ones[None], True)
    np.testing.assert_array_equal(dx[0, 0], [0, 1, 0, 0, 0, 1])


# ---- networks -------------------------------------------------------------------------------------------


def without_fusion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks that are prepared from now on run their layers one by one."""
    monkeypatch.setattr(networks, "fused", lambda layers, quiet: [(layer, 1) for layer in layers])


@pytest.mark.parametrize("noisy", ["nothing", "before", "after", "everything"])
@pytest.mark.parametrize("batch_norm", ["none", "sites"])
@pytest.mark.parametrize("model", ["mlp-8", "lenet5"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_an_engine_without_fusion_makes_the_same_bits(
    backend: str, model: str, batch_norm: str, noisy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of forward and backward in both phases, and of a training; recorded steps too."""
    data, be = small_data(64, 10), backends.get(backend)
    network = models.build(model, data.image_shape, 10, batch_norm)
    relus = [index for index, node in enumerate(network.nodes) if isinstance(node.layer, Relu)]
    places = {"nothing": [], "before": relus, "after": [index + 1 for index in relus]}
    depths = places.get(noisy, list(range(len(network.nodes) + 1)))
    noise = {
        site: noises.mixed(0.3, 0.5) for site, depth in enumerate(network.site_depths) if depth in depths
    }
    x = normals((1, *data.image_shape, 10), np.float32, 0)

    def results() -> list[Any]:
        apart = replace(network)  # prepared anew
        population = train(be, apart, data, TrainSettings(1, 32), seeds=(1, 2), noise=noise)
        found = [tuple(population)[:2]]
        for training in (True, False):
            conditions = Conditions(noise, (1, 2), np.arange(10, dtype=np.uint32), 0, training=training)
            y, cache, states = apart.forward(be, *population[:2], x, conditions)
            found.append((y, states, apart.backward(be, y, cache, need_dx=True)))
            count = len(cache.stages)
        stages.append(count)
        return arrays(tuple(found))

    stages: list[int] = []
    together = results()
    without_fusion(monkeypatch)
    for array, value in zip(together, results(), strict=True):
        assert same_bits(array, value)
    fewer = stages[1] - stages[0]
    assert stages[1] == len(network.nodes)
    assert fewer >= len(relus) if be.fuses and noisy in ("nothing", "after") else fewer == 0


def kinds(network: Network, training: bool, noisy: set[int]) -> list[str]:
    return [type(stage.layer).__name__ for stage in network.stages(True, training, frozenset(noisy))]


def test_what_is_fused() -> None:
    """Never across noise, and never a layer that is of a kind of its own."""
    lenet = models.build("lenet5", (1, 28, 28), 10, "sites")
    dense = ["Flatten", *["Linear", "BatchNormTrainingRelu"] * 2, "Linear"]
    assert kinds(lenet, True, set()) == ["Convolution", "BatchNormTrainingReluMaxPooling"] * 2 + dense
    assert kinds(lenet, False, set())[:2] == ["Convolution", "BatchNormInferenceReluMaxPooling"]
    behind = {name: site for site, name in enumerate(lenet.site_names)}
    assert kinds(lenet, True, {behind["bn1"]})[:4] == [
        "Convolution",
        "BatchNormTraining",
        "Relu",
        "MaxPooling",
    ]
    assert kinds(lenet, True, {behind["relu1"]})[:3] == ["Convolution", "BatchNormTrainingRelu", "MaxPooling"]
    assert kinds(lenet, True, {behind["pool1"]})[1] == "BatchNormTrainingReluMaxPooling"
    own = Relu()
    object.__setattr__(own, "forward", lambda *arguments: Relu.forward(own, *arguments))
    for relu, name in ((Leaky(), "Leaky"), (own, "Relu")):
        network = Network("own", (Node("fc", Linear(3)), Node("relu", relu), Node("logits", Linear(2))), (4,))
        assert kinds(network, True, set()) == ["Linear", name, "Linear"]
