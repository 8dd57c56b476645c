"""What a worker does: one task of a study, from its units to their results.

A task's units differ in σ alone, if a network is trained for each, or belong to one clean network. All that a
worker needs comes with the task, and all it finds goes back: workers share no files but checkpoints.
"""

import logging
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from wn.data import catalogue
from wn.data.dataset import Dataset, checksum
from wn.engine import models, optim
from wn.engine.backends.plain.base import Array, Backend
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.groups import group_sizes
from wn.engine.halving import Keeper, fitting
from wn.engine.network import INPUT_SITE, Network, Pass
from wn.engine.training import (
    EVALUATION_BATCH,
    Monitor,
    Population,
    TrainingState,
    TrainSettings,
    count_correct,
    evaluation_batches,
    first_state,
    train,
)
from wn.errors import WnError
from wn.random import member_seed
from wn.study.execution.checkpoints import Checkpoint
from wn.study.execution.environment import environment
from wn.study.execution.greeting import backend_here, check_numerics
from wn.study.execution.recorder import Recorder
from wn.study.execution.statistics import SignalPower, weight_layers
from wn.study.store.rows import Environment, Result, WeightStatistics
from wn.study.unit import CLEAN, INFERENCE, NUMERICS, Unit
from wn.walking.measurement import ON_A_CPU, members_at_once

Units = tuple[Unit, ...]
_ONE_AT_A_TIME = Lock()

log = logging.getLogger("wn")


class Task(msgspec.Struct, frozen=True):
    """Units to be computed at once, and what they need.

    `backend` is one by name, never "auto": all workers compute with the same. `arrays` are those of the
    trained clean network, for inference units; `checkpoints` is the folder for checkpoints, None for none;
    `data_dir` is where the data files are, None for the usual places; `numerics` is that of the driver.
    """

    units: tuple[Unit, ...]
    backend: str
    data_dir: str | None = None
    checkpoints: str | None = None
    arrays: tuple[Any, ...] = ()
    numerics: int = NUMERICS

    def checkpoint(self, be: Backend, members: slice = slice(None)) -> Checkpoint | None:
        """Return where the training of these units, or of some of them, is kept."""
        if self.checkpoints is None or self.units[0].phase == INFERENCE:
            return None
        return Checkpoint(Path(self.checkpoints), [unit.key for unit in self.units[members]], be)


class Report(msgspec.Struct, frozen=True, eq=False):
    """What became of a task: results, (key, traceback) of the units that failed, and where it was done.

    `arrays` are those of the trained network, if the task was a clean one; `checkpoints` are files to be
    removed once the results are safe.
    """

    results: tuple[Result, ...]
    failures: tuple[tuple[str, str], ...]
    environment: Environment
    arrays: tuple[NDArray[Any], ...] = ()
    checkpoints: tuple[str, ...] = ()


def run_task(task: Task) -> Report:
    """Compute the units of a task; what a unit raises is its failure and leaves the others alone.

    Raises WnError, for which no unit is to blame, if this process can't use the backend.
    """
    be = backend_here(task.backend)
    # In a worker of a cluster tasks may run in several threads
    alone = nullcontext() if be.takes_jobs_side_by_side else _ONE_AT_A_TIME
    with alone, single_threaded_blas(), be.working(1):
        found = _run(be, task)
    return Report(
        tuple(found.results),
        tuple((units[0].key, text) for units, text in found.failed),
        environment(be.name),
        found.arrays,
        tuple(found.checkpoints),
    )


class _Found(NamedTuple):
    """What a task came to: results, and units that failed together with the traceback."""

    results: list[Result]
    failed: list[tuple[Units, str]]
    arrays: tuple[NDArray[Any], ...] = ()
    checkpoints: tuple[str, ...] = ()


def _run(be: Backend, task: Task) -> _Found:
    """Compute all units side by side; those that fail together again in halves, until they fail alone."""
    started = time.perf_counter()
    checkpoint = task.checkpoint(be)
    used = set() if checkpoint is None else {str(checkpoint.path)}
    try:
        found = _compute(be, task)
    except Exception:
        found = _Found([], [(task.units, traceback.format_exc())])
    if found.failed and be.lost:
        _leave(found.failed[0][1])
    seconds = (time.perf_counter() - started) / len(task.units)
    used.update(found.checkpoints)
    results = [msgspec.structs.replace(result, seconds=seconds) for result in found.results]
    failed = [failure for failure in found.failed if len(failure[0]) == 1]
    if failed != found.failed:
        be.release()  # memory may be what they lacked
    for units, _ in found.failed:
        for half in _halves(units):
            rest = _run(be, msgspec.structs.replace(task, units=half))
            results += rest.results
            failed += rest.failed
            used.update(rest.checkpoints)
    return _Found(results, failed, found.arrays, tuple(sorted(used)))


