"""What an ONNX file says, as plain values: nodes, constants, the input and the output; nothing is trusted."""

from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.files.whole import StrPath, as_path

MOST_BYTES = 2 << 30  # what a protobuf message can hold
MOST_NODES = 10_000  # the largest networks of the field have some thousands
NEEDED = "reading ONNX files needs the package onnx: pip install 'walking-noise[onnx]'"
PRODUCER = "walking-noise"
DOMAINS = ("", "ai.onnx")
BATCH = (1 << 31) - 1  # stands for the number of samples in shapes that a graph computes: a prime, no size


class Step(NamedTuple):
    """A node: its name in messages, its operator, the names of its inputs and outputs, its attributes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    @property
    def words(self) -> str:
        """What a message calls it."""
        return f"node {self.name!r} ({self.op})"


class Read(NamedTuple):
    """A graph with one input: (N, C, H, W) images or (N, F) vectors, whose shape of one sample is `shape`."""

    name: str
    opset: int
    input: str
    shape: tuple[int, ...]
    batch: int  # N where the file fixes it, BATCH where it does not
    dtype: Any
    steps: tuple[Step, ...]
    constants: dict[str, NDArray[Any]]
    output: str
    ours: bool  # whether wn has written it


def read(path: StrPath) -> Read:
    """Read an ONNX file; WnError, in one line that names the file, for what is no graph with one input."""
    path = as_path(path)
    onnx = package()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise WnError(f"{path}: has {path.stat().st_size} bytes: an ONNX file has at most {MOST_BYTES}")
        model = onnx.load_model_from_string(path.read_bytes())
    except FileNotFoundError:
        raise WnError(f"{path}: no such file") from None
    except OSError as error:
        raise WnError(f"{path}: can't be read: {error.strerror or error}") from None
    except WnError:
        raise
    except Exception as error:  # protobuf's own, of several kinds
        raise WnError(f"{path}: no ONNX file: {_one_line(error)}") from None
    if not model.HasField("graph") or not model.graph.node:
        raise WnError(f"{path}: no ONNX file: it has no graph with nodes")
    try:
        return of_model(model, path.stem or "network")
    except WnError as error:
        raise WnError(f"{path}: {error}") from None


def of_model(model: Any, name: str = "network") -> Read:
    """The graph of a model of the package onnx."""
    graph = model.graph
    if model.functions:
        raise WnError("functions of its own are not supported: export without them, or inline them")
    opset = max((entry.version for entry in model.opset_import if entry.domain in DOMAINS), default=0)
    if opset < 1:
        raise WnError("it names no version of the operators of ONNX (opset_import)")
    if len(graph.node) > MOST_NODES:
        raise WnError(f"it has {len(graph.node)} nodes: at most {MOST_NODES} are supported")
    if graph.sparse_initializer:
        raise WnError("sparse constants are not supported")
    constants = {tensor.name: array_of(tensor) for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise WnError(
            f"it has {len(inputs)} inputs and {len(graph.output)} outputs: one of each is supported; inputs: "
            + (", ".join(repr(value.name) for value in inputs) or "none")
        )
    (given,) = inputs
    batch, shape, dtype = _shape_of(given)
    ours = model.producer_name == PRODUCER
    steps = tuple(_step(number, node) for number, node in enumerate(graph.node))
    return Read(name, opset, given.name, shape, batch, dtype, steps, constants, graph.output[0].name, ours)


def array_of(tensor: Any) -> NDArray[Any]:
    """A tensor as an array; WnError unless the file holds one value for each element of its shape."""
    onnx = package()
    name, kinds = tensor.name, onnx.TensorProto
    if tensor.data_location == kinds.EXTERNAL or tensor.external_data:
        raise WnError(f"constant {name!r} is in another file: save the network in one file")
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError, ValueError):
        raise WnError(f"constant {name!r} has the unknown type {tensor.data_type}") from None
    if tensor.data_type in (kinds.FLOAT16, kinds.BFLOAT16):
        half = "float16" if tensor.data_type == kinds.FLOAT16 else "bfloat16"
        raise WnError(f"constant {name!r} is {half}: float32 and float64 are supported, convert the network")
    if dtype.kind not in "fiub" or dtype.itemsize < 1 or tensor.data_type == kinds.STRING:
        raise WnError(f"constant {name!r} is {dtype}: float32, float64 and whole numbers are supported")
    if any(size < 0 for size in tensor.dims):
        raise WnError(f"constant {name!r} has the shape {tuple(tensor.dims)}")
    count = prod(tensor.dims)
    raw = len(tensor.raw_data) // dtype.itemsize if tensor.HasField("raw_data") else None
    typed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    there = raw if raw is not None else max(map(len, typed))
    if there != count or (raw is not None and len(tensor.raw_data) != count * dtype.itemsize):
        raise WnError(
            f"constant {name!r} of shape {tuple(tensor.dims)} has {there} values instead of {count}"
        )
    try:
        return np.array(onnx.numpy_helper.to_array(tensor))
    except Exception as error:  # of the package, of several kinds
        raise WnError(f"constant {name!r} can't be read: {_one_line(error)}") from None


def _shape_of(value: Any) -> tuple[int, tuple[int, ...], Any]:
    """The number of samples, the shape of one, and the type of the input."""
    onnx = package()
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        raise WnError(f"input {value.name!r} is no tensor with a shape: (N, C, H, W) or (N, F) is needed")
    kind = value.type.tensor_type
    types = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.DOUBLE: np.float64}
    if kind.elem_type not in types:
        raise WnError(f"input {value.name!r} is of type {kind.elem_type}: float32 or float64 is needed")
    sizes = [size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim]
    rest = sizes[1:]
    if len(sizes) not in (2, 4) or any(size is None or size < 1 for size in rest):
        written = ", ".join("?" if size is None else str(size) for size in sizes)
        raise WnError(
            f"input {value.name!r} has shape ({written}): (N, C, H, W) or (N, F) with fixed sizes is needed"
        )
    batch = BATCH if sizes[0] is None or sizes[0] < 1 else sizes[0]
    return batch, tuple(int(size) for size in rest if size is not None), types[kind.elem_type]


def _step(number: int, node: Any) -> Step:
    name = node.name or f"{node.op_type}_{number}"
    if node.domain not in DOMAINS:
        raise WnError(
            f"node {name!r} ({node.op_type}) is of the operators {node.domain!r}: those of ONNX are supported"
        )
    attributes = {attribute.name: _value(name, attribute) for attribute in node.attribute}
    return Step(name, node.op_type, tuple(node.input), tuple(node.output), attributes)


def _value(node: str, attribute: Any) -> Any:
    """The value of an attribute: a number, a text, a list, or an array; others as None."""
    kinds = package().AttributeProto
    match attribute.type:
        case kinds.FLOAT:
            return float(attribute.f)
        case kinds.INT:
            return int(attribute.i)
        case kinds.STRING:
            return attribute.s.decode("utf-8", "replace")
        case kinds.FLOATS:
            return [float(value) for value in attribute.floats]
        case kinds.INTS:
            return [int(value) for value in attribute.ints]
        case kinds.TENSOR:
            return array_of(attribute.t)
    return None


def package() -> Any:
    """The package onnx, with what of it is used."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise WnError(NEEDED) from None
    return onnx


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def has_suffix(path: Path) -> bool:
    """Whether a path is that of an ONNX file, by its name."""
    return path.suffix.lower() == ".onnx"
