"""Array backends by name."""

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from wn.basics.errors import WnError
from wn.engine.backends.plain.base import Backend

log = logging.getLogger("wn")


class Choice(NamedTuple):
    """A backend that can be chosen by name: its constructor, and whether it computes on a GPU."""

    make: Callable[[], Backend]
    on_gpu: bool = False


def _numpy() -> Backend:
    from wn.engine.backends.numpy.backend import NumpyBackend

    return NumpyBackend()


def _numba() -> Backend:
    try:
        from wn.engine.backends.numba.backend import NumbaBackend  # takes a second to import
    except (ImportError, ValueError) as error:  # Numba's: a NumPy that it does not know, NUMBA_… values
        given = ", ".join(f"{name}={os.environ[name]}" for name in os.environ if name.startswith("NUMBA_"))
        reason = f"{' '.join(str(error).split())} ({given})" if given else " ".join(str(error).split())
        raise WnError(f"backend numba can't be used: {reason}; --backend numpy needs no Numba") from None
    return NumbaBackend()


def _cupy(tf32: bool) -> Backend:
    from wn.engine.backends.cuda.backend import CuPyBackend

    return CuPyBackend(tf32=tf32)


CHOICES = {
    "numpy": Choice(_numpy),
    "numba": Choice(_numba),
    "cupy": Choice(lambda: _cupy(tf32=False), on_gpu=True),
    "cupy-tf32": Choice(lambda: _cupy(tf32=True), on_gpu=True),
}
NAMES = (*CHOICES, "auto")


def check_name(name: str) -> None:
    """Raise WnError unless there is a backend of that name; it need not be usable on this machine."""
    if name not in NAMES:
        raise WnError(f"unknown backend {name!r}: allowed are {', '.join(NAMES)}")


def get(name: str = "auto") -> Backend:
    """Return the backend of that name; `auto` takes CuPy if a GPU answers, else Numba.

    Raises WnError if there is none of that name, and if it can't be used here.
    """
    check_name(name)
    return _fastest() if name == "auto" else _made(name)


def on_gpu(name: str) -> bool:
    """Whether the backend of that name computes on a GPU; `auto` is none until it has been resolved."""
    return name in CHOICES and CHOICES[name].on_gpu


@cache
def _made(name: str) -> Backend:
    return CHOICES[name].make()


@cache
def _fastest() -> Backend:
    from wn.engine.backends.cuda import device as cuda_device

    if cuda_device.missing() is None:
        try:
            return _made("cupy")
        except WnError as error:  # a GPU that can't be used is worth a line, not the run
            log.warning("%s; numba is used instead", error)
    return _made("numba")


__all__ = ["NAMES", "Backend", "check_name", "get", "on_gpu"]
