"""The libraries of the trial. Each is imported when its cases are made."""

from collections.abc import Callable, Iterable
from importlib import import_module

from tests.wild.cases import Case, Library


def _cases(table: str) -> Callable[[], Iterable[Case]]:
    def cases() -> Iterable[Case]:
        made: Iterable[Case] = import_module(f"tests.wild.{table}").cases()
        return made

    return cases


LIBRARIES = tuple(
    Library(package, package.replace("-", "_"), _cases(f"of_{package.replace('-', '_')}"))
    for package in ("autograd", "mygrad", "numpy-ml", "pydynet", "npnn", "jax", "torch")
)
