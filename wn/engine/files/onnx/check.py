"""Networks from ONNX files against what other programs compute from the same files."""

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.files.onnx.graph import Read, package, read
from wn.engine.files.onnx.load import load_network
from wn.engine.network import Conditions
from wn.files.whole import StrPath

# Relative to the largest logit, for deep networks; attributes, as of leaky ReLU, are float32 in any file.
TOLERANCES = {"float32": 1e-4, "float64": 1e-7}


class Compared(NamedTuple):
    """The largest difference of logits, also relative to the largest logit, and who computed the others."""

    largest: float
    relative: float
    tolerance: float
    program: str


def compared(path: StrPath, samples: int = 16) -> Compared:
    """Compare the logits of random inputs: those of a network read from a file with another program's.

    Raises WnError for a file that can't be read, or that the other program can't run.
    """
    network, (params, states, seeds) = load_network(path)
    graph = read(path)
    inputs = np.random.default_rng(0).standard_normal((samples, *graph.shape)).astype(graph.dtype)
    x = np.ascontiguousarray(np.moveaxis(inputs, 0, -1)[None])  # (1, C, H, W, B)
    conditions = Conditions({}, seeds, np.arange(samples), 0, training=False)
    ours = network.forward_from_site(backends.get("numpy"), params, states, x, conditions, 0)[0].T  # (B, K)
    ours = _ended(graph, ours)
    program, theirs = _others(Path(path), graph.input, inputs, graph.batch)
    if theirs.shape != ours.shape:
        raise WnError(f"{path}: {program} gives logits of shape {theirs.shape}, wn {ours.shape}")
    largest = float(np.abs(ours - theirs).max())
    size = float(np.abs(theirs).max())
    return Compared(
        largest, largest / size if size else largest, TOLERANCES[np.dtype(graph.dtype).name], program
    )


def _ended(graph: Read, logits: NDArray[Any]) -> NDArray[Any]:
    """What a graph gives for logits (B, K): a softmax at its end, which networks leave out, is computed."""
    last = next(step.op for step in graph.steps if graph.output in step.outputs)
    function = {"Softmax": softmax, "LogSoftmax": log_softmax}.get(last)
    return logits if function is None else np.asarray(function(logits, axis=1))


def _others(path: Path, name: str, inputs: NDArray[Any], batch: int) -> tuple[str, NDArray[Any]]:
    """The program that another result is of, and the result; some files fix the number of samples."""
    program, run = _program(path)
    at_once = batch if batch < len(inputs) else len(inputs)
    try:
        parts = [run({name: inputs[start : start + at_once]}) for start in range(0, len(inputs), at_once)]
    except Exception as error:  # of another program, of any kind
        raise WnError(f"{path}: {program} can't run it: {' '.join(str(error).split())}") from None
    return program, np.concatenate([np.asarray(part[0]) for part in parts])


def _program(path: Path) -> tuple[str, Any]:
    try:
        onnxruntime = import_module("onnxruntime")  # in no list of requirements: it is used where it is
    except ImportError:
        onnx = package()
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(str(path))
        return f"onnx.reference {onnx.__version__}", lambda given: evaluator.run(None, given)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return f"onnxruntime {onnxruntime.__version__}", lambda given: session.run(None, given)
