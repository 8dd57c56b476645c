"""Networks from ONNX files as exporters write them: layers, names, parameters, and what is refused."""

import logging

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import wn
from tests.engine.files.onnx.graphs import model, node, small, write
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.linear import Linear
from wn.engine.network import Conditions

RNG = np.random.default_rng(3)


def logits(found, x, backend="numpy"):
    network, (params, states, seeds) = found
    given = np.ascontiguousarray(np.moveaxis(x, 0, -1)[None])
    conditions = Conditions({}, seeds, np.arange(len(x)), 0, training=False)
    be = backends.get(backend)
    return network.forward_from_site(be, params, states, given, conditions, 0)[0].T


def agree(made, path, dtype=np.float32, shape=(1, 4, 4)):
    """Load a model, and compare its logits with those of ONNX's reference evaluator."""
    found = wn.load_network(write(made, path))
    x = RNG.standard_normal((6, *shape)).astype(dtype)
    (expected,) = ReferenceEvaluator(made).run(None, {"x": x})
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    for backend in ("numpy", "numba"):
        y = logits(found, x, backend)
        np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
        assert y.dtype == dtype
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_small_network_with_a_computed_shape(dtype, tmp_path):
    network, population = agree(small(dtype=dtype), tmp_path / "net.onnx", dtype)
    assert network.name == "net"
    assert [node.name for node in network.nodes] == ["c", "b", "relu1", "pool1", "flatten1", "fc"]
    assert network.site_names == ("input", "c", "b", "relu1", "pool1", "fc")
    assert population.params[0].w.shape == (1, 3, 1, 3, 3)


def dense(rng=RNG, **constants):
    return {"w": rng.standard_normal((16, 3)).astype(np.float32), **constants}


def test_a_product_and_a_sum_are_a_linear_layer(tmp_path):
    bias = np.array([1.0, -2.0, 3.0], np.float32)
    nodes = [node("Flatten", "x", "h"), node("MatMul", "h w", "p"), node("Add", "b p", "y")]
    network, population = agree(model(nodes, dense(b=bias)), tmp_path / "net.onnx")
    assert network.nodes[-1].layer == Linear(3)
    np.testing.assert_array_equal(population.params[-1].b[0], bias)


def test_gemm_with_factors_and_without_bias(tmp_path):
    bias = np.array([[1.0, -2.0, 3.0]], np.float32)
    nodes = [node("Flatten", "x", "h"), node("Gemm", "h w b", "y", alpha=0.5, beta=2.0)]
    agree(model(nodes, dense(b=bias)), tmp_path / "net.onnx")
    nodes = [node("Flatten", "x", "h"), node("Gemm", "h w", "y")]
    network, _ = agree(model(nodes, dense()), tmp_path / "bare.onnx")
    assert network.nodes[-1].layer == Linear(3, bias=False)


def test_a_convolution_with_a_bias_added_later(tmp_path):
    constants = dense(
        k=RNG.standard_normal((2, 1, 3, 3)).astype(np.float32), b=np.ones((1, 2, 1, 1), np.float32),
        w=RNG.standard_normal((8, 3)).astype(np.float32),
    )  # fmt: skip
    convolved = [node("Conv", "x k", "c"), node("Add", "c b", "s")]
    nodes = [*convolved, node("Flatten", "s", "h"), node("MatMul", "h w", "y")]
    network, _ = agree(model(nodes, constants), tmp_path / "net.onnx")
    assert network.nodes[0].layer == Convolution(2, (3, 3))


def test_branches_join(tmp_path):
    constants = dense(
        k=RNG.standard_normal((1, 1, 1, 1)).astype(np.float32),
        w=RNG.standard_normal((48, 3)).astype(np.float32),
    )
    nodes = [
        node("Conv", "x k", "c"), node("Add", "c x", "s"), node("Relu", "s", "r"),
        node("Concat", "s r x", "j", axis=1),
        node("Flatten", "j", "h"), node("MatMul", "h w", "y"),
    ]  # fmt: skip
    network, _ = agree(model(nodes, constants), tmp_path / "net.onnx")
    assert [n.name for n in network.nodes] == ["conv1", "add1", "relu1", "concat1", "flatten1", "fc1"]
    assert network.nodes[3].inputs == ("add1", "relu1", "input")


def test_what_computes_nothing_is_left_out(tmp_path, caplog):
    nodes = [
        node("Identity", "x", "i"), node("Dropout", "i", "d"), node("Flatten", "d", "h"),
        node("MatMul", "h w", "p"), node("Softmax", "p", "y", axis=-1),
    ]  # fmt: skip
    with caplog.at_level(logging.WARNING, "wn"):
        network, _ = wn.load_network(write(model(nodes, dense()), tmp_path / "net.onnx"))
    assert [n.name for n in network.nodes] == ["flatten1", "fc1"]
    assert "left out Softmax at the end" in caplog.text


