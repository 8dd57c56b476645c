"""A network as it is run in a phase: its layers in order, some as one, with the values that they read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from wn.engine.backends.plain.base import Array, Backend
from wn.engine.backends.sealed import Sealed
from wn.engine.graph.edges import Edges
from wn.engine.layers.base import Runnable, declares, joins
from wn.engine.layers.joins import add
from wn.engine.layers.noise import DrawKey
from wn.random import Purpose

Start = Array | Mapping[int, Array]  # an activation, or by number all values that later nodes read
Rewritten = Callable[[Sequence[Runnable], Sequence[bool]], list[tuple[Runnable, int]]]  # of a backend


class Stage(NamedTuple):
    """A layer as it is run in a phase: a node's own, or a fused one in place of several nodes."""

    layer: Runnable
    node: int  # the one whose parameters and state it has
    site: int | None  # at its output
    reads_only: bool  # whether it is known to write to no array that it is given
    sources: tuple[int, ...]  # the numbers of the values that it reads, see `wn.engine.graph.edges`
    joins: bool
    value: int  # the number of what it makes
    ends: tuple[int, ...] = ()  # values that no later stage reads

    def given(self, values: Mapping[int, Array]) -> Any:
        """Its input: a copy for a layer that may write to it, while others still need it as it is."""
        found = tuple(self.untouched(values[source]) for source in self.sources)
        return found if self.joins else found[0]

    def untouched(self, x: Array) -> Array:
        """An array, or a copy for a layer that may write to it."""
        return x if self.reads_only or isinstance(x, Sealed) else x.copy()

    def drawn(self, conditions: Any) -> tuple[DrawKey, ...]:
        """The address of its draws in a forward pass, for a layer that draws."""
        if not getattr(type(self.layer), "draws", False):
            return ()
        given = conditions.seeds, conditions.samples, conditions.epoch
        return (DrawKey(*given, Purpose.DROPOUT, self.node),)


class NetworkCache(NamedTuple):
    """The record for the backward pass: the stages, the cache of each and that of the noise behind it."""

    stages: tuple[Stage, ...]
    layers: tuple[Any, ...]
    noise: tuple[Any, ...]  # None: no noise; the input's comes first


def prepared(
    nodes: Sequence[Any],
    edges: Edges,
    depths: Sequence[int],
    rewritten: Rewritten,
    training: bool,
    noisy: frozenset[int],
    first_site: int,
) -> tuple[Stage, ...]:
    """The stages behind a site. `depths`: the number of nodes before each site.

    Layers become one only where nobody else sees what is between them: no noise, and no other node.
    """
    start = depths[first_site]
    sites = {depth - 1: site for site, depth in enumerate(depths)}  # by the node before them
    alone = [sites.get(i) not in noisy and edges.handed_on(i) for i in range(start, len(nodes) - 1)]
    layers = [node.layer.for_phase(training) for node in nodes[start:]]
    stages, index = list[Stage](), start
    for layer, count in rewritten(layers, [*alone, True][: len(layers)]):
        node, after = nodes[index].layer, index + count
        reads_only = count > 1 or declares(node, "recordable")
        sources, site = edges.sources[index], sites.get(after - 1)
        stages.append(Stage(layer, index, site, reads_only, sources, joins(node), after))
        index = after
    return _with_ends(stages)


def _with_ends(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages, each with the values that it is the last to read."""
    found, later = list[Stage](), set[int]()
    for stage in reversed(stages):
        ends = set(stage.sources) - later
        later |= ends
        found.append(stage._replace(ends=tuple(sorted(ends))))
    return tuple(reversed(found))


def added(be: Backend, total: Array | None, part: Array | None) -> Array | None:
    """The sum of the gradients of a value that several nodes read."""
    return part if total is None else be.forward(add.FORMULA, (), (total, part))[0]
