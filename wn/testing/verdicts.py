"""Whether gradients agree with differences: three outcomes, each with its reason. Derived in docs/testing.md.

A gradient *agrees*, *differs* (AssertionError), or *cannot be decided* (`UnresolvedError`, of which
`KinkError` is a kind). An error beyond RESOLUTION of the terms that a gradient element is the sum of never
passes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wn.testing.differences import Slope, slope
from wn.testing.errors import KinkError, UnresolvedError
from wn.testing.problems import (
    NUDGE,
    Probe,
    Problem,
    Upstream,
    element_probes,
    given_probes,
    random_probes,
    upstreams,
)
from wn.testing.rounding import EPSILON, NOISE_GUARD, Vector, relative
from wn.testing.tolerances import GRADIENT, NEGLIGIBLE, RESOLUTION

ACCUSED = 4.0  # bounds of rounding and truncation; in between, nothing is decided
ROUNDING_GUARD = 16.0  # a bound of the gradient's rounding, in units of what a few nudges show
KINK_RESOLUTION = 1e-5  # as RESOLUTION, where slopes of either side are compared
FLOOR, CLEARLY = 16.0, 1e-3  # roundings of y; error over size of slopes that are more than rounding
NOTHING = 1e-12  # of what other inputs do: the rounding of very large steps
TERMS_LIMIT = 1e6  # of all that is seen from outside: beyond it, no decision rests on terms
CHAOTIC = 1e-4  # rounding of y, over its largest value, that leaves hardly a digit to judge by
OTHER_STEPS = 0.73  # first step of a second opinion, relative to the first one's


@dataclass(frozen=True)
class Comparison:
    """The derivative of Σ dy·y along a probe, by differences and by the gradient."""

    numeric: float
    analytic: float
    size: float  # Σ |dy·slope|: the terms of `numeric`
    error: float  # of the differences, and the gradient's own rounding
    slack: float  # half of the range between the slopes before and after a kink
    hidden: float  # what rounding can hide in elements of y that did not change
    masked: float  # the same, without elements of y that no step changes
    terms: float  # the terms that the gradient itself is the sum of
    nothing: float  # so little of what other inputs do that no bound of rounding holds
    floor: float  # the rounding of y over the size of x, where all that differences show is less

    @property
    def strictly(self) -> float:
        """The allowed difference, without the rounding of a gradient whose terms all cancel."""
        return GRADIENT * self.size + self.error + self.slack + self.nothing

    @property
    def allowed(self) -> float:
        return self.strictly + self.floor

    @property
    def accused(self) -> float:
        """The difference from which a gradient is called wrong: bounds are from few values."""
        return self.allowed + (ACCUSED - 1) * self.error

    @property
    def difference(self) -> float:
        return abs(self.numeric - self.analytic)

    def decides(self, scale: float) -> bool:
        """Whether every error beyond the resolution would have been seen; scale: of the non-zero elements."""
        uncertain = self.error + self.masked + (self.floor if self.difference > self.strictly else 0.0)
        part = KINK_RESOLUTION if self.slack else RESOLUTION - GRADIENT
        return uncertain <= part * max(self.size, self.terms) or uncertain <= NEGLIGIBLE * scale


def check_problem(problem: Problem, dys: Sequence[Vector], coordinates: int, directions: int) -> None:
    """Compare the gradients for each dy with differences, along the directions that the problem has.

    If it has none, along single elements of each array, at most `coordinates`, and random `directions`.
    """
    ups = upstreams(problem, dys)
    probes = given_probes(problem)
    if problem.directions is None:
        for number, gradient in enumerate(ups[0].gradients or []):
            if problem.values[number].size:
                probes += element_probes(problem, number, gradient, coordinates)
                probes += random_probes(problem, number, gradient, directions)
    Judge(problem, ups).judge(probes)


class Judge:
    """Measures probes and compares them with the gradients for every upstream."""

    def __init__(self, problem: Problem, upstreams: list[Upstream]) -> None:
        self.problem, self.upstreams = problem, upstreams
        self.weights: Vector = np.abs(np.array([upstream.dy for upstream in upstreams if not upstream.extra]))

        self.precision = relative(problem.noise, problem.middle)
        largest = np.max(np.abs(problem.middle), initial=0.0)
        self.chaotic = bool(np.any(problem.noise > CHAOTIC * largest))
        self.largest = 0.0  # what moving x by its own size does to Σ dy·y, along the best of the probes

    def judge(self, probes: list[Probe]) -> None:
        """Raise AssertionError where a gradient differs, UnresolvedError where that cannot be told."""
        for probe in probes:
            self.measure(probe)
        self.largest = max((self._effect(probe) for probe in probes), default=0.0)
        complaints = []
        for probe in probes:
            self._fail_if_wrong(probe)
            if self._complaint(probe):
                self.measure(probe, thorough=True)
                self._fail_if_wrong(probe)
                complaints.append(self._complaint(probe))
        for complaint in complaints:
            if complaint:
                raise complaint

    def measure(self, probe: Probe, *, thorough: bool = False) -> None:
        """Find the slope of y along a probe."""
        probe.found, probe.thorough = self._slope(probe, 1.0, thorough), thorough

    def compare(self, probe: Probe, upstream: Upstream, found: Slope) -> Comparison:
        """Return both values of the derivative of Σ dy·y along a probe."""
        weights = np.abs(upstream.dy)
        numeric = float(upstream.dy @ found.value)
        analytic = numeric if upstream.gradients is None else probe.dot(upstream.gradients)
        rounding = max((abs(probe.dot(nudged) - analytic) for nudged in upstream.nudged), default=0.0)
        slack = float(weights @ np.abs(found.jump)) / 2
        size = float(weights @ np.abs(found.value)) + slack
        if slack or math.isnan(rounding):
            rounding = 0.0  # at a kink, changes of x say nothing of rounding
        terms = rounding / NUDGE
        if terms > TERMS_LIMIT * (size + float(np.sum(weights))):
            terms = 0.0  # a jump of the gradient, or so much rounding that nothing can be decided
        if not slack:  # relative to its terms, the gradient rounds at least as y does
            rounding = max(rounding, self.precision * max(size, terms))
        error = float(weights @ found.error)
        floor = FLOOR * EPSILON * float(weights @ np.abs(self.problem.middle)) / probe.length
        return Comparison(
            numeric=numeric,
            analytic=analytic,
            size=size,
            error=error + ROUNDING_GUARD * rounding,
            slack=slack,
            hidden=float(weights @ found.hidden),
            masked=float(weights @ found.masked),
            terms=terms,
            nothing=NOTHING * self._scale(probe, upstream),
            floor=floor if size <= floor and error > CLEARLY * size else 0.0,
        )

    def _slope(self, probe: Probe, part: float, thorough: bool, visible: float = 0.0) -> Slope | None:
        problem = self.problem
        return slope(
            problem.along(probe.direction),
            problem.middle,
            problem.noise,
            probe.length * part,
            self.weights,
            thorough=thorough,
            step=None if problem.step is None else problem.step * part,
            visible=visible,
        )

    def _scale(self, probe: Probe, upstream: Upstream) -> float:
        """The scale beside which a term counts: the effect of other inputs, or dy if that is less."""
        return min(self.largest / probe.length, float(np.sum(np.abs(upstream.dy))))

    def _effect(self, probe: Probe) -> float:
        """The change of the losses when x moves along the probe by its own size."""
        if probe.found is None:
            return 0.0
        return float(np.max(self.weights @ np.abs(probe.found.value))) * probe.length

    def _fail_if_wrong(self, probe: Probe) -> None:
        """Raise AssertionError if differences of two sets of steps both contradict the gradient.

        The second set goes down to the smallest steps that can tell. Where y has hardly a digit, as the sine
        of 6e12, differences may agree by chance.
        """
        if self.chaotic:
            return
        if probe.found is None or (np.any(probe.found.jump) and not self.problem.subgradients):
            return  # at a kink any convention may be right
        for upstream in self.upstreams:
            found = self._differs(probe, upstream, probe.found)
            if found is None:
                continue
            limit = found.difference if math.isfinite(found.difference) else 1e-3 * found.size
            other = self._slope(probe, OTHER_STEPS, True, visible=limit)
            if other is None:
                continue
            again = self._differs(probe, upstream, other)
            if again and abs(again.numeric - found.numeric) <= 0.1 * limit:
                self.problem.fail(_message(self.problem.source, probe, found))
            if again is None:
                probe.found = other  # the smallest steps of all say so

    def _differs(self, probe: Probe, upstream: Upstream, found: Slope) -> Comparison | None:
        """Return the comparison if it shows a wrong gradient."""
        both = self.compare(probe, upstream, found)
        if both.difference <= both.accused:
            return None
        if not both.difference <= both.accused + both.hidden:
            return both
        seen = upstream.dy * (found.hidden == 0)  # leave out elements of y that rounding hides
        local = Upstream(seen, self.problem.gradients(seen, self.problem.values), [])
        both = self.compare(probe, local, found)
        return None if both.difference <= both.accused else both

    def _complaint(self, probe: Probe) -> UnresolvedError | None:
        """The reason for which a probe does not decide; None if it does."""
        problem, found = self.problem, probe.found
        if found is None:
            return UnresolvedError(
                f"f has no finite value on either side of {probe.place}"
                + (f" ({problem.trouble})" if problem.trouble else "")
                + ": use values further inside of its domain, or pass directions in which it is defined"
            )
        if np.any(found.jump) and not problem.subgradients:
            return self._kink(probe, found, int(np.argmax(np.abs(found.jump))))
        for upstream in self.upstreams:
            if upstream.extra:
                continue
            both = self.compare(probe, upstream, found)
            if both.difference <= both.allowed and both.decides(self._scale(probe, upstream)):
                continue
            return self._unresolved(probe, found, both)
        return None

    def _kink(self, probe: Probe, found: Slope, j: int) -> KinkError:
        before, after = found.value[j] - found.jump[j] / 2, found.value[j] + found.jump[j] / 2
        return KinkError(
            f"x lies on a kink: at {probe.place} the slope of {self.problem.label(j)} changes from "
            f"{before:.6g} to {after:.6g}; keep values away from kinks (see wn.testing.strategies), or pass "
            "subgradients=True to accept any slope between the two"
        )

    def _unresolved(self, probe: Probe, found: Slope, both: Comparison) -> UnresolvedError:
        label = self.problem.label(int(np.argmax(self.weights.max(axis=0) * (found.error + found.masked))))
        if found.noisy or found.masked.any() or not both.error > both.masked:
            return UnresolvedError(
                f"the rounding of y hides the gradient at {probe.place}: differences are known to "
                f"{both.error + both.masked:.2g}, the terms are {max(both.size, both.terms):.2g}"
                f"{self._precision()}; use smaller values (or a smaller σ), or take off what is added to y"
            )
        if self.problem.step is not None:
            return UnresolvedError(
                f"{label} is too curved at {probe.place} for differences with a step of "
                f"{self.problem.step:.3g}, or jumps there: pass a smaller step, or none"
            )
        return KinkError(
            f"x lies on a kink: within {found.steps[0]:.2g} of {probe.place}, {label} jumps or changes its "
            "slope; keep values away from kinks (see wn.testing.strategies)"
        )

    def _precision(self) -> str:
        """Say so if y is rounded as if it were computed in less than float64."""
        problem = self.problem
        sizes = np.abs(problem.middle)
        parts = problem.noise[sizes > 0] / sizes[sizes > 0] / NOISE_GUARD
        part = float(np.median(parts)) if parts.size else 0.0
        if not 1e-10 < part < 1e-2:
            return ""
        return f"; y is rounded to {part:.1g} of its size, as if f used float32 or cancelled large terms"


def _message(source: str, probe: Probe, both: Comparison) -> str:
    ratio = both.analytic / both.numeric if both.numeric else math.inf
    return (
        f"the gradient is wrong: {probe.place}: {source} gives {both.analytic!r}, central differences "
        f"{both.numeric!r} (ratio {ratio:.6g}); they differ by {both.difference:.3g}, allowed is "
        f"{both.allowed:.3g} = {GRADIENT:.2g} · {both.size:.3g} + rounding {both.error:.2g}"
        + (f" + half the jump of the slope {both.slack:.2g}" if both.slack else "")
    )
