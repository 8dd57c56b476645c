"""ONNX's own tests of operators, in the wheel of onnx: a model of one node, its inputs, and what it gives.

    python -m tests.engine.files.onnx.nodes            # docs/onnx-nodes.csv: which pass, and why others don't

Constants that a test gives as inputs become constants of the model. An element-wise operator is given its
numbers as vectors (N, F), whatever shape the test has.
"""

import csv
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.files.onnx.graph import array_of, of_model
from wn.engine.files.onnx.load import weighted
from wn.engine.network import Conditions

PATTERNS = (
    "test_conv*", "test_basic_conv*", "test_maxpool_2d*", "test_averagepool_2d*", "test_globalaveragepool*",
    "test_globalmaxpool*", "test_batchnorm_*", "test_gemm*", "test_relu", "test_leakyrelu*", "test_sigmoid*",
    "test_tanh*", "test_softplus*", "test_gelu*", "test_clip*", "test_flatten*", "test_add*",
)  # fmt: skip
PAGE = Path(__file__).parents[4] / "docs" / "onnx-nodes.csv"
SHAPED = {
    "Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "Gemm",
    "Flatten",
}  # fmt: skip


class Case(NamedTuple):
    """A test: its model, with constants, and its input and output, (N, …)."""

    name: str
    model: Any
    x: NDArray[Any]
    y: NDArray[Any]
    steps: int


def folder() -> Path:
    """The folder of the tests in the installed package."""
    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"


def names() -> list[str]:
    """The names of the tests that the patterns stand for."""
    return sorted(
        p.name for p in folder().iterdir() if any(fnmatchcase(p.name, pattern) for pattern in PATTERNS)
    )


def case_of(name: str) -> Case:
    """A test, with all inputs but the first as constants; an Add has two inputs that vary."""
    place = folder() / name
    model = onnx.load(place / "model.onnx")
    data = place / "test_data_set_0"
    tensors = [_tensor(data / f"input_{number}.pb") for number in range(len(list(data.glob("input_*.pb"))))]
    x, y = array_of(tensors[0]), array_of(_tensor(data / "output_0.pb"))
    given = model.graph.input
    for tensor, value in zip(tensors[1:], list(given)[1:], strict=False):
        tensor.name = value.name
        model.graph.initializer.append(tensor)
    if not any(node.op_type in SHAPED for node in model.graph.node):
        x, y = (array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1) for array in (x, y))
        shape = given[0].type.tensor_type.shape
        del shape.dim[:]
        for size in x.shape:
            shape.dim.add().dim_value = size
    return Case(name, model, x, y, len(model.graph.node))


def difference(case: Case, backend: str) -> float:
    """The largest difference to the test's output, relative to 1 or to the largest value."""
    network, (params, states, _) = weighted(of_model(case.model))
    be = backends.get(backend)
    x = np.ascontiguousarray(np.moveaxis(case.x, 0, -1)[None])
    conditions = Conditions({}, (0,), np.arange(len(case.x)), 0, training=False)
    found = network.forward_from_site(be, params, states, x, conditions, 0)
    y = np.moveaxis(found[0], -1, 0)
    if y.shape != case.y.shape:
        raise AssertionError(f"{case.name}: shape {y.shape} instead of {case.y.shape}")
    return float(np.abs(y - case.y).max() / max(1, np.abs(case.y).max()))


def _tensor(path: Path) -> Any:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return tensor


def refusal(name: str) -> str:
    """Why a test can't be read, in one line; "" if it passes on NumPy."""
    try:
        found = difference(case_of(name), "numpy")
    except WnError as error:
        return str(error)
    return "" if found <= 1e-5 else f"differs by {found:.2g}"


def main() -> int:
    """Write the table of the docs."""
    rows = [(name.removeprefix("test_"), refusal(name)) for name in names()]
    with PAGE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["test", "passes", "why not"])
        writer.writerows([name, "no" if why else "yes", why] for name, why in rows)
    passed = sum(not why for _, why in rows)
    print(f"{passed} of {len(rows)} pass")
    return 0


if __name__ == "__main__":
    sys.exit(main())
