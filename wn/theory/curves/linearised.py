"""Statistical linearisation: moments of the logits under noise at any sites of a network.

Forward, every element has a mean and a variance, and is taken for independent of the others, but for the few
numbers of what they have in `Common`. Each nonlinearity becomes a line, y ≈ E y + a·(z − E z) + e, whose
slope is its mean gate a = E f′(z) and whose rest e is fresh and independent, of the variance that is missing.
Backward, K rows G = ∂ℓ/∂(place) through the mean gates give the covariance of the logits,

    Cov ℓ = Σ over places of fresh variance v:  G diag(v) Gᵀ.

Derived in docs/theory/linearisation.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.engine.noise import Noise
from wn.theory.curves.chain import Affine, Chain, Step
from wn.theory.kernels import lines, windows

Array = NDArray[Any]


PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # of pixels in a window


class Common(NamedTuple):
    """What elements have in common behind steps, by their number: see `wn.theory.curves.common`.

    variances: factors of the variances of independent elements (P, F, 1…); windows: correlations of pixels in
    the window of a pooling (P, C, 6), in the order of PAIRS; left: factors (P,) of the covariance that the
    rests of a nonlinearity bring to the logits. A step that is not there has elements that are independent.
    """

    variances: dict[int, Array]
    windows: dict[int, Array]
    left: dict[int, Array]


class Fresh(NamedTuple):
    """Variance that enters at a place, (P|1, F…, B): of noise at a site, or what a step's line leaves."""

    variance: Array
    site: int | None
    step: int | None = None


@dataclass
class Tape:
    """What forward notes for the rows: affine maps, gates and fresh variances, in order.

    Entries are a word and what it is of: "affine" `Affine`, "gate" (P, F…, B), "pool" gates (P, C, H, W, B),
    "scale" (P|1, 1…), "fresh" `Fresh`.
    """

    entries: list[tuple[str, Any]] = field(default_factory=list)

    def note(self, kind: str, what: Any) -> None:
        """Note one entry."""
        self.entries.append((kind, what))


class Moments(NamedTuple):
    """Mean and variance of every element, (P|1, F…, B) each."""

    mean: Array
    variance: Array


class Coefficients(NamedTuple):
    """Noise of P members: E y = gain·x + shift, Var y = gain²v + on_square·((x + before)² + v) + constant."""

    gain: Array  # (P|1,) each
    shift: Array
    before: Array
    on_square: Array
    constant: Array


class Linearised(NamedTuple):
    """Moments of logits, float32: mean (P, K, B), covariance (P, K, K, B); of it what noise itself brings.

    rows: G (P, K, F…, B) at each noisy site; fresh: the variance of its noise. behind: the rows behind the
    nonlinearity, where there is only one.
    """

    mean: Array
    covariance: Array
    by_noise: Array
    rows: dict[int, Array]
    fresh: dict[int, Array]
    behind: Array | None


def coefficients(operator: Noise, x: Array) -> Coefficients:
    """The moments of an operator on (P, F…, B) as functions of the mean and variance of x.

    Averages of R draws included; derived in docs/noise.md (`wn.theory.moments` has them for one member).
    """
    of = operator.for_elements(int(np.prod(x.shape[1:-1])))
    m, d, s2, t2 = (
        np.atleast_1d(np.asarray(value, np.float64))
        for value in (of.mean_mul, of.mean_add, np.square(of.sigma_mul), np.square(of.sigma_add))
    )
    s2, t2 = s2 / of.repetitions, t2 / of.repetitions
    if of.order == "mul_add":
        return Coefficients(m, d, np.zeros(1), s2, t2)
    return Coefficients(m, m * d, d, s2, m**2 * t2 + s2 * t2 * of.repetitions)


def linearise(chain: Chain, noise: Mapping[int, Noise], x: Array, common: Common) -> Linearised:
    """Mean and covariance of the logits from the clean activation x (1, F…, B) at the first noisy site.

    noise: operators by site, of one value or of P; common: of the same noise. Derived in
    docs/theory/linearisation.md.
    """
    first = min(noise)
    steps = chain.behind(first, frozenset(noise))
    members = max(operator.members() for operator in noise.values())
    tape = Tape()
    at = injected(Moments(x, np.zeros_like(x)), coefficients(noise[first], x), first, tape)
    for index, step in enumerate(steps):
        at = through(step, index, at, tape, common)
        if step.site is not None and step.site in noise:
            at = injected(at, coefficients(noise[step.site], at.mean), step.site, tape)
    mean = np.broadcast_to(at.mean, (members, *at.mean.shape[1:]))
    return by_rows(tape, mean, chain.classes, common=common)


def injected(at: Moments, c: Coefficients, site: int, tape: Tape) -> Moments:
    """The moments behind noise at a site; the variance of the noise is noted as fresh."""
    x, v = at.mean, at.variance
    gain, shift, before, on_square, constant = (_per_member(values, x) for values in c)
    fresh = constant + on_square * ((x + before if c.before.any() else x) ** 2 + v)
    if np.any(c.gain != 1):
        tape.note("scale", gain)
        v = gain**2 * v
    if np.any(c.gain != 1) or c.shift.any():
        x = gain * x + shift
    tape.note("fresh", Fresh(fresh, site))
    return Moments(x, v + fresh)


