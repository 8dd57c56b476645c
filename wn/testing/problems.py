"""A function of several arrays with its gradient, in float64, and the directions to look along."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from wn.basics.errors import WnError
from wn.testing.differences import Slope
from wn.testing.errors import UnresolvedError
from wn.testing.rounding import EPSILON, Output, Vector, measured_noise

NUDGES = 4  # changes of all inputs by some roundings, which show the rounding of the gradient
NUDGE = 64 * EPSILON  # enough that roundings are not the same again
UNEVEN = 10.0  # outputs whose sizes differ more than this get an upstream that evens them out
PART = 2.0**-12  # a change of x that shows these sizes
CLEAR = 1e12  # below so much rounding they are not evened out
RANGE = 1e-12  # of the largest: smaller ones are not evened out either
SMALLEST = 2.0**-8  # length of the elements near 0, relative to the median of the array
CAPS = (1.0, 0.5, 0.05)  # quantiles of the elements' contributions that the random directions are limited to


@dataclass
class Problem:
    """The problem of a gradient check.

    names, values: the arrays, float64; evaluate(values) -> y, flat; gradients(dy, values) -> an array per
    value; label(j): the name of element j of y; fail(message): raises AssertionError; directions: the only
    ones in which the values may be changed, each an array per value; step: the first step instead of the
    default; subgradients: whether any slope between those of both sides is right at a kink; source: what
    gives the gradients, in messages.
    """

    names: list[str]
    values: list[Vector]
    evaluate: Callable[[list[Vector]], Vector]
    gradients: Callable[[Vector, list[Vector]], list[Vector]]
    label: Callable[[int], str]
    fail: Callable[[str], NoReturn]
    rng: np.random.Generator
    directions: Sequence[list[Vector]] | None = None
    step: float | None = None
    subgradients: bool = False
    source: str = "backward"  # of the gradients, in messages
    shown: Callable[[tuple[Any, ...]], tuple[Any, ...]] = tuple  # the part of an index that messages show
    middle: Vector = field(init=False)
    noise: Vector = field(init=False)
    trouble: str = ""  # what f raised next to x, if it did

    def __post_init__(self) -> None:
        self.middle = self.evaluate(self.values)
        require_finite(self.middle, self.label)
        self.noise = measured_noise(self.along(self.changes()), self.middle)

    def along(self, direction: list[Vector]) -> Output:
        """Return y as a function of t, at values + t·direction; None where f fails or is not finite."""
        moving = [(number, v) for number, v in enumerate(direction) if np.any(v)]

        def output(t: float) -> Vector | None:
            values = list(self.values)
            with np.errstate(all="ignore"):
                for number, v in moving:
                    values[number] = values[number] + t * v
                try:
                    y = self.evaluate(values)
                except Exception as error:  # outside of its domain a function may raise what it likes
                    self.trouble = f"{type(error).__name__}: {error}".splitlines()[0]
                    return None
            return y if y.shape == self.middle.shape and np.all(np.isfinite(y)) else None

        return output

    def changes(self) -> list[Vector]:
        """Return random changes of all values by about their own size, along the directions if given."""
        if self.directions is None:
            return [_signed(self.rng, value.shape) * np.abs(value) for value in self.values]
        mixed = [np.zeros(value.shape) for value in self.values]
        for direction in self.directions:
            factor = self.rng.uniform(-1, 1) * _reach(direction, self.values)
            mixed = [total + factor * v for total, v in zip(mixed, direction, strict=True)]
        return mixed


@dataclass
class Probe:
    """A direction through the arrays, and the known values of y along it."""

    place: str
    direction: list[Vector]
    length: float  # t of about the size of the values
    found: Slope | None = None
    thorough: bool = False

    def dot(self, gradients: list[Vector]) -> float:
        """Return Σ gradient · direction."""
        pairs = zip(gradients, self.direction, strict=True)
        return float(sum(np.sum(g[v != 0] * v[v != 0]) for g, v in pairs))


@dataclass(frozen=True)
class Upstream:
    """One dy, its gradients, and the gradients of inputs that were changed by some roundings."""

    dy: Vector
    gradients: list[Vector] | None  # None: not known, every slope is right
    nudged: list[list[Vector]]
    extra: bool = False  # may show that a gradient is wrong, need not decide that it is right


def upstreams(problem: Problem, given: Sequence[Vector]) -> list[Upstream]:
    """Return the gradients for each dy, and for one more that evens out outputs of different sizes."""
    found = [_upstream(problem, dy) for dy in given]
    beside = problem.along(problem.changes())(PART)
    if beside is not None:
        sizes = np.maximum(np.abs(beside - problem.middle) / PART, CLEAR * problem.noise)
        sizes = np.maximum(sizes, RANGE * np.max(sizes))
        seen = sizes[sizes > 0]
        if seen.size and np.max(seen) > UNEVEN * np.min(seen):
            middle = float(np.median(seen))
            # An element that stays as it is has no size; weights of 1e11 for it would only round off others.
            sizes = np.where((sizes > 0) & (beside != problem.middle), sizes, middle)
            even = given[-1] * (middle / sizes)
            found.append(_upstream(problem, even, extra=True))
    return found


def _upstream(problem: Problem, dy: Vector, *, extra: bool = False) -> Upstream:
    gradients = problem.gradients(dy, problem.values)
    nudged = []
    for _ in range(NUDGES):
        changes = problem.changes()
        values = [value + NUDGE * change for value, change in zip(problem.values, changes, strict=True)]
        try:
            nudged.append(problem.gradients(dy * (1 + NUDGE * _signed(problem.rng, dy.shape)), values))
        except AssertionError:
            raise
        except Exception:  # that may leave the domain; the others show enough
            continue
    return Upstream(dy, gradients, nudged, extra)


def lengths(value: Vector) -> Vector:
    """Return a length for each element, a power of two near |x|, not below a part of the array's median."""
    sizes = np.abs(value)
    usual = float(np.median(sizes[sizes > 0])) if np.any(sizes) else 1.0
    smallest = usual * SMALLEST if np.any(sizes) else 1.0
    found: Vector = np.exp2(np.round(np.log2(np.maximum(sizes, smallest))))
    return found


