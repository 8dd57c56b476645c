"""Binarisation measured: the activations of a trained network at a site, and accuracy with their pattern."""

from collections.abc import Callable, Iterator
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.analysis.binarisation import Binarisation, Sums, of_weights
from wn.engine import optim
from wn.engine.backends.plain.base import Array, Backend
from wn.engine.layers.noise import DrawKey, Draws
from wn.engine.network import Conditions
from wn.engine.noise import SiteNoise
from wn.engine.ranges import OutOfRange
from wn.engine.training import Population, count_correct, evaluation_batches
from wn.random import Purpose
from wn.walking.setup import Setup

COINS = 0xC0175  # the evaluation id of the random signs: draws of no other evaluation


class Binarised(NamedTuple):
    """The binarisation of a network's activations at a site, and accuracies under the network's own noise.

    pattern: accuracy with s·1[x ≠ 0] in place of x, where s² is the mean of x² over x ≠ 0: does the network
    compute with zeros and non-zeros alone? signs: accuracy with x·ε, ε = ±1 by a fair coin for each value:
    does it need their signs? NaN where logits leave the range of their type.
    """

    site: int
    binarisation: Binarisation
    pattern: float
    signs: float


def member_of(population: Population, p: int) -> Population:
    """One network of a population."""
    tree = (population.params, population.states)
    params, states = optim.with_arrays(tree, (array[p : p + 1] for array in optim.arrays(tree)))
    return Population(params, states, population.seeds[p : p + 1])


def of_site(be: Backend, setup: Setup, network: Population, site: int, noise: SiteNoise) -> Binarised:
    """Measure one trained network (P = 1) at a site on the test images, under noise at this site or none.

    The noise, one operator without values by member, is drawn as in an evaluation. Raises WnError for a site
    that does not exist.
    """
    setup.network.check_sites([site])
    units = _units(setup, site)
    sums, squares = Sums(units, setup.network.classes), 0.0
    for x, _conditions, labels in _batches(be, setup, network, {}):
        clean = setup.network.clean_activations(be, network.params, network.states, x)[site]
        values = be.to_numpy(clean)[0, ..., : len(labels)].reshape(units, -1)
        sums.add(values, labels)
        squares += float(np.einsum("fb,fb->", values, values, dtype=np.float64))
    found = sums.result()
    on = (1 - found.zeros) * units * len(setup.dataset.test)
    size = sqrt(squares / on) if on else 0.0

    def pattern(x: Array, _samples: Array) -> Array:
        return be.xp.where(x != 0, x.dtype.type(size), x.dtype.type(0))

    def signs(x: Array, samples: Array) -> Array:
        return be.xp.where(be.draw(_coins(network.seeds, samples, site, x.dtype), x) < 0, -x, x)

    accuracies = (_accuracy(be, setup, network, site, noise, change) for change in (pattern, signs))
    return Binarised(site, found, *accuracies)


def of_layers(be: Backend, setup: Setup, network: Population) -> dict[str, Binarisation]:
    """The binarisation of one network's weights (P = 1), by the name of the layer."""
    weights = setup.network.weights(network.params)
    return {name: of_weights(be.to_numpy(w)) for name, w in weights.items()}


def _units(setup: Setup, site: int) -> int:
    return int(np.prod(setup.network.site_shapes()[site]))


def _batches(
    be: Backend, setup: Setup, network: Population, noise: SiteNoise
) -> Iterator[tuple[Array, Conditions, NDArray[np.int64]]]:
    batch_size, dtype = setup.evaluation_batch, setup.dtype
    return evaluation_batches(be, setup.dataset, network.seeds, noise, 0, batch_size, dtype)


def _coins(seeds: tuple[int, ...], samples: Array, site: int, dtype: np.dtype) -> Draws:
    key = DrawKey(seeds, samples, COINS, Purpose.EVAL_MUL, site)
    return Draws(key, np.ones(1, dtype), np.zeros(1, dtype))


def _accuracy(
    be: Backend,
    setup: Setup,
    network: Population,
    site: int,
    noise: SiteNoise,
    change: Callable[[Array, Array], Array],
) -> float:
    """Accuracy with other activations at a site; NaN where a logit is not finite."""
    correct, (params, states, _) = 0, network
    try:
        for x, conditions, labels in _batches(be, setup, network, noise):
            start = setup.network.clean_starts(be, params, states, x)[site]
            changed = change(setup.network.activation(start, site), conditions.samples)
            start = setup.network.replaced(start, site, changed)
            logits = setup.network.forward_from_site(be, params, states, start, conditions, site)
            correct += int(count_correct(be, logits, labels)[0])
    except OutOfRange:
        return np.nan
    return correct / len(setup.dataset.test)
