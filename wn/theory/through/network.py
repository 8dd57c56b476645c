"""Mean and covariance of the logits of a network with noise at any of its sites. docs/theory/moments.md."""

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.network import INPUT_SITE, Network
from wn.engine.noise import SiteNoise
from wn.engine.optim import arrays
from wn.theory.through import layers
from wn.theory.through.forms import (
    LARGEST,
    Diagonal,
    Factored,
    Form,
    Full,
    certain,
    covariances,
    with_noise,
)

Floats = NDArray[np.float64]

FORMS = ("diagonal", "factored", "full")
ROOM = 1 << 28  # bytes of a batch's largest covariance or factor; larger batches go in parts


class LogitMoments(NamedTuple):
    """Mean (K, B) and covariance (K, K, B) of the logits."""

    mean: Floats
    covariance: Floats


def logit_moments(
    network: Network,
    params: tuple[Any, ...],
    states: tuple[Any, ...],
    x: Any,
    noise: SiteNoise,
    *,
    form: str = "full",
    site: int = INPUT_SITE,
    terms: int = layers.TERMS,
    rank: int = 32,
) -> LogitMoments:
    """Mean and covariance of the logits under noise at inference, by one sweep of moments through the layers.

    x: the clean activation at `site`, (C, H, W, B) for the input; params, states: those of one member, as the
    engine has them; noise: operators by site, of all kinds, at one or several sites, none before `site`.
    form: "diagonal" takes the elements of each activation for independent up to the last linear layer, and
    loses nearly all covariance; "factored" carries `rank` columns; "full" carries all covariances, through
    layers of at most 4096 features. In every form independent elements are carried as such as long as they
    are independent, a ReLU and the max pooling behind it are one step where no noise is between them, and the
    last linear layer is exact.
    Raises WnError for parameters of several members, an unknown form, noise before the site, and a layer that
    theory cannot go through, naming it. Derived in docs/theory/moments.md.
    """
    network.check_sites([site, *noise])
    active = {number: operator for number, operator in noise.items() if operator.active(False)}
    given = np.asarray(x, np.float64)
    _check(network, params, given, active, form, site)
    sweep = _Sweep(network, _float64(params), _float64(states), active, form, site, terms, rank)
    size = sweep.samples_at_once()
    parts = [sweep.run(given[..., start : start + size], start) for start in range(0, given.shape[-1], size)]
    return LogitMoments(*(np.concatenate(values, axis=-1) for values in zip(*parts, strict=True)))


@dataclass(frozen=True)
class _Sweep:
    """One sweep of moments; the fields are the arguments of `logit_moments`."""

    network: Network
    params: Any
    states: Any
    noise: SiteNoise
    form: str
    site: int
    terms: int
    rank: int

    def samples_at_once(self) -> int:
        """How many samples go at once, so that their covariances fit in `ROOM`."""
        sizes = [prod(shape) for shape in self.network.shapes()[self.network.site_depths[self.site] :]]
        largest = max((size for size in sizes if size <= LARGEST), default=1)
        numbers = {"full": largest**2, "factored": max(sizes) * self.rank}.get(self.form, max(sizes))
        return max(1, ROOM // (8 * numbers))

    def run(self, x: Floats, first: int) -> LogitMoments:
        """The sweep of a part of the batch, whose first sample has this place in it."""
        nodes, start = self.network.nodes, self.network.site_depths[self.site]
        sites = {depth: number for number, depth in enumerate(self.network.site_depths)}
        last = max((i for i, node in enumerate(nodes) if isinstance(node.layer, Linear)), default=-1)
        moments: Form = self._noisy(certain(x), self.site)
        low = None  # 0 where a ReLU waits for the max pooling behind it
        for index in range(start, len(nodes)):
            if self._joins_pooling(index, sites.get(index + 1)):
                low = 0.0
                continue
            try:
                moments = self._step(index, moments, low, index == last, first)
            except WnError as error:
                raise WnError(f"{self.network.name}: layer {nodes[index].name!r}: {error}") from None
            moments, low = self._noisy(moments, sites.get(index + 1)), None
        return LogitMoments(moments.mean, covariances(moments))

    def _joins_pooling(self, index: int, site: int | None) -> bool:
        """Whether the node is a ReLU before a max pooling, without noise between them."""
        kinds = [type(node.layer) for node in self.network.nodes[index : index + 2]]
        return kinds == [Relu, MaxPooling] and site not in self.noise

    def _step(self, index: int, moments: Form, low: float | None, last: bool, first: int) -> Form:
        layer, given = self.network.nodes[index].layer, (self.params[index], self.states[index])
        if isinstance(layer, MaxPooling):
            layers.known(layer)
            return layers.max_pooling(layer.sliding.size, moments, low)
        mixes = isinstance(layer, Linear | Convolution)  # the others leave what is independent so
        if mixes and last and not isinstance(moments, Full):
            return layers.correlated(layer, *given, moments)
        if mixes and isinstance(moments, Diagonal) and moments.variance.any():
            if self.form == "full":
                return layers.correlated(layer, *given, moments)
            if self.form == "factored":
                shape = (*moments.mean.shape[:-1], self.rank, moments.mean.shape[-1])
                moments = Factored(moments.mean, np.zeros(shape), moments.variance)
        return layers.through(layer, *given, moments, terms=self.terms, seed=index, first=first)

    def _noisy(self, moments: Form, site: int | None) -> Form:
        operator = None if site is None else self.noise.get(site)
        return moments if operator is None else with_noise(moments, operator)


def _check(network: Network, params: Any, x: Floats, active: SiteNoise, form: str, site: int) -> None:
    if form not in FORMS:
        raise WnError(f"unknown form {form!r} of covariance: allowed are {', '.join(FORMS)}")
    members = {len(array) for array in arrays(params)} - {1}
    if members:
        raise WnError(f"moments are of one network, and these parameters are of {max(members)}")
    shape = network.site_shapes()[site]
    if x.shape[:-1] != shape or x.ndim != len(shape) + 1:
        raise WnError(f"x is {x.shape}: at site {site} of {network.name} it is {(*shape, 'B')}")
    before = sorted(number for number in active if number < site)
    if before:
        raise WnError(f"noise at site {before[0]}, before site {site} whose activation is given")


def _float64(trees: Any) -> Any:
    """Parameters or states in float64, in their structures."""
    if isinstance(trees, tuple):
        parts = map(_float64, trees)
        return type(trees)(*parts) if hasattr(trees, "_fields") else tuple(parts)
    return np.asarray(trees, np.float64)
