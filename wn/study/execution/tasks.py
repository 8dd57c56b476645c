"""From units that are to be computed to tasks, one after the other, never all at once."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec
from msgspec import UNSET, UnsetType

from wn.data.sets.entries import entry_of
from wn.engine import models
from wn.engine.backends.plain.base import Room
from wn.study.execution.inputs import network_for, network_of
from wn.study.execution.worker import Units, train_settings_of
from wn.study.unit import CLEAN, MATRIX, OwnData, Unit, Weights
from wn.walking.measurement import ON_A_CPU, members_at_once
from wn.walking.places import INFERENCE

# A task of inference units ends in about a minute: so much is lost at most where a worker is killed.
OPERATIONS_PER_TASK = 4e11  # multiply-accumulates
UNITS_PER_TASK = 512

BACKWARD = 2  # a backward pass costs about as much as two forward passes


def tasks(units: Iterable[Unit], room: Room = ON_A_CPU) -> Iterator[Units]:
    """Cut units, in the order of a study, into those of one task each.

    Training units of a task differ in σ alone; their number is that for which a worker has room (by default
    one on a CPU); inference units of a task belong to one clean network. Matrix units differ in σ and in the
    σ of training: those of one network are together, and the room counts networks.
    """
    group: list[Unit] = []
    parts = 0  # units of the task, or networks if each has several
    for unit in units:
        same_network = bool(group) and unit.phase == MATRIX and unit.sigma_train == group[-1].sigma_train
        full = bool(group) and parts >= _most(group[0], room) and not same_network
        if group and (full or _together(unit) != _together(group[0])):
            yield tuple(group)
            group, parts, same_network = [], 0, False
        group.append(unit)
        parts += not same_network
    if group:
        yield tuple(group)


def cost(unit: Unit, evaluations: int = 1, networks: int = 1) -> float:
    """The multiply-accumulates, about, of units like this: evaluations, and networks that are trained."""
    sizes = (unit.train_limit, unit.test_limit)
    training, evaluation = _costs(
        unit.dataset, unit.model, unit.batch_norm, unit.own, unit.weights, *sizes, unit.epochs
    )
    return (0 if unit.phase == INFERENCE else networks) * training + evaluations * evaluation


def cost_of(units: Units) -> float:
    """The multiply-accumulates of a task, about."""
    networks = len({unit.sigma_train for unit in units}) if units[0].phase == MATRIX else len(units)
    return cost(units[0], len(units), networks)


@lru_cache
def _costs(
    dataset: str,
    model: str,
    batch_norm: str,
    own: OwnData | UnsetType,
    weights: Weights | UnsetType,
    train_limit: int | None,
    test_limit: int | None,
    epochs: int,
) -> tuple[float, float]:
    """The multiply-accumulates of a training, and of an evaluation."""
    if own is UNSET:
        entry = entry_of(dataset)
        train, test = entry.train_count, entry.test_count
    else:
        train, test = own.train_samples, own.test_samples
    per_image = models.cost_per_image(network_for(dataset, model, batch_norm, own, weights))
    trained = epochs * (train_limit or train) * (1 + BACKWARD)
    return float(per_image * trained), float(per_image * (test_limit or test))


def _together(unit: Unit) -> Unit:
    """The part of a unit that all units of its task have in common."""
    if unit.phase == INFERENCE:
        return unit.clean
    return msgspec.structs.replace(unit, sigma=0.0, sigma_train=UNSET)


def _most(unit: Unit, room: Room) -> int:
    """The largest number of units in a task like this, or of networks if each has several units."""
    if unit.phase == CLEAN:
        return 1
    if unit.phase == INFERENCE:
        return int(min(max(OPERATIONS_PER_TASK // cost(unit), ON_A_CPU.members), UNITS_PER_TASK))
    network = network_of(unit)
    return members_at_once(network, train_settings_of(unit), unit.dtype, room)
