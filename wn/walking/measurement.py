"""The measurement: accuracy at a place and several σ, of one network or of one for each σ.

σ are computed side by side, in parts where memory ends, and a σ whose numbers leave the range of their type
fails alone. No result depends on what is computed together.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wn.engine.backends.plain.base import Backend, Room
from wn.engine.graph.stages import Start
from wn.engine.halving import Fail, Keeper, Members, Work, alone, in_parts
from wn.engine.models import parameter_count
from wn.engine.network import Conditions, Network, Watch
from wn.engine.noise import SiteNoise
from wn.engine.training import (
    Monitor,
    Population,
    TrainingState,
    TrainSettings,
    count_correct,
    evaluate,
    evaluation_batches,
    train,
)
from wn.walking.observed.signal import SignalPower
from wn.walking.setup import Setup

ON_A_CPU = Room()

Floats = NDArray[np.float64]
Begin = Callable[[Members, TrainingState | None], TrainingState | None]


class Levels:
    """Noise levels σ (S,) at one place, and the right answers counted under each.

    correct: (S, G) right answers by group of test images, counted up in place. `noise` gives the operator of
    each site for some of the σ (P,). `fail` as in `wn.engine.halving.in_parts`. `power`, if given, takes the
    signal's power at the noisy sites.
    """

    def __init__(
        self,
        sigma: Floats,
        noise: Callable[[Floats], SiteNoise],
        correct: NDArray[np.int64],
        fail: Fail,
        power: SignalPower | None = None,
    ) -> None:
        self.sigma, self.correct, self.fail, self.power = sigma, correct, fail, power
        self.members: Members = tuple(range(len(sigma)))

        @cache
        def noise_of(members: Members) -> SiteNoise:
            return noise(sigma[list(members)])

        self.noise = noise_of  # made once: it holds what its layers need of it

    def watch(self) -> Callable[[int], Watch] | None:
        """The power's eyes on the batches of one attempt; those of an attempt that failed are forgotten."""
        return None if self.power is None else self.power.attempt()

    def count(self, members: Members, correct: NDArray[np.int64]) -> None:
        """Add the right answers (P, G) of the members of this attempt, and the power that it saw."""
        self.correct[list(members)] += correct
        if self.power is not None:
            self.power.keep(members)


def count_trained(
    be: Backend,
    setup: Setup,
    seed: int,
    levels: Levels,
    monitor: Monitor,
    begin: Begin | None = None,
) -> Iterator[tuple[Members, Population]]:
    """Train a network under the noise of each σ, and count its right answers under the same noise.

    Yields the members trained together, with their networks. `begin(members, state)` may have another state
    to go on from than the one that is there.
    """

    training = _training(be, setup, seed, levels, begin)

    def work(members: Members, keeper: Keeper, state: TrainingState | None) -> tuple[Members, Population]:
        _, population = training(members, keeper, state)
        correct = evaluate(
            be,
            setup.network,
            population,
            setup.dataset,
            noise=levels.noise(members),
            batch_size=setup.evaluation_batch,
            dtype=setup.dtype,
            monitor=keeper,
            by_group=True,
            watch=levels.watch(),
        )
        levels.count(members, correct)
        return members, population

    return in_parts(be, levels.members, monitor, work, levels.fail)


def trained_under(
    be: Backend,
    setup: Setup,
    seed: int,
    levels: Levels,
    monitor: Monitor,
    begin: Begin | None = None,
) -> Iterator[tuple[Members, Population]]:
    """Train a network under the noise of each σ, as `count_trained` does, and count nothing."""
    training = _training(be, setup, seed, levels, begin)
    return in_parts(be, levels.members, monitor, training, levels.fail)


def _training(
    be: Backend, setup: Setup, seed: int, levels: Levels, begin: Begin | None
) -> Work[tuple[Members, Population]]:
    """The training of some members side by side, each under the noise of its σ."""

    def work(members: Members, keeper: Keeper, state: TrainingState | None) -> tuple[Members, Population]:
        if begin is not None:
            state = keeper.state = begin(members, state)
        population = train(
            be,
            setup.network,
            setup.dataset,
            setup.train,
            seeds=(seed,) * len(members),
            noise=levels.noise(members),
            dtype=setup.dtype,
            monitor=keeper,
            start=state,
        )
        return members, population

    return work


@np.errstate(over="ignore", invalid="ignore")  # logits that are not finite are reported
def count_at_inference(
    be: Backend,
    setup: Setup,
    population: Population,
    places: Sequence[Levels],
    at_once: int,
    monitor: Monitor,
) -> None:
    """Count the right answers of one network, however it was trained, under noise at each place and σ.

    Its activations without noise are computed once per batch: each σ starts from the one at its first noisy
    site. At most `at_once` σ are side by side. `monitor` is told of a step after each batch and place.
    """
    parts = [[levels.members] for levels in places]
    batches = evaluation_batches(
        be, setup.dataset, population.seeds, {}, 0, setup.evaluation_batch, setup.dtype
    )
    for x, conditions, labels in batches:
        with alone():
            clean = setup.network.clean_starts(be, population.params, population.states, x)
        for place, levels in enumerate(places):
            batch = partial(_hits, be, setup, population, levels, clean, conditions, labels)
            done: list[Members] = []
            for part in (some for whole in parts[place] for some in even_parts(whole, at_once)):
                pieces: list[Members] = []
                for members, hits in in_parts(be, part, Monitor(), batch, levels.fail):
                    levels.count(members, hits)
                    pieces.append(members)
                if len(pieces) > 1:  # for the places and batches to come as well
                    at_once = max(map(len, pieces))
                done += pieces
            parts[place] = done
            monitor.step()


def _hits(
    be: Backend,
    setup: Setup,
    population: Population,
    levels: Levels,
    clean: Sequence[Start],
    conditions: Conditions,
    labels: NDArray[np.int64],
    members: Members,
    *_: object,
) -> tuple[Members, NDArray[np.int64]]:
    """Right answers (P, G) to one batch under the noise of some members."""
    noise, watch = levels.noise(members), levels.watch()
    noisy = conditions._replace(noise=noise, watch=None if watch is None else watch(len(labels)))
    first = min(noise)
    logits = setup.network.forward_from_site(
        be, population.params, population.states, clean[first], noisy, first
    )
    return members, count_correct(be, logits, labels, setup.groups)


def even_parts(members: Members, at_once: int) -> list[Members]:
    """Members in parts of at most `at_once` each, as even as can be."""
    if len(members) <= at_once:
        return [members]
    edges = np.linspace(0, len(members), -(-len(members) // at_once) + 1).round().astype(int)
    return [members[a:b] for a, b in pairwise(edges.tolist())]


def members_at_once(network: Network, train: TrainSettings, dtype: DTypeLike, room: Room = ON_A_CPU) -> int:
    """The members of one job, by the room of its backend, a CPU by default.

    A member holds each activation and its gradient for a batch, and each parameter with its gradient and two
    moments. Results do not depend on this number.
    """
    activations = 2 * sum(prod(shape) for shape in network.shapes()) * train.batch_size
    parameters = 4 * parameter_count(network)
    bytes_per_member = (activations + parameters) * np.dtype(dtype).itemsize
    return int(min(max(room.job_bytes // bytes_per_member, 1), room.members))
