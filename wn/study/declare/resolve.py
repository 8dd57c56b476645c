"""The meaning of a study's keys: its networks, its noise entries and their places; all checked.

Every WnError begins with the path of the key that is wrong.
"""

from math import prod
from operator import itemgetter
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from wn.basics.errors import WnError
from wn.engine import models
from wn.engine import noise as noises
from wn.engine.network import Network
from wn.engine.noise_spec import NoiseSpec
from wn.engine.ranges import checked_dtype
from wn.engine.training import TrainSettings
from wn.random import checked_integer
from wn.study.declare import operators
from wn.study.declare.data import StudyData, data_of
from wn.study.declare.networks import model_name, network_of_weights, trained_names, weights_of
from wn.study.declare.schema import NoiseKeys, StudySpec, as_axis, at
from wn.study.unit import MATRIX, OBSERVABLES, Weights
from wn.walking import places as walking
from wn.walking.grids import MOST
from wn.walking.places import INFERENCE, TRAINING, Place, numbered, numbered_factors, read_where

MOST_UNITS = 100_000_000  # the whole grid of the paper has 0.5 million


class StudyNetwork(NamedTuple):
    """One network of a study: the data set it learns, its name and kind of batch norm."""

    dataset: str
    model: str
    batch_norm: str
    network: Network
    weights: Weights | None = None  # of a network that is trained already


class StudyNoise(NamedTuple):
    """One [[noise]] entry: operators × σ × phases × repeats, for the networks and clampings it is for."""

    path: str
    keys: NoiseKeys
    operators: tuple[NoiseSpec, ...]
    sigma: tuple[float, ...]
    sigma_train: tuple[float, ...]  # of the phase "matrix"
    phases: tuple[str, ...]
    repeats: int
    clampings: tuple[bool, ...]
    trained: frozenset[str] = frozenset()  # names of networks that are trained already

    def covers(self, network: StudyNetwork) -> bool:
        """Whether the entry is for this network."""
        chosen = [model_name(name, self.trained) for name in _listed(self.keys.models)]
        return (
            network.dataset in (_listed(self.keys.data) or [network.dataset])
            and network.model in (chosen or [network.model])
            and network.batch_norm in (_listed(self.keys.batch_norm) or [network.batch_norm])
        )

    def places(self, network: Network) -> tuple[Place, ...]:
        """Return the places of this entry's noise in a network; WnError for sites that it does not have."""
        where = "each" if self.keys.where is None else self.keys.where
        factors = self.keys.factors
        with at(f"{self.path}.where"):
            sites, mapped = read_where(where)
            if mapped is not None:
                raise WnError('a map of sites is written as where = "mapped" with factors')
            if not isinstance(sites, str):
                as_axis(network.name, sites)
                advice = "; or write each, global, mapped, or a list" if isinstance(where, str) else ""
                sites = numbered(network, sites, advice)
        with at(f"{self.path}.factors"):
            if (sites == "mapped") != bool(factors):
                raise WnError('goes with where = "mapped", which needs it: for example { 0 = 0.5, 3 = 2.0 }')
            named = None
            if factors is not None:
                named = numbered_factors(network, factors)
        with at(f"{self.path}.where"):
            found = walking.places(network, sites, named)
        return tuple(place._replace(factors=dict(sorted(place.factors.items()))) for place in found)


def check(spec: StudySpec) -> None:
    """Raise WnError, with the path of the key, for everything in a study that can be seen to be wrong."""
    with at("seed"):
        checked_integer("seed", spec.seed, 64)
    for name in ("train_limit", "test_limit"):
        _check_number(f"data.{name}", getattr(spec.data, name))
    _check_recipe(spec)
    _check_number("repeats", spec.repeats, MOST)
    _phases("phases", spec.phases)
    observed(spec)
    study = networks(spec)
    units = 0
    for entry in noise_entries(spec):
        covered = [network.network for network in study if entry.covers(network)]
        for network in filter(entry.covers, study):
            _check_trained(entry, network)
        if not covered:
            raise WnError(f"{entry.path}: data, models and batch_norm leave none of the study's networks")
        if entry.operators:
            units += _check_places(spec, entry, covered)
    if units > MOST_UNITS:
        raise WnError(f"noise: {units:,} units: a study has at most {MOST_UNITS:,}")


