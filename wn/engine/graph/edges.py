"""How the nodes of a network hang together: which values each reads, and who reads them.

Values are numbered: 0 is the network's input, i + 1 the output of node i. A node reads values that come
before it; in a chain node i reads value i.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from wn.basics.errors import WnError
from wn.engine.layers.base import joins

INPUT = "input"  # the name of what goes into the first node


class Edges(NamedTuple):
    """The values that each node reads, and the nodes that read each value, both in order."""

    sources: tuple[tuple[int, ...], ...]
    readers: tuple[tuple[int, ...], ...]

    @property
    def chain(self) -> bool:
        """Whether every node reads the output of the node before it, and nothing else."""
        return all(source == (index,) for index, source in enumerate(self.sources))

    def handed_on(self, index: int) -> bool:
        """Whether the output of a node goes to the next one alone, and that one reads nothing else."""
        value = index + 1
        return self.readers[value] == (value,) and self.sources[value] == (value,)

    def live(self, depth: int) -> tuple[int, ...]:
        """The values that the nodes from `depth` on read of what is there before them: `depth` among them."""
        earlier = (v for v in range(depth) if self.readers[v] and self.readers[v][-1] >= depth)
        return (*earlier, depth)


def edges_of(network: str, nodes: Sequence[Any]) -> Edges:
    """The edges of a network whose nodes name their `inputs`; none named is the node before.

    Raises WnError for a name that comes twice, an input that is no earlier node, several inputs of a layer
    that takes one, and an output that nothing reads, unless it is the last.
    """
    if not nodes:
        raise WnError(f"{network} has no layers: it needs at least one")
    values, sources = {INPUT: 0}, []
    for index, node in enumerate(nodes):
        if not isinstance(node.name, str) or not node.name or node.name in values:
            raise WnError(
                f"{network}: a layer is called {node.name!r}: allowed is a text that no other layer has, and "
                f"not {INPUT!r}"
            )
        named = tuple(values.get(name, -1) for name in node.inputs) or (index,)
        if -1 in named:
            unknown = node.inputs[named.index(-1)]
            raise WnError(
                f"{network}: layer {node.name!r} takes its input from {unknown!r}: allowed are the ones "
                f"before it: {', '.join(values)}"
            )
        if len(named) > 1 and not joins(node.layer):
            raise WnError(f"{network}: layer {node.name!r} takes one input, got {', '.join(node.inputs)}")
        sources.append(named)
        values[node.name] = index + 1
    readers = tuple(
        tuple(index for index, source in enumerate(sources) if value in source)
        for value in range(len(nodes) + 1)
    )
    for value, name in enumerate(list(values)[:-1]):
        if not readers[value]:
            raise WnError(
                f"{network}: nothing takes the output of {name!r}: only that of the last layer is a result"
            )
    return Edges(tuple(sources), readers)
