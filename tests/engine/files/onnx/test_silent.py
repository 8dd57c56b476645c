"""Files that look like others: what a node computes far out, or by sample, is read as that or refused."""

import numpy as np
import pytest

import wn
from tests.engine.files.onnx.graphs import model, node, write
from wn.basics.errors import WnError

W = np.arange(12, dtype=np.float32).reshape(3, 4) / 10
LAST = node("Gemm", "a w", "y", transB=1)


def layers_of(nodes, path, **constants):
    """The layers before the last one."""
    made = model([*nodes, LAST], {"w": W, **constants}, ("N", 4))
    found = wn.load_network(write(made, path / "net.onnx"))
    return [before.layer for before in found.network.nodes[:-1]]


@pytest.mark.parametrize("limit", [50, 100, 1e3, 1e7, 1e25])
@pytest.mark.parametrize("low", [0, None])
def test_limits_far_out_are_limits(limit, low, tmp_path):
    low = -limit if low is None else low
    (layer,) = layers_of(
        [node("Clip", "x low high", "a")], tmp_path, low=np.float32(low), high=np.float32(limit)
    )
    assert layer.low == pytest.approx(low, rel=1e-6)
    assert layer.high == pytest.approx(limit, rel=1e-6)


def test_limits_at_the_end_of_the_range_are_none(tmp_path):
    most = np.finfo(np.float32).max
    assert layers_of([node("Clip", "x low high", "a")], tmp_path, low=-most, high=most) == []
    (relu,) = layers_of([node("Clip", "x low high", "a")], tmp_path, low=np.float32(0), high=most)
    assert type(relu).__name__ == "Relu"


def test_activations_written_as_exponentials_are_still_found(tmp_path):
    nodes = [
        node("Neg", "x", "n"), node("Exp", "n", "e"), node("Add", "e one", "d"), node("Div", "x d", "a"),
    ]  # fmt: skip
    (silu,) = layers_of(nodes, tmp_path, one=np.float32(1))
    assert type(silu).__name__ == "Silu"


@pytest.mark.parametrize("shape", [(3, 1), (1, 3, 1)])
def test_biases_by_sample_are_refused(shape, tmp_path):
    made = model([node("Gemm", "x w b", "y", transB=1)], {"w": W, "b": np.ones(shape, np.float32)}, (3, 4))
    with pytest.raises(WnError, match="biases"):
        wn.load_network(write(made, tmp_path / "net.onnx"))
