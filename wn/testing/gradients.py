"""Check hand-written gradients against central differences in float64. Derived in docs/testing.md.

With L = Σ dy·y for a random dy, backward must give dL/dx and dL/dparams. Along a direction v the derivative
of y is

    D(h) = (y(x + hv) − y(x − hv)) / 2h,
    R    = (4 D(h/2) − D(h)) / 3            (Richardson: the h² error cancels),

and Σ dy·R must equal Σ gradient·v. Differences are taken element by element before they are summed, so
elements that do not depend on x add no rounding. A bend is recognised by the second difference

    S(h) = y(x + hv) − 2y(x) + y(x − hv),

which falls by 4 when h is halved where y is smooth, and does not at a kink.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.errors import WnError
from wn.testing.case import Arrays, LayerCase
from wn.testing.tolerances import DIFFERENCE_ROUNDINGS, GRADIENT

STEP = 2.0**-14  # h relative to the largest value of the array; h/2 and h/4 are used as well
BEND = 1e-4  # a change of slope by more than this part of the largest slope is a kink

EPSILON = float(np.finfo(np.float64).eps)
Array = NDArray[np.float64]


class KinkError(WnError):
    """x lies on or next to a kink, where the derivative that a difference shows is not defined."""


class UnresolvedError(WnError):
    """Differences cannot tell a right gradient from a wrong one here, so nothing was checked."""


@dataclass(frozen=True)
class _Probe:
    """The derivative of Σ dy·y along one direction."""

    place: str
    numeric: float
    analytic: float
    size: float  # Σ |dy·R|, the size of the terms of `numeric`
    rounding: float  # what rounding can add to `numeric`: of the elements of y that changed
    drowned: float  # what rounding can hide: of all elements of y

    @property
    def allowed(self) -> float:
        return GRADIENT * self.size + self.rounding

    @property
    def difference(self) -> float:
        return abs(self.numeric - self.analytic)

    @property
    def decides(self) -> bool:
        """Whether an error of a tenth would have been seen."""
        return self.difference <= self.allowed and self.rounding <= 0.1 * self.size


def check_gradient(
    case: LayerCase, *, directions: int = 2, coordinates: int = 24, step: float | None = None
) -> None:
    """Check backward's gradient of x and of every parameter against central differences in float64.

    The upstream dy is standard normal. Probed are single `coordinates` of each array (all if there are no
    more) and random `directions` through all of its elements. Gradients of a shared array (1, …) may be
    summed over the members or not, (P, …). step: h, default 2⁻¹⁴ of the largest value of each array.

    Raises AssertionError with the place, both values and a repro snippet where they differ; KinkError where
    y has a kink within h of x; UnresolvedError where y is too curved or too large for a difference to
    decide.
    """
    _check_settings(directions, coordinates, step)
    case = case.in_dtype(np.float64)
    dy = case.upstream()
    gradients = check_shapes(case, dy)
    rng = case.generator(stream=1)
    for name, value in case.variables().items():
        gradient = sum_shared(gradients[name], value.shape)
        probes = [
            _probe(case, dy, name, direction, gradient, place, step)
            for place, direction in _directions(name, value, rng, directions, coordinates)
        ]
        _check_resolution(name, probes)


def check_shapes(case: LayerCase, dy: Array | None = None) -> Arrays:
    """Check that dx fits x and that grads has the type, names and shapes of params; return them by name.

    A shared array (1, …) may have a gradient (1, …) or one per member, (P, …). Raises AssertionError.
    """
    result = case.run(case.upstream() if dy is None else dy)
    gradients = {"x": result.dx, **result.grads}
    for name, value in case.variables().items():
        fitting = {value.shape}
        if value.shape[0] == 1:
            fitting.add((case.population, *value.shape[1:]))
        if gradients[name].shape not in fitting:
            case.fail(f"the gradient of {name} has shape {gradients[name].shape}, {name} has {value.shape}")
    return gradients


def sum_shared(gradient: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the gradient of a shared array, (P, …), summed over members to (1, …); others as they are."""
    return gradient if gradient.shape == shape else gradient.sum(axis=0, keepdims=True)


def _directions(
    name: str, value: Array, rng: np.random.Generator, directions: int, coordinates: int
) -> list[tuple[str, Array]]:
    """Return places and directions to probe: single coordinates first, they say more when they fail."""
    found = []
    for flat in sorted(rng.permutation(value.size)[:coordinates]):
        index = np.unravel_index(flat, value.shape)
        direction = np.zeros(value.shape)
        direction[index] = 1.0
        found.append((f"{name}[{', '.join(str(int(i)) for i in index)}]", direction))
    for number in range(directions):
        direction = rng.standard_normal(value.shape)
        found.append((f"{name} along random direction {number}", direction / np.max(np.abs(direction))))
    return found


