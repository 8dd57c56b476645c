"""Array backends by name."""

from wn.backends.base import Backend
from wn.errors import WnError

NAMES = ("numpy", "auto")
LATER = ("numba", "cupy")


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
    from wn.backends.numpy import NumpyBackend

    return NumpyBackend()


__all__ = ["NAMES", "Backend", "check_name", "get"]
