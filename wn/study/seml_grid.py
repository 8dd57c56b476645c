"""Experiment files of seml (https://github.com/TUM-DAML/seml): which runs a file stands for.

A file has blocks `fixed` (a value per parameter), `grid` (values of which all combinations are run) and
`random` (a number of samples), and named sub-configurations with such blocks again. Each innermost one is a
leaf: what it says itself overrides what stands above it, and the runs of all leaves add up. Nested names are
the same as names with dots.
"""

import re
from collections.abc import Iterator
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wn.errors import WnError
from wn.study.schema import at

BLOCKS = ("fixed", "grid", "random")
INFRASTRUCTURE = ("seml", "slurm")  # blocks that say where and how runs are executed
_KEYS = {
    "choice": ("options",),
    "range": ("min", "max", "step"),
    "uniform": ("min", "max", "num"),
    "loguniform": ("min", "max", "num"),
}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_WORDS = {"None": None, "True": True, "False": False}
_DEEPEST, _MOST = 30, 100_000  # nesting, and values of an axis: more is no experiment
_MOST_COMPARED = 2_000_000  # runs


class Axis(NamedTuple):
    """The values of a parameter of the grid; those with the same zip_id go together instead of crosswise.

    `text` is the grid as wn.grids writes it, where it is one.
    """

    values: tuple[Any, ...]
    zip_id: str | None = None
    text: str | None = None


class Leaf(NamedTuple):
    """An innermost sub-configuration, with all that it inherits; `random` are the names that are drawn."""

    name: str
    fixed: dict[str, Any]
    grid: dict[str, Axis]
    samples: int
    random: tuple[str, ...]

    @property
    def runs(self) -> int:
        """Runs of this leaf: bundles of zipped axes multiply, and random samples do."""
        return prod(map(_length, bundles(self.grid))) * self.samples


