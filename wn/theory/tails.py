"""Exact accuracy under noise with nothing but affine layers behind it. Derived in docs/theory/tails.md.

Normal noise on a given activation is Gaussian, and so is an affine map of it. So logits are jointly
Gaussian, and the probability that the label's is the largest is an integral (`wn.theory.argmax`): at the last
ReLU and at the logits of networks of any depth. No draw plays a part: it tests the engine from end to end.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wn.basics.errors import WnError
from wn.data.dataset import Dataset
from wn.engine import backends
from wn.engine.backends.plain.base import Backend
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.base import joins
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.network import Conditions, Network, Node
from wn.engine.noise import FloatOrMembers, Noise
from wn.engine.ranges import checked_dtype
from wn.engine.training import (
    EVALUATION_BATCH,
    Population,
    check_data,
    check_noise,
    check_population,
    evaluation_batches,
)
from wn.theory.argmax import POINTS, SHIFTS, gaussian_argmax
from wn.theory.moments import output_moments

Floats = NDArray[np.float64]

AFFINE = (Linear, Convolution, Flatten, AveragePooling, BatchNorm)  # BatchNorm: at inference
AT_ONCE = 1024  # images, or unit vectors, whose arrays are in memory together


class ExactAccuracy(NamedTuple):
    """Accuracy of each member, (P,) each: expected, its variance over draws, and the integral's error.

    accuracy: Σ_b P_b / B, the mean over draws; variance: of the accuracy that one evaluation of the B images
    finds, Σ_b P_b(1 − P_b) / B², draws being independent between images; error: the standard error of
    `accuracy`, an integral at random points.
    """

    accuracy: Floats
    variance: Floats
    error: Floats


class AffineTail(NamedTuple):
    """The affine layers behind a site: logits = weight · x + bias. weight: (P, K, N); bias: (P, K)."""

    weight: Floats
    bias: Floats


def exact_sites(network: Network, noise: Noise) -> tuple[int, ...]:
    """The sites at which `exact_accuracy` takes this noise: () for noise that is not Gaussian given x."""
    if _not_gaussian(noise):
        return ()
    return tuple(site for site in range(len(network.site_names)) if _curved(network, site) is None)


def check_exact(network: Network, site: int, noise: Noise) -> None:
    """Raise WnError unless logits under this noise at the site are Gaussian: it says what is in the way.

    Layers behind the site have to be affine (linear, convolution, flatten, average pooling, batch norm), and
    draws normal and not multiplied with each other, as they are in (x + D)·M.
    """
    network.check_sites([site])
    reason, node = _not_gaussian(noise), _curved(network, site)
    if reason:
        raise WnError(f"no exact accuracy: {reason}")
    if node is not None:
        what = "joins branches" if joins(node.layer) else "is not affine"
        exact = ", ".join(network.site_names[found] for found in exact_sites(network, noise))
        raise WnError(
            f"no exact accuracy at site {site} {network.site_names[site]} of {network.name}: behind it "
            f"layer {node.name!r} ({type(node.layer).__name__}) {what}; exact sites are {exact}"
        )


def exact_accuracy(
    be: Backend,
    network: Network,
    population: Population,
    dataset: Dataset,
    site: int,
    noise: Noise,
    *,
    points: int = POINTS,
    shifts: int = SHIFTS,
    seed: int = 0,
    batch_size: int = EVALUATION_BATCH,
    dtype: DTypeLike = np.float32,
) -> ExactAccuracy:
    """Accuracy on the test images under noise at a site with nothing but affine layers behind it.

    Given the clean activation x, y has independent Gaussian elements with the moments of `output_moments`, so
    logits W y + c are Gaussian with mean W E[y] + c and covariance W diag(Var y) Wᵀ.
    noise: one operator, or values (P,) for each member, or P values for one network, as in `evaluate`; where
    it is off in inference it changes nothing. x comes from `be` in `dtype` (float32 or float64), all else is
    float64. `points`, `shifts` and `seed` are those of `gaussian_argmax`; all members have the same shifts.
    Raises WnError as `check_exact` does, and where data, network, noise and population do not fit.
    """
    check_exact(network, site, noise)
    check_data(network, dataset)
    check_population(be, network, population)
    dtype = checked_dtype(dtype)
    members = max(len(population.seeds), noise.members())
    check_noise(network, {site: noise}, members if len(population.seeds) == 1 else len(population.seeds))
    x = _activations(be, network, population, dataset, site, batch_size, dtype)  # (P|1, N, B)
    tail = affine_tail(be, network, population, site)
    labels = np.asarray(dataset.test.labels)
    found = np.empty((3, members))
    for p in range(members):
        operator = _of_member(noise, p, x.shape[1])
        own = x[p % len(x)], tail.weight[p % len(tail.weight)], tail.bias[p % len(tail.bias)]
        found[:, p] = _accuracy(*own, operator, labels, points, shifts, seed)
    return ExactAccuracy(*found)


def affine_tail(be: Backend, network: Network, population: Population, site: int) -> AffineTail:
    """Weights and biases of the affine layers behind a site, flattened: found by the engine's own forward.

    c = f(0) and column i of W is f(e_i) − f(0), in float64. be: the backend that has the population's arrays.
    Raises WnError if a layer behind the site is not affine.
    """
    check_exact(network, site, Noise())
    numpy = backends.get("numpy")
    params, states = (_in_float64(be, trees) for trees in (population.params, population.states))
    shape = network.site_shapes()[site]
    size = prod(shape)

    def logits(x: Floats) -> Floats:
        samples = np.arange(x.shape[1], dtype=np.uint32)
        conditions = Conditions({}, population.seeds, samples, 0, training=False)
        images = x.reshape(1, *shape, x.shape[1])
        found: Floats = network.forward_from_site(numpy, params, states, images, conditions, site)
        return found

    bias = logits(np.zeros((size, 1)))  # (P, K, 1)
    starts = range(0, size, AT_ONCE)
    columns = [logits(np.eye(size, min(AT_ONCE, size - k), -k)) - bias for k in starts]
    return AffineTail(np.concatenate(columns, axis=2), bias[:, :, 0])


def _accuracy(
    x: Floats,
    weight: Floats,
    bias: Floats,
    operator: Noise,
    labels: NDArray[np.int64],
    points: int,
    shifts: int,
    seed: int,
) -> tuple[float, float, float]:
    """Accuracy, variance and error of one member; x: (N, B), weight: (K, N)."""
    rng, sums, pairs = np.random.default_rng(seed), np.zeros(3), _pairs(weight)
    for part in _parts(len(labels)):
        y = output_moments(x[:, part].astype(np.float64), operator)
        mean = weight @ y.mean + bias[:, None]  # (K, B)
        covariance = (pairs @ y.variance).reshape(len(weight), *mean.shape)  # (K, K, B)
        p = gaussian_argmax(mean, covariance, labels[part], points=points, shifts=shifts, seed=rng)
        sums += p.probability.sum(), p.count_variance, (p.error**2).sum()
    count = len(labels)
    return sums[0] / count, sums[1] / count**2, np.sqrt(sums[2]) / count


def _pairs(weight: Floats) -> Floats:
    """Products of the weights of two logits, (K², N), with which Cov = Σ_i W_ki W_li Var y_i is a product."""
    return (weight[:, None] * weight).reshape(-1, weight.shape[1])


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + AT_ONCE) for start in range(0, count, AT_ONCE))


def _activations(
    be: Backend,
    network: Network,
    population: Population,
    dataset: Dataset,
    site: int,
    batch_size: int,
    dtype: DTypeLike,
) -> NDArray[Any]:
    """Clean activations of all test images at a site, flattened: (P|1, N, B)."""
    params, states, seeds = population
    found = []
    for x, _, labels in evaluation_batches(be, dataset, seeds, {}, 0, batch_size, dtype):
        clean = be.to_numpy(network.clean_activations(be, params, states, x)[site])
        found.append(clean.reshape(len(clean), -1, clean.shape[-1])[:, :, : len(labels)])
    return np.concatenate(found, axis=2)


def _in_float64(be: Backend, trees: Any) -> Any:
    """The arrays of a tree on the host, in float64."""
    if not isinstance(trees, tuple):
        return np.asarray(be.to_numpy(trees), np.float64)
    parts = [_in_float64(be, part) for part in trees]
    return type(trees)(*parts) if hasattr(trees, "_fields") else tuple(parts)


def _of_member(noise: Noise, member: int, elements: int) -> Noise:
    """The operator of one member at a site of N elements; that of no noise where it is off in inference."""
    if not noise.active(training=False):
        return Noise()

    def own(values: FloatOrMembers) -> float:
        return float(np.atleast_1d(values)[member % np.size(values)])

    single = replace(
        noise,
        sigma_mul=own(noise.sigma_mul),
        mean_mul=own(noise.mean_mul),
        sigma_add=own(noise.sigma_add),
        mean_add=own(noise.mean_add),
    )
    return single.for_elements(elements)


def _not_gaussian(noise: Noise) -> str:
    """Why the noise is not Gaussian on a given x, "" if it is."""
    if not noise.active(training=False):
        return ""
    if noise.distribution != "normal":
        return f"draws are {noise.distribution}, of which sums are no closed form; normal ones are exact"
    both = np.logical_and(np.asarray(noise.sigma_mul) > 0, np.asarray(noise.sigma_add) > 0)
    if noise.order == "add_mul" and both.any():
        return "order add_mul multiplies two draws, (x + D)·M, which is not Gaussian; order mul_add is exact"
    return ""


def _curved(network: Network, site: int) -> Node | None:
    """The first layer behind a site that is not affine, or is not known to be."""
    behind = network.nodes[network.site_depths[site] :]
    return next((node for node in behind if type(node.layer) not in AFFINE), None)
