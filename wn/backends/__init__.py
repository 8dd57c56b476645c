"""Array backends: one behaviour, three ways to compute it."""

from wn.backends.base import Backend
from wn.errors import WnError

NAMES = ("numpy", "numba", "cupy", "auto")


def get(name: str = "auto") -> Backend:
    """Return the backend of that name; `auto` takes the fastest one that is there.

    Raises WnError if the name is unknown or the backend is not available, saying what is missing.
    """
    if name not in NAMES:
        raise WnError(f"unknown backend {name!r}: allowed are {', '.join(NAMES)}")
    if name in ("numba", "cupy"):
        raise WnError(f"backend {name!r} is not part of this version: allowed are numpy and auto")
    from wn.backends.numpy import NumpyBackend

    return NumpyBackend()


__all__ = ["NAMES", "Backend", "get"]
