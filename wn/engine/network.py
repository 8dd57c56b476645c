"""A network: an ordered list of layers with named noise sites, forward and backward as a whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from wn.basics.errors import WnError
from wn.basics.numbers import is_integer
from wn.engine.backends.plain.base import Array, Backend
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.graph.edges import INPUT, Edges, edges_of
from wn.engine.graph.initial import InitialDraws
from wn.engine.graph.stages import NetworkCache, Stage, Start, added, prepared
from wn.engine.layers import noise as noise_layer
from wn.engine.layers.base import Layer, Shape, has_weights, joins
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.noise import SiteNoise

INPUT_SITE = 0

Watch = Callable[[int, Array], None]


class Node(NamedTuple):
    """A layer in its place: its name, whether its output is a noise site, and whose outputs it takes."""

    name: str
    layer: Layer
    site: bool = True
    inputs: tuple[str, ...] = ()  # names of nodes before it, or INPUT; none: the node before


class Placed(NamedTuple):
    """A node of a network with its input and output shape, of one sample; a join has several input shapes."""

    name: str
    layer: Layer
    input_shape: Any
    output_shape: Shape


class Conditions(NamedTuple):
    """The conditions of a forward pass: its noise, the addresses of the draws, and the phase."""

    noise: SiteNoise
    seeds: tuple[int, ...]  # one for all members, or one per member
    samples: Array  # (B,) sample ids
    epoch: int  # epoch in training, evaluation id in inference
    training: bool
    watch: Watch | None = None  # sees the activation (P|1, …, B) at each noisy site, before its noise

    def noisy_sites(self) -> frozenset[int]:
        """The sites with noise in this phase."""
        return frozenset(site for site, noise in self.noise.items() if noise.active(self.training))


@dataclass(frozen=True)
class Network:
    """Layers in order, for inputs of shape (C, H, W); the only place that knows noise sites.

    Site 0 is the input; the outputs of layers marked as sites follow in order. Raises WnError if a layer
    does not fit the shape that reaches it, naming the layer and both shapes.
    """

    name: str
    nodes: tuple[Node, ...]
    input_shape: Shape
    recordable: ClassVar[bool] = True  # as layers have it: what the layers are does not count here

    def __post_init__(self) -> None:
        self.shapes()  # raises where a layer does not fit

    @cached_property
    def edges(self) -> Edges:
        """Which values each node reads."""
        return edges_of(self.name, self.nodes)

    @cached_property
    def placed(self) -> tuple[Placed, ...]:
        """The nodes with their shapes."""
        found, shapes = [], [tuple(self.input_shape)]
        for node, sources in zip(self.nodes, self.edges.sources, strict=True):
            several = tuple(shapes[source] for source in sources)
            shape: Any = several if joins(node.layer) else several[0]
            try:
                after = node.layer.output_shape(shape)
            except WnError as error:
                raise WnError(
                    f"{self.name}: layer {node.name!r} does not fit: its input has shape {shape} "
                    f"(the network's input {self.input_shape}): {error}"
                ) from None
            found.append(Placed(node.name, node.layer, shape, after))
            shapes.append(after)
        return tuple(found)

    def shapes(self) -> list[Shape]:
        """The shape of one sample at the input and after each layer."""
        return [tuple(self.input_shape), *(place.output_shape for place in self.placed)]

    @property
    def classes(self) -> int:
        """The number of logits K."""
        return self.shapes()[-1][0]

    @property
    def convolutional(self) -> bool:
        """Whether its first layer with a site takes images."""
        return len(self.site_shapes()[1]) == 3

    @property
    def batch_norm(self) -> str:
        """Its batch norm as `models.build` has it: "none", with noise "sites", or "hidden" from noise."""
        sites = {node.site for node in self.nodes if isinstance(node.layer, BatchNorm)}
        return "none" if not sites else "sites" if True in sites else "hidden"

    @property
    def site_names(self) -> tuple[str, ...]:
        """The names of the noise sites; the index of a name is the index of its site."""
        return (INPUT, *(node.name for node in self.nodes if node.site))

    @cached_property
    def site_depths(self) -> tuple[int, ...]:
        """The depth of each site: the number of layers before it."""
        return (0, *(index + 1 for index, node in enumerate(self.nodes) if node.site))

    def site_shapes(self) -> list[Shape]:
        """Return the shape of one sample at each site."""
        shapes = self.shapes()
        return [shapes[index] for index in self.site_depths]

    def check_sites(self, sites: Sequence[int]) -> None:
        """Raise WnError unless every site exists."""
        for site in sites:
            if not is_integer(site):
                raise WnError(f"site {site!r}: a site is an integer in 0…{len(self.site_names) - 1}")
            if not 0 <= site < len(self.site_names):
                names = ", ".join(f"{i} {name}" for i, name in enumerate(self.site_names))
                raise WnError(f"{self.name} has no site {site}: allowed are {names}")

    # ---- parameters -------------------------------------------------------------------------------------

    def initial_parameters(self, be: Backend, seeds: Sequence[int], dtype: Any) -> tuple[Any, ...]:
        """Return fresh parameters, one member per seed: a tuple with each layer's NamedTuple or ()."""
        return tuple(
            place.layer.initial_parameters(be, place.input_shape, InitialDraws(be, seeds, dtype, index))
            for index, place in enumerate(self.placed)
        )

    def initial_states(self, be: Backend, population: int, dtype: Any) -> tuple[Any, ...]:
        """Return fresh states (running statistics), a tuple with each layer's state or ()."""
        return tuple(
            place.layer.initial_state(be, place.input_shape, population, dtype) for place in self.placed
        )

    def template(self, be: Backend, population: int = 1) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Parameters and states in the shapes that this network needs; the parameters take no memory."""

        def draw(_part: int, shape: Shape, _bound: float) -> Array:
            return be.xp.broadcast_to(be.xp.zeros((), np.float32), (population, *shape))

        params = tuple(place.layer.initial_parameters(be, place.input_shape, draw) for place in self.placed)
        return params, self.initial_states(be, population, np.float32)

    def weights(self, params: tuple[Any, ...]) -> dict[str, Array]:
        """The weights `w` of linear layers and convolutions, by the name of the node."""
        return {node.name: tree.w for node, tree in zip(self.nodes, params, strict=True) if has_weights(tree)}

    def clampable(self, params: tuple[Any, ...]) -> list[Array]:
        """Weights `w` of linear and convolution layers, also of those within layers of one's own."""
        # `has_weights` has looked for the field
        found = [params.w] if has_weights(params) else []  # type: ignore[attr-defined]
        for part in params:
            if isinstance(part, tuple):
                found += self.clampable(part)
        return found

    # ---- forward and backward ---------------------------------------------------------------------------

    def forward(
        self, be: Backend, params: tuple[Any, ...], states: tuple[Any, ...], x: Array, conditions: Conditions
    ) -> tuple[Array, NetworkCache, tuple[Any, ...]]:
        """Return logits (P, K, B), the cache for backward and the new states.

        x: (P|1, *input_shape, B). Noise is injected at the input and after every layer whose site has an
        active operator in `conditions.noise`.
        """
        return self._forward(be, params, states, x, conditions, INPUT_SITE, keep=True)

    def forward_from_site(
        self,
        be: Backend,
        params: tuple[Any, ...],
        states: tuple[Any, ...],
        x: Start,
        conditions: Conditions,
        site: int,
    ) -> Array:
        """Return the logits from the clean activation x at `site`: its noise and the layers behind it.

        Where layers behind it read what was made before it as well, x is the start that `clean_starts` gives.
        Nothing is kept for a backward pass, so this is the one to evaluate with. Raises WnError for a site
        that does not exist, and for a start that lacks what is read.
        """
        self.check_sites([site])
        return self._forward(be, params, states, x, conditions, site, keep=False)[0]

    def clean_activations(
        self, be: Backend, params: tuple[Any, ...], states: tuple[Any, ...], x: Array
    ) -> list[Array]:
        """Return the activation at every site in inference without noise; the last are the logits."""
        return self.clean_pass(be, params, states, x, keep=False)[0]

    def clean_pass(
        self, be: Backend, params: tuple[Any, ...], states: tuple[Any, ...], x: Array, keep: bool = True
    ) -> tuple[list[Array], NetworkCache]:
        """Return the clean activation at every site in inference, and the cache for `backward`.

        No layer is fused across a site, so that `backward` can watch every one. The cache is of use only with
        `keep`.
        """
        depths = self.site_depths
        return self._clean(be, params, states, x, keep, lambda site, values: values[depths[site]])

    def clean_starts(
        self, be: Backend, params: tuple[Any, ...], states: tuple[Any, ...], x: Array
    ) -> list[Start]:
        """Return for every site what `forward_from_site` goes on from, in inference without noise.

        That is the activation there, and for layers that read what was made before, that as well.
        """
        return self._clean(be, params, states, x, False, self._start)[0]

    def activation(self, start: Start, site: int) -> Array:
        """The activation at the site of a start."""
        return start[self.site_depths[site]] if isinstance(start, Mapping) else start

    def replaced(self, start: Start, site: int, x: Array) -> Start:
        """A start with another activation at its site."""
        return {**start, self.site_depths[site]: x} if isinstance(start, Mapping) else x

    def _start(self, site: int, values: Mapping[int, Array]) -> Start:
        depth = self.site_depths[site]
        live = self.edges.live(depth)
        return values[depth] if live == (depth,) else {value: values[value] for value in live}

    def _values(self, x: Start, site: int) -> dict[int, Array]:
        """The values that a pass from a site begins with."""
        depth = self.site_depths[site]
        values = dict(x) if isinstance(x, Mapping) else {depth: x}
        if missing := [value for value in self.edges.live(depth) if value not in values]:
            names = ", ".join(repr((INPUT, *(node.name for node in self.nodes))[value]) for value in missing)
            raise WnError(
                f"{self.name}: layers behind site {self.site_names[site]!r} read {names} as well: start from "
                "what clean_starts gives"
            )
        return values

    def _clean(
        self,
        be: Backend,
        params: tuple[Any, ...],
        states: tuple[Any, ...],
        x: Array,
        keep: bool,
        seen: Callable[[int, Mapping[int, Array]], Any],
    ) -> tuple[list[Any], NetworkCache]:
        values = {0: x}
        found, caches = [seen(INPUT_SITE, values)], []
        stages = self.stages(be, False, frozenset(range(len(self.site_names))))
        with single_threaded_blas():
            for stage in stages:
                of_node = params[stage.node], stage.given(values), states[stage.node]
                values[stage.value], cache, _ = stage.layer.forward(be, *of_node)
                caches.append(cache if keep else None)
                if stage.site is not None:
                    found.append(seen(stage.site, values))
                for value in stage.ends:
                    del values[value]
        return found, NetworkCache(stages, tuple(caches), (None,) * (len(stages) + 1))

    def backward(
        self,
        be: Backend,
        dlogits: Array,
        cache: NetworkCache,
        need_dx: bool = False,
        watch: Watch | None = None,
    ) -> tuple[Array | None, tuple[Any, ...]]:
        """Return (dx or None, gradients in the structure of the parameters).

        The gradient of a value that several nodes read is the sum of theirs. `watch` sees the gradient
        (P, …, B) for the activation at each site before its noise, from the last site to the input, which
        needs `need_dx`. Sites within a fused layer are not seen.
        """
        gradients: dict[int, Array] = {len(self.nodes): dlogits}
        grads: list[Any] = [()] * len(self.nodes)
        backwards = map(reversed, (cache.stages, cache.layers, cache.noise[1:]))
        with single_threaded_blas():
            for stage, kept, noise in zip(*backwards, strict=True):
                if stage.value not in gradients:  # nothing before it has parameters
                    continue
                dy = _noise_backward(be, gradients.pop(stage.value), noise)
                if watch is not None and stage.site is not None:
                    watch(stage.site, dy)
                needed = need_dx or self._learns_before[stage.node]
                given = dy if self.edges.chain else stage.untouched(dy)  # others may have the same array
                dx, grads[stage.node] = stage.layer.backward(be, given, kept, needed)
                for source, part in zip(stage.sources, dx if stage.joins else (dx,), strict=True):
                    if part is not None and part.dtype != dlogits.dtype:
                        raise self._other_dtype(stage, "backward", part.dtype, dlogits.dtype)
                    if needed:
                        gradients[source] = added(be, gradients.get(source), part)
            if not need_dx:
                return None, tuple(grads)
            dx = _noise_backward(be, gradients[0], cache.noise[0])
            if watch is not None:
                watch(INPUT_SITE, dx)
            return dx, tuple(grads)

    @cached_property
    def _learns_before(self) -> tuple[bool, ...]:
        """For each node, whether any that its inputs depend on has parameters."""
        learns = [False]  # by value, itself included
        for node, sources in zip(self.nodes, self.edges.sources, strict=True):
            learns.append(node.layer.learns or any(learns[source] for source in sources))
        return tuple(any(learns[source] for source in sources) for sources in self.edges.sources)

    def _forward(
        self,
        be: Backend,
        params: tuple[Any, ...],
        states: tuple[Any, ...],
        x: Start,
        conditions: Conditions,
        first_site: int,
        keep: bool,
    ) -> tuple[Array, NetworkCache, tuple[Any, ...]]:
        stages = self.stages(be, conditions.training, conditions.noisy_sites(), first_site)
        values, first = self._values(x, first_site), self.site_depths[first_site]
        dtype, new_states, caches = values[first].dtype, list(states), []
        # Who reads the logits checks that they are finite.
        with single_threaded_blas(), np.errstate(over="ignore", invalid="ignore"):
            values[first], noise = _noise_forward(be, values[first], conditions, first_site, keep)
            noises = [noise]
            for stage in stages:
                of_node = params[stage.node], stage.given(values), states[stage.node]
                done = stage.layer.forward(be, *of_node, *stage.drawn(conditions))
                y, cache, new_states[stage.node] = done
                if y.dtype != dtype:
                    raise self._other_dtype(stage, "forward", y.dtype, dtype)
                values[stage.value], noise = _noise_forward(be, y, conditions, stage.site, keep)
                caches.append(cache if keep else None)
                noises.append(noise if keep else None)
                for value in stage.ends:
                    del values[value]
        logits = values[len(self.nodes)]
        return logits, NetworkCache(stages, tuple(caches), tuple(noises)), tuple(new_states)

    def stages(
        self, be: Backend, training: bool, noisy: frozenset[int], first_site: int = INPUT_SITE
    ) -> tuple[Stage, ...]:
        """The layers behind a site as a backend runs them in a phase, with noise at some sites."""
        key = be.rewritten, training, noisy, first_site
        if key not in self._stages:
            self._stages[key] = prepared(self.nodes, self.edges, self.site_depths, *key)
        return self._stages[key]

    @cached_property
    def _stages(self) -> dict[tuple[Any, ...], tuple[Stage, ...]]:
        return {}

    def _other_dtype(self, stage: Stage, what: str, made: Any, dtype: Any) -> WnError:
        """The error of a layer that changes the dtype: a backend's loops are for arrays of one."""
        return WnError(
            f"layer {self.nodes[stage.node].name!r} of {self.name}: {what} makes {made} of {dtype}; it has "
            "to keep the dtype (a NumPy number of float64 makes float64 of float32, a Python number does not)"
        )


def _noise_forward(
    be: Backend, x: Array, conditions: Conditions, site: int | None, keep: bool
) -> tuple[Array, Any]:
    noise = None if site is None else conditions.noise.get(site)
    if site is None or noise is None or not noise.active(conditions.training):
        return x, None
    if conditions.watch is not None:
        conditions.watch(site, x)
    streams = noise_layer.draws(
        conditions.seeds, conditions.samples, conditions.epoch, site, conditions.training
    )
    return noise_layer.forward(be, noise, x, streams, keep)


def _noise_backward(be: Backend, dy: Array, cache: Any) -> Array:
    return dy if cache is None else noise_layer.backward(be, dy, cache)
