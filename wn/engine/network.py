"""A network: an ordered list of layers with named noise sites, forward and backward as a whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from wn.basics.errors import WnError
from wn.basics.numbers import is_integer
from wn.engine.backends.plain.base import Array, Backend
from wn.engine.backends.sealed import Sealed
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.layers import noise as noise_layer
from wn.engine.layers.base import Layer, Runnable, Shape, declares, has_weights
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.noise import SiteNoise
from wn.random import REPETITION_BITS, SITE_BITS, Purpose, checked_integer

INPUT_SITE = 0
INPUT = "input"  # the name of what goes into the first node
PART_BITS = 2 + REPETITION_BITS  # of the number of a parameter within its layer
MOST_LAYERS = 1 << SITE_BITS - 2  # whose initial values can be drawn: a layer has four sites

Watch = Callable[[int, Array], None]
Rewritten = Callable[[Sequence[Runnable], Sequence[bool]], list[tuple[Runnable, int]]]  # of a backend


class Node(NamedTuple):
    """A layer in its place: its name, whether its output is a noise site, and whose output it takes."""

    name: str
    layer: Layer
    site: bool = True
    input: str = ""  # the name of a node or INPUT; "": the node before


class Placed(NamedTuple):
    """A node of a network with its input and output shape, of one sample."""

    name: str
    layer: Layer
    input_shape: Shape
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


class Stage(NamedTuple):
    """A layer as it is run in a phase: a node's own, or a fused one in place of several nodes."""

    layer: Runnable
    node: int  # the one whose parameters and state it has
    site: int | None  # at its output
    reads_only: bool  # whether it is known to write to no array that it is given

    def given(self, x: Array) -> Array:
        """Its input: a copy for a layer that may write to it, while others still need x as it is."""
        return x if self.reads_only or isinstance(x, Sealed) else x.copy()


