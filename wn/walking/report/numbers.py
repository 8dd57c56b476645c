"""Numbers in text: as few digits as tell them apart, and intervals."""

import math
from collections.abc import Iterable

_BESIDE = ",\u00a0"  # no line ends within an interval
FEWEST, MOST = 3, 17  # digits: 17 tell all floats apart


def apart(values: Iterable[float], besides: Iterable[float] = ()) -> dict[float, str]:
    """Texts of numbers, all with as many digits (3 at least) as tell them, and those `besides`, apart.

    So .9999999 is not "1" if 1 is besides, and .1 beside .1000001 is "0.1", and the other one is not. NaN is
    left out.
    """
    wanted = dict.fromkeys(value for value in values if not math.isnan(value))
    known = {*wanted, *besides}
    for digits in range(FEWEST, MOST + 1):
        if len({f"{value:.{digits}g}" for value in known}) == len(known):
            break
    return {value: f"{value:.{digits}g}" for value in wanted}


def with_interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """A number and its interval in brackets; an end that is not known is infinite."""
    ends = [f"{end:.{digits}g}" if math.isfinite(end) else "∞" for end in (low, high)]
    return f"{value:.{digits}g} [{_BESIDE.join(ends)}]"


def share(value: float, low: float, high: float) -> str:
    """An accuracy and its interval, in three decimals."""
    return f"{value:.3f} [{low:.3f}{_BESIDE}{high:.3f}]"
