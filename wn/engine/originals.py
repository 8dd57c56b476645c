"""The parts of a training step: a function put in the place of one may count, or decide by its own state."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType, ModuleType
from typing import Any

KINDS = (FunctionType, type, staticmethod, classmethod, property)

LAYERS = {
    "": "base windows linear convolution batch_norm relu max_pooling average_pooling flatten dropout noise "
    "cross_entropy",
    "joins.": "add concatenate",
    "sliding.": "places convolution pooling max_pooling average_pooling global_pooling",
    "activations.": "base clip gelu leaky_relu sigmoid silu softplus tanh",
    "shapes.": "reshape identity zero_padding",
}
OF_ENGINE = [
    *(f"layers.{folder}{name}" for folder, names in LAYERS.items() for name in names.split()),
    *["fusion", "graph.stages", "loss", "network", "noise", "optim", "training"],
]
PARTS_OF_A_STEP = ["wn.data.dataset", "wn.data.recipes", *(f"wn.engine.{name}" for name in OF_ENGINE)]


class Originals:
    """The functions and classes of modules, and the methods of these classes, as they are now.

    Modules that are not there, as an engine without fusion has none, have no parts.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        there = [import_module(name) for name in modules if find_spec(name)]
        self._parts = [(owner, _parts(owner)) for module in there for owner in _owners(module)]

    def replaced(self) -> str:
        """The name of the first of them that is another one today, "" if all are the same."""
        for owner, originals in self._parts:
            now = _parts(owner)
            # A class may have got a method in the place of one that it inherits.
            names = originals | now if isinstance(owner, type) else originals
            for name in names:
                if now.get(name) is not originals.get(name):
                    return f"{owner.__name__}.{name}"
        return ""


def _owners(module: ModuleType) -> Iterator[Any]:
    """Yield the module and its own classes."""
    yield module
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield value


def _parts(owner: Any) -> dict[str, Any]:
    """The functions and classes of a module, or the methods and properties of a class, by name."""
    return {name: value for name, value in vars(owner).items() if isinstance(value, KINDS)}