def _leave(text: str) -> NoReturn:
    """End a worker process that has lost its device, and say why; the driver tries again with another one."""
    log.error("a worker process ends, since it has lost its GPU: %s", text.splitlines()[-1])
    os._exit(1)


def _halves(units: Units) -> tuple[Units, ...]:
    """Return both halves of some units; nothing of a single one."""
    middle = len(units) // 2
    return (units[:middle], units[middle:]) if middle else ()


def _compute(be: Backend, task: Task) -> _Found:
    first = task.units[0]
    check_numerics(task.numerics)  # others than this worker may have greeted
    dataset = data_of(first, task.data_dir)
    network = network_of(first, dataset)
    if first.phase == INFERENCE:
        return _inference(be, task, network, dataset)
    recorder = Recorder(be, task.units, lambda members: task.checkpoint(be, members))

    def work(members: slice, keeper: Keeper, state: TrainingState | None) -> _Found:
        units = task.units[members]
        state = recorder.begin(members, first_state(be, network, seeds_of(units), first.dtype), state)
        keeper.state = state  # where memory ends before the first step, halves go on from here
        population = _train(be, units, network, dataset, keeper, state)
        return _evaluated(be, network, population, dataset, units, recorder.weights[:, members])

    found = list(fitting(be, slice(0, len(task.units)), recorder, work))
    results = [result for part in found for result in part.results]
    return _Found(results, [], found[0].arrays, tuple(recorder.used))


# ---- training -------------------------------------------------------------------------------------------


def _train(
    be: Backend,
    units: Units,
    network: Network,
    dataset: Dataset,
    monitor: Monitor,
    start: TrainingState,
) -> Population:
    """Train one network per unit."""
    first = units[0]
    return train(
        be,
        network,
        dataset,
        settings_of(first),
        seeds=seeds_of(units),
        noise=first.site_noise(_sigma(units)),
        dtype=first.dtype,
        monitor=monitor,
        start=start,
    )


def settings_of(unit: Unit) -> TrainSettings:
    """Return how the network of a unit is trained."""
    return TrainSettings(
        epochs=unit.epochs,
        batch_size=unit.batch_size,
        learning_rate=unit.learning_rate,
        clamp_weights=unit.clamp_weights,
        class_weights=unit.class_weights,
    )


def seeds_of(units: Sequence[Unit]) -> tuple[int, ...]:
    """Return the seed of each unit's network."""
    return tuple(member_seed(unit.seed, unit.repeat) for unit in units)


def _sigma(units: Sequence[Unit]) -> NDArray[np.float64]:
    return np.array([unit.sigma for unit in units])


# ---- evaluation -----------------------------------------------------------------------------------------


def _evaluated(
    be: Backend,
    network: Network,
    population: Population,
    dataset: Dataset,
    units: Units,
    weights: NDArray[np.float64],
) -> _Found:
    """Return the results of trained networks, given the statistics of their weights (E, P, L, 3)."""
    correct, power = _evaluate(be, network, population, dataset, units)
    layers = weight_layers(network, population.params)
    results = [
        Result(
            unit.key,
            int(correct[p].sum()),
            len(dataset.test),
            0.0,
            _power_of(unit, power.of_member(p)),
            WeightStatistics(layers, weights[:, p]),
            tuple(correct[p].tolist()),
        )
        for p, unit in enumerate(units)
    ]
    arrays = [be.to_numpy(array) for array in arrays_of(population)] if units[0].phase == CLEAN else []
    if not all(np.isfinite(array).all() for array in arrays):
        raise WnError("the trained network is not finite: use a smaller learning rate, or float64")
    return _Found(results, [], tuple(arrays))


def _evaluate(
    be: Backend, network: Network, population: Population, dataset: Dataset, units: Sequence[Unit]
) -> tuple[NDArray[np.int64], SignalPower]:
    """Count, by group, the images that each unit's own network gets right under the unit's noise (P, G)."""
    first, power = units[0], SignalPower(be)
    noise = first.site_noise(_sigma(units))
    groups = len(group_sizes(len(dataset.test)))
    correct = np.zeros((len(units), groups), np.int64)
    batches = evaluation_batches(be, dataset, population.seeds, noise, 0, EVALUATION_BATCH, first.dtype)
    for x, run, labels in batches:
        watched = run._replace(watch=power.watch(len(labels)))
        logits = network.forward_from_site(be, population.params, population.states, x, watched, INPUT_SITE)
        correct += count_correct(be, logits, labels, groups)
    return correct, power


