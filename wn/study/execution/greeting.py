"""A driver's first question to a worker: can it compute here, and how much at once?"""

import platform

from wn.basics.errors import WnError
from wn.basics.installed import __version__
from wn.engine import backends
from wn.engine.backends.plain.base import Backend, Room
from wn.study.unit import NUMERICS


def greet(backend: str, numerics: int) -> Room:
    """The room of this process; WnError if it can't compute units for such a driver."""
    check_numerics(numerics)
    return backend_here(backend).room


def check_numerics(numerics: int) -> None:
    """Raise WnError if a driver has other numerics than this process."""
    if numerics != NUMERICS:
        raise WnError(
            f"this worker has wn {__version__} with numerics {NUMERICS}, the driver has numerics "
            f"{numerics}: install the same wn everywhere"
        )


def backend_here(name: str) -> Backend:
    """Return a backend; WnError that says on which machine it can't be used."""
    try:
        return backends.get(name)
    except WnError as error:
        raise WnError(f"worker on {platform.node()}: {error}") from None