def _check_trained(entry: StudyNoise, network: StudyNetwork) -> None:
    """Raise WnError where an entry would train a network that is trained already."""
    if network.weights is None:
        return
    if entry.phases != (INFERENCE,):
        raise WnError(f'{entry.path}: {network.model} is trained already: phases must be "{INFERENCE}"')
    if True in entry.clampings:
        raise WnError(f"{entry.path}: {network.model} is trained already: clamp_weights must be false")


def observed(spec: StudySpec) -> tuple[str, ...] | UnsetType:
    """The quantities that a study observes besides those of every unit; UNSET for none."""
    if spec.observe is None:
        return UNSET
    names = as_axis("observe", spec.observe)
    for name in names:
        if name not in OBSERVABLES:
            raise WnError(f"observe: unknown quantity {name!r}: allowed are {', '.join(OBSERVABLES)}")
    return tuple(sorted(names))


# ---- networks -------------------------------------------------------------------------------------------


def networks(spec: StudySpec) -> tuple[StudyNetwork, ...]:
    """Return the networks of a study: data sets × models × kinds of batch norm, in the order of the file."""
    found: dict[tuple[str, str, str], StudyNetwork] = {}
    datasets = as_axis("data.names", spec.data.names)
    for index, dataset in enumerate(datasets):
        data_path = "data.names" if isinstance(spec.data.names, str) else f"data.names[{index}]"
        with at(data_path):
            entry = data_of(spec, dataset)
        before = len(found)
        for number, keys in enumerate(spec.models):
            path = f"models[{number}]"
            chosen = datasets if keys.data is None else as_axis(f"{path}.data", keys.data)
            _check_among(f"{path}.data", chosen, datasets)
            for batch_norm in as_axis(f"{path}.batch_norm", keys.batch_norm):
                weights = weights_of(keys)
                model = _model(path, keys.name, batch_norm) if weights is None else keys.name
                if dataset not in chosen:
                    continue
                if (dataset, model, batch_norm) in found:
                    raise WnError(
                        f"{path}: {model} with batch_norm {batch_norm} is there twice for {dataset}"
                    )
                with at(f"{path} with {dataset}"):
                    network = _network(entry, model, batch_norm, weights)
                found[dataset, model, batch_norm] = StudyNetwork(dataset, model, batch_norm, network, weights)
        if len(found) == before:
            raise WnError(f"{data_path}: no [[models]] entry is for {dataset}")
    return tuple(found.values())


def _network(entry: StudyData, model: str, batch_norm: str, weights: Weights | None) -> Network:
    """A network for a data set; WnError if one that is trained already is for others."""
    if weights is None:
        if not entry.train_count:
            raise WnError("there are no training samples (x_train, y_train)")
        return models.build(model, entry.image_shape, entry.classes, batch_norm)
    network = network_of_weights(weights)
    if (tuple(network.input_shape), network.classes) != (entry.image_shape, entry.classes):
        raise WnError(
            f"{model} is for {network.classes} classes of images {tuple(network.input_shape)}, the data have "
            f"{entry.classes} of {entry.image_shape}"
        )
    return network


def _model(path: str, name: str, batch_norm: str) -> str:
    with at(f"{path}.name"):
        model = models.check_name(name)
    with at(f"{path}.batch_norm"):
        return models.check_name(model, batch_norm)


def _check_recipe(spec: StudySpec) -> None:
    recipe = spec.recipe
    with at("recipe.dtype"):
        checked_dtype(recipe.dtype)
    for name in ("epochs", "batch_size", "learning_rate"):
        value = getattr(recipe, name)
        if value is not None:
            with at(f"recipe.{name}"):
                TrainSettings(**{"epochs": 1} | {name: value})


def _check_number(path: str, value: int | None, most: int | None = None) -> None:
    """Raise WnError unless a number that is given is at least 1, and at most `most`."""
    if value is not None and (value < 1 or (most is not None and value > most)):
        allowed = "at least 1" if most is None else f"in 1…{most}"
        raise WnError(f"{path}: {value} is out of range: it must be {allowed}")