class _Level(NamedTuple):
    """What holds at one level of a file: parameters by block, and the samples of random ones, if given."""

    fixed: dict[str, Any]
    grid: dict[str, Axis]
    random: dict[str, Any]
    samples: int | None


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML file as plain Python; WnError, in one line, where it is none, or PyYAML is missing."""
    try:
        import yaml
    except ImportError:
        raise WnError("reading the files of seml needs PyYAML: pip install 'walking-noise[seml]'") from None
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise WnError(f"{path}: can't be read: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise WnError(f"{path}: {place}not YAML: {reason}") from None
    if not isinstance(document, dict):
        raise WnError(
            f"{path}: an experiment file has blocks by name: fixed, grid, random, sub-configurations"
        )
    return document


def leaves(document: dict[str, Any]) -> tuple[list[Leaf], list[str]]:
    """Return the leaves of a file in their order, and a note for each part of it that seml passes over."""
    blocks = {str(name): block for name, block in document.items() if name not in INFRASTRUCTURE}
    notes: list[str] = []
    found = list(_leaves("", blocks, _Level({}, {}, {}, None), notes, 0))
    return found, notes


def duplicates(found: list[Leaf]) -> int | None:
    """Return how many runs have the parameters of an earlier one: seml adds only one of them to its database.

    None if there are too many runs to compare. Drawn parameters are taken to be different.
    """
    known = [leaf for leaf in found if not leaf.random]
    compared = [
        leaf
        for leaf in known
        if leaf.samples > 1
        or any(len({repr(value) for value in axis.values}) < len(axis.values) for axis in leaf.grid.values())
        or any(_overlap(leaf, other) for other in known if other is not leaf)
    ]
    if sum(leaf.runs for leaf in compared) > _MOST_COMPARED:
        return None
    distinct = {configuration for leaf in compared for configuration in _configurations(leaf)}
    return sum(leaf.runs for leaf in compared) - len(distinct)


def _overlap(one: Leaf, other: Leaf) -> bool:
    """Return whether two leaves may have a configuration in common: each parameter has a common value."""
    mine, others = _values(one), _values(other)
    return mine.keys() == others.keys() and all(mine[name] & others[name] for name in mine)


def _values(leaf: Leaf) -> dict[str, set[str]]:
    values = {name: {repr(value)} for name, value in leaf.fixed.items()}
    return values | {name: {repr(value) for value in axis.values} for name, axis in leaf.grid.items()}


def _configurations(leaf: Leaf) -> Iterator[tuple[tuple[str, str], ...]]:
    fixed = [(name, repr(value)) for name, value in leaf.fixed.items()]
    choices = [
        [
            [(name, repr(axis.values[index])) for name, axis in bundle.items()]
            for index in range(_length(bundle))
        ]
        for bundle in bundles(leaf.grid)
    ]
    for chosen in product(*choices):
        yield tuple(sorted([*fixed, *(pair for pairs in chosen for pair in pairs)]))


def _length(bundle: dict[str, Axis]) -> int:
    return len(next(iter(bundle.values())).values)


def bundles(grid: dict[str, Axis]) -> list[dict[str, Axis]]:
    """Return the axes of a grid, those that are zipped together in one dictionary."""
    found: dict[str, dict[str, Axis]] = {}
    for name, axis in grid.items():
        key = f"name {name}" if axis.zip_id is None else f"zip {axis.zip_id}"
        found.setdefault(key, {})[name] = axis
    return list(found.values())


# ---- blocks ---------------------------------------------------------------------------------------------


def _leaves(path: str, blocks: dict[str, Any], above: _Level, notes: list[str], depth: int) -> Iterator[Leaf]:
    with at(path or "the top level"):
        level = _merged(above, _level(blocks))
    children = {}
    for name, block in blocks.items():
        where = f"{path}.{name}" if path else str(name)
        if isinstance(block, dict) and name not in BLOCKS:
            children[where] = block
        elif not isinstance(block, dict) and block is not None:
            notes.append(f"{where}: not a block of parameters: seml passes over it")
    if depth > _DEEPEST:
        raise WnError(f"{path}: sub-configurations are nested more than {_DEEPEST} deep")
    if not children:
        yield Leaf(path or "the top level", level.fixed, level.grid, level.samples or 1, tuple(level.random))
    for where, block in children.items():
        yield from _leaves(where, block, level, notes, depth + 1)


def _level(blocks: dict[str, Any]) -> _Level:
    """Return what the blocks of one level say themselves."""
    given = {name: blocks[name] for name in BLOCKS if isinstance(blocks.get(name), dict)}
    fixed = dict(_flat(given.get("fixed", {})))
    grid = {name: _axis(name, keys) for name, keys in _parameters(given.get("grid", {})).items()}
    drawn = dict(given.get("random", {}))
    samples = _literal(drawn.pop("samples", None))
    drawn.pop("seed", None)
    if "random" in given and (isinstance(samples, bool) or not isinstance(samples, int) or samples < 1):
        raise WnError("random.samples: must be there, and a whole number of at least 1")
    random = _parameters(drawn)
    names = [*fixed, *grid, *random]
    if not names and "random" not in given:
        raise WnError("no parameters under fixed, grid or random")
    for name in names:
        if names.count(name) > 1:
            raise WnError(f"{name} is in two of the blocks fixed, grid and random")
        for other in names:
            if other.startswith(f"{name}."):
                raise WnError(f"{name} is a parameter, and {other} is inside it")
    for bundle in bundles(grid):
        if len({len(axis.values) for axis in bundle.values()}) > 1:
            raise WnError(f"{', '.join(bundle)} have one zip_id and different numbers of values")
    return _Level(fixed, grid, random, samples)


def _merged(above: _Level, own: _Level) -> _Level:
    """Return a level with what it inherits; a parameter that it has itself, in whatever block, is not."""
    names = {*own.fixed, *own.grid, *own.random}
    kept = [{name: block[name] for name in block if name not in names} for block in above[:3]]
    samples = above.samples if own.samples is None else own.samples
    return _Level(kept[0] | own.fixed, kept[1] | own.grid, kept[2] | own.random, samples)


def _flat(block: dict[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the parameters of a block by their names with dots."""
    if depth > _DEEPEST:
        raise WnError(f"{prefix}: names are nested more than {_DEEPEST} deep")
    for key, value in block.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict) and value:
            yield from _flat(value, name, depth + 1)
        else:
            yield name, _literal(value)


