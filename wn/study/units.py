"""From a study to its units: one after the other, never all at once.

Units come in σ grids, which differ in nothing but σ; every count is a sum over grids.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from wn.basics.errors import WnError
from wn.data.dataset import Dataset, checksum, identity
from wn.engine.noise_spec import NoiseSpec
from wn.engine.ranges import checked_dtype
from wn.engine.training import TrainSettings, check_last_batch
from wn.study.declare.data import data_of, own_of
from wn.study.declare.resolve import StudyNetwork, StudyNoise, networks, noise_entries, observed
from wn.study.declare.schema import StudySpec, as_axis, at
from wn.study.unit import CLEAN, MATRIX, OwnData, Unit
from wn.walking.places import Place
from wn.walking.settings import class_weights, completed


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a whole data set that units need: its content, sizes, and weights of the loss."""

    checksum: str
    image_shape: tuple[int, ...]
    classes: int
    train_samples: int
    test_samples: int
    class_weights: tuple[float, ...] | None = None
    own: OwnData | UnsetType = UNSET


class SigmaGrid(NamedTuple):
    """Units that differ in σ only: the first of them, and the σ of all."""

    first: Unit
    sigma: tuple[float, ...]

    def units(self) -> Iterator[Unit]:
        """Yield the units, by ascending σ."""
        for sigma in self.sigma:
            yield msgspec.structs.replace(self.first, sigma=sigma)


class NetworkCount(NamedTuple):
    """The numbers of a network's units in a study, by phase, and of epochs of training."""

    dataset: str
    model: str
    batch_norm: str
    clamp_weights: bool
    clean: int
    inference: int
    training: int
    epochs: int  # of one training
    matrix: int = 0
    matrix_networks: int = 0  # each is evaluated in several units of the phase "matrix"

    @property
    def units(self) -> int:
        """Units, each an accuracy on the test images."""
        return self.clean + self.inference + self.training + self.matrix

    @property
    def trained_under_noise(self) -> int:
        """Networks to train under noise."""
        return self.training + self.matrix_networks

    @property
    def trainings(self) -> int:
        """Networks to train."""
        return self.clean + self.trained_under_noise

    @property
    def network_epochs(self) -> int:
        """Epochs of training, of all networks together."""
        return self.trainings * self.epochs


def facts_of(dataset: Dataset) -> Facts:
    """Return the facts about a data set of the catalogue that is loaded whole."""
    return Facts(
        checksum=checksum(dataset),
        image_shape=dataset.image_shape,
        classes=len(dataset.classes),
        train_samples=len(dataset.train),
        test_samples=len(dataset.test),
        class_weights=class_weights(dataset),
    )


def facts_of_own(dataset: Dataset, test_limit: int | None) -> Facts:
    """Return the facts about data of the user's own; chance is of the test samples within the limit."""
    own = OwnData(
        image_shape=dataset.image_shape,
        classes=len(dataset.classes),
        train_samples=len(dataset.train),
        test_samples=len(dataset.test),
        chance=dataset.limited(None, test_limit).chance,
    )
    return msgspec.structs.replace(facts_of(dataset), checksum=identity(dataset), own=own)


def planned_facts(spec: StudySpec) -> dict[str, Facts]:
    """Return the facts about the data sets of a study as the catalogue knows them: to count, not to run.

    Without the files there is no checksum, and there are no class weights: keys made of it mean nothing.
    """
    found = {}
    for name in as_axis("data.names", spec.data.names):
        entry = data_of(spec, name)
        sizes: dict[str, Any] = {
            "image_shape": entry.image_shape,
            "classes": entry.classes,
            "train_samples": entry.train_count,
            "test_samples": entry.test_count,
        }
        own = OwnData(**sizes, chance=1 / entry.classes) if own_of(spec, name) else UNSET
        found[name] = Facts(checksum="", **sizes, own=own)
    return found


def units(spec: StudySpec, facts: Mapping[str, Facts]) -> Iterator[Unit]:
    """Return all units of a study, in the order of `sigma_grids`, without repeats, one at a time.

    Raises WnError, before the first unit, where the study does not fit its data.
    """
    found = sigma_grids(spec, facts)
    return (unit for grid in found for unit in grid.units())


def sigma_grids(spec: StudySpec, facts: Mapping[str, Facts]) -> Iterator[SigmaGrid]:
    """Return the σ grids of a study: repeat by repeat, network by network, with and without clamping.

    Each network begins with its clean unit; the noise entries follow in the order of the file, each with its
    operators, phases and places; those of the phase "matrix" have a grid for each σ of training. Where
    entries overlap, a unit belongs to the first that has it. Each repeat is complete before the next begins.
    Raises WnError, before the first grid, where the study does not fit
    its data.
    """
    entries = noise_entries(spec)
    study = [_NetworkGrids(spec, network, entries, facts[network.dataset]) for network in networks(spec)]
    repeats = max(entry.repeats for entry in entries)
    return (
        grid
        for repeat in range(repeats)
        for trained in study
        for clamp in (False, True)
        for grid in trained.sigma_grids(repeat, clamp)
    )


