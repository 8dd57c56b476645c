"""What a run is given besides its settings: data and networks of the user's own, as values or files.

Settings hold a value's name and digest, as records do; the value itself is held here while a function of the
front door runs.
"""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET

from wn.basics.errors import WnError
from wn.data import catalogue
from wn.data.dataset import Dataset, identity
from wn.data.own import load_dataset
from wn.data.sets.entries import entry_of
from wn.engine import optim
from wn.engine.layers.base import Shape
from wn.engine.network import Network
from wn.engine.networks.description import described, from_description
from wn.engine.training import Population
from wn.walking.asked import EvaluationSettings, NetworkSettings

Chosen = TypeVar("Chosen", bound=NetworkSettings | EvaluationSettings)


class HeldNetwork(NamedTuple):
    """A network with its weights in NumPy arrays, and the record of its training."""

    network: Network
    population: Population
    record: dict[str, Any]


_held: ContextVar[dict[str, Any]] = ContextVar("_held", default={})  # noqa: B039  never changed in place


@contextmanager
def holding(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The settings of a function with names and digests in place of values, which are held in this block.

    A network without weights becomes its description, which says all of it; one with weights, and one that
    has layers of the user's own, a name and a digest. Raises WnError for values that are neither data nor
    networks, and for others than a given digest is of.
    """
    given = dict(settings)
    values = dict(_held.get())
    _check_kinds(given)
    if isinstance(given.get("data"), Dataset):
        value = given["data"]
        digest = _agreed("data", value.name, identity(value), given.get("data_sha256"))
        given |= {"data": value.name, "data_sha256": digest}
        values[digest] = value
    network = given.get("network")
    if isinstance(network, Network):
        for name in ("model", "batch_norm", "architecture"):
            if given.get(name) is not None:
                raise WnError(f"network {network.name} and {name} are two answers: leave {name} out")
        given |= {"network": None, "architecture": _described(network, values), "model": network.name}
        given["batch_norm"] = network.batch_norm
    elif network is not None and not isinstance(network, str | os.PathLike):
        population = network.population
        digest = _digest(network.network, population)
        digest = _agreed("network", network.network.name, digest, given.get("network_sha256"))
        given |= {"network": network.network.name, "network_sha256": digest}
        values[digest] = HeldNetwork(network.network, _on_host(population), getattr(network, "record", {}))
    token = _held.set(values)
    try:
        yield given
    finally:
        _held.reset(token)


def _agreed(what: str, name: str, digest: str, asked: str | None) -> str:
    """The digest of a value; WnError if another one is asked for."""
    if asked not in (None, digest):
        raise WnError(
            f"{what}: {name} is not that of this record: its digest is {digest[:16]}…, and {asked[:16]}… is "
            "asked for"
        )
    return digest


def _described(network: Network, values: dict[str, Any]) -> dict[str, Any]:
    """The description of a network; of one with layers of the user's own, its name and a digest."""
    try:
        return described(network)
    except WnError:
        digest = hashlib.sha256(_in_words(network).encode()).hexdigest()
        values[digest] = network
        return {"name": network.name, "held": digest}


def _in_words(network: Network) -> str:
    """All that is known of a network with layers of the user's own: their classes and attributes."""
    nodes = []
    for node in network.nodes:
        kind, settings = type(node.layer), getattr(node.layer, "__dict__", {})
        words = [
            kind.__module__,
            kind.__qualname__,
            *(f"{key}={settings[key]!r}" for key in sorted(settings)),
        ]
        nodes.append((node.name, node.site, node.inputs, words))
    return repr((network.name, network.input_shape, nodes))


def _digest(network: Network, population: Population) -> str:
    """SHA-256 over a network and all its parameters and states."""
    try:
        text = msgspec.json.encode(described(network), order="sorted")
    except WnError:  # it has layers of the user's own
        text = _in_words(network).encode()
    digest = hashlib.sha256(text)
    for array in optim.arrays(population[:2]):
        values = _host(array)
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _on_host(population: Population) -> Population:
    """A population in NumPy arrays."""
    tree = (population.params, population.states)
    params, states = optim.with_arrays(tree, map(_host, optim.arrays(tree)))
    return Population(params, states, population.seeds)


def _host(array: Any) -> Any:
    return array.get() if hasattr(array, "get") else np.asarray(array)  # CuPy's arrays have to be fetched


def _check_kinds(given: Mapping[str, Any]) -> None:
    """Raise WnError, with the right way, for arrays where a name or a data set is needed."""
    if isinstance(given.get("dataset"), tuple | list | np.ndarray | Dataset):
        raise WnError("dataset is a name; arrays are data=wn.dataset(x_train, y_train, x_test, y_test)")
    data = given.get("data")
    if data is not None and not isinstance(data, Dataset | str | os.PathLike):
        raise WnError(
            f"data is {type(data).__name__}: it must be wn.dataset(x_train, y_train, x_test, y_test), or the "
            "path of a .npz file"
        )
    network = given.get("network")
    known = isinstance(network, Network | str | os.PathLike)
    if network is not None and not known and not _has_weights(network):
        raise WnError(
            f"network is {type(network).__name__}: it must be wn.network(…), a network with its weights "
            "(wn.Weighted, or what wn.train returns) or the path of a file"
        )


def _has_weights(network: Any) -> bool:
    parts = getattr(network, "network", None), getattr(network, "population", None)
    return isinstance(parts[0], Network) and isinstance(parts[1], Population)


def held_network(digest: Any) -> "HeldNetwork | None":
    """The network with weights that is held under a digest."""
    found = _held.get().get(str(digest))
    return found if isinstance(found, HeldNetwork) else None


def architecture_of(chosen: NetworkSettings) -> Network | None:
    """The network without weights that settings describe, None where they name one of `models`.

    Raises WnError for a description that is none, and if the network does not fit the data.
    """
    architecture = chosen.architecture
    if architecture is UNSET:
        return None
    if "held" in architecture:
        network = _held.get().get(str(architecture["held"]))
        if network is None:
            raise WnError(
                f"network: {chosen.model} has layers of your own: give it again: network=wn.network(…)"
            )
    else:
        network = from_description(architecture)
    check_form(f"network {network.name}", network, chosen)
    return network


def check_form(what: str, network: Network, chosen: NetworkSettings | EvaluationSettings) -> None:
    """Raise WnError unless a network takes the images of settings and has a logit for each class."""
    (shape, classes), takes = form_of(chosen), tuple(network.input_shape)
    if (tuple(shape), classes) != (takes, network.classes):
        raise WnError(
            f"{what} is for {network.classes} classes of images {takes}: {chosen.dataset} has {classes} of "
            f"{tuple(shape)}"
        )


def own_data(chosen: Chosen) -> Dataset | None:
    """The user's own data that settings name, None where they name a data set of the catalogue.

    Raises WnError for a file that is none, or has another content than the digest says.
    """
    if chosen.data is UNSET:
        return None
    held = _held.get().get(str(chosen.data_sha256))
    if held is not None:
        return held  # type: ignore[no-any-return]  # data sets are held by their digests
    if chosen.data_sha256 is not UNSET and not os.path.exists(chosen.data):
        raise WnError(
            f"data: there is no file {chosen.data}; give a value of Python again: data=wn.dataset(…)"
        )
    found = load_dataset(chosen.data)
    digest = identity(found)
    if chosen.data_sha256 not in (UNSET, digest):
        raise WnError(
            f"{chosen.data}: holds other data than it did: their digest is {digest[:16]}…, and "
            f"{str(chosen.data_sha256)[:16]}… is asked for"
        )
    return found


def with_data(chosen: Chosen, given: Collection[str]) -> Chosen:
    """Settings with the name and the digest of the user's own data, if they are about such.

    Raises WnError where the `given` settings name two data sets.
    """
    own = own_data(chosen)
    if own is None:
        if chosen.dataset.endswith(".npz"):
            raise WnError(f"dataset {chosen.dataset} is no name of a data set: give a file as data")
        if chosen.data_sha256 is not UNSET:
            raise WnError("data_sha256 goes with data: the file that it is the digest of")
        return chosen
    if "dataset" in given and chosen.dataset != own.name:
        raise WnError(f"dataset {chosen.dataset} and data {chosen.data} are two data sets: give one of them")
    if chosen.data_dir is not None:
        raise WnError("data_dir goes with dataset, a name: data is a file itself")
    return msgspec.structs.replace(chosen, dataset=own.name, data_sha256=identity(own))


def whole_data(chosen: NetworkSettings | EvaluationSettings) -> Dataset:
    """The data set of settings, without limits."""
    own = own_data(chosen)
    return catalogue.load(chosen.dataset, chosen.data_dir) if own is None else own


def form_of(chosen: NetworkSettings | EvaluationSettings) -> tuple[Shape, int]:
    """The shape of an image and the number of classes; files of the catalogue's data are not needed."""
    own = own_data(chosen)
    if own is not None:
        return own.image_shape, len(own.classes)
    entry = entry_of(chosen.dataset)
    return entry.image_shape, len(entry.classes)
