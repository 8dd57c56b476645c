"""The work of a worker: one task of a study, from its units to their results.

A task's units differ in σ alone, if a network is trained for each, in σ and σ of training in a matrix, or
belong to one clean network. All that a worker needs comes with the task, and all it finds goes back: workers
share no files but checkpoints.
"""

import logging
import os
import time
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import groupby
from threading import Lock
from typing import Any, NoReturn

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine import optim
from wn.engine.backends.plain.base import Backend
from wn.engine.halving import Fail, Members, in_parts
from wn.engine.network import Network
from wn.engine.training import Monitor, Population, TrainingState, TrainSettings, evaluate, first_state
from wn.random import member_seed
from wn.study.execution.environment import environment
from wn.study.execution.greeting import backend_here, check_numerics
from wn.study.execution.inputs import data_of, given_network, network_of
from wn.study.execution.recorder import Recorder
from wn.study.store.rows import Environment, PlaceBinarisation, Result, WeightStatistics
from wn.study.unit import CLEAN, MATRIX, NUMERICS, Unit
from wn.walking.measurement import (
    ON_A_CPU,
    Begin,
    Levels,
    count_at_inference,
    count_trained,
    members_at_once,
    trained_under,
)
from wn.walking.observed.binarised import member_of, of_layers, of_site
from wn.walking.observed.signal import SignalPower
from wn.walking.places import INFERENCE
from wn.walking.setup import Setup

Units = tuple[Unit, ...]
_ONE_AT_A_TIME = Lock()

log = logging.getLogger("wn")


class Task(msgspec.Struct, frozen=True):
    """Units to be computed at once, and their backend, data and clean network.

    `backend` is one by name, never "auto": all workers compute with the same. `arrays` are those of the
    trained clean network, for inference units; `checkpoints` is the folder for checkpoints, None for none;
    `data_dir` is where the data files are, None for the usual places; `files` are the paths of data sets of
    the user's own, by name; `numerics` is that of the driver.
    """

    units: tuple[Unit, ...]
    backend: str
    data_dir: str | None = None
    checkpoints: str | None = None
    arrays: tuple[Any, ...] = ()
    numerics: int = NUMERICS
    files: dict[str, str] | None = None


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """The outcome of a task: results, (key, traceback) of the units that failed, and the environment.

    `arrays` are those of the trained network, if the task was a clean one; `checkpoints` are files to be
    removed once the results are safe.
    """

    results: tuple[Result, ...]
    failures: tuple[tuple[str, str], ...]
    environment: Environment
    arrays: tuple[NDArray[Any], ...] = ()
    checkpoints: tuple[str, ...] = ()


def run_task(task: Task) -> Outcome:
    """Compute the units of a task; an error of one unit is its failure alone.

    Raises WnError, for which no unit is to blame, if this process can't use the backend.
    """
    be = backend_here(task.backend)
    # In a worker of a cluster tasks may run in several threads
    alone = nullcontext() if be.takes_jobs_side_by_side else _ONE_AT_A_TIME
    with alone, be.working(1):
        started, work = time.perf_counter(), _TaskWork(be, task)
        work.compute()
        seconds = (time.perf_counter() - started) / len(task.units)
    return Outcome(
        tuple(msgspec.structs.replace(result, seconds=seconds) for result in work.results),
        tuple(work.failures.items()),
        environment(be.name),
        tuple(work.arrays),
        tuple(sorted(set(work.recorder.used))),
    )


