"""The parts of a training step: a function put in the place of one may count, or decide by its own state."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType, ModuleType
from typing import Any

KINDS = (FunctionType, type, staticmethod, classmethod, property)


class Originals:
    """The functions and classes of modules, and the methods of these classes, as they are now.

    Modules that are not there, as an engine without fusion has none, have no parts.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        there = [import_module(name) for name in modules if find_spec(name)]
        self._parts = [part for module in there for part in _parts(module)]

    def replaced(self) -> str:
        """The name of the first of them that is another one today, "" if all are the same."""
        for owner, name, original in self._parts:
            if vars(owner).get(name) is not original:
                return f"{owner.__name__}.{name}"
        return ""


def _parts(module: ModuleType) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value) of the module's functions, classes, and attributes of these classes."""
    for name, value in vars(module).items():
        if isinstance(value, KINDS):
            yield module, name, value
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield from ((value, key, item) for key, item in vars(value).items() if isinstance(item, KINDS))
