"""What the jobs of a walk find: parts of curves, points that failed, and clean networks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.walking.places import Place


class Curve(NamedTuple):
    """Accuracy against σ at one place, in one phase, for one repeat: σ (S,), correct (S,) of total.

    `by_group` (S, G) is the same by group of test images (`wn.engine.groups`), if it was counted so.
    """

    phase: str
    place: Place
    repeat: int
    sigma: NDArray[np.float64]
    correct: NDArray[np.int64]
    total: int
    by_group: NDArray[np.int64] | None = None


class Failure(NamedTuple):
    """A point of a curve without a result, and why: its numbers left the range of the type."""

    phase: str
    place: Place
    repeat: int
    sigma: float
    reason: str


class CleanResult(NamedTuple):
    """A clean network of one repeat: how many test images it gets right without noise, also by group."""

    repeat: int
    correct: int
    total: int
    by_group: tuple[int, ...] = ()


Result = Curve | CleanResult | Failure


def joined(parts: list[Curve]) -> Curve:
    """Join the parts of a curve, in their order."""
    sigma, correct = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("sigma", "correct")
    )
    by_group = np.concatenate([part.by_group for part in parts if part.by_group is not None])
    return parts[0]._replace(sigma=sigma, correct=correct, by_group=by_group)