class _TaskWork:
    """The work on a task, with its results, and the traceback of each unit that failed."""

    def __init__(self, be: Backend, task: Task) -> None:
        self.be, self.task = be, task
        self.results: list[Result] = []
        self.failures: dict[str, str] = {}  # by the key of the unit
        self.arrays: list[NDArray[Any]] = []  # of the clean network, if the task is to train one
        self.recorder = Recorder(be, trained_units(task.units), task.checkpoints)

    def compute(self) -> None:
        """Compute all units."""
        try:
            self._compute()
        except Exception as error:  # no unit can be computed without
            for unit in self.task.units:
                self._fail([unit])((0,), error)

    def _compute(self) -> None:
        units, first = self.task.units, self.task.units[0]
        check_numerics(self.task.numerics)  # others than this worker may have greeted
        dataset = data_of(first, self.task.data_dir, self.task.files)
        network = network_of(first)
        setup = Setup(network, dataset, train_settings_of(first), first.dtype)
        if first.phase == INFERENCE:
            population = population_of(self.be, setup.network, self.task.arrays, first)
            self._evaluate(setup, population, units)
        elif first.phase == MATRIX:
            self._matrix(setup)
        elif first.weights is not UNSET:
            self._given(setup, population_arrays(given_network(first, self.task.files)))
        else:
            self._with_own_networks(setup)

    def _with_own_networks(self, setup: Setup) -> None:
        """Train a network per unit, σ side by side, and evaluate it under the same noise."""
        be, units, recorder = self.be, self.task.units, self.recorder
        power = SignalPower(be, len(units))
        levels = self._levels(units, setup, power)
        for members, population in count_trained(
            be, setup, seed_of(units[0]), levels, recorder, self._begin(setup)
        ):
            if units[0].phase == CLEAN:
                self.arrays = [be.to_numpy(array) for array in population_arrays(population)]
                if not all(np.isfinite(array).all() for array in self.arrays):
                    self.arrays, reason = [], "use a smaller learning rate, or float64"
                    levels.fail(members, WnError(f"the trained network is not finite: {reason}"))
                    continue
            for index, p in enumerate(members):
                result = _result(units[p], levels.correct[p], power.of_member(p), setup)
                network = member_of(population, index)
                self.results.append(self._with_observations(result, setup, network, p, units[p]))
            del population, network  # or they would be kept while others are trained

    def _given(self, setup: Setup, arrays: Sequence[Any]) -> None:
        """Evaluate a network that was trained before: its clean unit."""
        (unit,) = self.task.units
        population = population_of(self.be, setup.network, arrays, unit)
        correct = evaluate(
            self.be, setup.network, population, setup.dataset, dtype=setup.dtype, by_group=True
        )
        found = _binarisation(self.be, setup, population, unit) if unit.observe else ()
        result = _result(unit, correct[0], (), setup)
        self.results.append(msgspec.structs.replace(result, binarisation=found))
        self.arrays = [np.asarray(array) for array in arrays]

    def _matrix(self, setup: Setup) -> None:
        """Train a network per σ of training, side by side, and evaluate each under the noise of its units."""
        units = self.task.units
        diagonal = self.recorder.units
        by_network = [[unit for unit in units if unit.sigma_train == own.sigma_train] for own in diagonal]
        levels = self._levels(diagonal, setup, None, self._fail_all(by_network))
        for members, population in trained_under(
            self.be, setup, seed_of(units[0]), levels, self.recorder, self._begin(setup)
        ):
            for index, p in enumerate(members):
                self._row(setup, member_of(population, index), p, by_network[p])
            del population  # or it would be kept while others are trained

    def _row(self, setup: Setup, network: Population, p: int, units: Sequence[Unit]) -> None:
        """Evaluate the p-th network of a matrix under the noise of its units.

        What is observed of it goes to its unit on the diagonal, or to the first one that has a result.
        """
        before = len(self.results)
        self._evaluate(setup, network, units)
        places = {result.key: place for place, result in enumerate(self.results[before:], before)}
        there = [unit for unit in (self.recorder.units[p], *units) if unit.key in places]
        if there:
            place = places[there[0].key]
            result = self._with_observations(self.results[place], setup, network, p, there[0])
            self.results[place] = result

    def _begin(self, setup: Setup) -> Begin:
        """The state from which some networks of the task are trained: a checkpoint's if there is one."""

        def begin(members: Members, state: TrainingState | None) -> TrainingState:
            seeds = (seed_of(self.task.units[0]),) * len(members)
            fresh = first_state(self.be, setup.network, seeds, setup.dtype)
            return self.recorder.resume(members, fresh, state)

        return begin

    def _with_observations(
        self, result: Result, setup: Setup, network: Population, p: int, unit: Unit
    ) -> Result:
        """A result with statistics of its network, the p-th of the training, and what else is asked for."""
        layers = tuple(setup.network.weights(network.params))
        weights = WeightStatistics(layers, self.recorder.weights[:, p])
        found = _binarisation(self.be, setup, network, unit) if unit.observe else ()
        return msgspec.structs.replace(result, weights=weights, binarisation=found)

    def _evaluate(self, setup: Setup, population: Population, units: Sequence[Unit]) -> None:
        """Evaluate one network under the noise of each unit; a unit to blame for an error fails alone."""

        def work(members: Members, *_: object) -> None:
            self._at_inference(setup, population, [units[p] for p in members])

        everyone = tuple(range(len(units)))
        deque(in_parts(self.be, everyone, Monitor(), work, self._fail(units)), maxlen=0)

    def _at_inference(self, setup: Setup, population: Population, units: Sequence[Unit]) -> None:
        """Evaluate one network under the noise of each unit, σ side by side."""
        curves = []
        for _, alike in groupby(units, lambda unit: msgspec.structs.replace(unit, sigma=0.0)):
            curve = tuple(alike)
            power = SignalPower(self.be, len(curve))
            curves.append((curve, self._levels(curve, setup, power), power))
            for unit in curve:
                self.failures.pop(unit.key, None)  # of an attempt with others
        # On a CPU always these: it would plan with fewer where gradients have to be kept as well
        room = members_at_once(setup.network, setup.train, setup.dtype, self.be.room)
        places = [levels for _, levels, _ in curves]
        count_at_inference(self.be, setup, population, places, max(ON_A_CPU.members, room), Monitor())
        for curve, levels, power in curves:
            for p, unit in enumerate(curve):
                if unit.key not in self.failures:
                    self.results.append(_result(unit, levels.correct[p], power.of_member(p), setup))

    def _levels(
        self, units: Sequence[Unit], setup: Setup, power: SignalPower | None, fail: Fail | None = None
    ) -> Levels:
        """The noise of units that differ in σ alone."""
        sigma, correct = [unit.sigma for unit in units], np.zeros((len(units), setup.groups), np.int64)
        return Levels(np.array(sigma), units[0].site_noise, correct, fail or self._fail(units), power)

    def _fail_all(self, by_network: Sequence[Sequence[Unit]]) -> Fail:
        """All units of a network that failed keep its traceback."""

        def fail(members: Members, error: Exception) -> None:
            failed = [unit for p in members for unit in by_network[p]]
            if len(members) > 1:
                self._fail(failed)(members, error)
                return
            for unit in failed:
                self._fail([unit])((0,), error)

        return fail

    def _fail(self, units: Sequence[Unit]) -> Fail:
        """Keep the traceback of a unit that failed; several that failed together are tried apart."""

        def fail(members: Members, error: Exception) -> None:
            text = "".join(traceback.format_exception(error))
            if self.be.lost:
                _leave(text)
            if len(members) == 1:
                self.failures[units[members[0]].key] = text

        return fail


