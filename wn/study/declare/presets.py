"""Studies that ship with the package, by name, and whole or for one of their networks."""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from wn.basics.errors import WnError
from wn.data.sets.entries import ENTRIES
from wn.engine import models
from wn.files.whole import StrPath, as_path
from wn.study.declare.schema import StudySpec
from wn.study.declare.spec import narrowed, parse_study, read_study


def names() -> tuple[str, ...]:
    """Return the names of the presets, each followed by its quick variant."""
    files = (path.name for path in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def text(name: str) -> str:
    """Return the file of a preset, with its comments; WnError lists the names if there is none."""
    if name not in names():
        raise WnError(f"no preset is called {name!r}: allowed are {', '.join(names())}")
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")


def preset(name: str) -> StudySpec:
    """Return a preset; NAME-DATA, NAME-MODEL and NAME-DATA-MODEL are the parts of it about these.

    For example walking-additive-mnist-mlp. Raises WnError for unknown names, and for parts that it lacks.
    """
    for base in sorted(names(), key=len, reverse=True):
        if name == base:
            return parse_study(text(base), f"preset {base}", base)
        if name.startswith(f"{base}-") and (part := _part(name.removeprefix(f"{base}-"))):
            return narrowed(preset(base), *part)
    raise WnError(
        f"no preset is called {name!r}: allowed are {', '.join(names())}, also with -DATA, -MODEL or both"
    )


def find_study(name: StrPath) -> StudySpec:
    """Return a preset, or the study in a file: a name that ends in .toml or names a folder is a file."""
    path = as_path(name)
    name = name if isinstance(name, str) else str(path)  # which has lost its ./
    if name.endswith(".toml") or Path(name).name != name:
        return read_study(name)
    try:
        return preset(name)
    except WnError as error:
        if Path(name).is_file():
            return read_study(name)
        raise WnError(f"{error}; and there is no file {name}") from None


def _folder() -> Traversable:
    return resources.files("wn.study.declare") / "presets"


def _part(rest: str) -> tuple[str | None, str | None] | None:
    """Return the data set and the model that a name ends in, None if it ends in something else."""
    known = (*models.names(), *models.ALIASES)
    for dataset in ENTRIES:
        if rest == dataset:
            return dataset, None
        if rest.startswith(f"{dataset}-") and (model := rest.removeprefix(f"{dataset}-")) in known:
            return dataset, model
    return (None, rest) if rest in known else None
