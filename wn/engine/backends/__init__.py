"""Array backends by name."""

import logging
import os
from functools import cache

from wn.basics.errors import WnError
from wn.engine.backends.plain.base import Backend

NAMES = ("numpy", "numba", "cupy", "cupy-tf32", "auto")

log = logging.getLogger("wn")


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


@cache
def _made(name: str) -> Backend:
    if name == "numpy":
        from wn.engine.backends.numpy.backend import NumpyBackend

        return NumpyBackend()
    if name == "numba":
        try:
            from wn.engine.backends.numba.backend import NumbaBackend  # takes a second to import
        except (ImportError, ValueError) as error:  # Numba's: a NumPy that it does not know, NUMBA_… values
            given = ", ".join(
                f"{name}={os.environ[name]}" for name in os.environ if name.startswith("NUMBA_")
            )
            reason = f"{' '.join(str(error).split())} ({given})" if given else " ".join(str(error).split())
            raise WnError(f"backend numba can't be used: {reason}; --backend numpy needs no Numba") from None
        return NumbaBackend()
    from wn.engine.backends.cuda.backend import CuPyBackend

    return CuPyBackend(tf32=name == "cupy-tf32")


@cache
def _fastest() -> Backend:
    from wn.engine.backends.cuda import device as cuda_device

    if cuda_device.missing() is None:
        try:
            return _made("cupy")
        except WnError as error:  # a GPU that can't be used is worth a line, not the run
            log.warning("%s; numba is used instead", error)
    return _made("numba")


__all__ = ["NAMES", "Backend", "check_name", "get"]