def _probe(
    case: LayerCase,
    dy: Array,
    name: str,
    direction: Array,
    gradient: Array,
    place: str,
    step: float | None,
) -> _Probe:
    """Return the derivative along `direction`, both ways; raise if it is wrong or cannot be told."""
    value = case.variables()[name]
    h = default_step(value) if step is None else step

    def output(t: float) -> Array:
        y, _ = case.with_variables({name: value + t * direction}).forward()
        return case.to_host(y)

    middle, levels = output(0.0), [h, h / 2, h / 4]
    pairs = [(output(t), output(-t)) for t in levels]
    slopes = [(above - below) / (2 * t) for (above, below), t in zip(pairs, levels, strict=True)]
    _check_bends(place, middle, pairs, levels, slopes)
    coarse, fine = ((4 * b - a) / 3 for a, b in itertools.pairwise(slopes))
    changed = pairs[-1][0] != pairs[-1][1]
    rounding = DIFFERENCE_ROUNDINGS * EPSILON / levels[-1] * np.abs(dy * middle)
    probe = _Probe(
        place,
        numeric=float(np.sum(dy * fine)),
        analytic=float(np.sum(gradient * direction)),
        size=float(np.sum(np.abs(dy * fine))),
        rounding=float(np.sum(rounding * changed)),
        drowned=float(np.sum(rounding)),
    )
    if abs(float(np.sum(dy * (fine - coarse)))) > probe.allowed:
        raise UnresolvedError(
            f"y is too curved at {place} for differences with a step of {h:.3g}, or jumps there: pass a "
            "smaller step, or values further from where y changes quickly"
        )
    if not probe.difference <= max(probe.allowed, probe.drowned):
        _fail(case, probe)
    return probe


def default_step(value: Array) -> float:
    """Return h = 2⁻¹⁴ · max|value| as a power of two: value ± h is then mostly exact; 2⁻¹⁴ if all are 0."""
    size = float(np.max(np.abs(value))) or 1.0
    return float(2.0 ** round(math.log2(size))) * STEP


def _check_bends(
    place: str, middle: Array, pairs: list[tuple[Array, Array]], levels: list[float], slopes: list[Array]
) -> None:
    """Raise KinkError where a second difference does not fall by 4 as the step is halved."""
    steepest = float(np.max(np.abs(slopes[-1]), initial=0.0))
    seconds = [above - 2 * middle + below for above, below in pairs]
    for level, (second, halved) in zip(levels, itertools.pairwise(seconds), strict=False):
        noise = DIFFERENCE_ROUNDINGS * EPSILON * np.maximum(np.abs(middle), np.abs(pairs[0][0]))
        bent = ~(np.abs(second - 4 * halved) <= BEND * level * steepest + noise)
        if np.any(bent):
            index = ", ".join(str(int(i)) for i in np.argwhere(bent)[0])
            raise KinkError(
                f"x lies on a kink: within {level:.3g} of {place}, y[{index}] jumps or changes its slope; "
                "keep values away from kinks (see wn.testing.strategies) or pass a smaller step"
            )


def _fail(case: LayerCase, probe: _Probe) -> None:
    ratio = probe.analytic / probe.numeric if probe.numeric else math.inf
    case.fail(
        f"the gradient is wrong: {probe.place}: backward gives {probe.analytic!r}, central differences "
        f"{probe.numeric!r} (ratio {ratio:.6g}); they differ by {probe.difference:.3g}, "
        f"allowed is {probe.allowed:.3g} = {GRADIENT:.2g} · {probe.size:.3g} + rounding {probe.rounding:.2g}"
    )


def _check_resolution(name: str, probes: list[_Probe]) -> None:
    """Raise UnresolvedError if rounding would have hidden an error of a tenth at every place."""
    if not any(probe.decides for probe in probes):
        raise UnresolvedError(
            f"y is so large that differences in {name} drown in its rounding, so nothing can be said about "
            "the gradient: use smaller values (or a smaller σ), or pass a larger step"
        )


def _check_settings(directions: int, coordinates: int, step: float | None) -> None:
    if directions < 1 or coordinates < 1:
        raise WnError(f"directions is {directions}, coordinates is {coordinates}: both must be at least 1")
    if step is not None and not 0 < step < math.inf:
        raise WnError(f"step is {step!r}: it must be positive and finite")
