"""How noisy a gradient is that is trained with: its mean, and its variance over images and over draws.

A gradient g of a batch varies with the images in it and with the draws of the noise. By the law of total
variance its variance has two parts,

    tr Var g = tr Var(E[g | images]) + E tr Var(g | images),

and pairs of gradients of the same images with different draws tell them apart. Derived in
docs/theory/identities.md.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.basics.numbers import checked_whole
from wn.engine.backends.plain.base import Array, Backend
from wn.engine.network import Conditions, Network
from wn.engine.noise import SiteNoise
from wn.engine.optim import arrays
from wn.engine.training import Population, check_noise, check_population, loss_and_gradients

Floats = NDArray[np.float64]


class GradientNoise(NamedTuple):
    """Signal and noise of a batch's gradient, of all parameters together: arrays (P,).

    signal: ‖E g‖²; images: tr Var(E[g | images]); draws: E tr Var(g | images). Unbiased, so that an estimate
    of something small can fall below 0.
    """

    signal: Floats
    images: Floats
    draws: Floats

    @property
    def ratio(self) -> Floats:
        """‖E g‖² / tr Var g, (P,): grows in proportion to the batch size. inf without any variance."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.signal / (self.images + self.draws))


class GradientPairs:
    """Sums over pairs of gradients: of the same images, with different draws. P members at once."""

    def __init__(self) -> None:
        self.pairs = 0
        self.middle: list[Floats] = []
        self.squares: Floats | float = 0.0
        self.differences: Floats | float = 0.0

    def add(self, first: list[Floats], second: list[Floats]) -> None:
        """Take in a pair: arrays (P, …) of the parameters, alike in both."""
        middle = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
        halves = [(a - b) / 2 for a, b in zip(first, second, strict=True)]
        self.middle = [s + m for s, m in zip(self.middle, middle, strict=True)] if self.pairs else middle
        self.squares = self.squares + _square(middle)
        self.differences = self.differences + _square(halves)
        self.pairs += 1

    def result(self) -> GradientNoise:
        """Signal and noise of one gradient, from at least 2 pairs, else WnError.

        With m = (g₁ + g₂)/2 and d = (g₁ − g₂)/2 of n pairs: E‖d‖² = draws/2, tr Var m = images + draws/2 and
        ‖mean of m‖² = signal + tr Var(m)/n in the mean.
        """
        if self.pairs < 2:
            raise WnError(f"{self.pairs} pairs of gradients: at least 2 are needed for a variance")
        n = self.pairs
        half_draws = self.differences / n
        of_mean = _square(self.middle) / n**2
        of_middle = (self.squares - n * of_mean) / (n - 1)
        signal, images = of_mean - of_middle / n, of_middle - half_draws
        return GradientNoise(signal, images, np.asarray(2 * half_draws))


def gradient_noise(
    be: Backend,
    network: Network,
    population: Population,
    x: Array,
    labels: Array,
    noise: SiteNoise,
    *,
    batch_size: int = 128,
    pairs: int = 100,
    seed: int = 0,
) -> GradientNoise:
    """Measure signal and noise of the gradients that a training under noise would see with these parameters.

    For each pair a batch is drawn from the images, with replacement, by NumPy's generator with `seed`; its
    two gradients differ in the draws of the noise. Both are of the phase of training, with batch norm too:
    images of a batch depend on each other there, and the ratio is only nearly proportional to its size.
    x: (1, C, H, W, N), as the network takes it; labels: (N,). Raises WnError for sites, noise and populations
    that do not fit, a batch size below 1 and fewer than 2 pairs. Derived in docs/theory/identities.md.
    """
    batch_size = checked_whole("the batch size", batch_size, at_least=1)
    pairs = checked_whole("the number of pairs", pairs, at_least=2)
    check_population(be, network, population)
    check_noise(network, noise, len(population.seeds))
    rng, sums = np.random.default_rng(seed), GradientPairs()
    for number in range(pairs):
        chosen = rng.integers(0, x.shape[-1], batch_size)
        ids = be.asarray(np.arange(number * batch_size, (number + 1) * batch_size, dtype=np.uint32))
        batch, of_batch = x[..., chosen], labels[chosen]

        def gradient(draw: int, batch: Any = batch, of_batch: Any = of_batch, ids: Any = ids) -> list[Floats]:
            conditions = Conditions(noise, population.seeds, ids, draw, training=True)
            params, states, _ = population
            _, grads, _ = loss_and_gradients(be, network, params, states, batch, of_batch, conditions)
            return [np.asarray(be.to_numpy(array), np.float64) for array in arrays(grads)]

        sums.add(gradient(0), gradient(1))
    return sums.result()


def _square(parts: list[Floats]) -> Floats:
    """‖·‖² of each member over all parameters: (P,)."""
    total: Floats = sum((np.square(part).reshape(len(part), -1).sum(axis=1) for part in parts), np.zeros(1))
    return total