def element_probes(problem: Problem, number: int, gradient: Vector, limit: int | None) -> list[Probe]:
    """Return probes of single elements of an array: all, or `limit` of them.

    Half of these are chosen at random, the others are those with the smallest and the largest gradients,
    where missing terms show.
    """
    value = problem.values[number]
    chosen = np.arange(value.size)
    if limit is not None and limit < value.size:
        order = np.argsort(np.abs(np.nan_to_num(gradient)).reshape(-1), kind="stable")
        ends = np.concatenate([order[: limit // 4], order[value.size - limit // 4 :]])
        others = np.setdiff1d(problem.rng.permutation(value.size), ends, assume_unique=True)
        rest = problem.rng.permutation(others)[: limit - ends.size]
        chosen = np.sort(np.concatenate([ends, rest]))
    sizes = lengths(value)
    probes = []
    for flat in chosen:
        index = np.unravel_index(flat, value.shape)
        direction = np.zeros(value.shape)
        direction[index] = 1.0
        place = problem.names[number] + written(problem.shown(index))
        probes.append(Probe(place, _only(problem, number, direction), float(sizes[index])))
    return probes


def random_probes(problem: Problem, number: int, gradient: Vector, count: int) -> list[Probe]:
    """Return probes through all elements of an array, each moved by about its own size.

    Large contributions to the loss are limited in all but the first, so that they do not hide small ones.
    """
    value, probes = problem.values[number], []
    sizes = lengths(value)
    share = np.where(np.isfinite(gradient), np.abs(gradient), 0.0) * sizes
    for trial in range(count):
        limit = np.quantile(share[share > 0], CAPS[trial % len(CAPS)]) if np.any(share) else 0.0
        scale = np.where(share > limit, limit / np.where(share > limit, share, 1.0), 1.0)
        signs = _sign(problem.rng, value.shape) if trial != 1 else 1.0  # ties show where all rise
        direction = sizes * scale * problem.rng.uniform(0.25, 1.0, value.shape) * signs
        place = f"{problem.names[number]} along random direction {trial}"
        probes.append(Probe(place, _only(problem, number, direction), 1.0))
    return probes


def given_probes(problem: Problem) -> list[Probe]:
    """Return a probe for each direction that the caller gave."""
    directions = problem.directions or []
    return [
        Probe(f"directions[{i}]", list(direction), _reach(direction, problem.values))
        for i, direction in enumerate(directions)
    ]


def check_step(step: float | None) -> None:
    """Raise WnError for a first step that is none."""
    if step is not None and not 0 < step < math.inf:
        raise WnError(f"step is {step!r}: it must be positive and finite")


def require_finite(y: Vector, label: Callable[[int], str]) -> None:
    """Raise UnresolvedError that names the first element of y that is not finite."""
    bad = np.flatnonzero(~np.isfinite(y))
    if bad.size:
        raise UnresolvedError(f"{label(bad[0])} is {y[bad[0]]}: there is no derivative where y is not finite")


def written(index: Iterable[Any]) -> str:
    """Return an index as it is written behind a name: [0, 1], and nothing for an array without axes."""
    numbers = ", ".join(str(int(i)) for i in index)
    return f"[{numbers}]" if numbers else ""


def _reach(direction: Sequence[Vector], values: list[Vector]) -> float:
    """Return the largest t, a power of two, that moves no element by more than its length."""
    parts = [
        lengths(value)[v != 0] / np.abs(v[v != 0])
        for v, value in zip(direction, values, strict=True)
        if np.any(v)
    ]
    return float(np.exp2(np.floor(np.log2(min(float(np.min(part)) for part in parts)))))


def _only(problem: Problem, number: int, direction: Vector) -> list[Vector]:
    return [direction if i == number else np.zeros(v.shape) for i, v in enumerate(problem.values)]


def _signed(rng: np.random.Generator, shape: tuple[int, ...]) -> Vector:
    return rng.uniform(0.5, 1.0, shape) * _sign(rng, shape)


def _sign(rng: np.random.Generator, shape: tuple[int, ...]) -> Vector:
    return rng.choice(np.array([-1.0, 1.0]), size=shape)
