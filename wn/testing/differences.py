"""Derivatives along a direction from values alone, with a bound of the error for each output element.

Derived in docs/testing.md. With y(t) = f(x + t·v) and y(0) known, four steps t, t/2, t/4, t/8 give

    D(t) = (y(t) − y(−t)) / 2t,        S(t) = (y(t) − 2y(0) + y(−t)) / t,

whose errors t², t⁴, … and t, t³, … are removed one after another (Romberg). The limit of D is the
derivative, that of S the jump of the slope: 0 where y is smooth. What the last removal changed bounds the
truncation; the rounding of y, measured and not assumed, divided by t bounds the rest. Ladders of other steps
follow, smaller where truncation or a kink dominates, larger where rounding does, and an estimate counts only
where it agrees with those of all smaller steps (Lepski 1991).
"""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wn.testing.rounding import Output, Vector, relative

FIRST = 113 / 1024  # first step, relative to the size of x: few bits, and no simple part of a period
RUNGS = 4  # steps of a ladder, each half of the one before
REACH = 2.0**RUNGS  # ratio of the first steps of neighbouring ladders
FINEST, COARSER, COARSEST = 10, 3, 12  # ladders below the first one, above it, and above it if thorough


THRESHOLD = 64.0  # roundings: a first change beyond it is no slope that rounding had hidden
INDEPENDENT = 1e-6  # where no element of y moves at any step, slopes beyond this may still be hidden

FAR = 0.6  # of the largest change, at the smallest of four steps: not even a square root changes so much
UNKNOWN = 1e150  # an error that says so; infinite ones would not go well with weights of 0

SMALL = 0.05  # of a difference, for it to stand out
TARGET = 1e-8  # error over size at which no further steps are tried
CENTRAL, ONE_SIDED, JUMP = (4.0, 16.0, 64.0), (2.0, 4.0, 8.0), (2.0, 8.0, 32.0)  # ratios of the errors


# A limit for t → 0, its error, and the part of that which is rounding
_Limit = tuple[Vector, Vector, Vector]


@dataclass(frozen=True)
class Slope:
    """The derivative of each output element along a direction, and how far to trust it."""

    value: Vector
    error: Vector  # bound for elements that moved
    hidden: Vector  # for those that did not: the largest slope that rounding could hide
    masked: Vector  # the same, without elements that larger steps show to be independent
    jump: Vector  # slope after minus slope before, where it is not zero
    steps: tuple[float, float]  # smallest and largest step used
    noisy: bool  # whether rounding limits the error, not the shape of y


@dataclass(frozen=True)
class _Ladder:
    """Estimates from four neighbouring steps; all by output element."""

    value: Vector
    error: Vector
    jump: Vector
    jump_error: Vector
    noise: Vector  # what rounding adds to `error`
    moved: NDArray[np.bool_]
    threshold: NDArray[np.bool_]  # elements that were still, and far away at twice the step
    least: Vector  # the first change that was seen
    first: float


def slope(
    output: Output,
    middle: Vector,
    noise: Vector,
    length: float,
    weights: Vector,
    *,
    thorough: bool = False,
    step: float | None = None,
    visible: float = 0.0,
) -> Slope | None:
    """Return the derivative of y(t) at 0, or None if f has no values next to x.

    length: the size of x along the direction, the first step is 113/1024 of it, or `step`; weights (rows, n):
    how much each element of y counts. The search ends when Σ weights·error ≤ 1e-8 Σ weights·|value| in each
    row, or when further ladders do not help; `thorough` also looks for slopes that rounding hides at the
    first steps; visible: go on to the smallest steps at which rounding would let a difference of that size be
    seen, since the steps before may have been longer than a period.
    """
    search = _Search(output, middle, noise, FIRST * length if step is None else step, weights, thorough)
    found = search.run(0 if step is not None else COARSEST if thorough else COARSER)
    return search.refined(found, visible) if found is not None and visible > 0 else found