def count(spec: StudySpec, facts: Mapping[str, Facts]) -> tuple[NetworkCount, ...]:
    """Return the numbers of units of each network, without making them."""
    found: dict[tuple[str, str, str, bool], NetworkCount] = {}
    for grid in sigma_grids(spec, facts):
        unit = grid.first
        key = (unit.dataset, unit.model, unit.batch_norm, unit.clamp_weights)
        before = found.get(key, NetworkCount(*key, clean=0, inference=0, training=0, epochs=unit.epochs))
        number = getattr(before, unit.phase) + len(grid.sigma)
        networks = before.matrix_networks + (unit.phase == MATRIX)
        found[key] = before._replace(**{unit.phase: number, "matrix_networks": networks})
    return tuple(found.values())


class _NetworkGrids:
    """One network of a study, with the entries that are for it and their places."""

    def __init__(
        self, spec: StudySpec, network: StudyNetwork, entries: tuple[StudyNoise, ...], facts: Facts
    ) -> None:
        self.entries = [
            (entry, entry.places(network.network) if entry.operators else ())
            for entry in entries
            if entry.covers(network)
        ]
        self.unit = _clean_unit(spec, network, facts)
        samples = self.unit.train_limit or facts.train_samples
        with at("recipe.batch_size"):
            if network.weights is None:
                check_last_batch(network.network, samples, self.unit.batch_size)

    def sigma_grids(self, repeat: int, clamp: bool) -> Iterator[SigmaGrid]:
        """Yield the σ grids of one repeat, if the study has any."""
        entries = [
            (entry, places)
            for entry, places in self.entries
            if repeat < entry.repeats and clamp in entry.clampings
        ]
        if not entries:
            return
        clean = msgspec.structs.replace(self.unit, repeat=repeat, clamp_weights=clamp)
        yield SigmaGrid(clean, (clean.sigma,))
        taken: dict[Unit, list[tuple[float, ...]]] = {}  # σ grids of earlier entries at the same place
        for entry, places in entries:
            for template in _templates(clean, entry, places):
                there = taken.setdefault(template, [])
                sigma = tuple(s for s in entry.sigma if not any(s in grid for grid in there))
                there.append(entry.sigma)
                if sigma:
                    yield SigmaGrid(msgspec.structs.replace(template, sigma=sigma[0]), sigma)


def _templates(clean: Unit, entry: StudyNoise, places: Sequence[Place]) -> Iterator[Unit]:
    """Yield a unit for each σ grid of an entry, of a network with this clean unit."""
    for operator in entry.operators:
        for phase in entry.phases:
            for place in places:
                noisy = _noisy(clean, phase, operator, place)
                if phase != MATRIX:
                    yield noisy
                    continue
                for sigma_train in entry.sigma_train:
                    yield msgspec.structs.replace(noisy, sigma_train=sigma_train)


def _noisy(clean: Unit, phase: str, operator: NoiseSpec, place: Place) -> Unit:
    return msgspec.structs.replace(
        clean,
        phase=phase,
        noise=operator,
        site=place.site,
        site_name=place.name,
        factors=tuple(place.factors.items()),
    )


def _clean_unit(spec: StudySpec, network: StudyNetwork, facts: Facts) -> Unit:
    """Return the clean unit of a network's first repeat, without clamping, completed from the recipe."""
    if (facts.image_shape, facts.classes) != (network.network.input_shape, network.network.classes):
        raise WnError(
            f"data.names: {network.dataset} has {facts.classes} classes of images {facts.image_shape}, "
            f"not {network.network.classes} of {network.network.input_shape}"
        )
    recipe = completed(spec.recipe, data_of(spec, network.dataset).recipe, network.network)
    if network.weights is not None:  # no setting of a training is part of the key
        recipe = {
            "epochs": 0,
            "batch_size": TrainSettings(1).batch_size,
            "learning_rate": TrainSettings(1).learning_rate,
        }
    return Unit(
        phase=CLEAN,
        dataset=network.dataset,
        data_checksum=facts.checksum,
        train_limit=_limit("train_limit", network.dataset, spec.data.train_limit, facts.train_samples),
        test_limit=_limit("test_limit", network.dataset, spec.data.test_limit, facts.test_samples),
        model=network.model,
        batch_norm=network.batch_norm,
        dtype=checked_dtype(spec.recipe.dtype).name if network.weights is None else network.weights.dtype,
        **recipe,
        clamp_weights=False,
        class_weights=facts.class_weights,
        seed=spec.seed,
        repeat=0,
        observe=observed(spec),
        own=facts.own,
        weights=UNSET if network.weights is None else network.weights,
    )


def _limit(name: str, dataset: str, limit: int | None, samples: int) -> int | None:
    """Return a limit on the samples of a data set, None if it leaves all of them."""
    if limit is not None and limit > samples:
        raise WnError(f"data.{name}: {limit} is out of range: {dataset} has {samples} samples")
    return None if limit == samples else limit
