"""The keys of a study file, and errors about them in one line. What they mean: docs/study-files.md."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import NoneType
from typing import TYPE_CHECKING, Any

import msgspec

from wn.basics.errors import WnError
from wn.basics.options import plain_type
from wn.engine.noise_spec import FIELDS, OPTIONS, RULES
from wn.walking.grids import MOST

Sigma = str | float | list[float]
AT_MIDPOINT = "midpoint"  # a σ: the midpoint that the study finds at the place


class TomlTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a study file; a key that takes a value or a list of values is an axis of the grid."""


class OwnKeys(TomlTable, frozen=True, kw_only=True):
    """[[data.own]]: what is known of a .npz file; `wn study` writes it when it reads the file."""

    name: str
    file: str
    sha256: str
    image_shape: list[int]
    classes: int
    train_samples: int
    test_samples: int
    epochs: int
    batch_size: int
    learning_rate: float


class DataKeys(TomlTable, frozen=True, kw_only=True):
    """[data]: names of data sets or .npz files, the folder of files, and limits on the samples.

    `data = NAMES` stands for a table with the names alone.
    """

    names: str | list[str]
    dir: str | None = None
    train_limit: int | None = None
    test_limit: int | None = None
    own: list[OwnKeys] | None = None


class ModelKeys(TomlTable, frozen=True, kw_only=True):
    """[[models]]: a network with its kinds of batch norm; `data` restricts it to some of the data sets.

    `network` is a file with a network that is trained already; `wn study` writes the last three keys when it
    reads the file. `network = FILE` at the top stands for such an entry.
    """

    name: str = ""
    batch_norm: str | list[str] = "none"
    data: str | list[str] | None = None
    network: str | None = None
    sha256: str | None = None
    dtype: str | None = None
    description: str | None = None


class RecipeKeys(TomlTable, frozen=True, kw_only=True):
    """[recipe]: settings of the training; missing ones come from the recipe of the data set."""

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    clamp_weights: bool | list[bool] = False
    dtype: str = "float32"


class _Strength(TomlTable, frozen=True, kw_only=True):
    kind: str
    sigma: Sigma | None = None
    sigma_mul: Sigma | None = None
    sigma_add: Sigma | None = None


def _key_of(name: str) -> tuple[str, Any, None]:
    """The key for an option of the operator: None is not given, and an axis takes a list too."""
    kind: Any = plain_type(FIELDS[name].type, NoneType)
    several = list.__class_getitem__(kind) if RULES[name].axis else NoneType
    return name, kind | several | None, None


if TYPE_CHECKING:
    _Operator = _Strength
else:
    _Operator = msgspec.defstruct(
        "_Operator",
        [_key_of(name) for name in OPTIONS],
        bases=(_Strength,),
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        module=__name__,
    )


class NoiseKeys(_Operator, frozen=True, kw_only=True):
    """[[noise]]: a noise kind with its σ grid and axes, the places it goes to, and for which networks.

    The options of the operator are those of `wn.engine.noise_spec`. `allocation` and `budget` make maps of
    repetitions of the study's own midpoints or gains; `label` names the entry in tables and pictures.
    `sigma_train` is the grid of training in the phase "matrix". `phases`, `repeats` and `clamp_weights`
    override those of the study; `data`, `models` and `batch_norm` restrict the entry to some of its networks.
    """

    label: str | None = None
    sigma_train: Sigma | None = None
    repetition_maps: list[list[int]] | None = None
    allocation: str | list[str] | None = None
    budget: str | int | list[str | int] | None = None
    where: str | list[int | str] | None = None
    factors: dict[str, float] | None = None
    phases: str | list[str] | None = None
    repeats: int | None = None
    clamp_weights: bool | list[bool] | None = None
    data: str | list[str] | None = None
    models: str | list[str] | None = None
    batch_norm: str | list[str] | None = None