def _check_among(path: str, chosen: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    for value in chosen:
        if value not in allowed:
            raise WnError(f"{path}: {value!r} is not in this study: allowed are {', '.join(allowed)}")


# ---- noise ----------------------------------------------------------------------------------------------


def noise_entries(spec: StudySpec) -> tuple[StudyNoise, ...]:
    """Return the noise entries of a study, in the order of the file."""
    if not spec.noise:
        raise WnError(
            'noise: a study needs an entry; [[noise]] with kind = "none" trains clean networks only'
        )
    return tuple(_noise_entry(spec, f"noise[{index}]", keys) for index, keys in enumerate(spec.noise))


def _noise_entry(spec: StudySpec, path: str, keys: NoiseKeys) -> StudyNoise:
    operators.check_kind(path, keys)
    _check_filters(spec, path, keys)
    _check_label(path, keys.label)
    _check_number(f"{path}.repeats", keys.repeats, MOST)
    clampings = keys.clamp_weights
    shared = keys.phases is None
    phases = _phases("phases", spec.phases) if shared else _phases(f"{path}.phases", keys.phases)
    if keys.sigma_train is not None and MATRIX not in phases:
        raise WnError(f'{path}.sigma_train: goes with the phase "{MATRIX}": phases are {", ".join(phases)}')
    return StudyNoise(
        path=path,
        keys=keys,
        sigma=operators.sigma(path, keys),
        sigma_train=operators.sigma_train(path, keys),
        operators=operators.resolved(path, keys),
        phases=phases,
        repeats=spec.repeats if keys.repeats is None else keys.repeats,
        clampings=as_axis("recipe.clamp_weights", spec.recipe.clamp_weights)
        if clampings is None
        else as_axis(f"{path}.clamp_weights", clampings),
        trained=trained_names(spec),
    )


def _check_label(path: str, label: str | None) -> None:
    """Raise WnError for a label that tables and pictures can't have: they list several, parted by commas."""
    if label is not None and (not label.strip() or "," in label or not label.isprintable()):
        raise WnError(f"{path}.label: {label!r}: a label is text without commas and control characters")


def _phases(path: str, phases: str | list[str] | None) -> tuple[str, ...]:
    found = as_axis(path, [INFERENCE, TRAINING] if phases is None else phases)
    for phase in found:
        if phase not in (INFERENCE, TRAINING, MATRIX):
            raise WnError(f"{path}: unknown phase {phase!r}: allowed are {INFERENCE}, {TRAINING}, {MATRIX}")
    return found


def _check_filters(spec: StudySpec, path: str, keys: NoiseKeys) -> None:
    here = {
        "data": as_axis("data.names", spec.data.names),
        "models": tuple(model_name(model.name, trained_names(spec)) for model in spec.models),
        "batch_norm": tuple(kind for model in spec.models for kind in _listed(model.batch_norm)),
    }
    for name, allowed in here.items():
        value = getattr(keys, name)
        if value is not None:
            chosen = as_axis(f"{path}.{name}", value)
            if name == "models":
                with at(f"{path}.models"):
                    chosen = as_axis(
                        f"{path}.models", [model_name(model, trained_names(spec)) for model in chosen]
                    )
            _check_among(f"{path}.{name}", chosen, tuple(dict.fromkeys(allowed)))


# ---- places ---------------------------------------------------------------------------------------------


def _check_places(spec: StudySpec, entry: StudyNoise, covered: list[Network]) -> int:
    """Check an entry on the networks that it is for, and return the number of its units."""
    number_of_places = 0
    for network in covered:
        places = entry.places(network)
        number_of_places += len(places)
        sites = len(network.site_names)
        for numbers in entry.keys.repetition_maps or ():
            if len(numbers) != sites:
                raise WnError(
                    f"{entry.path}.repetition_maps: a map has {len(numbers)} numbers: {network.name} needs "
                    f"{sites}, one for each of its sites"
                )
        loudest = dict([max((pair for place in places for pair in place.factors.items()), key=itemgetter(1))])
        for operator in entry.operators:
            for place in places if entry.keys.factors else ():
                with at(f"{entry.path}.factors"):
                    noises.mapped(noises.of_spec(operator, 0.0), place.factors)
            for name in ("sigma", "sigma_train"):
                with at(f"{entry.path}.{name}"):
                    largest = noises.of_spec(operator, max(getattr(entry, name)))
                    walking.check_range(noises.mapped(largest, loudest), spec.recipe.dtype)
    axes = (entry.operators, entry.sigma, entry.clampings)
    grids = sum(len(entry.sigma_train) if phase == MATRIX else 1 for phase in entry.phases)
    return number_of_places * entry.repeats * grids * prod(map(len, axes))


def _listed(value: str | list[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else value
