"""Small ONNX graphs, made by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F32, F64 = TensorProto.FLOAT, TensorProto.DOUBLE


def node(op: str, inputs: str, output: str, name: str = "", **attributes: Any) -> Any:
    """A node: its inputs are separated by spaces, "-" is one that is left out."""
    given = ["" if part == "-" else part for part in inputs.split()]
    return helper.make_node(op, given, output.split(), name=name, **attributes)


def model(
    nodes: Sequence[Any],
    constants: dict[str, Any],
    shape: Sequence[Any] = ("N", 1, 4, 4),
    *,
    dtype: int = F32,
    opset: int = 17,
    output: str = "y",
) -> Any:
    """A model with the input x and the output y."""
    x = helper.make_tensor_value_info("x", dtype, list(shape))
    y = helper.make_tensor_value_info(output, dtype, None)
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "graph", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def small(seed: int = 0, dtype: Any = np.float32) -> Any:
    """A convolution, batch norm, ReLU, max pooling, a shape that is computed, and a linear layer."""
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(dtype)

    constants = {
        "c.weight": random(3, 1, 3, 3), "c.bias": random(3),
        "b.weight": random(3), "b.bias": random(3), "b.mean": random(3), "b.var": random(3) ** 2,
        "fc.weight": random(5, 12), "fc.bias": random(5), "zero": np.array(0), "axis": np.array([0]),
        "rest": np.array([-1]),
    }  # fmt: skip
    nodes = [
        node("Conv", "x c.weight c.bias", "h1", "/c/Conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", "h1 b.weight b.bias b.mean b.var", "h2"),
        node("Relu", "h2", "h3"),
        node("MaxPool", "h3", "h4", kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "n", axis=0),
        node("Unsqueeze", "n axis", "n1"),
        node("Concat", "n1 rest", "target", axis=0),
        node("Reshape", "h4 target", "h5"),
        node("Gemm", "h5 fc.weight fc.bias", "y", transB=1),
    ]
    return model(nodes, constants, dtype=F32 if dtype == np.float32 else F64)


def write(made: Any, path: Path) -> Path:
    """Write a model to a file."""
    onnx.save(made, path)
    return path
