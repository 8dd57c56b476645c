"""Networks of a study that are trained already: files, walked through at inference.

When a study is read, what has to be known of such a file goes into its entry of `[[models]]`: results are
read, and reports made, without the file.
"""

from collections.abc import Collection
from pathlib import Path

import msgspec

from wn.basics.errors import WnError
from wn.engine import models
from wn.engine.network import Network
from wn.engine.networks.description import described, from_description
from wn.study.declare.schema import ModelKeys, StudySpec, at
from wn.study.unit import Weights
from wn.walking.saved.network import read_network


def with_networks(spec: StudySpec, folder: Path) -> StudySpec:
    """A study with its networks on disk read: `folder` is where relative paths are looked for.

    Raises WnError, with the path of the key, for entries without a name and for files that can't be read.
    """
    entries = []
    for number, keys in enumerate(spec.models):
        path = f"models[{number}]"
        if keys.network is None and not keys.name:
            raise WnError(f"{path}.name: this key is missing")
        if keys.network is None or keys.description is not None:
            entries.append(keys)
            continue
        with at(f"{path}.network"):
            entries.append(_read(keys, folder / keys.network))
    return msgspec.structs.replace(spec, models=entries)


def _read(keys: ModelKeys, path: Path) -> ModelKeys:
    saved = read_network(str(path))
    name = saved.network.name
    if keys.name not in ("", name):
        raise WnError(f"{path} has the network {name}, not {keys.name}: leave name out")
    if keys.batch_norm not in ("none", saved.network.batch_norm):
        raise WnError(f"{path} has batch norm {saved.network.batch_norm}: leave batch_norm out")
    if len(saved.population.seeds) != 1:
        raise WnError(f"{path} has {len(saved.population.seeds)} networks: a study takes files of one")
    return msgspec.structs.replace(
        keys,
        name=name,
        batch_norm=saved.network.batch_norm,
        network=str(path.absolute()),
        sha256=saved.sha256,
        dtype=saved.dtype,
        description=msgspec.json.encode(described(saved.network), order="sorted").decode(),
    )


def weights_of(keys: ModelKeys) -> Weights | None:
    """What units have to know of an entry's weights, None for networks that the study trains."""
    if keys.description is None or keys.sha256 is None or keys.dtype is None:
        return None
    return Weights(sha256=keys.sha256, dtype=keys.dtype, description=keys.description)


def network_of_weights(weights: Weights) -> Network:
    """The network that such weights belong to."""
    return from_description(msgspec.json.decode(weights.description))


def trained_names(spec: StudySpec) -> frozenset[str]:
    """The names of the networks that are trained already."""
    return frozenset(keys.name for keys in spec.models if keys.description is not None)


def model_name(name: str, trained: Collection[str]) -> str:
    """The name of a network of a study, in full; WnError for one that is unknown."""
    return name if name in trained else models.check_name(name)
