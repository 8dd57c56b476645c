"""Networks as values: lists of layers, with blocks whose branches join, become named nodes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wn.basics.errors import WnError
from wn.basics.numbers import is_integer
from wn.engine.graph.edges import INPUT
from wn.engine.layers.activations.clip import Relu6
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.base import joins
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.joins.add import Add
from wn.engine.layers.joins.concatenate import ConcatenateChannels
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.layers.sliding.global_pooling import GlobalAveragePooling, GlobalMaxPooling
from wn.engine.network import Network, Node

LOGITS = "logits"  # the name of a linear layer that ends a network
# How layers are called, and numbered; others by their class in small letters.
PREFIXES: dict[type, str] = {
    Convolution: "conv", BatchNorm: "bn", Relu: "relu", Relu6: "relu", MaxPooling: "pool", AveragePooling:
    "avgpool", GlobalAveragePooling: "avgpool", GlobalMaxPooling: "pool", Linear: "fc", Flatten: "flatten",
}  # fmt: skip
_ASKED = ("forward", "backward", "output_shape", "initial_parameters", "initial_state", "for_phase")


@dataclass(frozen=True)
class Residual:
    """A block whose output is branch(x) + shortcut(x); without a shortcut, branch(x) + x.

    Both are lists of layers. Nodes are called `<block>.conv1` …, `<block>.shortcut.conv1` … and, for the
    sum, `<block>.add`; all but flatten and the like are noise sites.
    """

    branch: Sequence[Any]
    shortcut: Sequence[Any] = ()


@dataclass(frozen=True, init=False)
class Concatenate:
    """A block whose output has the channels of all branches, one after the other: lists of layers.

    An empty branch is the block's input itself. Nodes are called `<block>.branch1.conv1` … and, for the join,
    `<block>.concat`.
    """

    branches: tuple[Sequence[Any], ...]

    def __init__(self, *branches: Sequence[Any]) -> None:
        object.__setattr__(self, "branches", branches)  # the one way to set a field of a frozen dataclass


def network(input_shape: int | Sequence[int], layers: Sequence[Any], name: str = "network") -> Network:
    """Make a network of an input shape and a list of layers; its noise sites have names and numbers.

    input_shape: (C, H, W) of images or (F,) of vectors, without the batch. layers: those of `wn.layers`, or
    of one's own, in order; (name, layer) gives a layer a name, a `Node` also says whether it is a noise site.
    By default layers are called as in the built-in networks, by kind and number: conv1, bn1, relu1, pool1,
    fc1; a linear layer at the end is called logits. The input and the outputs of all layers but flatten and
    the like are noise sites. `Residual` and `Concatenate` are blocks of layers: block1.conv1, block1.add.

    Raises WnError, which names the layer, for what is no layer, for a layer that does not fit the shape that
    reaches it, for names that come twice, and unless the output is (K,) with at least two classes.
    """
    shape = (input_shape,) if is_integer(input_shape) else tuple(input_shape)  # type: ignore[arg-type]  # no integer
    if len(shape) not in (1, 3) or not all(is_integer(size) and size >= 1 for size in shape):
        raise WnError(
            f"input shape is {input_shape!r}: (channels, height, width) or (features,) is needed, "
            "all at least 1"
        )
    if not isinstance(name, str) or not name:
        raise WnError(f"a network's name is {name!r}: a text is needed")
    builder = _Builder()
    builder.chain("", _checked_list("the layers of a network", layers), INPUT)
    made = Network(name, tuple(builder.nodes), tuple(int(size) for size in shape))
    output = made.shapes()[-1]
    if len(output) != 1 or output[0] < 2:
        raise WnError(
            f"{name}: the output has shape {output}: (classes,) of at least 2 is needed, as of a linear layer"
        )
    return made


@dataclass
class _Builder:
    """Nodes under construction; names are counted by block and kind."""

    nodes: list[Node] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def chain(self, prefix: str, items: Sequence[Any], source: str) -> str:
        """Add layers one after the other; return the name of the last, or the source if there is none."""
        for place, item in enumerate(items):
            ends = not prefix and place == len(items) - 1
            source = self.item(prefix, item, source, ends)
        return source

    def item(self, prefix: str, item: Any, source: str, ends: bool) -> str:
        if isinstance(item, Node):
            if item.inputs:
                raise WnError(f"layer {item.name!r}: a node in a list of layers names no inputs")
            return self.node(prefix + _text(item.name), item.layer, item.site, (source,))
        name, layer = item if isinstance(item, tuple) and len(item) == 2 else (None, item)
        given = None if name is None else prefix + _text(name)
        if isinstance(layer, Residual | Concatenate):
            return self.block(given or self.numbered(prefix + "block"), layer, source)
        checked_layer(repr(given) if given else f"number {len(self.nodes) + 1}", layer)
        full = given or self.default_name(prefix, layer, ends)
        return self.node(full, layer, getattr(layer, "noisy", True), (source,))

    def default_name(self, prefix: str, layer: Any, ends: bool) -> str:
        """The name of a layer that was given none; `ends`: whether it is the last of the network."""
        if ends and isinstance(layer, Linear):
            return LOGITS
        kinds = (text for kind, text in PREFIXES.items() if isinstance(layer, kind))
        name = prefix + next(kinds, type(layer).__name__.lower())
        numbered = self.numbered(name)
        return name if isinstance(layer, Flatten) and self.counts[name] == 1 else numbered

    def block(self, name: str, block: Residual | Concatenate, source: str) -> str:
        if isinstance(block, Residual):
            branch = _checked_list(f"the branch of {name}", block.branch)
            if not branch:
                raise WnError(f"{name}: a residual branch has no layers: it needs at least one")
            shortcut = _checked_list(f"the shortcut of {name}", block.shortcut)
            main = self.chain(f"{name}.", branch, source)
            return self.node(
                f"{name}.add", Add(), True, (main, self.chain(f"{name}.shortcut.", shortcut, source))
            )
        if len(block.branches) < 2 or sum(not len(branch) for branch in block.branches) > 1:
            raise WnError(
                f"{name}: a concatenation needs at least two branches, of which one may be empty, got "
                f"{len(block.branches)}"
            )
        parts = (_checked_list(f"a branch of {name}", branch) for branch in block.branches)
        ends = tuple(
            self.chain(f"{name}.branch{number}.", branch, source) for number, branch in enumerate(parts, 1)
        )
        return self.node(f"{name}.concat", ConcatenateChannels(), True, ends)

    def node(self, name: str, layer: Any, site: bool, inputs: tuple[str, ...]) -> str:
        before = self.nodes[-1].name if self.nodes else INPUT
        self.nodes.append(Node(name, layer, site, () if inputs == (before,) else inputs))
        return name

    def numbered(self, kind: str) -> str:
        """The next name of a kind."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{kind}{self.counts[kind]}"


def checked_layer(name: str, layer: Any) -> None:
    """Raise WnError unless a thing has what a network asks of a layer with one input."""
    if isinstance(layer, type):
        raise WnError(f"layer {name} is the class {layer.__name__}: an object is needed, {layer.__name__}(…)")
    missing = [what for what in _ASKED if not callable(getattr(layer, what, None))]
    if isinstance(layer, BatchNorm):
        missing = []  # it runs another layer in each phase
    if missing:
        raise WnError(
            f"layer {name} is {type(layer).__name__}: a layer of wn.layers is needed, or one of your own; "
            f"it has no {', '.join(missing)}"
        )
    if joins(layer):
        raise WnError(f"layer {name} takes several inputs: in a list of layers use Residual or Concatenate")


def _checked_list(what: str, layers: Any) -> Sequence[Any]:
    if not isinstance(layers, list | tuple):
        raise WnError(f"{what} are {type(layers).__name__}: a list of layers is needed")
    return layers


def _text(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise WnError(f"a layer's name is {name!r}: a text is needed")
    return name
