"""Networks made of lists of layers: names, sites, blocks, and what is refused."""

import numpy as np
import pytest

import wn
from wn import layers
from wn.basics.errors import WnError
from wn.engine import models
from wn.engine.network import Network, Node
from wn.engine.training import Population


def conv(channels, size, **settings):
    return layers.Convolution(channels, (size, size), **settings)


def test_default_names_and_sites_are_those_of_the_built_in_networks():
    for batch_norm in ("none", "sites"):
        norm = [layers.BatchNorm()] if batch_norm == "sites" else []
        lenet = [
            *(conv(6, 5), *norm, layers.Relu(), layers.MaxPooling((2, 2))),
            *(conv(16, 5), *norm, layers.Relu(), layers.MaxPooling((2, 2))),
            *(layers.Flatten(), layers.Linear(120), *norm, layers.Relu()),
            *(layers.Linear(84), *norm, layers.Relu(), layers.Linear(10)),
        ]
        assert wn.network((1, 28, 28), lenet, name="lenet5") == models.build(
            "lenet5", (1, 28, 28), 10, batch_norm
        )


def test_names_and_nodes_of_ones_own():
    network = wn.network(
        (1, 4, 4),
        [
            ("stem", conv(2, 3)),
            layers.Node("hidden", layers.Relu(), site=False),
            ("body", layers.Residual([("inner", layers.Relu())])),
            layers.Flatten(),
            layers.Linear(5),
            layers.Relu(),
            layers.Flatten(),
            ("last", layers.Linear(3)),
        ],
    )
    assert [node.name for node in network.nodes] == [
        "stem", "hidden", "body.inner", "body.add", "flatten", "fc1", "relu1", "flatten2", "last"
    ]  # fmt: skip
    assert network.site_names == ("input", "stem", "body.inner", "body.add", "fc1", "relu1", "last")
    assert (network.name, network.classes, network.input_shape) == ("network", 3, (1, 4, 4))


def test_blocks_within_blocks():
    inner = layers.Residual([layers.Linear(4), layers.Relu()])
    network = wn.network(4, [layers.Residual([inner, layers.Linear(4)], shortcut=[inner]), layers.Linear(2)])
    assert network.site_names == (
        "input", "block1.block1.fc1", "block1.block1.relu1", "block1.block1.add", "block1.fc1",
        "block1.shortcut.block1.fc1", "block1.shortcut.block1.relu1", "block1.shortcut.block1.add",
        "block1.add", "logits",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "items", "message"),
    [
        ((1, 28), [layers.Linear(3)], r"input shape is \(1, 28\): \(channels, height, width\) or"),
        ((0,), [layers.Linear(3)], "all at least 1"),
        (4, [], "network has no layers"),
        (4, "abc", "the layers of a network are str: a list of layers is needed"),
        (4, [layers.Linear], r"layer number 1 is the class Linear: an object is needed, Linear\(…\)"),
        (4, [np.tanh, layers.Linear(3)], "layer number 1 is ufunc: a layer of wn.layers is needed"),
        (4, [("a", 3)], "layer 'a' is int: a layer of wn.layers is needed, or one of your own; it has no"),
        (4, [("", layers.Linear(3))], "a layer's name is '': a text is needed"),
        (4, [("input", layers.Linear(3))], "a layer is called 'input': allowed is"),
        (4, [("a", layers.Linear(3)), ("a", layers.Linear(3))], "a layer is called 'a'"),
        (4, [layers.Relu(), layers.Linear(1)], r"the output has shape \(1,\): \(classes,\) of at least 2"),
        ((1, 4, 4), [conv(3, 3)], r"the output has shape \(3, 2, 2\)"),
        ((1, 4, 4), [layers.Linear(3)], "layer 'logits' does not fit: its input has shape"),
        (4, [layers.Residual([layers.Linear(5)])], "layer 'block1.add' does not fit: .* a sum takes"),
        (4, [layers.Residual([])], "block1: a residual branch has no layers"),
        (4, [layers.Residual(layers.Relu())], "the branch of block1 are Relu: a list of layers is needed"),
        (4, [layers.Concatenate([layers.Relu()])], "block1: a concatenation needs at least two branches"),
        (4, [layers.Concatenate([], [])], "of which one may be empty"),
        (4, [Node("a", layers.Relu(), True, ("input",))], "layer 'a': a node in a list of layers names no"),
    ],
)
def test_one_line_says_what_is_wrong(shape, items, message):
    with pytest.raises(WnError, match=message) as caught:
        wn.network(shape, items)
    assert "\n" not in str(caught.value)


def test_it_is_the_engine_s_network():
    assert isinstance(wn.network(4, [layers.Linear(3)]), Network)
    assert repr(wn.Weighted(wn.network(4, [layers.Linear(3)]), Population((), (), (1, 2)))).endswith(
        "2 members>"
    )
