"""ReLU done with the layer before or behind it: the bits of one after the other."""

from typing import Any

import numpy as np
import pytest

from tests.engine.twin import same_bits
from tests.walking.small_walks import small_data
from wn.data.dataset import batch
from wn.engine import models
from wn.engine import noise as noises
from wn.engine.backends.numba.backend import NumbaBackend
from wn.engine.backends.plain.layers import Layers
from wn.engine.layers.relu import Relu
from wn.engine.network import Network, Pass
from wn.engine.optim import arrays
from wn.engine.training import TrainSettings, train

NUMBA = NumbaBackend()
DTYPES = (np.float32, np.float64)
BATCHES = (5, 64, 300)


def normals(shape: tuple[int, ...], dtype: Any, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def relu_output(shape: tuple[int, ...], dtype: Any, seed: int) -> Any:
    return np.maximum(normals(shape, dtype, seed), 0)


def check(name: str, *arguments: Any) -> None:
    """Assert that the backend's method has the bits of the base class's, which does one after the other."""
    found, expected = getattr(NUMBA, name)(*arguments), getattr(Layers, name)(NUMBA, *arguments)
    found, expected = (value if isinstance(value, tuple) else (value,) for value in (found, expected))
    assert len(found) == len(expected)
    for array, value in zip(found, expected, strict=True):
        assert same_bits(array, value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("shared", [False, True])
def test_linear(shared: bool, batch: int, dtype: Any) -> None:
    x = relu_output((1 if shared else 3, 20, batch), dtype, 0)
    w, b = normals((3, 7, 20), dtype, 1), normals((3, 7), dtype, 2)
    check("linear_relu", w, x, b)
    check("linear_backward_relu", normals((3, 7, batch), dtype, 3), x, w)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [3, 70])  # by sums of slices, and by columns
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_convolution(stride: tuple[int, int], outputs: int, dtype: Any) -> None:
    x, w = normals((2, 3, 9, 8, 33), dtype, 0), normals((2, outputs, 3, 3, 3), dtype, 1)
    check("convolution_relu", x, w, normals((2, outputs), dtype, 2), stride, (1, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_max_pooling(shared: bool, window: tuple[int, int], dtype: Any) -> None:
    x = relu_output((1 if shared else 2, 3, 7, 9, 10), dtype, 0)
    y = NUMBA.max_pool(x, window)
    check("max_pool_backward_relu", normals((2, *y.shape[1:]), dtype, 1), x, y, window)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", [False, True])
def test_batch_norm(shared: bool, dtype: Any) -> None:
    rows = normals((1 if shared else 2, 4, 5000), dtype, 0)
    gamma, beta = normals((2, 4), dtype, 1), normals((2, 4), dtype, 2)
    check("batch_norm_relu", rows, gamma, beta, 1e-5)
    check("normalise_relu", rows, normals((2, 4), dtype, 3), gamma, beta)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_batch_norm_and_pooling(shared: bool, window: tuple[int, int], dtype: Any) -> None:
    x = normals((1 if shared else 2, 6, 7, 9, 10), dtype, 0)
    mean, scale, shift = normals((3, 2, 6), dtype, 1)  # some scales are negative
    assert (scale < 0).any()
    assert (scale > 0).any()
    check("normalise_relu_pool", x, mean, scale, shift, window)
    x[:, :, 2, 3] = np.nan
    found = NUMBA.normalise_relu_pool(x, mean, scale, shift, window)
    np.testing.assert_array_equal(
        np.isnan(found), np.isnan(Layers.normalise_relu_pool(NUMBA, x, mean, scale, shift, window))
    )


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
        run = Pass({site: noises.mixed(0.3, 0.5)}, (1, 2), np.arange(10, dtype=np.uint32), 0, training=False)
        together.count = 0
        found = network.forward_from_site(together, *population[:2], x, run, 0)
        with monkeypatch.context() as apart:
            apart.setattr(Network, "_is_relu", lambda self, index: False)
            assert same_bits(found, network.forward_from_site(NUMBA, *population[:2], x, run, 0))
        assert together.count == 2 - (name.startswith(("bn1", "relu1", "bn2", "relu2"))), name


def test_nan_infinity_and_negative_zero() -> None:
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0], np.float32)[None, None]
    ones, zeros = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
    for y in (NUMBA.linear_relu(ones[None], x, zeros), NUMBA.normalise_relu(x, zeros, ones, zeros)):
        np.testing.assert_array_equal(y[0, 0], [np.nan, np.inf, 0, 0, 0, 1])  # which NaN is not promised
        assert not np.signbit(y[0, 0, 1:]).any()
    dx, _, _ = NUMBA.linear_backward_relu(np.ones_like(x), np.maximum(x, 0), ones[None])
    np.testing.assert_array_equal(dx[0, 0], [0, 1, 0, 0, 0, 1])


class Apart(NumbaBackend):
    """Counts the ReLUs that are done on their own."""

    def __init__(self) -> None:
        super().__init__()
        self.forward = self.backward = 0

    def relu(self, x: Any) -> Any:
        self.forward += 1
        return super().relu(x)

    def relu_backward(self, dy: Any, y: Any) -> Any:
        self.backward += 1
        return super().relu_backward(dy, y)

    def recorded(self, step: Any) -> Any:
        return step


@pytest.mark.parametrize("noisy", ["nothing", "before", "after", "everything"])
@pytest.mark.parametrize("batch_norm", ["none", "sites"])
@pytest.mark.parametrize("model", ["mlp-8", "lenet5"])
def test_trainings_have_the_bits_of_those_with_every_relu_on_its_own(
    model: str, batch_norm: str, noisy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_data(64, 10)
    network = models.build(model, data.image_shape, 10, batch_norm)
    relus = [index for index, step in enumerate(network.steps) if isinstance(step.layer, Relu)]
    places = {"nothing": [], "before": relus, "after": [index + 1 for index in relus]}
    steps = places.get(noisy, list(range(len(network.steps) + 1)))
    noise = {site: noises.mixed(0.3, 0.5) for site, step in enumerate(network.site_steps) if step in steps}
    settings = TrainSettings(1, 32)
    together = Apart()
    found = train(together, network, data, settings, seeds=(1, 2), noise=noise)
    monkeypatch.setattr(Network, "_is_relu", lambda self, index: False)
    apart = Apart()
    expected = train(apart, network, data, settings, seeds=(1, 2), noise=noise)
    for array, value in zip(arrays(tuple(found)[:2]), arrays(tuple(expected)[:2]), strict=True):
        assert same_bits(array, value)
    batches = 2
    assert apart.forward == apart.backward == len(relus) * batches
    assert together.forward == (len(relus) * batches if noisy in ("before", "everything") else 0)
    assert together.backward == (len(relus) * batches if noisy in ("after", "everything") else 0)
