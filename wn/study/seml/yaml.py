"""YAML of experiment files as plain nested tables: every name is there once, and odd words are said.

seml reads YAML 1.1, in which yes, no, on and off are truth values, 010 is 8 and 1:30 is 90; so does this
reader, with a note for each. What would be lost without a word is refused: a name that is there twice, be it
with dots or nested, and 0,5 within braces, which is 0 and a name 5. `!remove` becomes REMOVE.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wn.basics.errors import WnError
from wn.study.declare.schema import at

DEEPEST, MOST = 30, 100_000  # nesting, and values of a file or an axis: more is no experiment
LARGEST = 200_000  # bytes
MOST_NOTES = 50

INFRASTRUCTURE = {  # the keys of blocks that say where and how runs are executed, in all versions of seml
    "seml": (
        "executable",
        "name",
        "output_dir",
        "project_root_dir",
        "conda_environment",
        "description",
        "stash_all_py_files",
        "reschedule_timeout",
        "db_collection",
        "version",
    ),
    "slurm": (
        "sbatch_options",
        "sbatch_options_template",
        "experiments_per_job",
        "max_simultaneous_jobs",
        "max_jobs_per_batch",
        "name",
        "output_dir",
    ),
}
_TABLE, _LIST, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "merge"))
_PLAIN_WORDS = {"true", "false", "null", "~", ""}
_PLAIN_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*|0x[0-9a-fA-F]+)?(\.\d*)?([eE][-+]?\d+)?|[-+]?\.(inf|nan)", re.I)


class Remove:
    """The meaning of `!remove`: the parameter of this name above is not a parameter here."""

    def __repr__(self) -> str:
        return "!remove"


REMOVE = Remove()


def read_yaml(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return an experiment file as nested tables without names with dots, and a note for each odd word of it.

    The blocks `seml` and `slurm` are as they stand. Raises WnError, in one line, where the file is none, has
    a name twice, or is more than an experiment can be; and where PyYAML is missing.
    """
    try:
        import yaml
    except ImportError:
        raise WnError("reading the files of seml needs PyYAML: pip install 'walking-noise[seml]'") from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WnError(f"{path}: can't be read: {error.strerror or error}") from None
    if len(content) > LARGEST:
        raise WnError(f"{path}: {len(content)} bytes: an experiment file has at most {LARGEST}")
    try:
        loader = yaml.SafeLoader(content)
        tree = loader.get_single_node()
        with at(str(path)):
            return _document(loader, tree)
    except RecursionError:
        raise WnError(f"{path}: nested more than {DEEPEST} deep") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise WnError(f"{path}: {place}not YAML: {reason}") from None


def _document(loader: Any, tree: Any) -> tuple[dict[str, Any], list[str]]:
    if tree is not None:
        _check_size(tree, {}, ())
    constructor = _Constructor(loader)
    document = None if tree is None else constructor.value(tree, "")
    if not isinstance(document, dict):
        raise WnError("an experiment file has blocks by name: fixed, grid, random, sub-configurations")
    _check_infrastructure(document)
    nested = _nested({name: block for name, block in document.items() if name not in INFRASTRUCTURE})
    notes = _shortened(constructor.notes)
    return nested | {name: document[name] for name in INFRASTRUCTURE if name in document}, notes


def _shortened(notes: list[str]) -> list[str]:
    rest = len(notes) - MOST_NOTES
    return notes if rest <= 0 else [*notes[:MOST_NOTES], f"{rest} more words are read as YAML 1.1 has it"]


def _check_size(node: Any, sizes: dict[int, int], above: tuple[int, ...]) -> int:
    """The number of values below a node, those of aliases counted where they are used; WnError if too many.

    Each node is visited once: an alias of an alias may stand for more than memory holds.
    """
    if id(node) in above:
        raise WnError(f"{_place(node)}: an alias within what it stands for: it has no end")
    if len(above) > 2 * DEEPEST:
        raise WnError(f"{_place(node)}: nested more than {DEEPEST} deep")
    if id(node) not in sizes:
        below = [part for item in _items(node) for part in (item if isinstance(item, tuple) else (item,))]
        sizes[id(node)] = 1 + sum(_check_size(part, sizes, (*above, id(node))) for part in below)
    if sizes[id(node)] > MOST:
        raise WnError(
            f"{_place(node)}: more than {MOST} values, with those of aliases: no experiment has so many"
        )
    return sizes[id(node)]


def _items(node: Any) -> list[Any]:
    """The nodes within a node: of a table pairs, of a list the items, of a scalar none."""
    return node.value if isinstance(node.value, list) else []


