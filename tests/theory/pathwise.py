"""Gradients of the expected loss: with the draws of forward in backward, with fresh ones, and by scores.

Used by tests and by tests/checks/identities.py.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference import naive_smoothing
from tests.engine.twin import random_network
from wn import random
from wn.engine import backends
from wn.engine import loss as losses
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.relu import Relu
from wn.engine.network import Conditions, Network, Node
from wn.engine.noise import Noise, additive, multiplicative
from wn.engine.optim import arrays, with_arrays
from wn.engine.training import Population
from wn.random import Purpose

Floats = NDArray[np.float64]
BE = backends.get("numpy")
KINDS = {"additive": additive(0.7), "multiplicative": multiplicative(0.7)}
TWO_INPUTS = Network(
    "two inputs",
    (
        Node("flatten", Flatten(), site=False),
        Node("fc1", Linear(5)),
        Node("relu1", Relu()),
        Node("logits", Linear(3)),
    ),
    (1, 1, 2),
)


class OneImage(NamedTuple):
    """A network (P = 1), an image (1, C, H, W, 1), its label, and noise at a site, in training."""

    network: Network
    population: Population
    x: Floats
    label: int
    site: int
    noise: Noise


def draws_of(case: OneImage, count: int, epoch: int) -> tuple[Any, Any, Any]:
    """The gradient of the mean loss of `count` draws for the logits, the cache of the pass, and that loss."""
    x = np.broadcast_to(case.x, (*case.x.shape[:-1], count))
    conditions = Conditions(
        {case.site: case.noise}, case.population.seeds, np.arange(count), epoch, training=True
    )
    params, states, _ = case.population
    logits, cache, _ = case.network.forward(BE, params, states, x, conditions)
    loss, loss_cache = losses.forward(BE, logits, np.full(count, case.label))
    return losses.backward(BE, loss_cache), cache, loss


def batch_gradients(case: OneImage, batches: int, count: int, fresh: bool) -> list[list[Floats]]:
    """Mean gradients of the parameters over `count` draws, `batches` times.

    fresh: the gradient of one pass's loss goes back through another pass, with draws of its own.
    """
    found = []
    for number in range(batches):
        dlogits, cache, _ = draws_of(case, count, 2 * number)
        if fresh:
            _, cache, _ = draws_of(case, count, 2 * number + 1)
        _, grads = case.network.backward(BE, dlogits, cache)
        found.append(arrays(grads))
    return found


def along(gradients: Sequence[Sequence[Floats]], direction: Sequence[Floats]) -> Floats:
    """Each gradient's product with a direction: (batches,)."""
    return np.array([sum(np.vdot(g, d) for g, d in zip(of, direction, strict=True)) for of in gradients])


def z_score(values: Floats, expected: float) -> float:
    """(mean − expected) / standard error."""
    return float((values.mean() - expected) / (values.std(ddof=1) / np.sqrt(len(values))))


def site_draws(case: OneImage, count: int, epoch: int) -> Floats:
    """The standard normal draws z of noise at the input, of one part: (C·H·W, count)."""
    purpose = Purpose.TRAIN_ADD if case.noise.has_offset else Purpose.TRAIN_MUL
    features, seed = case.x[0, ..., 0].size, case.population.seeds[0]
    z = random.standard_draws(np, seed, np.arange(count), features, epoch, purpose, case.site, 0)
    return np.asarray(z, np.float64).reshape(features, count)


def image_losses(case: OneImage, noisy: Floats) -> Floats:
    """The loss at noisy inputs (N, count) of the image: (count,)."""
    places = noisy.reshape(1, *case.x.shape[1:-1], -1)
    params, states, _ = case.population
    conditions = Conditions({}, case.population.seeds, np.arange(places.shape[-1]), 0, training=False)
    logits = case.network.forward_from_site(BE, params, states, places, conditions, 0)[0]
    top = logits.max(axis=0)
    return np.asarray(top + np.log(np.exp(logits - top).sum(axis=0)) - logits[case.label])


# ---- a case whose expectations a grid gives exactly -------------------------------------------------------


def small_case(kind: str) -> OneImage:
    """Noise of σ = 0.7 at an input of two numbers: expectations are integrals over a plane."""
    params, states = random_network(TWO_INPUTS, 1, 1)
    params = with_arrays(params, iter([array / 2 for array in arrays(params)]))  # no logit far ahead
    x = np.array([0.8, -1.1]).reshape(1, 1, 1, 2, 1)
    return OneImage(TWO_INPUTS, Population(params, states, (21,)), x, 1, 0, KINDS[kind])


def expected_loss(of: OneImage, params: Any) -> float:
    """E L by the grid, for any parameters."""
    other = of._replace(population=of.population._replace(params=params))
    x = of.x.reshape(-1)
    deviation = of.noise.sigma_add + of.noise.sigma_mul * np.abs(x)
    return naive_smoothing.expected(lambda places: image_losses(other, places), x, deviation)


def expected_slope(of: OneImage, direction: Sequence[Floats], h: float = 1e-3) -> float:
    """The slope of the expected loss along a direction of the parameters, by a central difference."""
    params = of.population.params
    values = [
        expected_loss(
            of,
            with_arrays(
                params, iter([a + s * h * d for a, d in zip(arrays(params), direction, strict=True)])
            ),
        )
        for s in (1, -1)
    ]
    return (values[0] - values[1]) / (2 * h)


def first_weights(of: OneImage) -> list[Floats]:
    """The direction in which the weights of the first layer grow, and nothing else."""
    first, *others = arrays(of.population.params)
    return [first, *(np.zeros_like(array) for array in others)]


def compared(batches: int, count: int) -> Iterator[dict[str, Any]]:
    """For each kind of noise the slope of the expected loss and the mean gradients, along those weights."""
    for kind in KINDS:
        of = small_case(kind)
        row = {"noise": kind, "slope": expected_slope(of, first_weights(of))}
        for name, fresh in (("shared", False), ("fresh", True)):
            values = along(batch_gradients(of, batches, count, fresh), first_weights(of))
            row |= {name: values.mean(), f"{name}_error": values.std(ddof=1) / np.sqrt(batches)}
        yield row
