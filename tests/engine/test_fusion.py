"""Neighbours that are done at once: the bits of one after the other, and of an engine without fusion."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.engine.own_layers import Leaky
from tests.engine.twin import same_bits
from tests.walking.small_walks import small_data
from wn.data.dataset import batch
from wn.engine import backends, fusion, models
from wn.engine import noise as noises
from wn.engine.backends.numba.backend import NumbaBackend
from wn.engine.backends.plain.base import Backend
from wn.engine.layers import batch_norm, convolution, linear, max_pooling, relu
from wn.engine.layers.base import Formula
from wn.engine.layers.batch_norm import BatchNormParams, RunningStatistics
from wn.engine.layers.convolution import ConvolutionParams
from wn.engine.layers.linear import Linear, LinearParams
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


class Case(NamedTuple):
    """Neighbours, the formula of the first and of all of them, and what both are given."""

    first: Formula
    all: Formula
    params: Any
    x: Any
    static: tuple[Any, ...] = ()
    window: Any = None
    needs: Mapping[str, bool] = {}


def apart(case: Case, generator: Any) -> tuple[Any, ...]:
    """(y, dx, *gradients) of one layer after the other."""
    made, cache = NUMBA.forward(case.first, case.params, case.x, *case.static)
    y, mask = NUMBA.forward(relu.FORMULA, (), made)
    if case.window is None:
        dy = generator.standard_normal(y.shape).astype(y.dtype)
    else:
        y, largest = NUMBA.forward(max_pooling.FORMULA, (), y, case.window)
        dy = generator.standard_normal(y.shape).astype(y.dtype)
        dy, _ = NUMBA.backward(max_pooling.FORMULA, dy, largest)
    dmade, _ = NUMBA.backward(relu.FORMULA, dy, mask)
    dx, grads = NUMBA.backward(case.first, dmade, cache, **case.needs)
    return y, dx, *grads


def together(case: Case, generator: Any) -> tuple[Any, ...]:
    """The same of all at once."""
    window = () if case.window is None else (case.window,)
    y, cache = NUMBA.forward(case.all, case.params, case.x, *window, *case.static)
    dy = generator.standard_normal(y.shape).astype(y.dtype)
    dx, grads = NUMBA.backward(case.all, dy, cache, **case.needs)
    return y, dx, *grads


def check(case: Case) -> None:
    """Assert that both have the same bits, and that the formula says so to rounding."""
    found, expected = together(case, np.random.default_rng(9)), apart(case, np.random.default_rng(9))
    assert len(found) == len(expected)
    for array, value in zip(found, expected, strict=True):
        assert array is value is None or same_bits(array, value)
    window = () if case.window is None else (case.window,)
    y, cache = case.all.forward(np, case.params, case.x, *window, *case.static)
    dy = np.random.default_rng(9).standard_normal(y.shape).astype(y.dtype)
    dx, grads = case.all.backward(np, dy, cache, **case.needs)
    for array, value in zip(found, (y, dx, *grads), strict=True):
        if value is not None:
            scale = float(np.abs(value).max())
            np.testing.assert_allclose(
                array, value, rtol=0, atol=(1e-4 if y.dtype == np.float32 else 1e-11) * scale
            )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("shared", [False, True])
def test_linear(shared: bool, batch: int, dtype: Any) -> None:
    x = relu_output((1 if shared else 3, 20, batch), dtype, 0)
    params = LinearParams(normals((3, 7, 20), dtype, 1), normals((3, 7), dtype, 2))
    for need_dx in (True, False):
        check(Case(linear.FORMULA, fusion.LINEAR_RELU, params, x, needs={"need_dx": need_dx}))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [3, 70])  # by sums of slices, and by columns
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_convolution(stride: tuple[int, int], outputs: int, dtype: Any) -> None:
    x, w = normals((2, 3, 9, 8, 33), dtype, 0), normals((2, outputs, 3, 3, 3), dtype, 1)
    params = ConvolutionParams(w, normals((2, outputs), dtype, 2))
    for need_dx in (True, False):
        given = params, x, (stride, (1, 1))
        needs = {"need_dx": need_dx}
        check(Case(convolution.FORMULA, fusion.CONVOLUTION_RELU, *given, None, needs))
        for window in ((2, 2), (3, 2)):
            check(Case(convolution.FORMULA, fusion.CONVOLUTION_RELU_POOLING, *given, window, needs))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [None, (2, 2), (3, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_batch_norm(shared: bool, window: Any, dtype: Any) -> None:
    x = normals((1 if shared else 2, 6, 7, 9, 80), dtype, 0)
    gamma, beta, mean, residual = normals((4, 2, 6), dtype, 1)
    assert (gamma < 0).any()
    assert (gamma > 0).any()
    params, running = BatchNormParams(gamma, beta), RunningStatistics(mean, gamma**2, residual / 100)
    training = fusion.TRAINING_RELU_POOLING if window else fusion.TRAINING_RELU
    inference = fusion.INFERENCE_RELU_POOLING if window else fusion.INFERENCE_RELU
    check(Case(batch_norm.TRAINING, training, params, x, (), window))
    check(Case(batch_norm.INFERENCE, inference, params, x, (running,), window))
    x[:, :, 2, 3] = np.nan
    case = Case(batch_norm.INFERENCE, inference, params, x, (running,), window)
    found, expected = (way(case, np.random.default_rng(0))[0] for way in (together, apart))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


class Pooled(NumbaBackend):
    """Counts the poolings that are done with the batch norm before them."""

    count = 0

    def forward(self, layer: Formula, *given: Any, **static: Any) -> Any:
        self.count += layer is fusion.INFERENCE_RELU_POOLING
        return super().forward(layer, *given, **static)


def test_evaluations_have_the_bits_of_those_with_every_layer_on_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = small_data(64, 10)
    network = models.build("lenet5", data.image_shape, 10, "sites")
    population = train(NUMBA, network, data, TrainSettings(1, 32), seeds=(1, 2))
    counting = Pooled()
    x = batch(counting, data.test, np.arange(10, dtype=np.uint32), data.recipe.preprocessing)
    for site, name in enumerate(network.site_names):
        conditions = Conditions(
            {site: noises.mixed(0.3, 0.5)}, (1, 2), np.arange(10, dtype=np.uint32), 0, training=False
        )
        counting.count = 0
        found = network.forward_from_site(counting, *population[:2], x, conditions, 0)
        with monkeypatch.context() as apart:
            without_fusion(apart)
            alone = replace(network)  # prepared anew
            assert same_bits(found, alone.forward_from_site(NUMBA, *population[:2], x, conditions, 0))
        assert counting.count == 2 - (name.startswith(("bn1", "relu1", "bn2", "relu2"))), name


def test_nan_infinity_and_negative_zero() -> None:
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0], np.float32)[None, None]
    ones, zeros = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
    params, running = LinearParams(ones[None], zeros), RunningStatistics(zeros, ones, zeros)
    y, (_, cache) = NUMBA.forward(fusion.LINEAR_RELU, params, x)
    normalised, _ = NUMBA.forward(fusion.INFERENCE_RELU, BatchNormParams(ones, zeros), x, running)
    for found in (y, normalised):
        np.testing.assert_allclose(found[0, 0], [np.nan, np.inf, 0, 0, 0, 1], rtol=1e-5)  # any NaN
        assert not np.signbit(found[0, 0, 1:]).any()
    mask = relu.ReluCache(np.maximum(x, 0))
    nothing = relu.ReluCache(np.zeros_like(x)), cache
    dx, _ = NUMBA.backward(fusion.LINEAR_RELU, np.full_like(x, np.nan), nothing)
    np.testing.assert_array_equal(dx, np.zeros_like(x))  # 0 whatever dy is there
    dx, _ = NUMBA.backward(fusion.LINEAR_RELU, np.ones_like(x), (mask, cache))
    assert dx is not None
    np.testing.assert_array_equal(dx[0, 0], [0, 1, 0, 0, 0, 1])


# ---- networks -------------------------------------------------------------------------------------------


def without_fusion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks that are prepared from now on run their layers one by one."""
    monkeypatch.setattr(NumbaBackend, "rewritten", staticmethod(Backend.rewritten))


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
    fused = results()
    without_fusion(monkeypatch)
    for array, value in zip(fused, results(), strict=True):
        assert same_bits(array, value)
    fewer = stages[1] - stages[0]
    assert stages[1] == len(network.nodes)
    assert fewer >= len(relus) if backend == "numba" and noisy in ("nothing", "after") else fewer == 0


