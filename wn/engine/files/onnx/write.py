"""Networks to ONNX files: a node of ONNX for each layer, with the names of the network's."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine.files.onnx.graph import PRODUCER, package
from wn.engine.layers.base import Shape
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.linear import Linear
from wn.engine.networks.description import described
from wn.engine.networks.weighted import Weighted
from wn.engine.optim import arrays
from wn.files.outputs import check_file
from wn.files.whole import StrPath, as_path, whole_files

OPSET = 20  # the first with Gelu
INPUT, BATCH = "input", "batch"

Made = tuple[str, dict[str, Any]]  # the operator and its attributes


def export_onnx(weighted: Weighted, out: StrPath, *, member: int = 0, overwrite: bool = False) -> None:
    """Write one member of a network as an ONNX file, whole or not at all.

    Batch norms are at inference, the input is (batch, …) and the output the logits (batch, K). Noise is no
    part of a file. Needs the package onnx. Raises WnError for a layer of one's own, for a member that is not
    there, and if the file exists and `overwrite` is not set.
    """
    path = as_path(out)
    check_file(path, overwrite)
    content = model_of(weighted, member).SerializeToString()
    with whole_files([path], replace=overwrite) as (temporary,):
        temporary.write_bytes(content)


def model_of(weighted: Weighted, member: int = 0) -> Any:
    """The model of one member, as the package onnx has it."""
    network, population = weighted
    if not 0 <= member < len(population.seeds):
        raise WnError(f"member {member!r}: allowed are 0 to {len(population.seeds) - 1}")
    described(network)  # raises for a layer of one's own
    onnx = package()
    helper, nodes, tensors = onnx.helper, [], []
    trees = zip(network.placed, network.edges.sources, population.params, population.states, strict=True)
    names = [INPUT, *(node.name for node in network.nodes)]
    dtype = next((np.dtype(array.dtype) for array in arrays(population.params)), np.dtype(np.float32))
    for place, sources, params, state in trees:
        constants = _constants(place.layer, params, state, member)
        given = [names[source] for source in sources]
        for name, value in constants.items():
            tensors.append(onnx.numpy_helper.from_array(value, f"{place.name}.{name}"))
            given.append(f"{place.name}.{name}")
        nodes += _nodes(helper, place, given, dtype)
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    x = helper.make_tensor_value_info(INPUT, kind, [BATCH, *network.input_shape])
    y = helper.make_tensor_value_info(names[-1], kind, [BATCH, *network.shapes()[-1]])
    graph = helper.make_graph(nodes, network.name, [x], [y], tensors)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name=PRODUCER)
    return model


def _constants(layer: Any, params: Any, state: Any, member: int) -> dict[str, NDArray[Any]]:
    """The arrays of one member by the names that PyTorch has for them, in the order of ONNX's inputs."""

    def of(array: Any) -> NDArray[Any]:
        host = array.get() if hasattr(array, "get") else array
        return np.ascontiguousarray(host[member])

    if isinstance(layer, BatchNorm):
        mean, variance, residual = (of(array) for array in state)
        gamma, beta = (of(p) for p in params) if params else (np.ones_like(mean), np.zeros_like(mean))
        return {"weight": gamma, "bias": beta, "running_mean": mean + residual, "running_var": variance}
    names = {"w": "weight", "b": "bias"}
    return {names[name]: of(getattr(params, name)) for name in getattr(params, "_fields", ())}


def _nodes(helper: Any, place: Any, given: Sequence[str], dtype: Any) -> list[Any]:
    """The nodes of ONNX for one layer."""
    kind = type(place.layer).__name__
    if kind == "Silu":  # no operator of its own before opset 24
        gate = f"{place.name}.gate"
        return [
            helper.make_node("Sigmoid", given, [gate], name=gate),
            helper.make_node("Mul", [given[0], gate], [place.name], name=place.name),
        ]
    if kind in ("Clip", "Relu6"):
        limits = (0.0, 6.0) if kind == "Relu6" else (place.layer.low, place.layer.high)
        return _clip(helper, place.name, given[0], limits, dtype)
    if kind == "ZeroPadding":
        return _padding(helper, place.name, given[0], place.layer.padding)
    operator, attributes = OPERATORS[kind](place.layer, place.input_shape)
    return [helper.make_node(operator, given, [place.name], name=place.name, **attributes)]