def _place(node: Any) -> str:
    return f"line {node.start_mark.line + 1}"


class _Constructor:
    """From nodes to plain values; `notes` are about words that YAML 1.1 reads otherwise than they look."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.notes: list[str] = []

    def value(self, node: Any, path: str) -> Any:
        """The value of a node; path: its name, with dots."""
        if node.tag == "!remove":
            return REMOVE
        if isinstance(node.value, str):
            return self._scalar(node, path)
        if node.tag == _LIST:
            return [self.value(item, path) for item in node.value]
        if node.tag != _TABLE:
            return self.loader.construct_object(node, deep=True)  # an error, for a tag that is not plain YAML
        table: dict[str, Any] = {}
        for key, item in self._pairs(node):
            name = str(self._scalar(key, f"{path}.{key.value}" if path else str(key.value)))
            where = f"{path}.{name}" if path else name
            if name in table:
                raise WnError(f"{_place(key)}: {where} is there twice")
            if node.flow_style and _is_empty(item) and re.fullmatch(r"\d+", key.value):
                raise WnError(f"{_place(key)}: {where} has no value: a decimal comma? numbers have a point")
            table[name] = self.value(item, where)
        return table

    def _pairs(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """The pairs of a table, those that << brings in first; none replaces another, as in seml."""
        for key, item in node.value:
            if key.tag == _MERGE:
                for merged in item.value if item.tag == _LIST else [item]:
                    if merged.tag != _TABLE:
                        raise WnError(f"{_place(key)}: << takes a table or a list of tables")
                    yield from self._pairs(merged)
        yield from ((key, item) for key, item in node.value if key.tag != _MERGE)

    def _scalar(self, node: Any, path: str) -> Any:
        if not isinstance(node.value, str):
            raise WnError(f"{_place(node)}: a name is text, not a list or a table")
        try:
            value = self.loader.construct_object(node)
        except (ValueError, LookupError, AttributeError) as error:  # a date, !!bool x, 5000 digits
            raise WnError(f"{_place(node)}: not YAML: {node.value[:40]}: {error}") from None
        odd = node.value.lower() not in _PLAIN_WORDS and not _PLAIN_NUMBER.fullmatch(node.value)
        parameter = path.split(".")[0] not in INFRASTRUCTURE
        if node.style is None and not isinstance(value, str) and odd and parameter:
            read = f"{path}: {node.value} is read as {value}"
            self.notes.append(f"{read}, as YAML 1.1 has it and seml does; quoted it is text")
        return value


def _is_empty(node: Any) -> bool:
    return isinstance(node.value, str) and node.start_mark.index == node.end_mark.index


def _check_infrastructure(document: dict[str, Any]) -> None:
    """Raise WnError for keys that seml refuses in its own blocks: often parameters at a wrong depth."""
    if not isinstance(document.get("seml"), dict):
        raise WnError(
            "seml: this block is missing: it names the executable, and seml takes no file without it"
        )
    if "executable" not in document["seml"]:
        raise WnError("seml.executable: this key is missing: seml takes no file without it")
    for name, allowed in INFRASTRUCTURE.items():
        block = document.get(name)
        for part in block if isinstance(block, list) else [block]:
            for key in part if isinstance(part, dict) else ():
                if key not in allowed:
                    raise WnError(f"{name}.{key}: unknown key; seml allows {', '.join(allowed)}")


def _nested(block: dict[str, Any], path: str = "", depth: int = 0) -> dict[str, Any]:
    """Return a table with names with dots taken apart: {a.b: 1} is {a: {b: 1}}; WnError if both are there."""
    if depth > DEEPEST:
        raise WnError(f"{path}: names are nested more than {DEEPEST} deep")
    found: dict[str, Any] = {}
    for name, value in block.items():
        where = f"{path}.{name}" if path else name
        own = _nested(value, where, depth + 1) if isinstance(value, dict) else value
        for part in reversed(name.split(".")[1:]):
            own = {part: own}
        _put(found, name.split(".")[0], own, path)
    return found


def _put(table: dict[str, Any], name: str, value: Any, path: str) -> None:
    """Add a value to a table; tables of one name become one."""
    where = f"{path}.{name}" if path else name
    if name not in table:
        table[name] = value
    elif isinstance(table[name], dict) and isinstance(value, dict):
        for key, item in value.items():
            _put(table[name], key, item, where)
    elif isinstance(table[name], dict) or isinstance(value, dict):
        inside = next(iter(table[name] if isinstance(table[name], dict) else value), "others")
        raise WnError(f"{where} is a parameter, and {where}.{inside} is inside it")
    else:
        raise WnError(f"{where} is there twice, with dots and nested")