def is_derived(keys: NoiseKeys) -> bool:
    """Whether an entry waits for midpoints that the study has to find first."""
    return keys.sigma == AT_MIDPOINT or keys.allocation is not None or keys.budget is not None


class StudySpec(TomlTable, frozen=True, kw_only=True):
    """A study as its file declares it."""

    name: str = "study"
    description: str = ""
    seed: int = 0
    repeats: int = 1
    phases: str | list[str] | None = None  # both
    observe: str | list[str] | None = None  # nothing besides what every unit has
    data: DataKeys
    models: list[ModelKeys]
    recipe: RecipeKeys = RecipeKeys()
    noise: list[NoiseKeys]


_TABLES: dict[str, type[TomlTable]] = {
    "": StudySpec,
    "data": DataKeys,
    "models": ModelKeys,
    "recipe": RecipeKeys,
    "noise": NoiseKeys,
}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def decode(document: dict[str, Any]) -> StudySpec:
    """Return a TOML document as a StudySpec; WnError names an unknown, missing or wrongly typed key."""
    if isinstance(document.get("data"), str | list):
        document = document | {"data": {"names": document["data"]}}
    if "network" in document and "models" not in document:
        files = document["network"] if isinstance(document["network"], list) else [document["network"]]
        rest = {key: value for key, value in document.items() if key != "network"}
        document = rest | {"models": [{"network": file} for file in files]}
    try:
        return msgspec.convert(document, StudySpec, strict=True)
    except msgspec.ValidationError as error:
        raise WnError(_one_line(str(error), document)) from None


@contextmanager
def at(path: str) -> Iterator[None]:
    """Put the path of a key before the error about it."""
    try:
        yield
    except WnError as error:
        raise WnError(f"{path}: {error}") from None


def as_axis(path: str, value: Any) -> tuple[Any, ...]:
    """Return the values of an axis, given as a value or a list; WnError if it is empty or has one twice.

    An axis has at most 10,000 values.
    """
    values = tuple(value) if isinstance(value, list) else (value,)
    if not values:
        raise WnError(f"{path}: the list is empty: give at least one value, or leave the key out")
    if len(values) > MOST:
        raise WnError(f"{path}: {len(values)} values: at most {MOST} are allowed")
    seen = set()
    for item in values:
        key = tuple(item) if isinstance(item, list) else item
        if key in seen:
            raise WnError(f"{path}: {item!r} is listed twice: every value of an axis must be another one")
        seen.add(key)
    return values


def _one_line(error: str, document: dict[str, Any]) -> str:
    """Return msgspec's message in the words of TOML, led by the path of the key."""
    reason, _, found = error.partition(" - at `$")
    path = found.removesuffix("`").removeprefix(".")
    keys = ", ".join(_TABLES.get(path.partition("[")[0], StudySpec).__struct_fields__)
    if named := re.fullmatch(r"Object (contains unknown|missing required) field `(.*)`", reason):
        key = f"{path}.{named[2]}" if path else named[2]
        what = "unknown key" if named[1] == "contains unknown" else "this key is missing"
        return f"{key}: {what}; allowed are {keys}" if what == "unknown key" else f"{key}: {what}"
    if named := re.fullmatch(r"Expected `(.*)`, got `(.*)`", reason):
        allowed = [_WORDS.get(word, word) for word in named[1].split(" | ") if word != "null"]
        got = _WORDS.get(named[2], f"a {named[2]}")
        return f"{_with_key(path, document)}: must be {' or '.join(allowed)}, not {got}"
    return f"{path}: {reason}" if path else reason


def _with_key(path: str, document: dict[str, Any]) -> str:
    """Return the path with the name of the factor that is no number: msgspec writes [...] for it."""
    if not path.endswith("[...]"):
        return path
    index = int(path.removeprefix("noise[").partition("]")[0])
    factors = document["noise"][index]["factors"]
    wrong = next(key for key, value in factors.items() if type(value) not in (int, float))
    return f"{path.removesuffix('[...]')}.{wrong}"
