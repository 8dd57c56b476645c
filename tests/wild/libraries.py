"""The libraries of the trial. Each is imported when its cases are made."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module

from tests.wild.cases import Case, Library
from tests.wild.known import KNOWN


def _cases(package: str, module: str) -> Callable[[], Iterator[Case]]:
    def cases() -> Iterator[Case]:
        for case in import_module(f"tests.wild.of_{module}").cases():
            verdict, why = KNOWN[package].get(case.name, ("passed", ""))
            yield replace(case, expected=verdict, why=why)

    return cases


def _library(package: str) -> Library:
    module = package.replace("-", "_")
    return Library(package, module, _cases(package, module))


LIBRARIES = tuple(map(_library, KNOWN))
