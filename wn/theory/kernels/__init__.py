"""Compiled loops of the heaviest sums: most callers have the same in plain NumPy, for where Numba is not."""

import logging
from functools import cache
from importlib import import_module
from types import ModuleType

from wn.basics.errors import WnError

log = logging.getLogger("wn")


@cache
def compiled(name: str) -> ModuleType | None:
    """The module of that name here, or None where Numba can't be used."""
    try:
        return import_module(f"{__name__}.{name}")
    except (ImportError, ValueError, WnError) as error:
        log.debug("without compiled loops: %s", error)
        return None
