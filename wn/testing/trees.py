"""Arrays in dicts, tuples, lists and NamedTuples, nested as they come, taken apart and put together.

A leaf is whatever is none of these containers; None is a leaf too. Names are written as in Python:
`w`, `conv.w`, `[0]`, `layers[1].b`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from wn.basics.errors import WnError


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, leaf) in the order of the containers."""
    for label, value in _children(tree, name):
        if is_container(value):
            yield from leaves(value, label)
        else:
            yield label, value
    if not is_container(tree):
        yield name, tree


def rebuild(tree: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """Return a tree of the same structure with `change(name, leaf)` in the place of each leaf."""
    if not is_container(tree):
        return change(name, tree)
    parts = [rebuild(value, change, label) for label, value in _children(tree, name)]
    if isinstance(tree, Mapping):
        return dict(zip(tree, parts, strict=True))
    if hasattr(tree, "_fields"):
        return type(tree)(*parts)
    return type(tree)(parts)


def difference(tree: Any, expected: Any, name: str, other: str) -> str | None:
    """The difference between the containers of two trees, in a line, or None; leaves are not looked at.

    None stands in for a whole container, as a leaf does for a leaf.
    """
    if tree is None or not is_container(expected):
        return None
    if not is_container(tree):
        return f"{name} is {kind(tree)}, {other} is {kind(expected)}"
    if type(tree) is not type(expected) and not _interchangeable(tree, expected):
        return f"{name} is {kind(tree)}, it must be of {other}'s type {kind(expected)}"
    keys, expected_keys = _keys(tree), _keys(expected)
    if keys != expected_keys and (not isinstance(tree, Mapping) or set(keys) != set(expected_keys)):
        return f"{name} has {_listed(keys)}, {other} has {_listed(expected_keys)}"
    for key in expected_keys:
        label = _label(expected, key, "")
        found = difference(_item(tree, key), _item(expected, key), name + label, other + label)
        if found:
            return found
    return None


def is_container(value: Any) -> bool:
    """Whether a value is a dict, tuple, list or NamedTuple."""
    return isinstance(value, Mapping | tuple | list)


def kind(value: Any) -> str:
    """Return the name of a value's type, with the length of a plain tuple or list."""
    counted = isinstance(value, tuple | list) and not hasattr(value, "_fields")
    return f"{type(value).__name__} of {len(value)}" if counted else type(value).__name__


def paired(tree: Any, expected: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, leaf of tree, leaf of expected) for trees of one structure; None covers a container."""
    if not is_container(expected):
        yield name, tree, expected
        return
    for key in _keys(expected):
        part = None if tree is None else _item(tree, key)
        yield from paired(part, _item(expected, key), _label(expected, key, name))


def _children(tree: Any, name: str) -> list[tuple[str, Any]]:
    if not is_container(tree):
        return []
    return [(_label(tree, key, name), _item(tree, key)) for key in _keys(tree)]


def _keys(tree: Any) -> list[Any]:
    if isinstance(tree, Mapping):
        unnamed = [key for key in tree if not isinstance(key, str | int)]
        if unnamed:
            raise WnError(f"a dict of arrays has the key {unnamed[0]!r}: keys must be strings or integers")
        return list(tree)
    return list(getattr(tree, "_fields", range(len(tree))))


def _item(tree: Any, key: Any) -> Any:
    return getattr(tree, key) if hasattr(tree, "_fields") else tree[key]


def _label(tree: Any, key: Any, name: str) -> str:
    if isinstance(key, int):
        return f"{name}[{key}]"
    return f"{name}.{key}" if name else str(key)


def _interchangeable(tree: Any, expected: Any) -> bool:
    """Whether both are plain sequences, or both are dicts."""
    if isinstance(tree, Mapping) and isinstance(expected, Mapping):
        return True
    plain = (tree, expected)
    return all(isinstance(value, tuple | list) and not hasattr(value, "_fields") for value in plain)


def _listed(keys: list[Any]) -> str:
    return (
        f"{len(keys)} entries" if all(isinstance(key, int) for key in keys) else str(sorted(map(str, keys)))
    )