class NetworkCache(NamedTuple):
    """The record for the backward pass: the stages, the cache of each and that of the noise behind it."""

    stages: tuple[Stage, ...]
    layers: tuple[Any, ...]
    noise: tuple[Any, ...]  # None: no noise; the input's comes first


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
        before = INPUT
        for node in self.nodes:
            if node.input not in ("", before):
                raise WnError(
                    f"{self.name}: layer {node.name!r} takes its input from {node.input!r}: "
                    f"allowed is {before!r}, the one before it"
                )
            before = node.name
        self.shapes()  # raises where a layer does not fit

    @cached_property
    def placed(self) -> tuple[Placed, ...]:
        """The nodes with their shapes."""
        found, shape = [], tuple(self.input_shape)
        for node in self.nodes:
            try:
                after = node.layer.output_shape(shape)
            except WnError as error:
                raise WnError(
                    f"{self.name}: layer {node.name!r} does not fit: its input has shape {shape} "
                    f"(the network's input {self.input_shape}): {error}"
                ) from None
            found.append(Placed(node.name, node.layer, shape, after))
            shape = after
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
            place.layer.initial_parameters(be, place.input_shape, _InitialDraws(be, seeds, dtype, index))
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
        x: Array,
        conditions: Conditions,
        site: int,
    ) -> Array:
        """Return the logits from the clean activation x at `site`: its noise and the layers behind it.

        Nothing is kept for a backward pass, so this is the one to evaluate with. Raises WnError for a site
        that does not exist.
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
        activations, caches = [x], []
        stages = self.stages(be, False, frozenset(range(len(self.site_names))))
        with single_threaded_blas():
            for stage in stages:
                x, cache, _ = stage.layer.forward(be, params[stage.node], stage.given(x), states[stage.node])
                caches.append(cache if keep else None)
                if stage.site is not None:
                    activations.append(x)
        return activations, NetworkCache(stages, tuple(caches), (None,) * (len(stages) + 1))

    def backward(
        self,
        be: Backend,
        dlogits: Array,
        cache: NetworkCache,
        need_dx: bool = False,
        watch: Watch | None = None,
    ) -> tuple[Array | None, tuple[Any, ...]]:
        """Return (dx or None, gradients in the structure of the parameters).

        `watch` sees the gradient (P, …, B) for the activation at each site before its noise, from the last
        site to the input, which needs `need_dx`. Sites within a fused layer are not seen.
        """
        dy: Array | None = dlogits
        grads: list[Any] = [()] * len(self.nodes)
        first_learning = next((i for i, node in enumerate(self.nodes) if node.layer.learns), 0)
        backwards = map(reversed, (cache.stages, cache.layers, cache.noise[1:]))
        with single_threaded_blas():
            for stage, kept, noise in zip(*backwards, strict=True):
                dy = _noise_backward(be, dy, noise)
                if watch is not None and stage.site is not None:
                    watch(stage.site, dy)
                needed = need_dx or stage.node > first_learning
                dy, grads[stage.node] = stage.layer.backward(be, dy, kept, needed)
                if dy is not None and dy.dtype != dlogits.dtype:
                    raise self._other_dtype(stage, "backward", dy.dtype, dlogits.dtype)
                if not needed:  # the layers before have no parameters
                    return None, tuple(grads)
            dx = _noise_backward(be, dy, cache.noise[0])
            if watch is not None:
                watch(INPUT_SITE, dx)
            return dx, tuple(grads)

    def _forward(
        self,
        be: Backend,
        params: tuple[Any, ...],
        states: tuple[Any, ...],
        x: Array,
        conditions: Conditions,
        first_site: int,
        keep: bool,
    ) -> tuple[Array, NetworkCache, tuple[Any, ...]]:
        stages = self.stages(be, conditions.training, conditions.noisy_sites(), first_site)
        dtype, new_states, caches = x.dtype, list(states), []
        # Who reads the logits checks that they are finite.
        with single_threaded_blas(), np.errstate(over="ignore", invalid="ignore"):
            x, noise = _noise_forward(be, x, conditions, first_site, keep)
            noises = [noise]
            for stage in stages:
                given, state = stage.given(x), states[stage.node]
                x, cache, new_states[stage.node] = stage.layer.forward(be, params[stage.node], given, state)
                if x.dtype != dtype:
                    raise self._other_dtype(stage, "forward", x.dtype, dtype)
                x, noise = _noise_forward(be, x, conditions, stage.site, keep)
                caches.append(cache if keep else None)
                noises.append(noise if keep else None)
        return x, NetworkCache(stages, tuple(caches), tuple(noises)), tuple(new_states)

    def stages(
        self, be: Backend, training: bool, noisy: frozenset[int], first_site: int = INPUT_SITE
    ) -> tuple[Stage, ...]:
        """The layers behind a site as a backend runs them in a phase, with noise at some sites."""
        key = be.rewritten, training, noisy, first_site
        if key not in self._stages:
            self._stages[key] = self._prepared(*key)
        return self._stages[key]

    @cached_property
    def _stages(self) -> dict[tuple[Any, ...], tuple[Stage, ...]]:
        return {}

    def _prepared(
        self, rewritten: Rewritten, training: bool, noisy: frozenset[int], first_site: int
    ) -> tuple[Stage, ...]:
        start = self.site_depths[first_site]
        sites = {count - 1: site for site, count in enumerate(self.site_depths)}  # by the node before them
        quiet = [sites.get(index) not in noisy for index in range(start, len(self.nodes))]
        layers = [node.layer.for_phase(training) for node in self.nodes[start:]]
        stages, index = [], start
        for layer, count in rewritten(layers, quiet):
            reads_only = count > 1 or declares(self.nodes[index].layer, "recordable")
            stages.append(Stage(layer, index, sites.get(index + count - 1), reads_only))
            index += count
        return tuple(stages)

    def _other_dtype(self, stage: Stage, what: str, made: Any, dtype: Any) -> WnError:
        """The error of a layer that changes the dtype: a backend's loops are for arrays of one."""
        return WnError(
            f"layer {self.nodes[stage.node].name!r} of {self.name}: {what} makes {made} of {dtype}; it has "
            "to keep the dtype (a NumPy number of float64 makes float64 of float32, a Python number does not)"
        )


class _InitialDraws:
    """Draws of a layer's initial parameters, see `DrawUniform`: every call has a stream of its own.

    Parameter `part` of layer `index` has site 4·index + part mod 4 and repetition ⌊part/4⌋; one that has been
    drawn before gets the last part that has not.
    """

    def __init__(self, be: Backend, seeds: Sequence[int], dtype: Any, index: int) -> None:
        self.be, self.seeds, self.dtype, self.index = be, seeds, dtype, index
        self.drawn: set[int] = set()
        self.last = (1 << PART_BITS) - 1  # for parts that have been drawn before

    def __call__(self, part: int, shape: Shape, bound: float) -> Array:
        """Draw U(−bound, bound) for each seed: (P, *shape)."""
        part = checked_integer("the part of a layer whose initial values are drawn", part, PART_BITS)
        while part in self.drawn:
            part, self.last = self.last, self.last - 1
        if part < 0 or self.index >= MOST_LAYERS:
            raise WnError(
                f"initial values are drawn for {MOST_LAYERS} layers of {1 << PART_BITS} parameters at most"
            )
        self.drawn.add(part)
        site, repetition = 4 * self.index + part % 4, part // 4
        uniforms = self.be.uniforms(self.seeds, prod(shape), Purpose.INIT, site, repetition)
        values = (2 * uniforms - 1) * np.float32(bound)
        return self.be.asarray(values, self.dtype).reshape(len(self.seeds), *shape)


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
