"""A network on disk, and the settings that it decides: what it is, and its data and seed if it says them."""

from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from wn.basics.errors import WnError
from wn.engine import models, optim
from wn.engine.backends.plain.base import Backend
from wn.engine.files import checkpoint
from wn.engine.files.onnx.graph import has_suffix
from wn.engine.files.onnx.load import load_network
from wn.engine.layers.base import Shape
from wn.engine.network import Network
from wn.engine.training import Population
from wn.files.whole import as_path
from wn.walking.asked import (
    EvaluationSettings,
    GainsSettings,
    NetworkSettings,
    NoiseSettings,
    PredictionSettings,
    WalkSettings,
)
from wn.walking.inputs import architecture_of, check_form, form_of, held_network, with_data

OF_TRAINING = ("epochs", "batch_size", "learning_rate", "clamp_weights", "train_limit")

Chosen = TypeVar("Chosen", bound=NoiseSettings)


class SavedNetwork(NamedTuple):
    """The content of a file, and the SHA-256 of its bytes."""

    path: str
    sha256: str
    network: Network
    population: Population  # in NumPy arrays
    record: dict[str, Any]

    @property
    def dtype(self) -> str:
        """The type of its numbers."""
        return str(optim.arrays(self.population.params)[0].dtype)

    @property
    def run(self) -> dict[str, Any]:
        """What run.json says of it."""
        return {"sha256": self.sha256, "seeds": list(self.population.seeds), "record": self.record}

    def on(self, be: Backend) -> Population:
        """The population in the arrays of a backend."""
        tree = (self.population.params, self.population.states)
        params, states = optim.with_arrays(tree, map(be.asarray, optim.arrays(tree)))
        return Population(params, states, self.population.seeds)


def read_network(path: str, digest: str | UnsetType = UNSET) -> SavedNetwork:
    """Read a population that `wn train`, `wn import` or a study wrote.

    Raises WnError for any other file, and for one with another SHA-256 than `digest`, if that is given.
    """
    held = held_network(digest)
    if held is not None:
        return SavedNetwork(path, str(digest), *held)
    if digest is not UNSET and not Path(path).exists():
        raise WnError(f"network: there is no file {path}; give a value of Python again: network=…")
    loaded = _loaded(path)
    try:
        found = sha256(as_path(path).read_bytes()).hexdigest()
    except OSError as error:  # it was there a moment ago
        raise WnError(f"{path}: can't be read: {error.strerror or error}") from None
    if digest not in (UNSET, found):
        raise WnError(
            f"{path}: is another file than it was: its SHA-256 is {found}, and {digest} is asked for"
        )
    return SavedNetwork(path, found, *loaded)


def _loaded(path: str) -> Any:
    """The network, population and record of a file; ONNX files have no record."""
    if has_suffix(Path(path)):
        return *load_network(path), {}
    return checkpoint.load(path)


def network_of(
    chosen: NetworkSettings | EvaluationSettings, form: tuple[Shape, int] | None = None
) -> Network:
    """The network of settings: of a file or a value with weights, described, or one of `models`.

    form: shape of an image and number of classes, where data are loaded already.
    """
    if getattr(chosen, "network", UNSET) is not UNSET:
        return of_settings(chosen).network
    assert isinstance(chosen, NetworkSettings)
    found = architecture_of(chosen)
    return found or models.build(chosen.model, *(form or form_of(chosen)), chosen.batch_norm)


def settled(chosen: Chosen, given: Collection[str]) -> Chosen:
    """Return the settings with what the network on disk decides, which the `given` ones may repeat.

    Model, batch norm and dtype are the file's. Data set and base seed are those of the file's record unless
    they are given. Raises WnError for settings that contradict the file or are about training, and if it is
    not known on which data to evaluate.
    """
    saved = of_settings(chosen)
    for name in OF_TRAINING:
        if getattr(chosen, name, None) not in (None, False):
            raise WnError(f"{saved.path} is trained already: leave {name} out")
    known = {"model": saved.network.name, "batch_norm": saved.network.batch_norm, "dtype": saved.dtype}
    asked = {name: getattr(chosen, name, None) for name in known}
    if "model" in given and asked["model"] != saved.network.name:
        asked["model"] = models.check_name(str(asked["model"]))
    for name, value in known.items():
        if name in given and asked[name] != value:
            raise WnError(f"{saved.path} has {name} {value}, not {asked[name]}: leave {name} out")
    chosen = _with_data(saved, chosen, given)
    seed = chosen.seed if "seed" in given else _seed(saved.record)
    changes = {"seed": seed, "network_sha256": saved.sha256}
    return msgspec.structs.replace(chosen, **known, **changes)


def of_settings(chosen: NetworkSettings | EvaluationSettings) -> SavedNetwork:
    """The network that settings name."""
    assert isinstance(chosen, WalkSettings | PredictionSettings | GainsSettings | EvaluationSettings)
    assert isinstance(chosen.network, str)
    return read_network(chosen.network, chosen.network_sha256)


def _with_data(saved: SavedNetwork, chosen: Chosen, given: Collection[str]) -> Chosen:
    """Settings with the data set that is given, or else that of the file's record, checked on the network."""
    if chosen.data is UNSET and "dataset" not in given:
        chosen = msgspec.structs.replace(chosen, **_recorded_data(saved))
        chosen = with_data(chosen, ())
    check_form(saved.path, saved.network, chosen)
    return chosen


def _recorded_data(saved: SavedNetwork) -> dict[str, str]:
    """The data on which a file's record says that its network was trained: a name, or a .npz file."""
    own, digest = (_found(saved.record, ("asked", key)) for key in ("data", "data_sha256"))
    if isinstance(own, str) and isinstance(digest, str):
        if not Path(own).is_file():
            raise WnError(f"{saved.path} was trained on data of your own, {own}: give data")
        return {"data": own, "data_sha256": digest}
    name = _found(saved.record, ("data", "name"), ("unit", "dataset"))
    if _found(saved.record, ("unit", "own")) is not None:
        raise WnError(f"{saved.path} was trained on data of your own, {name}: give data")
    if not isinstance(name, str):
        raise WnError(f"{saved.path} does not say on which data it was trained: give the data set")
    return {"dataset": name}


def _seed(record: Mapping[str, Any]) -> int:
    """The base seed of a record: of a training, a study's unit, or an import; 0 if it has none."""
    found = _found(record, ("settings", "seed"), ("unit", "seed"), ("seed",))
    return found if type(found) is int else 0


def _found(record: Mapping[str, Any], *paths: tuple[str, ...]) -> Any:
    """The first value at one of these places of a record, None without."""
    for path in paths:
        value: Any = record
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None
