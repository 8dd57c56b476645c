"""Networks whose numbers leave the range of their type: they fail, and those beside them go on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wn.basics.errors import WnError


class OutOfRange(WnError):
    """The numbers of some members of a population have left the range of their type.

    `reasons`: why, by the number of the member. The others are not concerned: with the last state of the
    training without these members it can go on.
    """

    def __init__(self, text: str, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{text}; use a smaller σ or float64")
        self.reasons = dict(reasons)

    def of_member(self, member: int) -> "OutOfRange":
        """The same error of one member, as if it were alone."""
        reason = self.reasons[member]
        return OutOfRange(reason, {0: reason}).with_traceback(self.__traceback__)


def out_of_range(dtype: DTypeLike) -> str:
    """The error of a network whose logits are not finite."""
    return f"logits are out of the range of {dtype}"


def not_finite(what: str, values: NDArray[Any]) -> OutOfRange:
    """The error for all members with a value (P, …) that is not finite."""
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    return OutOfRange(what, dict.fromkeys(np.flatnonzero(~finite).tolist(), what))


def check_finite(what: str, values: NDArray[np.float64], epoch: int, dtype: np.dtype[Any]) -> None:
    """Raise OutOfRange, for all members concerned, unless the values (P,) after an epoch are finite."""
    wrong = np.flatnonzero(~np.isfinite(values)).tolist()
    if wrong:
        left = f"training left the range of {dtype} in epoch {epoch + 1}: the {what}"
        reasons = {member: f"{left} is {values[member]}" for member in wrong}
        raise OutOfRange(f"{left} of member {wrong[0]} is {values[wrong[0]]}", reasons)


def checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the type that a network computes in; WnError unless it is float32 or float64."""
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):  # no type at all
        raise WnError(f"dtype is {dtype!r}: allowed are float32, float64") from None
    if found not in (np.float32, np.float64):
        raise WnError(f"dtype is {found}: allowed are float32, float64")
    return found
