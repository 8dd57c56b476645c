"""The data and the network of a unit: by name, or files of the user's own that the driver names."""

import os
from collections.abc import Mapping
from functools import lru_cache

from msgspec import UNSET, UnsetType

from wn.basics.errors import WnError
from wn.data import catalogue
from wn.data.dataset import Dataset, checksum, identity
from wn.data.own import load_dataset
from wn.data.sets.entries import entry_of
from wn.engine import models
from wn.engine.network import Network
from wn.engine.training import Population
from wn.study.declare.networks import network_of_weights
from wn.study.unit import OwnData, Unit, Weights
from wn.walking.saved.network import read_network


def data_of(unit: Unit, data_dir: str | None, files: Mapping[str, str] | None = None) -> Dataset:
    """Return the data of a unit; WnError if they are not those that the unit was made for."""
    whole, found = _whole_data(unit.dataset, data_dir) if unit.own is UNSET else _own_data(unit, files)
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


def _own_data(unit: Unit, files: Mapping[str, str] | None) -> tuple[Dataset, str]:
    """The user's own data of a unit, from the file that the driver names."""
    file = (files or {}).get(unit.dataset)
    if file is None:
        raise WnError(f"{unit.dataset} is a data set of the user's own, and its file is not known")
    return _file(file, os.stat(file).st_mtime_ns if os.path.exists(file) else 0)


@lru_cache(maxsize=2)
def _file(file: str, _changed: int) -> tuple[Dataset, str]:
    dataset = load_dataset(file)
    return dataset, identity(dataset)


def given_network(unit: Unit, files: Mapping[str, str] | None) -> Population:
    """A network that was trained before, from the file that the driver names."""
    assert unit.weights is not UNSET
    file = (files or {}).get(unit.weights.sha256)
    if file is None:
        raise WnError(f"{unit.model} was trained before, and its file is not known")
    return read_network(file, unit.weights.sha256).population


def network_of(unit: Unit) -> Network:
    """The network of a unit, for its data."""
    return network_for(unit.dataset, unit.model, unit.batch_norm, unit.own, unit.weights)


@lru_cache
def network_for(
    dataset: str,
    model: str,
    batch_norm: str,
    own: OwnData | UnsetType,
    weights: Weights | UnsetType = UNSET,
) -> Network:
    """A network for a data set of the catalogue, or of the user's own; or one that was trained before."""
    if weights is not UNSET:
        return network_of_weights(weights)
    if own is not UNSET:
        return models.build(model, own.image_shape, own.classes, batch_norm)
    entry = entry_of(dataset)
    return models.build(model, entry.image_shape, len(entry.classes), batch_norm)
