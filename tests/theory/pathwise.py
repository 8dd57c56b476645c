"""Gradients of the expected loss: with the draws of forward in backward, with fresh ones, and by scores.

Used by tests and by tests/checks/identities.py.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn import random
from wn.engine import backends
from wn.engine import loss as losses
from wn.engine.network import Conditions, Network
from wn.engine.noise import Noise
from wn.engine.optim import arrays
from wn.engine.training import Population
from wn.random import Purpose

Floats = NDArray[np.float64]
BE = backends.get("numpy")


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