FLATTEN = node("Flatten", "x", "h")
PRODUCT = node("MatMul", "h v", "y")
KERNEL = np.ones((1, 1, 1, 1), np.float32)


def weights(*shape, dtype=np.float32, value=1.0):
    return {"v": np.full(shape, value, dtype)}


# The nodes, constants besides w, and a part of what is said.
REFUSED = {
    "transposed": (
        [node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("Flatten", "t", "y")],
        {},
        "perm is (0, 1, 3, 2): allowed is an order that moves no",
    ),
    "an operator": ([node("LSTM", "x w w", "y", "lstm")], {}, "node 'lstm' (LSTM) is not supported: allowed"),
    "a domain": ([node("Conv", "x w", "y", domain="com.acme")], {}, "is of the operators 'com.acme'"),
    "a name": ([node("Flatten", "z", "y")], {}, "takes 'z', which nothing before it makes"),
    "a cycle": (
        [node("Relu", "b", "a"), node("Relu", "a", "b"), node("Flatten", "b", "y")],
        {},
        "takes 'b', which nothing before it makes",
    ),
    "twice": (
        [node("Relu", "x", "a"), node("Relu", "x", "a"), node("Flatten", "a", "y")],
        {},
        "makes 'a', which another node has made",
    ),
    "no output": ([node("Relu", "x", "a")], {}, "its output 'y' is made by no node"),
    "a constant output": ([node("Relu", "x", "a"), node("Identity", "w", "y")], {}, "does not depend on its"),
    "weights": ([FLATTEN, PRODUCT], weights(7, 3), "weights for 7 inputs do not fit (16,)"),
    "mixed types": (
        [FLATTEN, PRODUCT],
        weights(16, 3, dtype=np.float64),
        "are float64, its input is",
    ),
    "half": ([FLATTEN, PRODUCT], weights(16, 3, dtype=np.float16), "constant 'v' is float16: float32"),
    "NaN": ([FLATTEN, PRODUCT], weights(16, 3, value=np.nan), "its weights have NaN or infinite values"),
    "a product": (
        [node("Conv", "x k", "b"), node("Mul", "x b", "c"), node("Flatten", "c", "y")],
        {"k": KERNEL},
        "(Mul) is not supported",
    ),
    "no activation": ([node("Exp", "x", "a"), node("Flatten", "a", "y")], {}, "Exp compute no activation"),
    "a scale": (
        [node("Mul", "x s", "a"), node("Flatten", "a", "y")],
        {"s": np.float32(2)},
        "Mul compute no activation",
    ),
    "an image": ([node("Relu", "x", "y")], {}, "its output has shape (1, 4, 4) for each sample: (classes,)"),
    "samples": ([node("Reshape", "x t", "y")], {"t": np.array([4, -1])}, "the first size has to be that of"),
    "a matrix for a shape": (
        [node("Reshape", "x t", "y")],
        {"t": np.ones((2, 2), np.int64)},
        "its attributes or constants do not fit it",
    ),
    "huge": (
        [node("ConstantOfShape", "t", "c"), node("Flatten", "x", "y")],
        {"t": np.array([1 << 40])},
        "ConstantOfShape of 1099511627776 values",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_t_be_read_is_one_line(name, tmp_path):
    nodes, constants, message = REFUSED[name]
    path = write(model(nodes, dense(**constants)), tmp_path / "net.onnx")
    with pytest.raises(WnError) as caught:
        wn.load_network(path)
    found = str(caught.value)
    assert message in found
    assert found.startswith(f"{path}: ")
    assert "\n" not in found


def test_other_files_are_one_line_too(tmp_path):
    path = tmp_path / "net.onnx"
    for content in (b"", b"hello", b"\x08\x07", bytes(range(256)) * 10):
        path.write_bytes(content)
        with pytest.raises(WnError, match=r"no ONNX file|has no|names no version") as caught:
            wn.load_network(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(WnError, match="no such file"):
        wn.load_network(tmp_path / "none.onnx")
    with pytest.raises(WnError, match="can't be read"):
        wn.load_network(tmp_path)
    inputs = model([node("Flatten", "x", "y")], {}, (None, 1, None, 4))
    with pytest.raises(WnError, match=r"shape \(\?, 1, \?, 4\): \(N, C, H, W\) or \(N, F\) with fixed sizes"):
        wn.load_network(write(inputs, path))
