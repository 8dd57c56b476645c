"""What a run is given besides its settings: data of the user's own, as a value or a file.

Settings hold a value's name and digest, as records do; the value itself is held here while a function of the
front door runs.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET

from wn.basics.errors import WnError
from wn.data import catalogue
from wn.data.dataset import Dataset, identity
from wn.data.own import load_dataset
from wn.data.sets.entries import entry_of
from wn.engine.layers.base import Shape
from wn.walking.asked import EvaluationSettings, NetworkSettings

Chosen = TypeVar("Chosen", bound=NetworkSettings | EvaluationSettings)

_held: ContextVar[dict[str, Any]] = ContextVar("_held", default={})  # noqa: B039  never changed in place


@contextmanager
def holding(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The settings of a function with names and digests in place of values, which are held in this block.

    Raises WnError for a value that is none of data, and for another one than a given digest is of.
    """
    given = dict(settings)
    values = dict(_held.get())
    _check_kinds(given)
    if isinstance(given.get("data"), Dataset):
        value = given["data"]
        digest = identity(value)
        if given.get("data_sha256") not in (None, digest):
            raise WnError(
                f"data: {value.name} is not the data set of this record: its digest is {digest[:16]}…, and "
                f"{given['data_sha256'][:16]}… is asked for"
            )
        given |= {"data": value.name, "data_sha256": digest}
        values[digest] = value
    token = _held.set(values)
    try:
        yield given
    finally:
        _held.reset(token)


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
