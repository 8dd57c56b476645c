"""The layers behind a site, run on clean activations: what each sees, and gradients back to the site."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wn.basics.errors import WnError
from wn.engine import backends, optim
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.base import Layer, Runnable, joins
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.network import Network
from wn.engine.training import Population, check_population
from wn.theory.propagation import linear_variance

Floats = NDArray[np.float64]
Kind = Literal["additive", "multiplicative", "weights"]

AFFINE = (Linear, Convolution, BatchNorm, AveragePooling, Flatten)  # at inference
KINKED = (Relu, MaxPooling)
BE = backends.get("numpy")  # shares a cache with leading 1 by all rows of dy


class Step(NamedTuple):
    """A layer behind the site with what it saw: input x and output y, (1, …, B)."""

    layer: Layer
    run: Runnable
    x: Any  # of a join, which is never behind the site, a tuple
    y: Floats
    cache: Any

    def back(self, dy: Floats) -> Floats:
        """(R, …, B) → (R, …, B): R rows of gradients at once, side by side like a population."""
        dx, _ = self.run.backward(BE, dy, self.cache, True)
        return np.asarray(dx)


class Behind(NamedTuple):
    """One member's layers behind a site, with clean activations of B images in float64.

    at: (1, …, B), the activation at the site; variance: (1, …, B), of the noise per σ² there.
    """

    at: Floats
    variance: Floats
    steps: tuple[Step, ...]

    @property
    def logits(self) -> Floats:
        """(K, B)."""
        return np.asarray((self.steps[-1].y if self.steps else self.at)[0])

    def to_site(self, dy: Floats, depth: int | None = None) -> Floats:
        """The gradients at the site, times the noise's standard deviation per σ: (R, N, B).

        dy: (R, …, B), R gradients for the output of the first `depth` steps, by default of all.
        """
        for step in reversed(self.steps[:depth]):
            dy = step.back(dy)
        scaled = dy * np.sqrt(self.variance)
        return np.asarray(scaled.reshape(len(dy), -1, dy.shape[-1]))

    def gradients(self, dlogits: Floats) -> list[Floats]:
        """The gradient (1, …, B) for the output of each step; dlogits: (K, B)."""
        dy, found = dlogits[None], list[Floats]()
        for step in reversed(self.steps):
            found.insert(0, dy)
            dy = step.back(dy)
        return found


def behind(network: Network, member: Population, x: Floats, site: int, kind: Kind) -> Behind:
    """Run one member (P = 1) on x (1, C, H, W, B) at inference without noise; keep what is behind a site.

    kind: the variance of the noise per σ² is 1 for "additive" noise, h² for "multiplicative" noise of the
    activation h, and Σ_i w_oi² x_i² for multiplicative noise of the "weights" of the linear layer whose
    output the site is, drawn anew for each image. Raises WnError for other kinds, for weights at other sites,
    and for layers behind the site that join branches, or are neither affine nor have the kinks of ReLU and
    max pooling; what is before the site may be any graph.
    """
    depth = network.site_depths[site]
    _check_known(network, depth)
    values, steps = [x], list[Step]()  # by number, see `wn.engine.graph.edges`
    nodes = zip(network.nodes, network.edges.sources, member.params, member.states, strict=True)
    for node, sources, params, state in nodes:
        given: Any = tuple(values[source] for source in sources)
        given = given if joins(node.layer) else given[0]
        run = node.layer.for_phase(False)
        y, cache, _ = run.forward(BE, params, given, state)
        steps.append(Step(node.layer, run, given, y, cache))
        values.append(y)
    at = values[depth]
    return Behind(at, _variance(network, steps[:depth], at, site, kind), tuple(steps[depth:]))


def _check_known(network: Network, depth: int) -> None:
    """Raise WnError unless the nodes from `depth` on are one chain of layers whose kinks are known.

    Without a join among them they are one: what branches is read by a join.
    """
    for node in network.nodes[depth:]:
        if type(node.layer) not in (*AFFINE, *KINKED):
            what = "branches are joined there" if joins(node.layer) else "its kinks are not known"
            raise WnError(
                f"layer {node.name!r} of {network.name}: {what}; allowed behind the noise "
                f"are {', '.join(layer.__name__ for layer in (*AFFINE, *KINKED))}"
            )


def _variance(network: Network, before: list[Step], at: Floats, site: int, kind: Kind) -> Floats:
    if kind == "additive":
        return np.ones_like(at)
    if kind == "multiplicative":
        return at**2
    if kind != "weights":
        raise WnError(f"kind {kind!r}: allowed are {', '.join(get_args(Kind))}")
    if not before or type(before[-1].layer) is not Linear:
        raise WnError(
            f"site {site} {network.site_names[site]!r} of {network.name} is no linear layer's output"
        )
    return linear_variance(before[-1].cache.w, before[-1].x, before[-1].x ** 2).variance


def members_of(network: Network, population: Population, x: ArrayLike) -> Iterator[tuple[Population, Floats]]:
    """Yield each member as a population of one, in float64, with its images (1, C, H, W, B).

    x: (P|1, C, H, W, B). Raises WnError for a population of another network and images that do not fit.
    """
    check_population(BE, network, population)
    images, count = np.asarray(x, np.float64), len(population.seeds)
    if images.shape[1:-1] != tuple(network.input_shape) or len(images) not in (1, count):
        raise WnError(f"images are {images.shape}: {network.name} takes (1, *{network.input_shape}, B)")
    tree = (population.params, population.states)
    for p in range(count):
        of_member = (np.asarray(array[p : p + 1], np.float64) for array in optim.arrays(tree))
        params, states = optim.with_arrays(tree, of_member)
        yield Population(params, states, population.seeds[p : p + 1]), images[p % len(images)][None]