def _clip(helper: Any, name: str, x: str, limits: Sequence[float | None], dtype: Any) -> list[Any]:
    """Clip, whose limits are constants."""
    nodes, given = [], [x]
    for what, limit in zip(("low", "high"), limits, strict=True):
        given.append("" if limit is None else f"{name}.{what}")
        if limit is not None:
            value = package().numpy_helper.from_array(np.asarray(limit, dtype))
            nodes.append(helper.make_node("Constant", [], [given[-1]], name=given[-1], value=value))
    return [*nodes, helper.make_node("Clip", given, [name], name=name)]


def _padding(helper: Any, name: str, x: str, padding: Any) -> list[Any]:
    """Pad with zeros, whose sizes are constants."""
    top, left, bottom, right = _sides(padding)["pads"]
    sizes = package().numpy_helper.from_array(np.array([0, 0, top, left, 0, 0, bottom, right]))
    constant = helper.make_node("Constant", [], [f"{name}.pads"], name=f"{name}.pads", value=sizes)
    return [constant, helper.make_node("Pad", [x, f"{name}.pads"], [name], name=name)]


def _sides(padding: Any) -> dict[str, Any]:
    """The attributes of a padding."""
    if isinstance(padding, str):
        return {"auto_pad": "SAME_UPPER" if padding == "same" else "SAME_LOWER"}
    rows, columns = ((side, side) if isinstance(side, int) else side for side in padding)
    return {"pads": [rows[0], columns[0], rows[1], columns[1]]}


def _convolution(layer: Any, shape: Shape) -> Made:
    sizes = {"kernel_shape": layer.kernel, "strides": layer.stride, "dilations": layer.dilation}
    return "Conv", {name: list(pair) for name, pair in sizes.items()} | _sides(layer.padding) | {
        "group": layer.groups
    }


def _linear(layer: Linear, shape: Shape) -> Made:
    return "Gemm", {"transB": 1}


def _batch_norm(layer: Any, shape: Shape) -> Made:
    return "BatchNormalization", {"epsilon": float(layer.eps), "momentum": 1 - float(layer.momentum)}


def _pooling(operator: str) -> Callable[[Any, Shape], Made]:
    def made(layer: Any, shape: Shape) -> Made:
        sizes = {"kernel_shape": layer.window, "strides": layer.stride, "dilations": layer.dilation}
        more = {"ceil_mode": int(layer.ceil_mode)} | _sides(layer.padding)
        if operator == "AveragePool":
            more["count_include_pad"] = int(layer.count_include_pad)
        return operator, {name: list(pair) for name, pair in sizes.items()} | more

    return made


def _plain(operator: str, **attributes: Any) -> Callable[[Any, Shape], Made]:
    return lambda layer, shape: (operator, dict(attributes))


OPERATORS: dict[str, Callable[[Any, Any], Made]] = {
    "Add": _plain("Sum"),
    "AveragePooling": _pooling("AveragePool"),
    "BatchNorm": _batch_norm,
    "ConcatenateChannels": _plain("Concat", axis=1),
    "Convolution": _convolution,
    "Flatten": _plain("Flatten", axis=1),
    "GlobalAveragePooling": _plain("GlobalAveragePool"),
    "GlobalMaxPooling": _plain("GlobalMaxPool"),
    "Linear": _linear,
    "MaxPooling": _pooling("MaxPool"),
    "Relu": _plain("Relu"),
    "Sigmoid": _plain("Sigmoid"),
    "Tanh": _plain("Tanh"),
    "Softplus": _plain("Softplus"),
    "Identity": _plain("Identity"),
    "Dropout": _plain("Identity"),
    "LeakyRelu": lambda layer, shape: ("LeakyRelu", {"alpha": float(layer.slope)}),
    "Gelu": lambda layer, shape: ("Gelu", {"approximate": layer.approximate}),
}