class _Search:
    """The ladders tried so far, by place: 0 is the first one, finer ones are positive."""

    def __init__(
        self, output: Output, middle: Vector, noise: Vector, first: float, weights: Vector, thorough: bool
    ) -> None:
        self.output, self.middle, self.noise, self.weights = output, middle, noise, weights
        self.first, self.thorough = first, thorough
        self.ladders: dict[int, _Ladder] = {}
        self.dependent = np.ones(middle.shape, dtype=bool)
        self.side = 0  # ±1: f is defined on this side of x only

    def run(self, coarsest: int) -> Slope | None:
        """Try ladders until the error is small enough or cannot be made smaller."""
        if not self._start():
            return None
        if self.thorough:
            self.dependent = self._changed_far_away()
        fine, coarse, coarser = max(self.ladders), 0, coarsest > 0 and 0 in self.ladders and not self.side
        found = self._combined()
        while True:
            error, row = self._worst(found)
            if error <= TARGET * self._size(found, row):
                break
            if found.noisy and coarser:
                coarse -= 1
                coarser = self._try(coarse) and -coarse < coarsest
                found = self._combined()
                # A slope that rounding hides may appear at a larger step: y is worth a look until it moves.
                coarser = coarser and (bool(np.any(found.masked)) or self._own(coarse, row) < 0.5 * error)
            elif not found.noisy and fine < FINEST and self._rounding(fine, row) < error:
                fine += 1
                self._try(fine)
                found = self._combined()
            else:
                break
        if np.any(found.jump) and len(self.ladders) == 1 and self._try(fine + 1):
            found = self._combined()
        return found

    def refined(self, found: Slope, visible: float) -> Slope:
        """Add the finer ladders whose rounding is small beside `visible`."""
        rounding = 2.0**RUNGS * np.max(self.weights @ np.where(found.error > 0, self.noise, 0.0))
        for place in range(max(self.ladders) + 1, FINEST + 1):
            if rounding * REACH**place / self.first > SMALL * visible:
                break
            self._try(place)
        return self._combined()

    def _start(self) -> bool:
        """Find the first ladder within f's domain, from one side if need be."""
        if any(self._try(place) for place in range(FINEST + 1)):
            return True
        for place, side in itertools.product(range(FINEST + 1), (1, -1)):
            self.side = side
            if self._try(place):
                return True
        return False

    def _try(self, place: int) -> bool:
        first = self.first / REACH**place
        if self.side:
            ladder = _one_sided(self.output, self.middle, self.noise, self.side * first)
        else:
            ladder = _central(self.output, self.middle, self.noise, first)
        if ladder is not None:
            self.ladders[place] = ladder
        return ladder is not None

    def _rounding(self, place: int, row: int) -> float:
        ladder = self.ladders.get(place)
        return 0.0 if ladder is None else _finite(self.weights[row] @ ladder.noise)

    def _own(self, place: int, row: int) -> float:
        """Return the error of a ladder by itself."""
        ladder = self.ladders[place]
        return _finite(self.weights[row] @ np.where(ladder.moved, ladder.error, 0.0))

    def _error(self, found: Slope, row: int) -> float:
        return _finite(self.weights[row] @ (found.error + (found.masked if self.thorough else 0.0)))

    def _size(self, found: Slope, row: int) -> float:
        return float(self.weights[row] @ np.abs(found.value))

    def _worst(self, found: Slope) -> tuple[float, int]:
        """Return error and number of the row of weights whose error is largest beside its size."""
        errors = [self._error(found, row) for row in range(len(self.weights))]
        sizes = [self._size(found, row) for row in range(len(self.weights))]
        parts = [e / s if s else math.inf if e else 0.0 for e, s in zip(errors, sizes, strict=True)]
        worst = int(np.argmax(parts))
        return errors[worst], worst

    def _combined(self) -> Slope:
        """Take for each element the estimate of least error among those that agree with all finer ones."""
        ladders = [self.ladders[place] for place in sorted(self.ladders, reverse=True)]
        # Far from x, y may be bounded and look like no slope at all: only a slope that shows there counts.
        bounds = [
            np.where(
                (ladder.first > self.first) & (np.abs(ladder.value) <= 100 * ladder.error),
                np.inf,
                ladder.error,
            )
            for ladder in ladders
        ]
        value, error, chosen = _agreed(
            [(ladder.value, bound) for ladder, bound in zip(ladders, bounds, strict=True)]
        )
        jump, jump_error, _ = _agreed([(ladder.jump, ladder.jump_error) for ladder in ladders])
        moved, threshold = self._movement(ladders)
        hidden = self.noise / self.first  # however far the search went: y may be bounded
        rounding = np.array([ladder.noise for ladder in ladders])[chosen, np.arange(value.size)]
        rounding = np.where(rounding > 0, rounding, error)  # of elements that were still at those steps
        masked = np.where(moved | threshold, 0.0, hidden)
        slight = np.all(self.weights @ masked <= INDEPENDENT * np.sum(self.weights, axis=1))
        if slight or np.any(moved & (value != 0)):
            masked = np.where(self.dependent, masked, 0.0)
        real = self._jumps(ladders, value, jump, jump_error)
        found = Slope(
            value=np.where(moved, value, 0.0),
            error=np.where(moved, error, 0.0),
            hidden=np.where(moved, 0.0, hidden),
            masked=masked,
            jump=np.where(real & moved, jump, 0.0),
            steps=(abs(ladders[0].first) * 2 / REACH, abs(ladders[-1].first)),
            noisy=False,
        )
        total, row = self._worst(found)
        floor = self.weights[row] @ np.where(moved, rounding, found.masked if self.thorough else 0.0)
        return replace(found, noisy=bool(total <= 4 * floor))

    def _jumps(self, ladders: list[_Ladder], value: Vector, jump: Vector, error: Vector) -> NDArray[np.bool_]:
        """The elements whose slope jumps: a kink at x is seen with steps of any size."""
        rounding = 32 * self.noise / self.first
        real = np.abs(jump) > 3 * error + 1e-8 * (np.abs(value) + np.abs(jump)) + rounding
        if len(ladders) > 1:
            seen = [np.abs(ladder.jump) > 3 * ladder.jump_error for ladder in ladders]
            real &= np.sum(seen, axis=0) > 1
        return real

    def _movement(self, ladders: list[_Ladder]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Masks of the elements that moved, and of those among the others that crossed a threshold."""
        moved, threshold = ladders[0].moved.copy(), ladders[0].threshold.copy()
        still = ~moved & ~threshold
        for ladder in ladders[1:]:
            starts = still & ladder.moved
            jumps = starts & (ladder.least > THRESHOLD * self.noise)
            threshold |= jumps | (still & ladder.threshold)
            moved |= starts & ~jumps
            still &= ~ladder.moved & ~ladder.threshold
        return moved, threshold

    def _changed_far_away(self) -> NDArray[np.bool_]:
        """Mask of the elements that some large step changes: others seem not to depend on t."""
        changed, seen = np.zeros(self.middle.shape, dtype=bool), False
        for exponent, side in itertools.product((40, 20, 8, 2), (1, -1)):
            row = self.output(side * self.first * 2.0**exponent)
            if row is not None:
                changed, seen = changed | (row != self.middle), True
        return changed if seen else ~changed


def _agreed(estimates: list[tuple[Vector, Vector]]) -> tuple[Vector, Vector, NDArray[np.intp]]:
    """Return value, error and number of the best estimate that agrees with all before it, by element."""
    value, error = estimates[0]
    value, error, chosen = value.copy(), error.copy(), np.zeros(value.shape, dtype=np.intp)
    low, high = value - 2 * error, value + 2 * error
    alive = np.ones(value.shape, dtype=bool)
    for number, (other, bound) in enumerate(estimates[1:], start=1):
        alive &= (other + bound >= low) & (other - bound <= high)
        better = alive & (bound < error)
        value, error = np.where(better, other, value), np.where(better, bound, error)
        chosen[better] = number
        low = np.where(alive, np.maximum(low, other - 2 * bound), low)
        high = np.where(alive, np.minimum(high, other + 2 * bound), high)
    return value, error, chosen


def _central(output: Output, middle: Vector, noise: Vector, first: float) -> _Ladder | None:
    steps = first / 2.0 ** np.arange(RUNGS)
    rows = []
    for t in steps:
        above, below = output(t), output(-t)
        if above is None or below is None:
            return None
        rows.append((above, below))
    above, below = (np.array(side) for side in zip(*rows, strict=True))
    t = steps[:, None]
    rounding = np.maximum(noise, relative(noise, middle) * np.maximum(np.abs(above), np.abs(below))) / t
    slopes = _romberg((above - below) / (2 * t), rounding, CENTRAL)
    jumps = _romberg(((above - middle) + (below - middle)) / t, 4 * rounding, JUMP)
    changes = np.maximum(np.abs(above - middle), np.abs(below - middle))
    return _ladder(slopes, jumps, changes, noise, first)


def _one_sided(output: Output, middle: Vector, noise: Vector, first: float) -> _Ladder | None:
    """At an end of f's domain: the slope on the side where f is defined."""
    steps = first / 2.0 ** np.arange(RUNGS)
    rows = [output(t) for t in steps]
    values = [row for row in rows if row is not None]
    if len(values) < len(rows):
        return None
    beside, t = np.array(values), steps[:, None]
    rounding = 8 * np.maximum(noise, relative(noise, middle) * np.abs(beside)) / np.abs(t)
    slopes = _romberg((beside - middle) / t, rounding, ONE_SIDED)
    none = np.zeros_like(middle)
    return _ladder(slopes, (none, none, none), np.abs(beside - middle), noise, first)


def _ladder(slopes: _Limit, jumps: _Limit, changes: Vector, noise: Vector, first: float) -> _Ladder:
    """Tell elements that changed at every step from those that were still, perhaps until far away.

    A slope that rounding hides appears in steps of rounding as t is doubled; an element that is still at t
    and far away at 2t has crossed a threshold, as a ReLU that is switched off.
    """
    (value, error, own), (jump, jump_error, _) = slopes, jumps
    still = changes == 0
    rungs = np.logical_and.accumulate(still[::-1], axis=0).sum(axis=0)  # still from the smallest step up
    crossed = (rungs > 0) & (rungs < RUNGS)
    after = changes[np.maximum(RUNGS - 1 - rungs, 0), np.arange(value.size)]  # the first change
    threshold = crossed & (after > THRESHOLD * noise)
    moved = np.any(~still, axis=0) & ~threshold
    reach = abs(first) / 2.0 ** (RUNGS - np.maximum(rungs, 1))
    # With steps of more than a period, or at a jump, y is as far away at t/8 as at t: no slope can be told.
    far = (changes[-1] > FAR * np.max(changes, axis=0)) & (changes[-1] > THRESHOLD * noise)
    error, jump_error = np.where(far, UNKNOWN, error), np.where(far, UNKNOWN, jump_error)
    return _Ladder(
        value=np.where(moved, value, 0.0),
        error=np.where(moved, error, noise / reach),
        jump=np.where(moved, jump, 0.0),
        jump_error=np.where(moved, jump_error, noise / reach),
        noise=np.where(moved, own, 0.0),
        moved=moved,
        threshold=threshold,
        least=np.where(rungs == 0, changes[-1], after),
        first=first,
    )


def _romberg(rows: Vector, rounding: Vector, ratios: tuple[float, ...]) -> _Limit:
    """Return the limit of rows (steps, n) for t → 0."""
    with np.errstate(all="ignore"):
        value, own = rows[-1], 2 * rounding[-1]
        error = np.abs(rows[-1] - rows[-2]) + own
        column = rows
        for number, ratio in enumerate(ratios, start=1):
            refined = (ratio * column[1:] - column[:-1]) / (ratio - 1)
            change = np.maximum(np.abs(refined - column[1:]), np.abs(refined - column[:-1]))
            for row, bound, noise in zip(refined, change, 2 * rounding[number:], strict=True):
                better = ~(error <= bound + noise)
                value, error = np.where(better, row, value), np.where(better, bound + noise, error)
                own = np.where(better, noise, own)
            column = refined
    return value, np.where(np.isfinite(value), error, UNKNOWN), own


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else math.inf
