"""The cost of a study, before it is run: numbers, time on this machine, and size on disk."""

import time
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET

from wn.analysis.weights import STATISTICS
from wn.data.dataset import Dataset, Split
from wn.data.recipes import MNIST
from wn.data.sets.entries import entry_of
from wn.engine import backends, noise
from wn.engine.backends.plain.base import Backend
from wn.engine.models import parameter_count
from wn.engine.network import Network
from wn.engine.training import EVALUATION_BATCH, Population, TrainSettings, evaluate, first_state, train
from wn.study.declare.derived import has_derived, planned
from wn.study.declare.schema import StudySpec
from wn.study.execution.executors import resolved_backend
from wn.study.execution.inputs import network_of
from wn.study.execution.worker import train_settings_of
from wn.study.unit import Unit
from wn.study.units import Facts, NetworkCount, count, planned_facts, sigma_grids
from wn.walking.measurement import members_at_once

BATCHES = 3  # that the calibration times, after one to warm up
BYTES_PER_UNIT = 220  # of the store, measured (tests/bench/store.py)
FLOAT = 4  # bytes of a statistic


class PlannedNetwork(NamedTuple):
    """The cost of one network of a study: numbers of units and epochs, seconds of one core, bytes on disk."""

    counted: NetworkCount
    seconds: float
    bytes: int


class Plan(NamedTuple):
    """The cost of a study, network by network, and the number of workers."""

    name: str
    networks: tuple[PlannedNetwork, ...]
    workers: int

    @property
    def seconds(self) -> float:
        """The estimated time with all workers."""
        return sum(network.seconds for network in self.networks) / self.workers

    @property
    def bytes(self) -> int:
        """The estimated size of the study's folder, without checkpoints."""
        return sum(network.bytes for network in self.networks)


class _Speed(NamedTuple):
    """Seconds of one core for a batch: of training alone, side by side, and of inference under noise."""

    alone: float
    side_by_side: float
    inference: float


def plan_study(spec: StudySpec, backend: str = "auto", workers: int = 1) -> Plan:
    """The numbers, time and size of a study; nothing of it is run, and no data files are needed.

    The time follows from a few batches of black images per network, on this machine; under load, or with
    noise at many sites at once, a study takes longer.
    """
    if has_derived(spec):
        spec = planned(spec)  # what waits for midpoints counts as well
    facts = planned_facts(spec)
    be = backends.get(resolved_backend(backend))
    first: dict[tuple[Any, ...], Unit] = {}  # of each network
    levels: dict[Unit, int] = {}  # σ of its longest curve
    for grid in sigma_grids(spec, facts):
        unit = grid.first
        first.setdefault((unit.dataset, unit.model, unit.batch_norm, unit.clamp_weights), unit)
        alike = _timed(unit)
        levels[alike] = max(levels.get(alike, 0), len(grid.sigma))
    speeds: dict[Unit, _Speed] = {}
    networks = []
    with be.working(1):
        for counted in count(spec, facts):
            unit = first[counted[:4]].clean
            alike = _timed(unit)
            if alike not in speeds:
                speeds[alike] = _calibrate(be, alike, levels[alike])
            seconds = _seconds(counted, unit, facts[unit.dataset], speeds[alike])
            networks.append(PlannedNetwork(counted, seconds, _bytes(counted, unit)))
    return Plan(spec.name, tuple(networks), workers)


def _timed(unit: Unit) -> Unit:
    """The unit that is timed for another: the first of its network, without clamping, which is free."""
    return msgspec.structs.replace(unit.clean, repeat=0, clamp_weights=False)


def _seconds(counted: NetworkCount, unit: Unit, facts: Facts, speed: _Speed) -> float:
    """Seconds of one core for the units of a network."""
    steps = -(-(unit.train_limit or facts.train_samples) // unit.batch_size) * unit.epochs
    batches = (unit.test_limit or facts.test_samples) / EVALUATION_BATCH
    training = counted.clean * speed.alone + counted.trained_under_noise * speed.side_by_side
    return steps * training + counted.units * batches * speed.inference


def _calibrate(be: Backend, unit: Unit, levels: int) -> _Speed:
    """Time a few batches: training alone, and training and evaluation of at most `levels` σ side by side."""
    network = network_of(unit)
    members = min(members_at_once(network, train_settings_of(unit), unit.dtype, be.room), levels)
    site = len(network.site_names) // 2
    short = TrainSettings(1, unit.batch_size, unit.learning_rate)

    def training(population: int) -> float:
        noisy = {site: noise.additive(np.full(population, 0.1))}

        def timed(batches: int) -> float:
            data = _black_images(unit, network, batches * unit.batch_size)
            started = time.perf_counter()
            train(be, network, data, short, seeds=(1,) * population, noise=noisy, dtype=unit.dtype)
            return (time.perf_counter() - started) / batches / population

        timed(1)
        return timed(BATCHES)

    state = first_state(be, network, (1,), unit.dtype)
    population = Population(state.params, state.states, (1,))
    data = _black_images(unit, network, EVALUATION_BATCH)
    noisy = {site: noise.additive(np.full(members, 0.1))}

    def inference() -> float:
        started = time.perf_counter()
        evaluate(be, network, population, data, noise=noisy, dtype=unit.dtype)
        return (time.perf_counter() - started) / members

    inference()
    return _Speed(training(1), training(members), inference())


def _black_images(unit: Unit, network: Network, samples: int) -> Dataset:
    """Black images with a label of each class in turn: time does not depend on their contents."""
    images = np.zeros((samples, *network.input_shape), np.uint8)
    split = Split(images, np.arange(samples) % network.classes)
    classes = tuple(map(str, range(network.classes)))
    recipe = MNIST if unit.own is not UNSET else entry_of(unit.dataset).recipe
    return Dataset("black", classes, split, split, recipe)


def _bytes(counted: NetworkCount, unit: Unit) -> int:
    """Bytes of the units of a network, about: rows, clean networks, weight statistics."""
    network = network_of(unit)
    layers = len(network.weights(first_state(backends.get("numpy"), network, (1,), unit.dtype).params))
    statistics = counted.network_epochs * layers * len(STATISTICS) * FLOAT
    networks = counted.clean * parameter_count(network) * np.dtype(unit.dtype).itemsize
    return counted.units * BYTES_PER_UNIT + statistics + networks
