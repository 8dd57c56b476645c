"""Networks to ONNX files and back: the same parameters, logits equal to those of other programs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import wn
from tests.engine.networks.test_graphs import BRANCHED, DENSE
from tests.engine.own_layers import Tanh
from tests.engine.twin import random_network, same_bits
from wn import layers
from wn.basics.errors import WnError
from wn.engine import models
from wn.engine.files.onnx.check import compared
from wn.engine.files.onnx.write import export_onnx
from wn.engine.network import Network
from wn.engine.optim import arrays
from wn.engine.training import Population

EVERYTHING = wn.network(
    (4, 9, 11),
    [
        layers.Convolution(6, (3, 2), stride=(1, 2), padding=((1, 0), (2, 1)), groups=2, bias=False),
        layers.BatchNorm(eps=1e-3), layers.Sigmoid(),
        layers.Convolution(6, 3, padding="same", dilation=2), layers.Tanh(),
        layers.MaxPooling(3, stride=2, padding=1, ceil_mode=True), layers.Gelu(),
        layers.Gelu(approximate="tanh"), layers.ZeroPadding(((0, 1), (1, 0))),
        layers.Convolution(8, 1), layers.LeakyRelu(0.2), layers.Softplus(threshold=50.0), layers.Silu(),
        layers.AveragePooling(2, stride=1, padding=1, count_include_pad=False), layers.Clip(-0.5, 2.0),
        layers.Relu6(), layers.Concatenate([], [layers.Relu()]),
        layers.GlobalAveragePooling(), layers.Flatten(), layers.Linear(5, bias=False), layers.Relu(),
        layers.Linear(3),
    ],
    name="everything",
)  # fmt: skip


def weighted(network: Network, dtype: type = np.float32, members: int = 2) -> wn.Weighted:
    params, states = random_network(network, members, 0, dtype)
    return wn.Weighted(network, Population(params, states, tuple(range(members))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("network", [BRANCHED, DENSE, EVERYTHING], ids=lambda network: network.name)
def test_what_is_written_is_read_again(network: Network, dtype: type, tmp_path: Path) -> None:
    path, found = tmp_path / f"{network.name}.onnx", weighted(network, dtype)
    export_onnx(found, path, member=1)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    again = wn.load_network(path)
    assert again.network.input_shape == network.input_shape
    assert [node.name for node in again.network.nodes if node.site] == [
        n.name for n in network.nodes if n.site
    ]
    for ours, theirs in zip(arrays(found.population.params), arrays(again.population.params), strict=True):
        assert same_bits(ours[1], theirs[0])
    result = compared(path)
    assert result.relative <= (2e-6 if dtype == np.float32 else 1e-8)


@pytest.mark.parametrize("name", ["mlp-8", "lenet5", "cnn-s"])
def test_built_in_networks(name: str, tmp_path: Path) -> None:
    network = models.build(name, *models.default_input(name), "sites")
    export_onnx(weighted(network), tmp_path / "net.onnx")
    assert compared(tmp_path / "net.onnx").relative <= 1e-5


def test_a_batch_of_any_size(tmp_path: Path) -> None:
    export_onnx(weighted(DENSE), tmp_path / "net.onnx")
    evaluator = ReferenceEvaluator(str(tmp_path / "net.onnx"))
    for count in (1, 7):
        (y,) = evaluator.run(None, {"input": np.ones((count, 1, 2, 3), np.float32)})
        assert y.shape == (count, 3)


def test_what_can_t_be_written(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    own = wn.network(4, [("own", Tanh()), layers.Linear(3)])
    with pytest.raises(WnError, match=r"layer 'own' is .* a layer of your own"):
        export_onnx(weighted(own), path)
    with pytest.raises(WnError, match="member 2: allowed are 0 to 1"):
        export_onnx(weighted(DENSE), path, member=2)
    assert not path.exists()
    export_onnx(weighted(DENSE), path)
    before = path.read_bytes()
    with pytest.raises(WnError, match=r"exists|there already"):
        export_onnx(weighted(DENSE), path)
    assert path.read_bytes() == before
    export_onnx(weighted(BRANCHED), path, overwrite=True)
    assert path.read_bytes() != before
