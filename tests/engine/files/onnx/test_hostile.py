"""Small ONNX files that ask for much: time and memory by what a file holds, not by what it says."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

import wn
from tests.engine.files.onnx.graphs import model, node, write
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.files.onnx import check, constants
from wn.engine.network import Conditions

W = np.arange(12, dtype=np.float32).reshape(3, 4) / 10
LAST = node("Gemm", "a w", "y", transB=1)
MOST_BYTES = 8 * (2 * constants.MOST + 2**20)


def chained(op, count, twice=False):
    """A chain of nodes, each of which reads the one before, once or twice, and a linear layer."""
    names = ["x", *(f"t{number}" for number in range(count - 1)), "a"]
    nodes = [node(op, f"{before} {before}" if twice else before, after) for before, after in pairwise(names)]
    return model([*nodes, LAST], {"w": W}, ("N", 4))


def beside(nodes, **given):
    """Nodes whose results are constants, and a network beside them."""
    return model([*nodes, node("Identity", "x", "a"), LAST], {"w": W, **given}, ("N", 4))


SIZE = np.array([constants.MOST])
HOSTILE = {
    "products of products": chained("Mul", 60, twice=True),
    "too many sums of sums": chained("Add", 80, twice=True),
    "a long chain": chained("Neg", 3000),
    "a longer chain": chained("Identity", 20_000),
    "many large constants": beside([node("ConstantOfShape", "s", f"c{i}") for i in range(200)], s=SIZE),
    "one constant many times": beside(
        [node("ConstantOfShape", "s", "c"), node("Concat", " ".join(["c"] * 100), "d", axis=0)], s=SIZE
    ),
    "rows many times": beside(
        [node("Gather", "p i", "d", axis=0)],
        p=np.zeros((1, 200_000), np.float32), i=np.zeros(20_000, np.int64),
    ),
    "an outer product": beside(
        [node("Mul", "p q", "d")],
        p=np.zeros((1, 20_000), np.float32), q=np.zeros((20_000, 1), np.float32),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_files_that_ask_for_much_are_refused_in_one_line(name, tmp_path):
    path = write(HOSTILE[name], tmp_path / "net.onnx")
    tracemalloc.start()
    try:
        with pytest.raises(WnError) as caught:
            wn.load_network(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert most < MOST_BYTES


def test_sums_of_sums_are_joins(tmp_path):
    network, (params, states, _) = wn.load_network(
        write(chained("Add", 10, twice=True), tmp_path / "net.onnx")
    )
    x = np.ones((1, 4, 1), np.float32)
    conditions = Conditions({}, (0,), np.arange(1), 0, training=False)
    y = network.forward_from_site(backends.get("numpy"), params, states, x, conditions, 0)
    np.testing.assert_allclose(y[0, :, 0], 2**10 * W.sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_a_softmax_at_the_end_is_no_difference(op, tmp_path, monkeypatch):
    nodes = [node("Gemm", "x w", "l", transB=1), node(op, "l", "y", axis=1)]
    path = write(model(nodes, {"w": W}, ("N", 4)), tmp_path / "net.onnx")
    found = check.compared(path)
    assert found.relative <= found.tolerance
    monkeypatch.setattr(check, "_ended", lambda graph, logits: logits)
    wrong = check.compared(path)
    assert wrong.relative > wrong.tolerance
