"""A walk: noise at one place of a network after the other, at every σ, in training and at inference."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from wn.analysis.weights import STATISTICS
from wn.basics.errors import WnError
from wn.basics.groups import totals
from wn.engine import backends
from wn.engine.backends.plain.base import Backend
from wn.engine.halving import Fail, Members
from wn.engine.noise import FloatOrMembers, Noise
from wn.engine.ranges import OutOfRange
from wn.engine.training import Monitor, Population, evaluate
from wn.fit.intervals import Counts, fit_curve
from wn.fit.midpoint import Midpoint
from wn.random import member_seed
from wn.theory.curves.predict import predict
from wn.walking.jobs import Job
from wn.walking.measurement import (
    ON_A_CPU,
    Floats,
    Levels,
    count_at_inference,
    count_trained,
    even_parts,
)
from wn.walking.observed.binarised import member_of
from wn.walking.observed.signal import SignalPower
from wn.walking.observed.weights import WeightRecorder
from wn.walking.places import INFERENCE, TRAINING, Place
from wn.walking.predicted.curves import Key, Predicted, PredictedCurve
from wn.walking.setup import Setup

# Members side by side at inference, for each that is trained: no activation is kept for a backward pass
EVALUATED_PER_TRAINED = 2

SitePower = tuple[tuple[int, float], ...]  # pairs (site, power)
Point = tuple[int, int, int, int]  # phase, place, repeat and σ, by their numbers in a walk


@dataclass(eq=False)
class Walk:
    """Phases × places × repeats × S noise levels, and the counts of its jobs.

    correct (phases, places, repeats, S, G): right answers by group of test images (`wn.basics.groups`); clean
    (repeats, G): those of the networks trained without noise. `failures` and `clean_failures` say why points
    and clean networks (by repeat) have no result: their numbers left the range of the type. At most `members`
    networks are trained side by side. With `saved` networks nothing is trained: repeat r walks through member
    r mod P, with the noise of its own seed.

    weights (places, repeats, S, E, L, 4) and clean_weights (repeats, E, L, 4): statistics of the weights of
    L layers after each of E epochs (`wn.analysis.weights`), NaN where there are none. power: the signal's at
    the noisy sites, by phase, place, repeat and σ as `failures` are, in pairs (site, power).

    `predict`: the number of test images from which every curve is predicted too (`predicted`), 0 for none.
    `seconds`: the time of counting at inference, by repeat.
    """

    setup: Setup
    operator: Callable[[FloatOrMembers], Noise]  # at a strength σ
    places: tuple[Place, ...]
    phases: tuple[str, ...]
    sigma: Floats
    repeats: int = 1
    seed: int = 0
    members: int = ON_A_CPU.members
    saved: Population | None = None
    predict: int = 0
    correct: NDArray[np.int64] = field(init=False)
    clean: NDArray[np.int64] = field(init=False)
    failures: dict[Point, str] = field(init=False, default_factory=dict)
    clean_failures: dict[int, str] = field(init=False, default_factory=dict)
    weights: Floats = field(init=False)
    clean_weights: Floats = field(init=False)
    power: dict[Point, SitePower] = field(init=False, default_factory=dict)
    predictions: dict[Key, PredictedCurve] = field(init=False, default_factory=dict)
    seconds: dict[int, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        axes = (len(self.phases), len(self.places), self.repeats, len(self.sigma), self.setup.groups)
        self.correct = np.zeros(axes, np.int64)
        self.clean = np.zeros((self.repeats, self.setup.groups), np.int64)
        of_network = (self.setup.train.epochs, len(self.layers), len(STATISTICS))
        trained = axes[1:-1] if TRAINING in self.phases else (0, *axes[2:-1])
        self.weights = np.full((*trained, *of_network), np.nan)
        self.clean_weights = np.full((self.repeats, *of_network), np.nan)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers with weights."""
        network = self.setup.network
        return tuple(network.weights(network.template(backends.get("numpy"))[0]))

    # ---- work -------------------------------------------------------------------------------------------

    def jobs(self) -> list[tuple[int, Job]]:
        """Independent jobs, each with the number of networks that it trains: (networks, job).

        A job is a clean network with its walk at inference, or a population trained under noise at one place.
        Saved networks count as trained in one epoch.
        """
        self.setup.dataset.check_alike()
        if self.saved is not None:
            return [(1, self._saved_job(self.saved, repeat)) for repeat in range(self.repeats)]
        cut: list[tuple[int, Job]] = []
        parts = even_parts(tuple(range(len(self.sigma))), self.members)
        for repeat in range(self.repeats):
            if TRAINING in self.phases:
                for place in range(len(self.places)):
                    cut += [(len(part), self._noisy_job(place, repeat, part)) for part in parts]
            cut.append((1, self._clean_job(repeat)))
        return cut

    def _noisy_job(self, place: int, repeat: int, part: Members) -> Job:
        """Train and evaluate a network per σ of a part, under noise at one place."""

        def job(be: Backend, monitor: Monitor) -> None:
            some = slice(part[0], part[-1] + 1)
            power = SignalPower(be, len(part))
            levels = self._levels(TRAINING, place, repeat, power, some)
            recorder = WeightRecorder(be, self.setup.train.epochs, len(part), monitor)
            seed = member_seed(self.seed, repeat)
            curve = (self.phases.index(TRAINING), place, repeat)
            # no network is kept while others are trained
            for members, population in count_trained(be, self.setup, seed, levels, recorder, recorder.begin):
                for p, member in enumerate(members):
                    one = slice(some.start + member, some.start + member + 1)
                    self._predict(be, population, p, curve, one)
            if recorder.weights.size:
                self.weights[place, repeat, some] = np.moveaxis(recorder.weights, 0, 1)
            self._keep_power(power, levels.members, curve, some.start)

        return job

    def _clean_job(self, repeat: int) -> Job:
        """Train one network without noise; evaluate it clean and, if asked for, under noise at inference."""

        def fail(_: Members, error: Exception) -> None:
            if not isinstance(error, OutOfRange):
                raise error
            self.clean_failures[repeat] = error.reasons[0]

        def job(be: Backend, monitor: Monitor) -> None:
            clean = Levels(np.zeros(1), lambda sigma: {}, self.clean[repeat : repeat + 1], fail)
            recorder = WeightRecorder(be, self.setup.train.epochs, 1, monitor)
            seed = member_seed(self.seed, repeat)
            trained = list(count_trained(be, self.setup, seed, clean, recorder, recorder.begin))
            if recorder.weights.size:
                self.clean_weights[repeat] = recorder.weights[:, 0]
            if INFERENCE not in self.phases:
                return
            for _, population in trained:
                self.count_at_inference(be, population, repeat, monitor)
            if not trained:
                self._fail_at_inference(repeat)

        return job

    def _saved_job(self, saved: Population, repeat: int) -> Job:
        """Evaluate a saved network clean, and walk noise through it."""

        def job(be: Backend, monitor: Monitor) -> None:
            network = member_of(saved, repeat % len(saved.seeds))
            network = network._replace(seeds=(member_seed(self.seed, repeat),))
            setup = self.setup
            try:
                self.clean[repeat] = evaluate(
                    be,
                    setup.network,
                    network,
                    setup.dataset,
                    batch_size=setup.evaluation_batch,
                    dtype=setup.dtype,
                    by_group=True,
                )[0]
            except OutOfRange as error:
                self.clean_failures[repeat] = error.reasons[0]
                self._fail_at_inference(repeat)
            else:
                self.count_at_inference(be, network, repeat, monitor)
            monitor.epoch(0, np.zeros(1))

        return job

    def count_at_inference(self, be: Backend, population: Population, repeat: int, monitor: Monitor) -> None:
        """Walk noise through the clean network of a repeat."""
        powers = [SignalPower(be, len(self.sigma)) for _ in self.places]
        places = [self._levels(INFERENCE, place, repeat, power) for place, power in enumerate(powers)]
        at_once, started = EVALUATED_PER_TRAINED * self.members, time.perf_counter()
        count_at_inference(be, self.setup, population, places, at_once, monitor)
        self.seconds[repeat] = time.perf_counter() - started
        for place, power in enumerate(powers):
            curve = (self.phases.index(INFERENCE), place, repeat)
            self._keep_power(power, places[place].members, curve)
        self.predict_at_inference(be, population, repeat)

    def predict_at_inference(self, be: Backend, population: Population, repeat: int) -> None:
        """Predict the curves of the clean network of a repeat, if that is asked for."""
        for place in range(len(self.places)):
            curve = (self.phases.index(INFERENCE), place, repeat)
            self._predict(be, population, 0, curve, slice(0, len(self.sigma)))

    def _predict(self, be: Backend, population: Population, member: int, curve: Key, part: slice) -> None:
        """Predict the accuracy of a network at some σ of a curve, if that is asked for."""
        if not self.predict:
            return
        where, started = self.places[curve[1]], time.perf_counter()
        found = predict(
            be,
            self.setup.network,
            population,
            self.setup.dataset,
            lambda sigma: where.noise(self.operator(sigma)),
            self.sigma[part],
            images=self.predict,
            member=member,
        )
        kept = self.predictions.setdefault(curve, PredictedCurve.empty(len(self.sigma)))
        kept.put(part, found, time.perf_counter() - started)
        if self.phases[curve[0]] == INFERENCE:
            kept.clean = found.clean

    def _fail_at_inference(self, repeat: int) -> None:
        """Without its clean network all points of a repeat fail."""
        phase, reason = self.phases.index(INFERENCE), f"the clean network: {self.clean_failures[repeat]}"
        for place, sigma in np.ndindex(len(self.places), len(self.sigma)):
            self.failures[phase, place, repeat, sigma] = reason

    def _levels(
        self, phase: str, place: int, repeat: int, power: SignalPower, part: slice = slice(0, None)
    ) -> Levels:
        """The noise levels of a part of a curve."""
        curve = (self.phases.index(phase), place, repeat)
        where = self.places[place]
        return Levels(
            self.sigma[part],
            lambda sigma: where.noise(self.operator(sigma)),
            self.correct[curve][part],
            self._fail(curve, part),
            power,
        )

    def _keep_power(
        self, power: SignalPower, members: Members, curve: tuple[int, int, int], first: int = 0
    ) -> None:
        """Keep the signal's power that was seen, but at sites without noise and for failed points."""
        for p in members:
            point = (*curve, first + p)
            noise = self.places[curve[1]].noise(self.operator(float(self.sigma[first + p])))
            pairs = power.of_member(p)
            if point not in self.failures:
                self.power[point] = tuple(pair for pair in pairs if noise[pair[0]].active(training=False))

    def _fail(self, curve: tuple[int, int, int], part: slice) -> Fail:
        """Numbers out of range are the failure of a point; other errors end the walk, and say where."""

        def fail(members: Members, error: Exception) -> None:
            if isinstance(error, OutOfRange):
                self.failures[(*curve, part.start + members[0])] = error.reasons[0]
                return
            if isinstance(error, WnError):
                sigma = self.sigma[part][list(members)]
                levels = f"{sigma[0]:g}" if len(sigma) == 1 else f"{sigma[0]:g} to {sigma[-1]:g}"
                raise WnError(f"{self.places[curve[1]].name}, σ {levels}: {error}") from None
            raise error

        return fail

    # ---- results ----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise WnError, with the first reason, if no clean network, or no point at all, has a result."""
        if len(self.clean_failures) < self.repeats and len(self.failures) < self.correct[..., 0].size:
            return
        if not self.failures:
            raise WnError(f"the clean network: {self.clean_failures[0]}; use float64")
        (_, place, _, sigma), reason = min(self.failures.items())
        raise WnError(
            f"{self.places[place].name}, σ {self.sigma[sigma]:g}: {reason}; use a smaller σ or float64"
        )

    @property
    def clean_counts(self) -> Counts:
        """The right answers of the clean networks that have a result."""
        there = [repeat for repeat in range(self.repeats) if repeat not in self.clean_failures]
        return Counts(np.zeros(len(there)), self.clean[there], totals(self.images, len(there)))

    @property
    def images(self) -> int:
        """Test images."""
        return len(self.setup.dataset.test)

    @property
    def predicted(self) -> Predicted | None:
        """The predicted curves, None if none are asked for."""
        return Predicted(self.sigma, self.phases, self.places, self.predictions) if self.predict else None

    @property
    def chance(self) -> float:
        """The accuracy of a guess, see `Dataset.chance`."""
        return self.setup.dataset.chance

    def curves(self) -> Iterator[tuple[str, Place, int, Counts]]:
        """Yield each curve with its phase, place and repeat, without the points that failed."""
        there = np.ones(self.correct.shape[:-1], np.bool_)
        for point in self.failures:
            there[point] = False
        for phase, place, repeat in np.ndindex(there.shape[:-1]):
            points = there[phase, place, repeat]
            correct = self.correct[phase, place, repeat][points]
            counts = Counts(self.sigma[points], correct, totals(self.images, len(correct)))
            yield self.phases[phase], self.places[place], repeat, counts

    def midpoints(self, noise: str) -> list[tuple[str, Place, Midpoint]]:
        """A midpoint for each phase and place, fitted to all repeats together, given the kind of noise."""
        clean, found = self.clean_counts, []
        for (phase, place), curves in groupby(self.curves(), lambda curve: curve[:2]):
            repeats = [counts for *_, counts in curves]
            even = self.setup.dataset.even
            found.append((phase, place, fit_curve(repeats, clean, self.chance, phase, noise, even=even)))
        return found
