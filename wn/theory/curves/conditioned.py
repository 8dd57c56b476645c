"""Conditioning: the response of the logits along a few directions of the noise, exactly to all orders.

The law of the logits is a mixture: along the q directions in which noise moves the (linearised) logits, noise
takes n quasi-random values u; given u the means are propagated anew, and what is left is Gaussian with the
covariance of `linearised` without these directions; with its own for noise at the last pre-activations.
Derived in docs/theory/linearisation.md.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from wn.engine.noise import Noise
from wn.theory.argmax import lattice
from wn.theory.curves.chain import Chain, Step
from wn.theory.curves.linearised import (
    Coefficients,
    Common,
    Linearised,
    Moments,
    Tape,
    behind_affine,
    behind_pool,
    behind_relu,
    coefficients,
    flat,
    injected,
)
from wn.theory.kernels import lines

Array = NDArray[Any]

MOST_DIRECTIONS = 15  # in which few points still are even
SMALLEST = 1e-30  # a variance below which it is 0
LEAST = 1e-7  # of the largest eigenvalue: directions below it have no noise in float32


class Mixture(NamedTuple):
    """Gaussian components of equal weight: means (P, N, K, B), covariance (P, N|1, K, K, B)."""

    means: Array
    covariance: Array


class Directions(NamedTuple):
    """Tangents Cov(noise, u) at each noisy site, (P, Q, F…, B), and Cov(ℓ, u), (P, K, Q, B)."""

    tangents: dict[int, Array]
    of_logits: Array


def directions(found: Linearised, count: int) -> Directions:
    """The `count` leading directions u of the noise in the plane of differences of the logits.

    C = Σ_k λ_k e_k e_kᵀ of the centred covariance by noise; u_k = λ_k^(−½) e_kᵀ(ℓ − E ℓ), of variance 1 under
    the linearised map; Cov(noise, u_k) = diag(v) Gᵀ e_k λ_k^(−½).
    """
    classes = found.by_noise.shape[1]
    c = found.by_noise.transpose(0, 3, 1, 2).astype(np.float64)  # (P, B, K, K)
    centre = np.eye(classes) - 1 / classes
    values, vectors = np.linalg.eigh(centre @ c @ centre)
    values, vectors = values[..., : -count - 1 : -1], vectors[..., : -count - 1 : -1]
    floor = LEAST * values[..., :1] + 1e-30
    weights = vectors * np.where(values > floor, np.maximum(values, floor) ** -0.5, 0)[..., None, :]
    of_logits = (c @ weights).transpose(0, 2, 3, 1)
    by_class = np.ascontiguousarray(weights.transpose(0, 2, 3, 1).astype(found.mean.dtype))  # (P, K, Q, B)
    tangents = {}
    for site, g in found.rows.items():
        members, batch = len(g), g.shape[-1]
        result = np.empty((members, count, int(np.prod(g.shape[2:-1])), batch), g.dtype)
        rows = np.ascontiguousarray(g).reshape(members, classes, -1, batch)
        lines.combined(rows, flat(found.fresh[site]), by_class, result)
        tangents[site] = result.reshape(members, count, *g.shape[2:])
    return Directions(tangents, of_logits.astype(found.mean.dtype))


def mixture(
    chain: Chain, noise: Mapping[int, Noise], x: Array, found: Linearised, points: Array, common: Common
) -> Mixture:
    """The mixture of Gaussians along the leading directions, from the activation x at the first noisy site.

    points: u (N, Q, B), standard normal; common: as of `linearise`. Derived in docs/theory/linearisation.md.
    """
    along = directions(found, points.shape[1])
    first = min(noise)
    steps, tape = chain.behind(first, frozenset(noise)), Tape()
    at = injected(Moments(x, np.zeros_like(x)), coefficients(noise[first], x), first, tape)
    t: Array | None = along.tangents[first]
    rest: Array | None = None
    for index, step in enumerate(steps):
        if step.kind == "affine":
            assert step.map is not None
            at = behind_affine(step.map, at, common.variances.get(index))
            if t is not None:
                t = _unfold(step.map.tangent(_fold(t)), t)
        else:
            before, own, (at, t) = at, t, (_given(at, t, points), None)
            if step.kind == "relu":
                at, gate, left = behind_relu(at)
                if found.behind is not None and _are_independent(steps[:index], noise):
                    rest = _of_each(found.behind, before.variance, own, gate, left)
            else:
                at = behind_pool(at, step.kind == "relu-max", common.windows.get(index), gated=False)[0]
        if step.site is not None and step.site in noise:
            of = _repeated(coefficients(noise[step.site], at.mean), len(at.variance))
            behind, own = injected(at, of, step.site, tape), along.tangents[step.site]
            if t is not None:
                at, t = behind, t + own
            else:
                fresh = tape.entries[-1][1].variance
                at = _moved(behind, fresh, found.fresh[step.site], own, points)
    means = _given(at, t, points).mean
    members, batch = len(found.mean), x.shape[-1]
    if rest is None:
        rest = (found.covariance - np.einsum("pkqb,plqb->pklb", along.of_logits, along.of_logits))[:, None]
    variances = np.einsum("pnkkb->pnkb", rest)  # a view
    np.maximum(variances, 0, out=variances)  # of which the differences of float32 leave less than nothing
    return Mixture(means.reshape(members, len(points), -1, batch), rest)


def _are_independent(before: tuple[Step, ...], noise: Mapping[int, Noise]) -> bool:
    """Whether noise at one site is still independent behind these steps."""
    return len(noise) == 1 and not any(step.map is None or step.map.mixes for step in before)


def _of_each(g: Array, variance: Array, t: Array | None, gate: Array, left: Array) -> Array:
    """The covariance of the logits given each u, (P, N, K, K, B): inputs of the only ReLU are independent.

    With a the gates given u: G diag(a²v + left) Gᵀ − Σ_q (G a t_q)(G a t_q)ᵀ. g: rows behind the ReLU
    (P, K, F, B); variance: v (P|1, F, B); t: (P, Q, F, B); gate and left: (P·N, F, B).
    """
    assert t is not None
    members, classes, batch = len(g), g.shape[1], g.shape[-1]
    gate, left, own = flat(gate), flat(left), flat(np.broadcast_to(variance, (members, *variance.shape[1:])))
    each = len(gate) // members
    rows = np.repeat(g.reshape(members, classes, -1, batch), each, axis=0)
    result = np.zeros((members * each, classes, classes, batch), g.dtype)
    lines.add_covariance(rows, gate**2 * np.repeat(own, each, axis=0) + left, result)
    tangents = np.repeat(t.reshape(members, t.shape[1], -1, batch), each, axis=0).transpose(0, 3, 2, 1)
    moved = (rows * gate[:, None]).transpose(0, 3, 1, 2) @ tangents  # (P·N, B, K, Q)
    result -= (moved @ moved.transpose(0, 1, 3, 2)).transpose(0, 2, 3, 1)
    return result.reshape(members, each, classes, classes, batch)


def _given(at: Moments, t: Array | None, points: Array) -> Moments:
    """The moments given u: means move by t·u, and what u explains of variances is gone."""
    if t is None:
        return at
    members, batch = len(t), t.shape[-1]
    mean = np.empty((members * len(points), *at.mean.shape[1:]), at.mean.dtype)
    variance = np.empty((max(members, len(at.variance)), *at.mean.shape[1:]), at.mean.dtype)
    tangents = np.ascontiguousarray(t).reshape(members, t.shape[1], -1, batch)
    lines.given(flat(at.mean), flat(at.variance), tangents, points, flat(mean), flat(variance))
    return Moments(mean, variance)


def _moved(at: Moments, fresh: Array, average: Array, t: Array, points: Array) -> Moments:
    """The moments behind a later site, (P·N, F…, B), given u.

    fresh: the variance of its noise given what u did before the site; `average` (P|1, F…, B): that without u.
    Noise that is multiplied moves the more the larger its input is, by √(fresh/average)·t·u.
    """
    members, each = len(t), len(points)
    at_zero = Moments(np.zeros((1, *t.shape[2:]), t.dtype), np.broadcast_to(average, (members, *t.shape[2:])))
    given = _given(at_zero, t, points)
    ratio = fresh / np.maximum(np.repeat(average, max(members // len(average), 1) * each, axis=0), SMALLEST)
    rest = np.repeat(given.variance, each, axis=0)
    return Moments(at.mean + np.sqrt(ratio) * given.mean, at.variance - fresh + ratio * rest)


def _fold(t: Array) -> Array:
    return np.ascontiguousarray(t).reshape(-1, *t.shape[2:])


def _unfold(t: Array, like: Array) -> Array:
    return t.reshape(*like.shape[:2], *t.shape[1:])


def _repeated(c: Coefficients, members: int) -> Coefficients:
    """Coefficients of P members as those of P·N: each member's for its N points."""
    return Coefficients(*(np.repeat(v, max(members // v.size, 1)) if v.size > 1 else v for v in c))


def normal_points(count: int, dimensions: int, batch: int, seed: int) -> Array:
    """Points of a standard normal, (N, Q, B) float32: Richtmyer's lattice with a shift of each image's own.

    So the error of few points is noise between images, and has no bias.
    """
    shift = np.random.default_rng(seed).random((dimensions, batch))
    unit = (lattice(count, dimensions)[:, :, None] + shift) % 1  # (N, Q, B)
    return np.ascontiguousarray(ndtri(np.clip(unit, 1e-7, 1 - 1e-7)).astype(np.float32))
