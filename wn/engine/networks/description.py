"""A network as a structure that JSON can hold, and back: what files, records and studies keep of it."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from wn.basics.errors import WnError
from wn.engine.layers.activations.clip import Clip, Relu6
from wn.engine.layers.activations.gelu import Gelu
from wn.engine.layers.activations.leaky_relu import LeakyRelu
from wn.engine.layers.activations.sigmoid import Sigmoid
from wn.engine.layers.activations.silu import Silu
from wn.engine.layers.activations.softplus import Softplus
from wn.engine.layers.activations.tanh import Tanh
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.dropout import Dropout
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.joins.add import Add
from wn.engine.layers.joins.concatenate import ConcatenateChannels
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.layers.shapes.identity import Identity
from wn.engine.layers.shapes.reshape import Reshape
from wn.engine.layers.shapes.zero_padding import ZeroPadding
from wn.engine.layers.sliding.global_pooling import GlobalAveragePooling, GlobalMaxPooling
from wn.engine.network import Network, Node

KINDS = (
    Add, AveragePooling, BatchNorm, Clip, ConcatenateChannels, Convolution, Dropout, Flatten, Gelu,
    GlobalAveragePooling, GlobalMaxPooling, Identity, LeakyRelu, Linear, MaxPooling, Relu, Relu6,
    Reshape, Sigmoid, Silu, Softplus, Tanh, ZeroPadding,
)  # fmt: skip
BY_NAME: dict[str, type] = {kind.__name__: kind for kind in KINDS}


def described(network: Network) -> dict[str, Any]:
    """A network as dictionaries, lists, texts, numbers and booleans: name, input shape, and its nodes.

    A node has its name, the kind of its layer, the layer's settings that are not the usual ones, whether it
    is a noise site and the names of its inputs. Raises WnError for a layer that is not one of wn's own.
    """
    return {
        "name": network.name,
        "input_shape": list(network.input_shape),
        "nodes": [
            {
                "name": node.name,
                "layer": _kind(node),
                "settings": settings_of(node.layer),
                "site": node.site,
                "inputs": list(node.inputs),
            }
            for node in network.nodes
        ],
    }


def from_description(description: Mapping[str, Any]) -> Network:
    """The network of a description; WnError, in one line, for anything that `described` does not make."""
    name, shape, nodes = (_of(description, key, "a network") for key in ("name", "input_shape", "nodes"))
    if not isinstance(name, str) or not name:
        raise WnError(f"a network's name is {name!r}: a text is needed")
    whole = isinstance(shape, list | tuple) and all(type(size) is int and size >= 1 for size in shape)
    if not whole or len(shape) not in (1, 3):
        raise WnError(f"{name}: its input shape is {shape!r}: one or three integers of at least 1 are needed")
    if not isinstance(nodes, list | tuple):
        raise WnError(f"{name}: its nodes are {type(nodes).__name__}: a list is needed")
    return Network(name, tuple(_node(name, node) for node in nodes), tuple(shape))


def _kind(node: Node) -> str:
    kind = type(node.layer)
    if BY_NAME.get(kind.__name__) is not kind:
        raise WnError(
            f"layer {node.name!r} is {kind.__module__}.{kind.__qualname__}, a layer of your own: networks "
            "with such layers can be walked and trained, not saved or described"
        )
    return kind.__name__


def settings_of(layer: Any) -> dict[str, Any]:
    """The fields of a layer that differ from their defaults."""
    if not is_dataclass(layer):
        return {}
    found = {field.name: (getattr(layer, field.name), field.default) for field in fields(layer)}
    return {name: _plain(value) for name, (value, default) in found.items() if value != default}


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list | tuple) else value


def _node(network: str, described_node: Any) -> Node:
    what = f"{network}: a node"
    name, kind, settings, site, inputs = (
        _of(described_node, key, what) for key in ("name", "layer", "settings", "site", "inputs")
    )
    what = f"{network}: node {name!r}"
    if not isinstance(name, str) or not isinstance(site, bool):
        raise WnError(f"{what}: a name that is a text and a site that is true or false are needed")
    if not isinstance(inputs, list | tuple) or not all(isinstance(source, str) for source in inputs):
        raise WnError(f"{what}: its inputs are {inputs!r}: a list of names is needed")
    if kind not in BY_NAME:
        raise WnError(f"{what} is a {kind!r}: allowed are {', '.join(BY_NAME)}")
    allowed = [field.name for field in fields(BY_NAME[kind])]
    if not isinstance(settings, Mapping) or not set(settings).issubset(allowed):
        raise WnError(f"{what}: its settings are {settings!r}: allowed are {', '.join(allowed) or 'none'}")
    try:
        layer = BY_NAME[kind](**{key: _tuples(value) for key, value in settings.items()})
    except TypeError:
        raise WnError(f"{what}: {kind} needs other settings than {settings!r}") from None
    return Node(name, layer, site, tuple(inputs))


def _of(mapping: Any, key: str, what: str) -> Any:
    if not isinstance(mapping, Mapping) or key not in mapping:
        raise WnError(f"{what} has no {key!r}")
    return mapping[key]
