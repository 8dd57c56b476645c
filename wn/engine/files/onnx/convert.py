"""An ONNX graph as the nodes, parameters and states of a network.

Every value of the graph is a constant, which is computed here, or an activation: what a layer of the network
makes, and perhaps an element-wise function of that, which becomes a layer where something else reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine.files.onnx import constants, elementwise, layers
from wn.engine.files.onnx.elementwise import Function
from wn.engine.files.onnx.graph import Read, Step
from wn.engine.files.onnx.layers import Layered
from wn.engine.files.onnx.names import PREFIXES, Modules, Names, of_parameter
from wn.engine.graph.edges import INPUT
from wn.engine.layers.joins.add import Add
from wn.engine.layers.joins.concatenate import ConcatenateChannels
from wn.engine.network import Node

Shape = tuple[int, ...]
MOST_STEPS = 64  # of one activation; the longest that exporters write has ten
_IDS = count()


@dataclass(frozen=True)
class Activation:
    """A value of the graph: what a node of the network makes, and a function of each of its numbers."""

    source: str
    shape: Shape  # of one sample
    function: Function | None = None
    parts: tuple["Activation", ...] = ()  # of a sum, which may be a join if it is no activation
    steps: tuple[Step, ...] = ()  # that made the function
    id: int = field(default_factory=partial(next, _IDS))


Value = Activation | NDArray[Any]


class Converted(NamedTuple):
    """The nodes of a network, and the parameters and states of each for one member."""

    nodes: tuple[Node, ...]
    params: tuple[Any, ...]
    states: tuple[Any, ...]
    dropped: tuple[str, ...]  # what was left out, in words


def converted(graph: Read) -> Converted:
    """Turn a graph into the nodes of a network; WnError, which names node and operator, if it can't be."""
    converter = _Converter(graph)
    for step in graph.steps:
        try:
            converter.take(step)
        except WnError:
            raise
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            # Attributes and constants are whatever the file says: numbers for lists, lists of no end.
            reason = " ".join(str(error).split())
            raise WnError(f"{step.words}: its attributes or constants do not fit it: {reason}") from error
    return converter.result()


