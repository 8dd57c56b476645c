"""Networks described for files and records, and made of descriptions again."""

import copy
import json

import pytest

import wn
from tests.engine.networks.test_graphs import BRANCHED, DENSE
from tests.engine.own_layers import Tanh
from wn import layers
from wn.basics.errors import WnError
from wn.engine import models
from wn.engine.networks.description import described, from_description


@pytest.mark.parametrize("batch_norm", models.BATCH_NORM)
@pytest.mark.parametrize("name", models.names())
def test_built_in_networks_come_back(name, batch_norm):
    network = models.build(name, *models.default_input(name), batch_norm)
    assert from_description(json.loads(json.dumps(described(network)))) == network


def test_branched_networks_come_back():
    for network in (BRANCHED, DENSE):
        assert from_description(json.loads(json.dumps(described(network)))) == network


def test_a_layer_of_ones_own_is_named():
    network = wn.network(4, [("own", Tanh()), layers.Linear(3)])
    with pytest.raises(
        WnError, match=r"layer 'own' is .*own_layers.Tanh, a layer of your own: networks with"
    ):
        described(network)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("name",), 3, "a network's name is 3"),
        (("input_shape",), [6, 0, 1], "its input shape is"),
        (("input_shape",), [1 << 70, 1.5], "its input shape is"),
        (("nodes",), {}, "its nodes are dict"),
        (("nodes", 1), 7, "a node has no 'name'"),
        (("nodes", 1, "layer"), "Lineal", "is a 'Lineal': allowed are Add, "),
        (("nodes", 1, "settings"), {"feature": 3}, "its settings are .*: allowed are features, bias"),
        (("nodes", 1, "settings"), {}, "Linear needs other settings"),
        (("nodes", 1, "inputs"), [3], "its inputs are"),
        (("nodes", 1, "inputs"), ["logits"], "takes its input from 'logits'"),
        (("nodes", 1, "site"), "yes", "a site that is true or false"),
    ],
)
def test_one_line_says_what_is_wrong(path, value, message):
    description = copy.deepcopy(described(DENSE))
    at = description
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(WnError, match=message) as caught:
        from_description(description)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named():
    with pytest.raises(WnError, match="a network has no 'nodes'"):
        from_description({"name": "a", "input_shape": [3]})
    with pytest.raises(WnError, match="a network has no 'name'"):
        from_description([])