def _parameters(block: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the definitions (type, options, …) of the parameters of a grid or random block."""
    found: dict[str, dict[str, Any]] = {}
    for path, value in _flat(block):
        name, _, key = path.rpartition(".")
        if not name:
            raise WnError(
                f"{key}: a parameter here needs a type, for example type: choice and options: [...]"
            )
        found.setdefault(name, {})[key] = value
    return _without_collections(found)


def _without_collections(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the parameters with those of a `parameter_collection`, seml's old way to nest names."""
    while collections := [n for n, keys in found.items() if keys.get("type") == "parameter_collection"]:
        del found[collections[0]]
        inside = f"{collections[0]}.params."
        found = {
            f"{collections[0]}.{name.removeprefix(inside)}" if name.startswith(inside) else name: keys
            for name, keys in found.items()
        }
    return found


def _axis(name: str, keys: dict[str, Any]) -> Axis:
    """Return the values of a grid parameter; `max` is left out by range, and included by the others."""
    kind = keys.get("type")
    if kind not in _KEYS:
        raise WnError(f"{name}: unknown type {kind!r}: allowed in a grid are {', '.join(_KEYS)}")
    needed = _KEYS[kind]
    for key in dict.fromkeys((*needed, *keys)):
        if key not in keys or key not in ("type", "zip_id", *needed):
            raise WnError(
                f"{name}.{key}: the keys of type {kind} are {', '.join(needed)}, and zip_id if need be"
            )
    zip_id = None if keys.get("zip_id") is None else str(keys["zip_id"])
    if kind == "choice":
        options = keys["options"]
        if not isinstance(options, list) or not options:
            raise WnError(f"{name}.options: must be a list with at least one value")
        return Axis(tuple(options), zip_id)
    for key in needed:
        if isinstance(keys[key], bool) or not isinstance(keys[key], int | float):
            raise WnError(f"{name}.{key}: must be a number, not {keys[key]!r}")
    return _spaced(name, kind, zip_id, *(keys[key] for key in needed))


def _spaced(name: str, kind: str, zip_id: str | None, first: float, last: float, third: float) -> Axis:
    """Return an evenly spaced axis: `third` is the step of a range, the number of values of the others."""
    if kind == "range":
        values = _range(name, first, last, third)
    else:
        number = int(third)
        if not 1 <= number <= _MOST:
            raise WnError(f"{name}.num: {third} is out of range: it must be in 1…{_MOST}")
        if kind == "loguniform" and not (first > 0 and last > 0):
            raise WnError(f"{name}.min: log spacing needs min and max above 0")
        if kind == "uniform":
            values = np.linspace(first, last, number)
        else:
            values = np.logspace(float(np.log10(first)), float(np.log10(last)), number)
        if 0 <= first < last and number > 1:
            text = f"{'lin:' if kind == 'uniform' else ''}{_text(first)}:{_text(last)}:{number}"
            return Axis(tuple(values.tolist()), zip_id, text)
    return Axis(tuple(values.tolist()), zip_id)


def _range(name: str, first: float, last: float, step: float) -> Any:
    if step == 0 or not (last - first) / step > 0:
        raise WnError(f"{name}: the range from {first} to {last} in steps of {step} has no values")
    if (last - first) / step > _MOST:
        raise WnError(f"{name}: the range has more than {_MOST} values")
    return np.arange(first, last, step)


def _text(number: float) -> str:
    return next(text for text in (f"{number:g}", repr(number)) if float(text) == number)


def _literal(value: Any) -> Any:
    """Return text that is a number, None, True or False as such: seml does, as YAML takes 1e-3 for text."""
    if isinstance(value, list):
        return [_literal(item) for item in value]
    if not isinstance(value, str):
        return value
    if value in _WORDS:
        return _WORDS[value]
    if not _NUMBER.fullmatch(value):
        return value
    return float(value) if any(sign in value for sign in ".eE") else int(value)
