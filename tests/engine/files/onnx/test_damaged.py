"""Damaged ONNX files: one line for each, whatever is wrong, or a network with finite weights."""

import copy
import random

import numpy as np
import onnx
import pytest

import wn
from tests.engine.files.onnx.graphs import small
from wn.basics.errors import WnError
from wn.engine.optim import arrays

FILES = 300


def bytes_changed(rng, made):
    content = bytearray(made.SerializeToString())
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def cut_short(rng, made):
    content = made.SerializeToString()
    return content[: rng.randrange(len(content))]


def dims_changed(rng, made):
    tensor = rng.choice(made.graph.initializer)
    if tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice([-1, 0, 7, 1 << 31, 1 << 62])
    return made.SerializeToString()


def type_changed(rng, made):
    rng.choice(made.graph.initializer).data_type = rng.randrange(0, 24)
    return made.SerializeToString()


def node_lost(rng, made):
    del made.graph.node[rng.randrange(len(made.graph.node))]
    return made.SerializeToString()


def nodes_exchanged(rng, made):
    first, second = rng.sample(range(len(made.graph.node)), 2)
    kept = copy.deepcopy(made.graph.node[first])
    made.graph.node[first].CopyFrom(made.graph.node[second])
    made.graph.node[second].CopyFrom(kept)
    return made.SerializeToString()


def wired_anew(rng, made):
    nodes = made.graph.node
    node, other = rng.choice(nodes), rng.choice(nodes)
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([*other.output, *other.input, "", "nothing"])
    return made.SerializeToString()


def attribute_changed(rng, made):
    node = rng.choice([node for node in made.graph.node if node.attribute])
    attribute = rng.choice(node.attribute)
    value = rng.choice([-1, 0, 3, 1 << 40, -(1 << 62)])
    if attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = value
    else:
        attribute.i = value
    return made.SerializeToString()


def operator_changed(rng, made):
    ops = ("Conv", "Relu", "Gemm", "MaxPool", "Concat", "Add", "Reshape", "Softmax", "Where", "Clip", "Pad")
    rng.choice(made.graph.node).op_type = rng.choice(ops)
    return made.SerializeToString()


def input_changed(rng, made):
    dims = made.graph.input[0].type.tensor_type.shape.dim
    dims[rng.randrange(len(dims))].dim_value = rng.choice([0, -1, 2, 1 << 40])
    return made.SerializeToString()


DAMAGES = (
    bytes_changed, cut_short, dims_changed, type_changed, node_lost, nodes_exchanged, wired_anew,
    attribute_changed, operator_changed, input_changed,
)  # fmt: skip


def outcome(path):
    """The network of a file, or the line that refuses it."""
    try:
        return wn.load_network(path)
    except WnError as error:
        return str(error)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_are_one_line_or_a_whole_network(damage, tmp_path):
    path, refused = tmp_path / "net.onnx", 0
    for seed in range(FILES // len(DAMAGES)):
        rng = random.Random(f"{damage.__name__} {seed}")
        path.write_bytes(damage(rng, copy.deepcopy(small())))
        found = outcome(path)
        if isinstance(found, str):
            refused += 1
            assert "\n" not in found
            assert found.startswith(str(path))
        else:
            assert found.network.classes >= 2
            assert all(np.isfinite(array).all() for array in arrays(tuple(found.population)[:2]))
    assert refused >= FILES // len(DAMAGES) // 4


def test_the_undamaged_file_is_read(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(small(), path)
    assert wn.load_network(path).network.classes == 5
