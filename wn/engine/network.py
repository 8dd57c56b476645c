"""A network: an ordered list of layers with named noise sites, forward and backward as a whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from wn.engine.backends.plain.base import Array, Backend
from wn.engine.backends.plain.windows import Pair
from wn.engine.backends.sealed import Sealed
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.layers import noise as noise_layer
from wn.engine.layers.base import Layer, Shape, declares
from wn.engine.layers.batch_norm import BatchNorm, forward_pooled
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu, ReluCache
from wn.engine.noise import Noise, SiteNoise
from wn.errors import WnError
from wn.random import REPETITION_BITS, SITE_BITS, Purpose, checked_integer

INPUT_SITE = 0
PART_BITS = 2 + REPETITION_BITS  # of the number of a parameter within its layer
MOST_LAYERS = 1 << SITE_BITS - 2  # whose initial values can be drawn: a layer has four sites

Watch = Callable[[int, Array], None]


class Step(NamedTuple):
    """A layer in its place: its name, and whether its output is a noise site."""

    name: str
    layer: Layer
    site: bool = True


class Pass(NamedTuple):
    """What a noisy forward pass needs besides its input: where draws come from, and the phase."""

    noise: SiteNoise
    seeds: tuple[int, ...]  # one for all members, or one per member
    samples: Array  # (B,) sample ids
    epoch: int  # epoch in training, evaluation id in inference
    training: bool
    watch: Watch | None = None  # sees the activation (P|1, …, B) at each noisy site, before its noise


class NetworkCache(NamedTuple):
    """What the backward pass needs, layer by layer, and the noise cache of each site (None: no noise)."""

    layers: tuple[Any, ...]
    noise: tuple[Any, ...]  # one per layer output; the input's comes first


@dataclass(frozen=True)
class Network:
    """Layers in order, for inputs of shape (C, H, W); the only place that knows noise sites.

    Site 0 is the input; the outputs of layers marked as sites follow in order. Raises WnError if a layer
    does not fit the shape that reaches it, naming the layer and both shapes.
    """

    name: str
    steps: tuple[Step, ...]
    input_shape: Shape
    recordable: ClassVar[bool] = True  # as layers have it: what the layers are does not count here

    def __post_init__(self) -> None:
        self.shapes()

    def shapes(self) -> list[Shape]:
        """Return the shape of one sample at the input and after each layer."""
        shapes = [tuple(self.input_shape)]
        for step in self.steps:
            try:
                shapes.append(step.layer.output_shape(shapes[-1]))
            except WnError as error:
                raise WnError(
                    f"{self.name}: layer {step.name!r} does not fit: its input has shape {shapes[-1]} "
                    f"(the network's input {self.input_shape}): {error}"
                ) from None
        return shapes

    @property
    def classes(self) -> int:
        """The number of logits K."""
        return self.shapes()[-1][0]

    @property
    def site_names(self) -> tuple[str, ...]:
        """The names of the noise sites; the index of a name is the index of its site."""
        return ("input", *(step.name for step in self.steps if step.site))

    @cached_property
    def site_steps(self) -> tuple[int, ...]:
        """For each site the number of layers before it."""
        return (0, *(index + 1 for index, step in enumerate(self.steps) if step.site))

    def site_shapes(self) -> list[Shape]:
        """Return the shape of one sample at each site."""
        shapes = self.shapes()
        return [shapes[index] for index in self.site_steps]

    def check_sites(self, sites: Sequence[int]) -> None:
        """Raise WnError unless every site exists."""
        for site in sites:
            if isinstance(site, bool) or not isinstance(site, int | np.integer):
                raise WnError(f"site {site!r}: a site is an integer in 0…{len(self.site_names) - 1}")
            if not 0 <= site < len(self.site_names):
                names = ", ".join(f"{i} {name}" for i, name in enumerate(self.site_names))
                raise WnError(f"{self.name} has no site {site}: allowed are {names}")

    # ---- parameters -------------------------------------------------------------------------------------

    def initial_parameters(self, be: Backend, seeds: Sequence[int], dtype: Any) -> tuple[Any, ...]:
        """Return fresh parameters, one member per seed: a tuple with each layer's NamedTuple or ()."""
        return tuple(
            step.layer.initial_parameters(be, shape, _Draw(be, seeds, dtype, index))
            for index, (step, shape) in enumerate(zip(self.steps, self.shapes(), strict=False))
        )

    def initial_states(self, be: Backend, population: int, dtype: Any) -> tuple[Any, ...]:
        """Return fresh states (running statistics), a tuple with each layer's state or ()."""
        shapes = self.shapes()
        return tuple(
            step.layer.initial_state(be, shape, population, dtype)
            for step, shape in zip(self.steps, shapes, strict=False)
        )

    def clampable(self, params: tuple[Any, ...]) -> list[Array]:
        """Weights `w` of linear and convolution layers, also of those within layers of one's own."""
        found = [params.w] if hasattr(params, "w") else []
        for part in params:
            if isinstance(part, tuple):
                found += self.clampable(part)
        return found

    # ---- forward and backward ---------------------------------------------------------------------------

    def forward(
        self, be: Backend, params: tuple[Any, ...], states: tuple[Any, ...], x: Array, run: Pass
    ) -> tuple[Array, NetworkCache, tuple[Any, ...]]:
        """Return logits (P, K, B), the cache for backward and the new states.

        x: (P|1, *input_shape, B). Noise is injected at the input and after every layer whose site has an
        active operator in `run.noise`.
        """
        return self._run(be, params, states, x, run, INPUT_SITE, keep=True)

    def forward_from_site(
        self, be: Backend, params: tuple[Any, ...], states: tuple[Any, ...], x: Array, run: Pass, site: int
    ) -> Array:
        """Return the logits from the clean activation x at `site`: its noise and the layers behind it.

        Nothing is kept for a backward pass, so this is the one to evaluate with. Raises WnError for a site
        that does not exist.
        """
        self.check_sites([site])
        return self._run(be, params, states, x, run, site, keep=False)[0]

    def clean_activations(
        self, be: Backend, params: tuple[Any, ...], states: tuple[Any, ...], x: Array
    ) -> list[Array]:
        """Return the activation at every site in inference without noise; the last are the logits."""
        activations = [x]
        with single_threaded_blas():
            for index, step in enumerate(self.steps):
                x, _, _ = step.layer.forward(be, params[index], self._given(index, x), states[index], False)
                if step.site:
                    activations.append(x)
        return activations

    def backward(
        self, be: Backend, dlogits: Array, cache: NetworkCache, need_dx: bool = False
    ) -> tuple[Array | None, tuple[Any, ...]]:
        """Return (dx or None, gradients in the structure of the parameters)."""
        with single_threaded_blas():
            return self._backward(be, dlogits, cache, need_dx)

    def _backward(
        self, be: Backend, dlogits: Array, cache: NetworkCache, need_dx: bool
    ) -> tuple[Array | None, tuple[Any, ...]]:
        dy: Array | None = dlogits
        grads: list[Any] = []
        masked = False
        first_learning = next((i for i, step in enumerate(self.steps) if step.layer.learns), 0)
        for index in reversed(range(len(self.steps))):
            dy = _noise_backward(be, dy, cache.noise[index + 1])
            if masked:  # the layer behind this ReLU has done its part
                masked = False
                grads.append(())
                continue
            needed = need_dx or index > first_learning
            layer = self.steps[index].layer
            masked = needed and self._masks_relu(index) and cache.noise[index] is None
            dy, layer_grads = layer.backward(be, dy, cache.layers[index], needed, relu=masked)
            if dy is not None and dy.dtype != dlogits.dtype:
                raise self._other_dtype(index, "backward", dy.dtype, dlogits.dtype)
            grads.append(layer_grads)
            if not needed:
                grads += [()] * index  # the layers before have no parameters
                return None, tuple(reversed(grads))
        return _noise_backward(be, dy, cache.noise[0]), tuple(reversed(grads))

    def _run(
        self,
        be: Backend,
        params: tuple[Any, ...],
        states: tuple[Any, ...],
        x: Array,
        run: Pass,
        first_site: int,
        keep: bool,
    ) -> tuple[Array, NetworkCache, tuple[Any, ...]]:
        start, dtype = self.site_steps[first_site], x.dtype
        site = first_site
        layer_caches, new_states, done = [], list(states), 0
        # Who reads the logits checks that they are finite.
        with single_threaded_blas(), np.errstate(over="ignore", invalid="ignore"):
            x, noise_cache = _noise_forward(be, x, run, site, keep)
            noise_caches = [noise_cache]
            for index in range(start, len(self.steps)):
                step = self.steps[index]
                window = None if keep or done else self._takes_pooling(index, site, run)
                if done:  # a layer before this one has done its part; if that is kept, this is a ReLU
                    done, layer_cache = done - 1, ReluCache(x)
                elif window is not None:
                    x, layer_cache = forward_pooled(be, params[index], states[index], x, window), None
                    done = 2
                else:
                    fused = self._takes_relu(index, site, run)
                    done = int(fused)
                    x, layer_cache, new_states[index] = step.layer.forward(
                        be, params[index], self._given(index, x), states[index], run.training, relu=fused
                    )
                    if x.dtype != dtype:
                        raise self._other_dtype(index, "forward", x.dtype, dtype)
                noise_cache = None
                if step.site:
                    site += 1
                    x, noise_cache = _noise_forward(be, x, run, site, keep)
                layer_caches.append(layer_cache if keep else None)
                noise_caches.append(noise_cache if keep else None)
        return x, NetworkCache(tuple(layer_caches), tuple(noise_caches)), tuple(new_states)

    def _other_dtype(self, index: int, what: str, made: Any, dtype: Any) -> WnError:
        """Return the error for a layer that changes the dtype: a backend's loops are for arrays of one."""
        return WnError(
            f"layer {self.steps[index].name!r} of {self.name}: {what} makes {made} of {dtype}; it has to "
            "keep the dtype (a NumPy number of float64 makes float64 of float32, a Python number does not)"
        )

    def _is_relu(self, index: int) -> bool:
        """Whether a layer is a ReLU and nothing else: a subclass may be a leaky one."""
        return 0 <= index < len(self.steps) and type(self.steps[index].layer) is Relu

    @cached_property
    def _fusing(self) -> tuple[tuple[bool, bool], ...]:
        """For each layer, whether it can do the ReLU behind it, and backwards the one before it."""
        layers = [step.layer for step in self.steps]
        return tuple((declares(layer, "relu_after"), declares(layer, "relu_before")) for layer in layers)

    @cached_property
    def _known(self) -> tuple[bool, ...]:
        """For each layer, whether it is known to write to no array that it is given."""
        return tuple(declares(step.layer, "recordable") for step in self.steps)

    def _given(self, index: int, x: Array) -> Array:
        """The input of a layer: a copy for one that may write to it, while others still need x as it is."""
        return x if self._known[index] or isinstance(x, Sealed) else x.copy()

    def _masks_relu(self, index: int) -> bool:
        """Whether the backward of a layer can include that of the ReLU before it."""
        return self._is_relu(index - 1) and self._fusing[index][1]

    def _takes_relu(self, index: int, site: int, run: Pass) -> bool:
        """Whether layer `index`, behind `site`, can do the ReLU after it too: no noise comes between."""
        if not (self._is_relu(index + 1) and self._fusing[index][0]):
            return False
        return not self.steps[index].site or _silent(run, site + 1)

    def _takes_pooling(self, index: int, site: int, run: Pass) -> Pair | None:
        """Return the window of the max pooling that batch norm `index` can do after its ReLU, if it can."""
        group = self.steps[index : index + 3]
        if run.training or len(group) < 3 or not self._takes_relu(index, site, run):
            return None
        norm, _, pooling = (step.layer for step in group)
        behind_relu = site + group[0].site + group[1].site
        if type(norm) is not BatchNorm or type(pooling) is not MaxPooling:
            return None
        return pooling.window if not group[1].site or _silent(run, behind_relu) else None


class _Draw:
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


def _silent(run: Pass, site: int) -> bool:
    """Whether no noise is active at a site."""
    noise = run.noise.get(site)
    return noise is None or not noise.active(run.training)


def _noise_forward(be: Backend, x: Array, run: Pass, site: int, keep: bool) -> tuple[Array, Any]:
    if _silent(run, site):
        return x, None
    noise: Noise = run.noise[site]
    if run.watch is not None:
        run.watch(site, x)
    streams = noise_layer.draws(run.seeds, run.samples, run.epoch, site, run.training)
    return noise_layer.forward(be, noise, x, streams, keep)


def _noise_backward(be: Backend, dy: Array, cache: Any) -> Array:
    return dy if cache is None else noise_layer.backward(be, dy, cache)
