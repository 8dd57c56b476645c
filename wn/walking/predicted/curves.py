"""Predicted curves, and where they cross half-way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.theory.curves.predict import Prediction, crossing_of
from wn.walking.places import Place

Floats = NDArray[np.float64]
Key = tuple[int, int, int]  # phase, place and repeat, by their numbers in a walk


@dataclass
class PredictedCurve:
    """The predicted accuracies (S,) of one place and repeat with the estimates of their errors.

    NaN where theory can't go, for the `reason`. clean: the accuracy without noise on the same images, NaN for
    networks that are trained under noise, each of which has another one. methods: how σ were predicted.
    """

    accuracy: Floats
    error: Floats
    clean: float = float("nan")
    methods: dict[str, None] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0

    @classmethod
    def empty(cls, levels: int) -> "PredictedCurve":
        """A curve of which nothing is predicted yet."""
        return cls(np.full(levels, np.nan), np.full(levels, np.nan))

    def put(self, part: slice, found: Prediction, seconds: float) -> None:
        """Put in the prediction of some σ, and how long it took."""
        self.accuracy[part], self.error[part] = found.accuracy, found.error
        self.methods[found.method] = None
        self.reason = self.reason or found.reason
        self.seconds += seconds


class Crossing(NamedTuple):
    """The σ at which a predicted curve falls half-way, and those of the curve less and plus its error.

    All are NaN where it does not; `high` is inf where the curve plus its error never falls. method: how it
    was predicted; reason: why it was not, or why there is no crossing.
    """

    sigma: float
    low: float
    high: float
    method: str
    reason: str


def crossing(sigma: Floats, curves: Sequence[PredictedCurve], half: float) -> Crossing:
    """The crossing of the mean of the repeats' curves.

    The error is the mean of theirs: it is a bias of the method above all, which more networks don't lessen.
    """
    method = ", ".join(dict.fromkeys(name for one in curves for name in one.methods))
    reason = next((one.reason for one in curves if one.reason), "")
    nothing = np.full((1, len(sigma)), np.nan)  # where no network could be trained
    accuracy = np.mean([one.accuracy for one in curves] or nothing, axis=0)
    error = np.mean([one.error for one in curves] or nothing, axis=0)
    there = np.isfinite(accuracy)
    if not there.any():
        return Crossing(np.nan, np.nan, np.nan, method, reason or "no network was trained")
    sigma, accuracy, error = sigma[there], accuracy[there], error[there]
    at = crossing_of(sigma, accuracy, half)
    if np.isnan(at):
        side = "already below" if accuracy[0] <= half else "never falls"
        return Crossing(at, np.nan, np.nan, method, f"{side} half-way")
    low, high = crossing_of(sigma, accuracy - error, half), crossing_of(sigma, accuracy + error, half)
    low = 0.0 if np.isnan(low) else low
    return Crossing(at, low, np.inf if np.isnan(high) else high, method, "")


class Predicted(NamedTuple):
    """The predicted curves of a walk: σ (S,), curves by phase, place and repeat, and the places in order."""

    sigma: Floats
    phases: tuple[str, ...]
    places: tuple[Place, ...]
    curves: dict[Key, PredictedCurve]

    def of(self, phase: str, place: Place) -> list[PredictedCurve]:
        """The curves of all repeats; none if nothing was predicted there."""
        key = self.phases.index(phase), self.places.index(place)
        return [self.curves[one] for one in sorted(self.curves) if one[:2] == key]

    def seconds(self, phase: str) -> float:
        """The seconds that predicting the curves of a phase took; 0 where the walk has none of it."""
        if phase not in self.phases:
            return 0.0
        return sum(one.seconds for key, one in self.curves.items() if key[0] == self.phases.index(phase))