WITHOUT_FILES = """
import sys

if "without" in sys.argv:  # as if the files were deleted
    sys.modules["wn.engine.fusion"] = sys.modules["wn.engine.backends.numba.fused"] = None

from hashlib import sha256

import numpy as np

from tests.walking.small_walks import small_data
from wn.engine import backends, models
from wn.engine import noise as noises
from wn.engine.optim import arrays
from wn.engine.training import TrainSettings, evaluate, train

data = small_data(64, 10)
for name in ("numpy", "numba"):
    be = backends.get(name)
    for batch_norm in ("none", "sites"):
        network = models.build("lenet5", data.image_shape, 10, batch_norm)
        noise = {2: noises.mixed(0.3, 0.5)}
        population = train(be, network, data, TrainSettings(1, 32), seeds=(1, 2), noise=noise)
        found = [*arrays(population[:2]), evaluate(be, network, population, data, noise=noise)]
        bits = sha256(b"".join(array.tobytes() for array in found)).hexdigest()
        print(name, batch_norm, bits, file=sys.stderr)
        count = len(network.stages(be, True, frozenset()))
        print(name, batch_norm, len(network.nodes) - count)
"""


def test_an_engine_whose_files_of_fusion_are_deleted_makes_the_same_bits() -> None:
    """On both backends of the CPU, in processes of their own; only how many layers are run differs."""
    fewer, bits = {}, {}
    for way in ("with", "without"):
        ran = subprocess.run(
            [sys.executable, "-c", WITHOUT_FILES, way], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        fewer[way], bits[way] = ran.stdout.splitlines(), ran.stderr
    assert bits["with"] == bits["without"]
    assert fewer["without"] == ["numpy none 0", "numpy sites 0", "numba none 0", "numba sites 0"]
    assert fewer["with"] == ["numpy none 0", "numpy sites 0", "numba none 6", "numba sites 6"]


def kinds(network: Network, training: bool, noisy: set[int]) -> list[str]:
    stages = network.stages(NUMBA, training, frozenset(noisy))
    return ["+".join(type(layer).__name__ for layer in parts(stage.layer)) for stage in stages]


def parts(layer: Any) -> tuple[Any, ...]:
    return layer.layers if isinstance(layer, fusion.Fused) else (layer,)


def test_what_is_fused() -> None:
    """Never across noise, and never a layer that is of a kind of its own."""
    lenet = models.build("lenet5", (1, 28, 28), 10, "sites")
    dense = ["Flatten", *["Linear", "BatchNormTraining+Relu"] * 2, "Linear"]
    assert kinds(lenet, True, set()) == ["Convolution", "BatchNormTraining+Relu+MaxPooling"] * 2 + dense
    assert kinds(lenet, False, set())[:2] == ["Convolution", "BatchNormInference+Relu+MaxPooling"]
    behind = {name: site for site, name in enumerate(lenet.site_names)}
    assert kinds(lenet, True, {behind["bn1"]})[:4] == [
        "Convolution",
        "BatchNormTraining",
        "Relu",
        "MaxPooling",
    ]
    assert kinds(lenet, True, {behind["relu1"]})[:3] == [
        "Convolution",
        "BatchNormTraining+Relu",
        "MaxPooling",
    ]
    assert kinds(lenet, True, {behind["pool1"]})[1] == "BatchNormTraining+Relu+MaxPooling"
    own = Relu()
    object.__setattr__(own, "forward", lambda *arguments: Relu.forward(own, *arguments))
    for layer, name in ((Leaky(), "Leaky"), (own, "Relu")):
        nodes = Node("fc", Linear(3)), Node("relu", layer), Node("logits", Linear(2))
        network = Network("own", nodes, (4,))
        assert kinds(network, True, set()) == ["Linear", name, "Linear"]
