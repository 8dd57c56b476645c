"""The data sets of a study: those of the catalogue, and .npz files of the user's own.

When a study is read, a file's name in it becomes the name of its data set, and what has to be known of it
goes into the table `[[data.own]]`: so results are read, and reports made, without the file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from wn.basics.errors import WnError
from wn.data.dataset import Dataset, identity
from wn.data.own import load_dataset
from wn.data.recipes import Preprocessing, Recipe
from wn.data.sets.entries import ENTRIES, entry_of
from wn.study.declare.schema import ModelKeys, NoiseKeys, OwnKeys, StudySpec, as_axis, at

SUFFIX = ".npz"
Keys = TypeVar("Keys", ModelKeys, NoiseKeys)
Names = str | list[str]


class StudyData(NamedTuple):
    """What has to be known of a data set before it is loaded."""

    image_shape: tuple[int, ...]
    classes: int
    train_count: int
    test_count: int
    recipe: Recipe


def data_of(spec: StudySpec, name: str) -> StudyData:
    """A data set of a study; WnError for a name that is unknown."""
    own = own_of(spec, name)
    if own is None:
        entry = entry_of(name)
        sizes = (entry.train_count, entry.test_count)
        return StudyData(entry.image_shape, len(entry.classes), *sizes, entry.recipe)
    recipe = Recipe(own.epochs, own.epochs, own.batch_size, own.learning_rate, Preprocessing())
    return StudyData(tuple(own.image_shape), own.classes, own.train_samples, own.test_samples, recipe)


def own_of(spec: StudySpec, name: str) -> OwnKeys | None:
    """The file that a name of a study stands for, None for a data set of the catalogue."""
    return next((own for own in spec.data.own or () if own.name == name), None)


def load_own(own: OwnKeys) -> Dataset:
    """The data set of a file; WnError if it is another than when the study was read."""
    found = load_dataset(own.file)
    if identity(found) != own.sha256:
        raise WnError(
            f"{own.file}: holds other data than when the study was begun: their digest is "
            f"{identity(found)[:16]}…, not {own.sha256[:16]}…; run the study's file again for its new units"
        )
    return found


def with_files(spec: StudySpec, folder: Path) -> StudySpec:
    """A study with its files read: `folder` is where relative ones are looked for.

    Raises WnError, with the path of the key, for files that can't be read and names that are there twice.
    """
    files = [name for name in as_axis("data.names", spec.data.names) if name.endswith(SUFFIX)]
    if not files:
        return spec
    with at("data.names"):
        owns = {name: _described(folder / (spec.data.dir or "") / name) for name in files}
    named: dict[str, str] = {}
    for file, own in owns.items():
        if own.name in named or own.name in ENTRIES:
            raise WnError(f"data.names: two data sets are called {own.name!r}: give the arrays another name")
        named[own.name] = file

    def one(name: str) -> str:
        return owns[name].name if name in owns else name

    def names(value: Names) -> Names:
        return one(value) if isinstance(value, str) else [one(name) for name in value]

    data = msgspec.structs.replace(spec.data, names=names(spec.data.names), own=[*owns.values()])
    return msgspec.structs.replace(
        spec,
        data=data,
        models=[_filtered(keys, names) for keys in spec.models],
        noise=[_filtered(keys, names) for keys in spec.noise],
    )


def _filtered(keys: Keys, names: Callable[[Names], Names]) -> Keys:
    return keys if keys.data is None else msgspec.structs.replace(keys, data=names(keys.data))


def _described(path: Path) -> OwnKeys:
    found = load_dataset(path)
    return OwnKeys(
        name=found.name,
        file=str(path.absolute()),
        sha256=identity(found),
        image_shape=list(found.image_shape),
        classes=len(found.classes),
        train_samples=len(found.train),
        test_samples=len(found.test),
        epochs=found.recipe.epochs_mlp,
        batch_size=found.recipe.batch_size,
        learning_rate=found.recipe.lr,
    )
