"""What elements of an activation have in common, in a few numbers of each feature map and σ.

`linearised` takes elements for independent. What that loses is measured by probes: random signs on a few
images, which the maps and mean gates carry to where elements are no longer independent. Their squares say by
which factor the variances of a feature map (or unit) are too small, their products how pixels of a pooling's
window are correlated, and their sums along the rows how much of what lines leave adds up.
Derived in docs/theory/linearisation.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.engine.noise import Noise
from wn.theory.curves.chain import Chain
from wn.theory.curves.linearised import (
    PAIRS,
    Common,
    Moments,
    Tape,
    by_rows,
    coefficients,
    injected,
    through,
)

Array = NDArray[Any]

PROBES = 8  # of each image
SMALLEST = 1e-20  # a variance below which it is 0


class _Signs(NamedTuple):
    """Random signs from one generator."""

    draws: np.random.Generator

    def like(self, variance: Array, members: int) -> Array:
        """Probes (P, r, F…, B) of independent elements with these variances (P|1, F…, B)."""
        shape = (members, PROBES, *variance.shape[1:])
        signs = self.draws.integers(0, 2, shape, dtype=np.int8) * np.int8(2) - np.int8(1)
        return np.asarray(signs * np.sqrt(variance)[:, None])


def in_common(chain: Chain, noise: Mapping[int, Noise], x: Array, seed: int) -> Common:
    """The numbers for noise at sites, from the clean activation x (1, F…, B) at the first noisy site.

    A few images are enough: numbers are means over images and places. Derived in
    docs/theory/linearisation.md.
    """
    first, signs = min(noise), _Signs(np.random.default_rng(seed))
    members = max(operator.members() for operator in noise.values())
    found, tape = Common({}, {}, {}), Tape()
    at = injected(Moments(x, np.zeros_like(x)), coefficients(noise[first], x), first, tape)
    t = signs.like(at.variance, members)
    left: dict[int, Array] = {}
    independent = True
    for index, step in enumerate(chain.behind(first, frozenset(noise))):
        if step.map is not None:
            moved = step.map.tangent(t.reshape(-1, *t.shape[2:]))
            t = moved.reshape(*t.shape[:2], *moved.shape[1:])
            if step.map.mixes and not independent:
                found.variances[index] = _factor(t, step.map.variance(at.variance))
            independent = independent and not step.map.mixes
            at = through(step, index, at, tape, found)
        else:
            if step.kind != "relu" and not independent:
                found.windows[index] = _correlations(t)
            at = through(step, index, at, tape, found)
            (_, gate), (_, fresh) = tape.entries[-2:]
            t = t * gate[:, None]
            t = t if step.kind == "relu" else np.sum(_windows(t), axis=0)
            if independent:
                t = t + signs.like(fresh.variance, members)
            else:
                left[index] = _left(t, at.variance - fresh.variance, fresh.variance)
                t = t + left[index]
        if step.site is not None and step.site in noise:
            at = injected(at, coefficients(noise[step.site], at.mean), step.site, tape)
            t = t + signs.like(tape.entries[-1][1].variance, members)
    by_rows(tape, np.broadcast_to(at.mean, (members, *at.mean.shape[1:])), chain.classes, _Sums(left, found))
    return found


def _factor(t: Array, variance: Array) -> Array:
    """The mean square of probes over the variance of independent elements, (P, F, 1…)."""
    axes = tuple(range(2, variance.ndim))
    true = np.square(t).mean(axis=1).sum(axis=axes, keepdims=True)
    alone = variance.sum(axis=axes, keepdims=True)
    return np.asarray(np.where(alone > SMALLEST, true / np.maximum(alone, SMALLEST), 1), t.dtype)


def _windows(t: Array) -> list[Array]:
    """The four pixels of each 2×2 window: (…, H, W, B) → 4 of (…, H', W', B)."""
    height, width = t.shape[-3] // 2 * 2, t.shape[-2] // 2 * 2
    return [t[..., i:height:2, j:width:2, :] for i in (0, 1) for j in (0, 1)]


def _correlations(t: Array) -> Array:
    """Correlations of the pixels of windows, (P, C, 6): means over probes, windows and images."""
    parts, axes = _windows(t), (1, 3, 4, 5)
    squares = [np.square(part).sum(axis=axes) for part in parts]
    found = [
        (parts[a] * parts[b]).sum(axis=axes) / np.sqrt(np.maximum(squares[a] * squares[b], SMALLEST))
        for a, b in PAIRS
    ]
    return np.stack(found, axis=-1).astype(t.dtype)


def _left(t: Array, carried: Array, rest: Array) -> Array:
    """Probes of what a line leaves, (P, r, F…, B), of the variances `rest`, with t's correlations squared.

    The first term of e in Hermite polynomials is the second, whose correlation is ρ²: that of products τ·τ'
    of two probes of correlation ρ. The variances are right in their sum for each of P.
    """
    tau = t / np.sqrt(np.maximum(carried, SMALLEST))[:, None]
    tau /= np.sqrt(np.maximum(np.square(tau).mean(axis=1, keepdims=True), 1e-3))
    e = np.sqrt(rest)[:, None] * tau * np.roll(tau, 1, axis=1)
    axes = tuple(range(1, e.ndim))
    size = np.square(e).sum(axis=axes) / PROBES
    scale = np.sqrt(rest.sum(axis=axes[:-1]) / np.maximum(size, SMALLEST))
    return np.asarray(e * scale.reshape(-1, *(1,) * (e.ndim - 1)), t.dtype)


@dataclass(frozen=True)
class _Sums:
    """What `by_rows` calls at each place of what a line leaves, with its rows: fills `found.left`."""

    left: dict[int, Array]
    found: Common

    def __call__(self, index: int, g: Array, covariance: Array) -> None:
        """Write Σ (G e)² over the sum that independent e would have, both of differences of logits."""
        if index not in self.left:
            return
        members, classes, batch = len(g), g.shape[1], g.shape[-1]
        e = self.left[index].reshape(members, PROBES, -1, batch)
        rows = g.reshape(members, classes, -1, batch)
        sums = (e.transpose(0, 3, 1, 2) @ rows.transpose(0, 3, 2, 1)).astype(np.float64)  # (P, B, r, K)
        sums -= sums.mean(axis=3, keepdims=True)
        own = np.einsum("pkkb->p", covariance) - np.einsum("pklb->p", covariance) / classes
        factor = np.square(sums).sum(axis=(1, 2, 3)) / PROBES / np.maximum(own, SMALLEST)
        self.found.left[index] = np.where(own > SMALLEST, factor, 1).astype(g.dtype)
