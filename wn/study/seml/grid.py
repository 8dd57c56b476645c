"""Experiment files of seml (https://github.com/TUM-DAML/seml): which runs a file stands for.

A file has blocks `fixed` (a value per parameter), `grid` (values of which all combinations are run) and
`random` (a number of samples), and named sub-configurations with such blocks again. Each innermost one is a
leaf: what it says itself overrides what stands above it, and the runs of all leaves add up. Nested names are
the same as names with dots.
"""

from collections.abc import Iterator
from itertools import islice, product
from math import prod
from typing import Any, NamedTuple

from wn.basics.errors import WnError
from wn.study.declare.schema import at
from wn.study.seml.axes import Axis, axis_of, literal, seeded
from wn.study.seml.yaml import INFRASTRUCTURE, REMOVE

BLOCKS = ("fixed", "grid", "random")
_MOST_COMPARED = 2_000_000  # runs
_MOST_LEAVES = 1000
TOP = "the top level"  # the name of a leaf without sub-configurations


class Leaf(NamedTuple):
    """An innermost sub-configuration, with all that it inherits.

    `random` are the names that are drawn, `unseeded` those of them that are drawn without a seed.
    """

    name: str
    fixed: dict[str, Any]
    grid: dict[str, Axis]
    samples: int
    random: tuple[str, ...]
    unseeded: tuple[str, ...]

    @property
    def runs(self) -> int:
        """Runs of this leaf: bundles of zipped axes multiply, and random samples do."""
        return prod(map(_length, bundles(self.grid))) * self.samples


class _Level(NamedTuple):
    """One level of a file: parameters by block, the samples of random ones, and notes.

    `random` says of each parameter whether it is drawn with a seed; `removed` are those that are taken away
    from what stands above.
    """

    fixed: dict[str, Any]
    grid: dict[str, Axis]
    random: dict[str, bool]
    samples: int | None
    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def leaves(document: dict[str, Any]) -> tuple[list[Leaf], list[str]]:
    """Return the leaves of a file in their order, and a note for each part of it that seml passes over."""
    blocks = {name: block for name, block in document.items() if name not in INFRASTRUCTURE}
    notes: list[str] = []
    found = list(islice(_leaves("", blocks, None, notes), _MOST_LEAVES + 1))
    if len(found) > _MOST_LEAVES:
        raise WnError(f"more than {_MOST_LEAVES} sub-configurations: no experiment has so many")
    return found, notes


def duplicates(found: list[Leaf]) -> int | None:
    """The number of runs with the parameters of an earlier one: seml adds only one of them to its database.

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
    """Whether two leaves may have a configuration in common: each parameter has a common value."""
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


def _leaves(path: str, blocks: dict[str, Any], above: _Level | None, notes: list[str]) -> Iterator[Leaf]:
    with at(path or TOP):
        level = _merged(above, _level(blocks))
    notes += [f"{path or TOP}: {note}" for note in level.notes]
    children = {}
    for name, block in blocks.items():
        where = f"{path}.{name}" if path else str(name)
        if isinstance(block, dict) and name not in BLOCKS:
            children[where] = block
        elif not isinstance(block, dict) and block is not None:
            notes.append(f"{where}: not a block of parameters: seml passes over it")
    if not children:
        with at(path or TOP):
            _check_zips(level.grid)
        unseeded = tuple(name for name, seeded in level.random.items() if not seeded)
        drawn = tuple(level.random)
        yield Leaf(path or TOP, level.fixed, level.grid, level.samples or 1, drawn, unseeded)
    for where, block in children.items():
        yield from _leaves(where, block, level, notes)


def _check_zips(grid: dict[str, Axis]) -> None:
    for bundle in bundles(grid):
        if len({len(axis.values) for axis in bundle.values()}) > 1:
            raise WnError(f"{', '.join(bundle)} have one zip_id and different numbers of values")


def _level(blocks: dict[str, Any]) -> _Level:
    """The parameters that the blocks of one level set themselves."""
    given = {name: blocks[name] for name in BLOCKS if isinstance(blocks.get(name), dict)}
    flat = dict(_flat(given.get("fixed", {})))
    fixed = {name: value for name, value in flat.items() if value is not REMOVE}
    removed = [name for name, value in flat.items() if value is REMOVE]
    for block in ("grid", "random"):
        removed += [name for name, value in given.get(block, {}).items() if value is REMOVE]
    grid, notes = {}, list[str]()
    for name, keys in _parameters(given.get("grid", {})).items():
        grid[name] = axis_of(name, keys, notes)
    drawn = dict(given.get("random", {}))
    samples, seed = literal(drawn.pop("samples", None)), drawn.pop("seed", None)
    if "random" in given and (type(samples) is not int or samples < 1):
        raise WnError("random.samples: must be there, and a whole number of at least 1")
    random = {name: seeded(name, keys, seed) for name, keys in _parameters(drawn).items()}
    names = [*fixed, *grid, *random, *removed]
    if not names and "random" not in given:
        raise WnError("no parameters under fixed, grid or random")
    _check_names(names)
    return _Level(fixed, grid, random, samples, tuple(removed), tuple(notes))


def _check_names(names: list[str]) -> None:
    """Raise WnError for a parameter that is in two blocks of a level, or inside another one."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise WnError(f"{name} is in two of the blocks fixed, grid and random")
        seen.add(name)
    for name in names:
        for outer in _around(name):
            if outer in seen:
                raise WnError(f"{outer} is a parameter, and {name} is inside it")


