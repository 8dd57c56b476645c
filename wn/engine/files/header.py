"""The metadata of networks on disk, one JSON object: which network it is, its seeds, and its record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from wn.basics.errors import WnError
from wn.engine import models
from wn.engine.network import Network
from wn.engine.networks.description import described as in_words
from wn.engine.networks.description import from_description

Format = Literal["wn-population", "wn-member"]
POPULATION: Format = "wn-population"
MEMBER: Format = "wn-member"
VERSION = 2  # of networks that `models` builds by name
DESCRIBED = 3  # of others: the metadata describe the network
READABLE = (1, 2, 3)  # version 1 has no residuals of running means
METADATA_KEY = "wn"  # one key only: safetensors writes several in a random order


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metadata of a file: the network, its seeds, and the record of its training."""

    format: Format
    version: int
    model: str
    batch_norm: str
    input_shape: tuple[int, ...]
    classes: int
    dtype: Literal["float32", "float64"]
    seeds: tuple[int, ...]
    record: dict[str, Any]
    network: dict[str, Any] | UnsetType = UNSET  # its description, in version 3


class _FormatVersion(msgspec.Struct, frozen=True):
    """The part of the metadata that every version has."""

    format: str
    version: int


def read_header(path: Path, metadata: dict[str, str] | None) -> Header:
    """Return the metadata of a population; WnError if they are not there, or of another kind."""
    text = (metadata or {}).get(METADATA_KEY)
    if text is None:
        raise WnError(
            f"{path}: no population saved by wn: its metadata have no {METADATA_KEY!r}; "
            "PyTorch's files are read by import"
        )
    try:
        found = msgspec.json.decode(text, type=_FormatVersion)
        if found.format != POPULATION:
            raise WnError(
                f"{path}: its format is {found.format!r}, not {POPULATION!r}; members are read by import"
            )
        if found.version not in READABLE:
            versions = " and ".join(map(str, READABLE))
            raise WnError(
                f"{path}: its format has version {found.version}; this wn reads versions {versions}"
            )
        return msgspec.json.decode(text, type=Header)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WnError(f"{path}: its metadata are broken: {error}") from None


def metadata_of(
    kind: Format,
    network: Network,
    seeds: tuple[int, ...],
    tensors: Mapping[str, Any],
    record: Mapping[str, Any],
) -> dict[str, str]:
    """Return the metadata of a file; WnError for a record that is no JSON or a layer of one's own."""
    by_name = _is_built_in(network)
    header = Header(
        format=kind,
        version=VERSION if by_name else DESCRIBED,
        model=network.name,
        batch_norm=network.batch_norm,
        input_shape=tuple(int(size) for size in network.input_shape),
        classes=int(network.classes),
        dtype="float64" if next(iter(tensors.values())).dtype == np.float64 else "float32",
        seeds=tuple(int(seed) for seed in seeds),
        record=dict(record),
        network=UNSET if by_name else in_words(network),
    )
    try:
        return {METADATA_KEY: msgspec.json.encode(header).decode()}
    except (TypeError, ValueError, RecursionError) as error:
        raise WnError(f"the record can't be written as JSON: {error}") from None


def _is_built_in(network: Network) -> bool:
    """Whether `models` builds this network by its name."""
    try:
        return models.build(network.name, network.input_shape, network.classes, network.batch_norm) == network
    except WnError:  # no name of theirs, or no input
        return False


def network_of(header: Header) -> Network:
    """The network of a file; WnError if its metadata do not say it, or contradict themselves."""
    if (header.network is UNSET) != (header.version < DESCRIBED):
        raise WnError(
            f"its metadata are broken: those of version {DESCRIBED} describe the network, no others"
        )
    if header.network is UNSET:
        return models.build(header.model, header.input_shape, header.classes, header.batch_norm)
    network = from_description(header.network)
    told = header.model, header.input_shape, header.classes, header.batch_norm
    if told != (network.name, network.input_shape, network.classes, network.batch_norm):
        raise WnError("its metadata contradict themselves: name, input shape, classes or batch norm")
    return network