def _result(
    unit: Unit,
    correct: NDArray[np.int64],
    power: Iterable[tuple[int, float]],
    setup: Setup,
) -> Result:
    """The result of a unit, given its right answers by group and the signal's power at sites.

    Sites where it has no noise itself, as σ = 0, are seen as well if units beside it have noise there.
    """
    noise, by_group = unit.site_noise(), tuple(correct.tolist())
    signal = tuple((site, value) for site, value in power if noise[site].active(training=False))
    return Result(unit.key, sum(by_group), len(setup.dataset.test), 0.0, signal, by_group=by_group)


def _binarisation(
    be: Backend, setup: Setup, network: Population, unit: Unit
) -> tuple[PlaceBinarisation, ...]:
    """The binarisation of a unit's network: at its noisy site, or at each of a clean one, and of all weights.

    Under noise at several sites activations are not observed, since they are noisy themselves.
    """
    noise, names = unit.site_noise(), setup.network.site_names
    sites = range(len(names)) if unit.phase == CLEAN else noise if len(noise) == 1 else ()
    activations = (of_site(be, setup, network, site, noise) for site in sites)
    return (
        *(PlaceBinarisation(names[x.site], x.binarisation, x.pattern, x.signs) for x in activations),
        *(PlaceBinarisation(f"{layer}.weight", w) for layer, w in of_layers(be, setup, network).items()),
    )


def _leave(text: str) -> NoReturn:
    """End a worker process that has lost its device, and say why; the driver tries again with another one."""
    log.error("a worker process ends, since it has lost its GPU: %s", text.splitlines()[-1])
    os._exit(1)


def train_settings_of(unit: Unit) -> TrainSettings:
    """The training settings of a unit's network."""
    return TrainSettings(
        epochs=max(unit.epochs, 1),  # 0 of a network that is not trained
        batch_size=unit.batch_size,
        learning_rate=unit.learning_rate,
        clamp_weights=unit.clamp_weights,
        class_weights=unit.class_weights,
    )


def trained_units(units: Units) -> Units:
    """A unit for each network of a task: of several units of one network that on the matrix's diagonal."""
    if units[0].phase != MATRIX:
        return units
    sigma_train = dict.fromkeys(unit.sigma_train for unit in units)
    return tuple(msgspec.structs.replace(units[0], sigma=s, sigma_train=s) for s in sigma_train)


def seed_of(unit: Unit) -> int:
    """The seed of a unit's network."""
    return member_seed(unit.seed, unit.repeat)


# ---- networks as arrays ----------------------------------------------------------------------------------


def population_arrays(population: Population) -> list[NDArray[Any]]:
    """Parameters and states as a list of arrays, the argument of `population_of`."""
    return optim.arrays((population.params, population.states))


def population_of(be: Backend, network: Network, arrays: Sequence[Any], unit: Unit) -> Population:
    """Return the trained network of one clean unit from its arrays; WnError if they don't fit."""
    fresh = first_state(be, network, (seed_of(unit),), unit.dtype)
    shapes = [array.shape for array in optim.arrays((fresh.params, fresh.states))]
    if [array.shape for array in arrays] != shapes:
        raise WnError(f"the clean network of {unit.model} does not have the arrays that the unit needs")
    params, states = optim.with_arrays((fresh.params, fresh.states), map(be.asarray, arrays))
    return Population(params, states, (seed_of(unit),))