def _power_of(unit: Unit, seen: Iterable[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Return the signal's power at the sites where this unit has noise.

    Others, with σ = 0, are seen as well if units beside them have noise there.
    """
    noise = unit.site_noise()
    return tuple((site, power) for site, power in seen if noise[site].active(training=False))


class _Evaluation:
    """Units that differ in σ alone, side by side on one clean network; what they raise is kept."""

    def __init__(self, be: Backend, units: Units, total: int) -> None:
        self.units, self.noise, self.total = units, units[0].site_noise(_sigma(units)), total
        self.correct = np.zeros((len(units), len(group_sizes(total))), np.int64)
        self.power = SignalPower(be)
        self.error = ""

    def see(
        self,
        be: Backend,
        network: Network,
        population: Population,
        clean: Sequence[Array],
        run: Pass,
        labels: NDArray[np.int64],
    ) -> None:
        """Count what is classified correctly of a batch, given its clean activations at all sites."""
        if self.error:
            return
        noisy = run._replace(noise=self.noise, watch=self.power.watch(len(labels)))
        site = min(self.noise)
        try:
            logits = network.forward_from_site(
                be, population.params, population.states, clean[site], noisy, site
            )
            self.correct += count_correct(be, logits, labels, self.correct.shape[1])
        except Exception:
            self.error = traceback.format_exc()

    def results(self) -> Iterator[Result]:
        """Yield a result for each unit."""
        for p, unit in enumerate(self.units):
            power, by_group = _power_of(unit, self.power.of_member(p)), tuple(self.correct[p].tolist())
            yield Result(unit.key, sum(by_group), self.total, 0.0, power, by_group=by_group)


def _inference(be: Backend, task: Task, network: Network, dataset: Dataset) -> _Found:
    """Evaluate the clean network under the noise of each unit, σ side by side.

    The activations before the first noisy site are computed once per batch for all units.
    """
    first = task.units[0]
    population = population_of(be, network, task.arrays, first)
    # On a CPU always these: it would plan with fewer where gradients have to be kept as well
    members = max(ON_A_CPU.members, members_at_once(network, settings_of(first), first.dtype, be.room))
    total = len(dataset.test)
    groups = [_Evaluation(be, units, total) for units in _side_by_side(task.units, members)]
    for x, run, labels in evaluation_batches(
        be, dataset, population.seeds, {}, 0, EVALUATION_BATCH, first.dtype
    ):
        clean = network.clean_activations(be, population.params, population.states, x)
        for group in groups:
            group.see(be, network, population, clean, run, labels)
    results = [result for group in groups if not group.error for result in group.results()]
    return _Found(results, [(group.units, group.error) for group in groups if group.error])


def _side_by_side(units: Sequence[Unit], members: int) -> Iterator[Units]:
    """Cut units into groups that differ in σ alone, of at most so many members."""
    for _, alike in groupby(units, lambda unit: msgspec.structs.replace(unit, sigma=0.0)):
        group = tuple(alike)
        for start in range(0, len(group), members):
            yield group[start : start + members]


# ---- data and networks ----------------------------------------------------------------------------------


def data_of(unit: Unit, data_dir: str | None) -> Dataset:
    """Return the data of a unit; WnError if they are not those that the unit was made for."""
    whole, found = _whole_data(unit.dataset, data_dir)
    if found != unit.data_checksum:
        raise WnError(
            f"{unit.dataset} has the checksum {found[:16]}… here, the study was made for "
            f"{unit.data_checksum[:16]}…: use the same files everywhere"
        )
    return whole.limited(unit.train_limit, unit.test_limit)


@lru_cache(maxsize=2)
def _whole_data(name: str, data_dir: str | None) -> tuple[Dataset, str]:
    with catalogue.unannounced():  # the driver has named unknown content
        dataset = catalogue.load(name, data_dir)
    return dataset, checksum(dataset)


def network_of(unit: Unit, dataset: Dataset) -> Network:
    """Return the network of a unit."""
    return models.build(unit.model, dataset.image_shape, len(dataset.classes), unit.batch_norm)


def arrays_of(population: Population) -> list[NDArray[Any]]:
    """Return parameters and states as a list of arrays: what `population_of` takes."""
    return optim.arrays((population.params, population.states))


def population_of(be: Backend, network: Network, arrays: Sequence[Any], unit: Unit) -> Population:
    """Return the trained network of one clean unit from its arrays; WnError if they don't fit."""
    fresh = first_state(be, network, seeds_of([unit]), unit.dtype)
    shapes = [array.shape for array in optim.arrays((fresh.params, fresh.states))]
    if [array.shape for array in arrays] != shapes:
        raise WnError(f"the clean network of {unit.model} does not have the arrays that the unit needs")
    params, states = optim.rebuilt((fresh.params, fresh.states), map(be.asarray, arrays))
    return Population(params, states, seeds_of([unit]))
