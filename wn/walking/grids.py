"""Grids of σ in one line of text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.basics.numbers import number, numbers, whole

MOST = 10_000  # values; more are a slip of the finger
LONGEST_SHOWN = 120  # characters of a grid in a message
ALLOWED = "FIRST:LAST:COUNT (log spacing), lin:FIRST:LAST:COUNT, or values separated by commas"


def sigma_grid(grid: str | float | Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the σ values of a grid, ascending.

    "0.01:100:17" are 17 values from 0.01 to 100 evenly spaced in log σ (both ends included), "lin:0:2:21"
    are 21 values evenly spaced in σ, "0.1,1,10" are just these; a sequence of numbers is taken as it is.
    Raises WnError if a value is negative, NaN or infinite or is there twice, for more than 10,000 values, and
    for text of another form or of two readings, as 0,5 is (`wn.basics.numbers`).
    """
    values = _parse(grid) if isinstance(grid, str) else _numbers(grid)
    if values.ndim != 1:
        raise WnError(f"a σ grid of {values.ndim} axes: give its values one after the other, in one list")
    if values.size == 0:
        raise WnError(f"σ grid {_shown(grid)} has no values: write {ALLOWED}")
    if values.size > MOST:
        raise WnError(f"a σ grid of {values.size} values: at most {MOST} are allowed")
    wrong = values[~np.isfinite(values) | (values < 0)]
    if wrong.size:
        raise WnError(f"σ grid {_shown(grid)} contains {wrong[0]:g}: every σ must be finite and ≥ 0")
    found, times = np.unique(values, return_counts=True)
    if found.size < values.size:
        raise WnError(f"σ grid {_shown(grid)}: {_twice(grid, found[times > 1][0])}")
    return found + 0.0  # -0.0 becomes 0.0


def _shown(grid: Any) -> str:
    """A grid as its author wrote it, in one line however long it is."""
    text = repr(grid) if isinstance(grid, str) else " ".join(repr(grid).split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _twice(grid: Any, value: float) -> str:
    if isinstance(grid, str) and ":" in grid:
        return f"several of its values are {value + 0.0!r}: LAST is too near to FIRST for so many"
    return f"{value:g} is there twice: give every σ once, and decimals with a point"


def _numbers(grid: Any) -> NDArray[np.float64]:
    try:
        values = np.asarray(grid)
        if (values.dtype.kind not in "iufO" and values.size) or np.ma.is_masked(grid):
            raise TypeError
        return np.atleast_1d(values.astype(np.float64))
    except (TypeError, ValueError, OverflowError):
        raise WnError(f"σ grid {_shown(grid)} can't be read: write {ALLOWED}") from None


def _parse(text: str) -> NDArray[np.float64]:
    spacing, _, rest = text.partition(":") if text.lstrip()[:1].isalpha() and ":" in text else ("", "", text)
    spacing = spacing.strip()
    if spacing not in ("", "lin", "log"):
        raise WnError(f"σ grid {_shown(text)}: unknown spacing {spacing!r}: write {ALLOWED}")
    try:
        if ":" not in rest and not spacing:
            return np.array(numbers(rest))
        start, stop, count = _ends(rest)
    except WnError as error:
        advice = "" if ": write " in str(error) else f": write {ALLOWED}"
        raise WnError(f"σ grid {_shown(text)}: {error}{advice}") from None
    if not (np.isfinite(start) and np.isfinite(stop) and 0 <= start < stop) or not 2 <= count <= MOST:
        raise WnError(f"σ grid {_shown(text)}: FIRST must be ≥ 0 and below a finite LAST, COUNT in 2…{MOST}")
    if spacing == "lin":
        return np.linspace(start, stop, count)
    if start == 0:
        raise WnError(
            f"σ grid {_shown(text)}: log spacing can't begin at 0; write lin:{rest} or a small FIRST"
        )
    # Powers of ten rounded to 12 digits: 0.1 is then 0.1 and not 0.10000000000000002.
    return np.array([float(f"{value:.12g}") for value in np.geomspace(start, stop, count)])


def _ends(text: str) -> tuple[float, float, int]:
    parts = text.split(":")
    if len(parts) != 3:
        raise WnError(f"{text!r} can't be read: it has {len(parts)} of 3 parts")
    return number(parts[0]), number(parts[1]), whole(parts[2])