def through(step: Step, index: int, at: Moments, tape: Tape, common: Common) -> Moments:
    """The moments behind a step of that number, which is noted with what it leaves out."""
    if step.kind == "affine":
        assert step.map is not None
        tape.note("affine", step.map)
        return behind_affine(step.map, at, common.variances.get(index))
    if step.kind == "relu":
        found, gate, rest = behind_relu(at)
        tape.note("gate", gate)
    else:
        found, gate, rest = behind_pool(at, step.kind == "relu-max", common.windows.get(index))
        tape.note("pool", gate)
    tape.note("fresh", Fresh(rest, None, index))
    return found


def behind_affine(map_: Affine, at: Moments, factor: Array | None) -> Moments:
    """Means by the map, variances by its squares, as if elements were independent, times a factor."""
    variance = map_.variance(at.variance)
    if factor is not None:
        repeats = max(len(variance) // len(factor), 1)
        variance = variance * (np.repeat(factor, repeats, axis=0) if repeats > 1 else factor)
    return Moments(map_.mean(at.mean), variance)


def behind_relu(at: Moments) -> tuple[Moments, Array, Array]:
    """The moments behind a ReLU, its mean gates, and the variance that they do not carry."""
    members = max(len(at.mean), len(at.variance))
    shape = (members, *at.mean.shape[1:])
    found = [np.empty(shape, at.mean.dtype) for _ in range(4)]
    lines.relu(*(flat(array) for array in (at.mean, at.variance, *found)))
    mean, variance, gate, rest = found
    return Moments(mean, variance), gate, rest


def behind_pool(
    at: Moments, cut: bool, within: Array | None, *, gated: bool = True
) -> tuple[Moments, Array, Array]:
    """The same behind a 2×2 max pooling, of ReLUs if `cut`; gates (P, C, H, W, B).

    within: correlations of a window's pixels (P, C, 6), or None for independent ones. Without `gated` there
    are no gates and no rest.
    """
    members = max(len(at.mean), len(at.variance))
    channels, height, width, batch = at.mean.shape[1:]
    shape = (channels, height // 2, width // 2, batch)
    mean, variance = (np.empty((members, *shape), at.mean.dtype) for _ in range(2))
    rest = np.empty((members if gated else 0, *shape), at.mean.dtype)
    gates = np.empty((members if gated else 0, *at.mean.shape[1:]), at.mean.dtype)
    m, v = np.ascontiguousarray(at.mean), np.ascontiguousarray(at.variance)
    if within is None:
        windows.independent(m, v, cut, mean, variance, gates, rest)
    else:
        lines.pool(m, v, within, cut, mean, variance, gates, rest)
    return Moments(mean, variance), gates, rest


def by_rows(
    tape: Tape,
    mean: Array,
    classes: int,
    visit: Callable[[int, Array, Array], None] | None = None,
    common: Common | None = None,
) -> Linearised:
    """The covariance of the logits by rows from the logits back to every place of fresh variance.

    visit: called with the step, the rows and their covariance where a line has left something.
    """
    members, _, batch = mean.shape
    g = np.zeros((members, classes, classes, batch), mean.dtype)
    g[:, np.arange(classes), np.arange(classes)] = 1
    rest, by_noise = np.zeros_like(g), np.zeros_like(g)
    rows, fresh = {}, {}
    behind: list[Array] = []
    for kind, what in reversed(tape.entries):
        if kind == "affine":
            back = what.transposed(g.reshape(-1, *g.shape[2:]))
            g = back.reshape(members, classes, *back.shape[1:])
        elif kind in ("gate", "scale"):
            g = g * what[:, None]
        elif kind == "pool":
            dx = np.empty((members, classes, *what.shape[1:]), g.dtype)
            lines.unpool(np.ascontiguousarray(g), what, dx)
            g = dx
        elif what.site is None:
            behind.append(g)
            here = np.zeros_like(rest)
            _add(g, what.variance, here)
            if visit is not None:
                visit(what.step, g, here)
            if common is not None and what.step in common.left:
                here *= common.left[what.step][:, None, None, None]
            rest += here
        else:
            _add(g, what.variance, by_noise)
            rows[what.site], fresh[what.site] = g, what.variance
    only = behind[0] if len(behind) == 1 else None
    return Linearised(mean, rest + by_noise, by_noise, rows, fresh, only)


def _add(g: Array, variance: Array, total: Array) -> None:
    members, classes, batch = *g.shape[:2], g.shape[-1]
    lines.add_covariance(np.ascontiguousarray(g).reshape(members, classes, -1, batch), flat(variance), total)


def flat(array: Array) -> Array:
    """(P, F…, B) → (P, F, B), contiguous; of a contiguous array a view."""
    return np.ascontiguousarray(array).reshape(len(array), -1, array.shape[-1])


def _per_member(values: Array, x: Array) -> Array:
    """(P|1,) → (P|1, 1…, 1) in the dtype of x."""
    return values.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