class _Converter:
    def __init__(self, graph: Read) -> None:
        self.graph = graph
        self.values: dict[str, Value] = {**graph.constants, graph.input: Activation(INPUT, graph.shape)}
        self.readers, self.room = _readers(graph), constants.Room(graph.constants.values())
        self.names, self.modules = Names(), Modules(graph.steps, graph.ours)
        self._shapes: dict[str, Shape] = {INPUT: graph.shape}  # of one sample, by the node that makes it
        self.made: dict[int, Activation] = {}  # activations whose functions have become layers
        self.nodes: list[Node] = []
        self.params: list[Any] = []
        self.states: list[Any] = []
        self.dropped: list[str] = []

    # ---- the graph --------------------------------------------------------------------------------------

    def take(self, step: Step) -> None:
        """Take a node of the graph."""
        given = [self._given(step, name) for name in step.inputs]
        outputs = [name for name in step.outputs if name]
        if not outputs:
            raise WnError(f"{step.words} has no output")
        if outputs[0] in self.values:
            raise WnError(f"{step.words} makes {outputs[0]!r}, which another node has made")
        self.values[outputs[0]] = self._value(step, given)

    def _given(self, step: Step, name: str) -> Value | None:
        if not name:
            return None
        if name not in self.values:
            raise WnError(f"{step.words} takes {name!r}, which nothing before it makes")
        found = self.values[name]
        return self.made.get(found.id, found) if isinstance(found, Activation) else found

    def _value(self, step: Step, given: Sequence[Value | None]) -> Value:
        activations = [x for x in given if isinstance(x, Activation)]
        if not activations:
            result = constants.computed(step, [x for x in given if not isinstance(x, Activation)])
            if result is None:
                raise self._unsupported(step)
            return self.room.take(step, result)
        if step.op == "Shape":
            return self._shape(step, activations[0])
        if step.op in ("Cast", "CastLike"):
            return self._cast(step, given)
        for attempt in (self._element_by_element, self._join, self._reshaped, self._layer):
            found = attempt(step, given, activations)
            if found is not None:
                return found
        raise self._unsupported(step)

    def _shape(self, step: Step, x: Activation) -> NDArray[Any]:
        whole = np.array([self.graph.batch, *x.shape], np.int64)
        return whole[step.attributes.get("start", 0) : step.attributes.get("end", len(whole))]

    def _cast(self, step: Step, given: Sequence[Value | None]) -> Value:
        """A constant in the type of an activation, or an activation in the type that it has."""
        first, dtype = given[0], np.dtype(self.graph.dtype)
        if step.op == "CastLike" and isinstance(first, np.ndarray):
            return first.astype(dtype)
        to = constants.TYPES.get(step.attributes.get("to", 0), "another type")
        if not isinstance(first, Activation) or (step.op == "Cast" and to != dtype.name):
            raise WnError(f"{step.words} makes {to} of activations: they are {dtype} throughout")
        return first

    def _unsupported(self, step: Step) -> WnError:
        return WnError(f"{step.words} is not supported: allowed are {', '.join(sorted(SUPPORTED))}")

    # ---- element by element -----------------------------------------------------------------------------

    def _element_by_element(
        self, step: Step, given: Sequence[Value | None], activations: Sequence[Activation]
    ) -> Activation | None:
        """The value of a node that computes each number from the one of the same place in one activation."""
        training = given[2] if step.op == "Dropout" and len(given) > 2 else None
        if isinstance(training, np.ndarray) and training.any():
            raise WnError(
                f"{step.words} drops at inference (training_mode): export the network for inference"
            )
        first = activations[0]
        if step.op in elementwise.LAYERS and first.function is not None and self._is_layer(first):
            first = self.real(first)
            given, activations = [first, *given[1:]], [first]
        if any((x.source, x.shape) != (first.source, first.shape) for x in activations):
            return None
        if step.op == "Clip":
            limits = [
                layers.number(step, x, unlimited)
                for x, unlimited in zip((*given[1:], None, None), (-np.inf, np.inf), strict=False)
            ]
            limits = [
                step.attributes.get(name, limit) for name, limit in zip(("min", "max"), limits, strict=True)
            ]
            function: Function | None = elementwise.clipped(step, self._function(first), *limits)
        else:
            operands = [
                self._operand(x) for x in (given[:1] if step.op == "Dropout" else given) if x is not None
            ]
            known = [x for x in operands if x is not None]
            function = elementwise.composed(step, known) if len(known) == len(operands) else None
        if function is None:
            return None
        parts = tuple(activations) if step.op in ("Add", "Sum") and len(activations) == 2 else ()
        return Activation(first.source, first.shape, function, parts, _steps_of(activations, step))

    def _operand(self, x: Value) -> Function | float | None:
        """A function, or a constant that is one number; None for other constants."""
        if isinstance(x, Activation):
            return self._function(x)
        return float(x.reshape(-1)[0]) if x.size == 1 and x.dtype.kind in "fiub" else None

    def _function(self, x: Activation) -> Function:
        return x.function or (lambda values: values)

    def _is_layer(self, x: Activation) -> bool:
        """Whether a function is an activation as it stands."""
        return x.id in self.made or elementwise.activation_of(self._function(x)) is not None

    def real(self, x: Activation) -> Activation:
        """An activation as a node of the network makes it: a function of one becomes a layer."""
        if x.function is None:
            return x
        if x.id not in self.made:
            self.made[x.id] = self._activation_layer(x)
        return self.made[x.id]

    def _activation_layer(self, x: Activation) -> Activation:
        step, found = x.steps[-1], elementwise.activation_of(self._function(x))
        if found is None:
            if x.parts:
                return self._add(step, x.parts)
            ops = ", ".join(of.op for of in x.steps)
            known = ", ".join(
                sorted({activation.name for activation in elementwise.FIXED} | {"LeakyRelu", "Clip"})
            )
            raise WnError(f"{step.words}: {ops} compute no activation that is supported: allowed are {known}")
        if found.name == "Identity":
            return Activation(x.source, x.shape)
        layer = layers.activation(found.name, found.settings)
        kind = PREFIXES.get(found.name, found.name.lower())
        return self._node(step, Layered(layer), (x.source,), kind, self.modules.name(x.steps, kind))

    # ---- joins ------------------------------------------------------------------------------------------

    def _join(
        self, step: Step, given: Sequence[Value | None], activations: Sequence[Activation]
    ) -> Activation | None:
        if step.op in ("Add", "Sum") and len(activations) == len(given) > 1:
            return self._add(step, activations)
        if step.op == "Concat" and len(activations) == len(given):
            axis = step.attributes.get("axis", 1)
            if axis not in (1, -len(activations[0].shape)):
                raise WnError(f"{step.words} joins along axis {axis}: allowed is that of the channels, 1")
            parts = [self.real(x) for x in activations]
            if len(parts) == 1:
                return parts[0]
            return self._node(step, Layered(ConcatenateChannels()), [x.source for x in parts])
        return None

    def _add(self, step: Step, activations: Sequence[Activation]) -> Activation:
        parts = [self.real(x) for x in activations]
        if len({x.shape for x in parts}) > 1:
            shapes = " and ".join(str(x.shape) for x in parts)
            raise WnError(f"{step.words} adds activations of shapes {shapes}: they must be the same")
        return self._node(step, Layered(Add()), [x.source for x in parts])

    # ---- shapes -----------------------------------------------------------------------------------------

    def _reshaped(
        self, step: Step, given: Sequence[Value | None], activations: Sequence[Activation]
    ) -> Activation | None:
        """The value of a node that only lays the numbers of a sample in a row, or leaves them as they are."""
        if step.op not in layers.RESHAPES or not isinstance(given[0], Activation):
            return None
        x = self.real(given[0])
        shape = layers.reshaped(step, x.shape, given[1:], self.graph.batch)
        if shape == x.shape:
            return x
        if shape != (int(np.prod(x.shape)),):
            raise WnError(
                f"{step.words} makes {shape} of {x.shape}: it may lay the numbers of a sample in one row only"
            )
        return self._node(step, Layered(layers.flatten()), (x.source,))

    # ---- layers -----------------------------------------------------------------------------------------

    def _layer(
        self, step: Step, given: Sequence[Value | None], activations: Sequence[Activation]
    ) -> Activation | None:
        if step.op in ("Softmax", "LogSoftmax"):
            return self._without_softmax(step, activations[0])
        if step.op == "Add" and len(given) == 2 and len(activations) == 1:
            return self._biased(step, given)
        maker = layers.MAKERS.get(step.op)
        if maker is None or not isinstance(given[0], Activation) or len(activations) > 1:
            return None
        x = self.real(given[0])
        found = self._node(step, maker(step, x.shape, given[1:], self.graph), (x.source,))
        if step.op == "ReduceMean" and not step.attributes.get("keepdims", 1):
            return self._node(step, Layered(layers.flatten()), (found.source,), "flatten", "")
        return found

    def _without_softmax(self, step: Step, x: Activation) -> Activation:
        """At the end a softmax changes neither the largest logit nor the classes: the logits are kept."""
        axis = step.attributes.get("axis", -1 if self.graph.opset >= 13 else 1)
        if step.outputs[0] != self.graph.output or len(x.shape) != 1 or axis not in (1, -1):
            raise WnError(f"{step.words} is not supported but for the last node, along the classes")
        self.dropped.append(f"{step.op} at the end: it changes no class, and the loss has its own")
        return self.real(x)

    def _biased(self, step: Step, given: Sequence[Value | None]) -> Activation | None:
        """A sum with a constant: the bias of the layer before it, if nothing else reads what that makes."""
        x = next(value for value in given if isinstance(value, Activation))
        first = isinstance(given[0], Activation)
        name, bias = step.inputs[0 if first else 1], given[1 if first else 0]
        place = next((i for i, node in enumerate(self.nodes) if node.name == x.source), None)
        if place is None or x.function is not None or self.readers[name] > 1:
            raise WnError(
                f"{step.words} adds a constant to what no layer without bias makes: that is not supported"
            )
        node = self.nodes[place]
        found = layers.with_bias(step, node.layer, self.params[place], x.shape, np.asarray(bias))
        self.nodes[place], self.params[place] = node._replace(layer=found.layer), found.params
        return x

    def _node(
        self, step: Step, made: Layered, sources: Sequence[str], kind: str = "", name: str | None = None
    ) -> Activation:
        """Add a node to the network, and return what it makes."""
        weights = step.inputs[1] if len(step.inputs) > 1 else ""
        kind = kind or PREFIXES.get(step.op, step.op.lower())
        if name is None:
            name = (of_parameter(weights) if made.params else "") or self.modules.name([step], kind)
        node = Node(
            self.names.new(name, kind),
            made.layer,
            getattr(made.layer, "noisy", True),
            tuple(sources),
        )
        shapes = [self._shapes[source] for source in sources]
        joined = isinstance(made.layer, Add | ConcatenateChannels)
        try:
            shape = made.layer.output_shape(tuple(shapes) if joined else shapes[0])
        except WnError as error:
            raise WnError(f"{step.words}: {error}") from None
        self.nodes.append(node)
        self.params.append(made.params)
        self.states.append(made.state)
        self._shapes[node.name] = shape
        return Activation(node.name, shape)

    # ---- the network ------------------------------------------------------------------------------------

    def result(self) -> Converted:
        """The network from its input to the graph's output; what the output does not need is left out."""
        output = self.values.get(self.graph.output)
        if output is None:
            raise WnError(f"its output {self.graph.output!r} is made by no node")
        if not isinstance(output, Activation):
            raise WnError("its output does not depend on its input")
        last = self.real(output)
        if last.source == INPUT:
            last = self._node(
                self.graph.steps[-1], Layered(layers.activation("Identity", {})), (INPUT,), "identity"
            )
        needed = {last.source}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed |= set(node.inputs)
        kept = [place for place, node in enumerate(self.nodes) if node.name in needed]
        if self.nodes[kept[-1]].name != last.source or INPUT not in needed:
            raise WnError("its output is not what its last layer makes")
        nodes = [self.nodes[place] for place in kept]
        befores = [INPUT, *(node.name for node in nodes)]
        plain = [
            node._replace(inputs=() if node.inputs == (before,) else node.inputs)
            for node, before in zip(nodes, befores, strict=False)
        ]
        of_kept = ([trees[place] for place in kept] for trees in (self.params, self.states))
        params, states = map(tuple, of_kept)
        return Converted(tuple(plain), params, states, tuple(self.dropped))


def _steps_of(activations: Sequence[Activation], step: Step) -> tuple[Step, ...]:
    """The nodes that made some functions, each once, and the one that makes a function of them."""
    found: list[Step] = []
    for before in (at for activation in activations for at in activation.steps):
        if all(before is not other for other in found):
            found.append(before)
    if len(found) >= MOST_STEPS:
        raise WnError(f"{step.words} is behind {len(found)} element-wise nodes: fewer make an activation")
    return (*found, step)


def _readers(graph: Read) -> dict[str, int]:
    """How often each value is read; the output once more."""
    found: dict[str, int] = {graph.output: 1}
    for step in graph.steps:
        for name in step.inputs:
            found[name] = found.get(name, 0) + 1
    return found


SUPPORTED = {
    *elementwise.UNARY,
    *elementwise.BINARY,
    *layers.RESHAPES,
    *layers.MAKERS,
    *constants.OPERATORS,
} | {"Clip", "Sum", "Concat", "Where", "Shape", "Softmax", "LogSoftmax"}
