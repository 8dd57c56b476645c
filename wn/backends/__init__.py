"""Array backends by name."""

from functools import cache

from wn.backends.base import Backend
from wn.errors import WnError

NAMES = ("numpy", "numba", "auto")
LATER = ("cupy",)


def check_name(name: str) -> None:
    """Raise WnError unless there is a backend of that name."""
    if name not in NAMES:
        what = (
            f"backend {name!r} is not part of this version" if name in LATER else f"unknown backend {name!r}"
        )
        raise WnError(f"{what}: allowed are {', '.join(NAMES)}")


def get(name: str = "auto") -> Backend:
    """Return the backend of that name; `auto` takes the fastest one that is there.

    Raises WnError if there is none of that name.
    """
    check_name(name)
    return _made("numba" if name == "auto" else name)


@cache
def _made(name: str) -> Backend:
    if name == "numpy":
        from wn.backends.numpy import NumpyBackend

        return NumpyBackend()
    from wn.backends.numba import NumbaBackend  # takes a second to import

    return NumbaBackend()


__all__ = ["NAMES", "Backend", "check_name", "get"]
