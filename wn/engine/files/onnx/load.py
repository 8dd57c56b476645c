"""Networks from ONNX files."""

import logging
from typing import Any

import numpy as np

from wn import random
from wn.basics.errors import WnError
from wn.engine.files.onnx.convert import converted
from wn.engine.files.onnx.graph import Read, read
from wn.engine.network import Network
from wn.engine.networks.weighted import Weighted
from wn.engine.optim import arrays, with_arrays
from wn.engine.training import Population
from wn.files.whole import StrPath

log = logging.getLogger("wn")


def load_network(path: StrPath, *, seed: int = 0) -> Weighted:
    """Read a network with its weights from an ONNX file.

    Supported are the layers of `wn.layers` as PyTorch's and other exporters write them: convolutions, linear
    layers, batch norm, poolings, activations (GELU and SiLU also as several nodes), sums and concatenations,
    reshapes that only flatten; see docs/onnx.md. Layers are called as the modules that they come from, where
    the file says so. Dropout is left out, and so is a softmax at the end. `seed` is the one that noise is
    drawn from. Needs the package onnx: pip install 'walking-noise[onnx]'.

    Returns the network and its one member, float32 or float64 as in the file.
    Raises WnError, in one line that names the node and its operator, for anything that can't be read.
    """
    graph = read(path)
    try:
        found = weighted(graph, seed)
        output = found.network.shapes()[-1]
        if len(output) != 1 or output[0] < 2:
            raise WnError(
                f"its output has shape {output} for each sample: (classes,) of at least 2 is needed"
            )
        return found
    except WnError as error:
        raise WnError(f"{path}: {error}") from None


def weighted(graph: Read, seed: int = 0) -> Weighted:
    """A graph as a network with weights, whatever the shape of its output."""
    nodes, params, states, dropped = converted(graph)
    for line in dropped:
        log.warning("%s: left out %s", graph.name, line)
    params, states = _with_population((params, states))
    return Weighted(
        Network(graph.name, nodes, graph.shape), Population(params, states, (random.member_seed(seed, 0),))
    )


def _with_population(tree: Any) -> Any:
    """The arrays of one member as those of a population of one."""
    return with_arrays(tree, (np.ascontiguousarray(array[None]) for array in arrays(tree)))