def _around(name: str) -> list[str]:
    """Return the names that a name with dots is inside of: a and a.b for a.b.c."""
    parts = name.split(".")
    return [".".join(parts[:number]) for number in range(1, len(parts))]


def _merged(above: _Level | None, own: _Level) -> _Level:
    """A level with its inherited parameters; those that it has itself, in whatever block, are not inherited.

    In `fixed` a parameter also replaces those inside it, and that which it is inside of, as the last one does
    in seml; elsewhere seml's outcome depends on the order, and WnError is raised.
    """
    if above is None:
        if own.removed:
            raise WnError(f"{own.removed[0]}: !remove takes away what stands above, and nothing does")
        return own
    names = {*own.fixed, *own.grid, *own.random, *own.removed}
    fixed = {name: value for name, value in above.fixed.items() if name not in names}
    grid = {name: value for name, value in above.grid.items() if name not in names}
    random = {name: value for name, value in above.random.items() if name not in names}
    for name in names - set(own.removed):
        for other in [n for n in (*fixed, *grid, *random) if n.startswith(f"{name}.") or n in _around(name)]:
            if name not in own.fixed or other not in fixed:
                raise WnError(f"{name}: above there is {other}, and one is inside the other")
            del fixed[other]
    samples = above.samples if own.samples is None else own.samples
    notes = (*own.notes, *_removing_nothing(above, own))
    return _Level(fixed | own.fixed, grid | own.grid, random | own.random, samples, (), notes)


def _removing_nothing(above: _Level, own: _Level) -> Iterator[str]:
    """Yield a note for each `!remove` that removes nothing, as seml does not say."""
    there = (*above.fixed, *above.grid, *above.random)
    for name in own.removed:
        if name not in there:
            inside = next((other for other in there if other.startswith(f"{name}.")), None)
            rest = f": {inside}, say, stays" if inside else ""
            yield f"{name}: !remove removes nothing, as no parameter above has this name{rest}"


def _flat(block: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the parameters of a block by their names with dots."""
    for key, value in block.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict) and value:
            yield from _flat(value, name)
        else:
            yield name, literal(value)


def _parameters(block: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the definitions (type, options, …) of the parameters of a grid or random block."""
    found: dict[str, dict[str, Any]] = {}
    for path, value in _flat(block):
        name, _, key = path.rpartition(".")
        if value is REMOVE and not name:
            continue
        if not name or value is REMOVE:
            raise WnError(
                f"{path}: a parameter here needs a type, for example type: choice and options: [...]"
            )
        found.setdefault(name, {})[key] = value
    return _without_collections(found)


def _without_collections(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the parameters with those of a `parameter_collection`, seml's old way to nest names."""
    while collections := [n for n, keys in found.items() if keys.get("type") == "parameter_collection"]:
        del found[collections[0]]
        inside = f"{collections[0]}.params."
        renamed: dict[str, dict[str, Any]] = {}
        for name, keys in found.items():
            new = f"{collections[0]}.{name.removeprefix(inside)}" if name.startswith(inside) else name
            if new in renamed:
                raise WnError(f"{new} is there twice, in a parameter_collection and beside it")
            renamed[new] = keys
        found = renamed
    return found
