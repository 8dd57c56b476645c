"""The largest of Gaussian variables: of two exactly, of a window by Clark's recursion or by quadrature.

Windows have their variables along the first axis: mean (W, …), with any axes behind it. A gate g_j, the
probability that j is the largest, is the mean of ∂y/∂x_j; the covariance of the largest with any Gaussian
Z is Σ_j g_j·Cov(x_j, Z). Derived in docs/theory/moments.md.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from wn.basics.errors import WnError
from wn.theory.kernels import compiled
from wn.theory.rectified import Rectified, relu_moments

Floats = NDArray[np.float64]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(10)
SPLITS = (-8.0, -5.0, -2.0, 0.0, 2.0, 5.0, 8.0)  # standard deviations: edges of panels about each mean
REACH = SPLITS[-1]
CHUNK = 1 << 19  # numbers of an array of quadrature


class Largest(NamedTuple):
    """Mean and variance (…) of the largest, and the gates (W, …) of the variables of its window."""

    mean: Floats
    variance: Floats
    gates: Floats


def pair_maximum(
    mean: ArrayLike,
    variance: ArrayLike,
    other_mean: ArrayLike,
    other_variance: ArrayLike,
    covariance: ArrayLike = 0.0,
) -> Rectified:
    """Mean, variance and gate of max(X₁, X₂) for Gaussian X₁, X₂; the gate is P(X₁ > X₂).

    With D = X₁ − X₂ ~ N(m₁ − m₂, θ²), θ² = v₁ + v₂ − 2c: max = X₂ + D⁺, so E = m₂ + E[D⁺], gate = Φ(α) and
    Var = v₂ + Var[D⁺] + 2(c − v₂)·Φ(α), α = (m₁ − m₂)/θ. For any Z Gaussian with them,
    Cov(max, Z) = gate·Cov(X₁, Z) + (1 − gate)·Cov(X₂, Z).
    Any shapes that broadcast; X₁ and X₂ that are always equal have gate 0. Raises WnError as `relu_moments`.
    Clark 1961; derived in docs/theory/moments.md.
    """
    given = (mean, variance, other_mean, other_variance, covariance)
    m1, v1, m2, v2, c = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in given))
    if (v1 < 0).any() or (v2 < 0).any():
        raise WnError("variances of a pair must not be negative")
    first_ahead = m1 > m2
    v_ahead = np.where(first_ahead, v1, v2)
    distance = np.maximum(v1 + v2 - 2 * c, 0)  # θ²; below 0 by rounding only
    behind = relu_moments(-np.abs(m1 - m2), distance)  # what the one behind adds to the one ahead
    spread = v_ahead + behind.variance + 2 * (c - v_ahead) * behind.gate
    gate = np.where(first_ahead, 1 - behind.gate, behind.gate)
    return Rectified(np.maximum(m1, m2) + behind.mean, np.maximum(spread, 0), gate)


def maximum_clark(mean: ArrayLike, covariance: ArrayLike, low: float | None = None) -> Largest:
    """Mean, variance and gates of max(low, x_1, …, x_W) for correlated Gaussians, by Clark's recursion.

    The largest so far is taken for Gaussian, with its exact mean and variance and covariances Σ g_j·C_jk, and
    compared with the next: exact for two; the error for four is measured in docs/theory/moments.md.
    mean: (W, …); covariance: (W, W, …); low: a constant among them, None without. Raises WnError if the
    shapes do not fit. Clark 1961.
    """
    m, c = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    if m.ndim < 1 or not len(m) or c.shape != (len(m), *m.shape):
        raise WnError(f"mean (W, …) and covariance (W, W, …) do not fit: {m.shape} and {c.shape}")
    gates = np.zeros_like(m)
    gates[0] = 1.0
    centre, spread = m[0], c[0, 0]
    for j in range(1, len(m)):
        with_next = (gates[:j] * c[:j, j]).sum(axis=0)
        centre, spread, ahead = pair_maximum(centre, spread, m[j], c[j, j], with_next)
        gates[:j] *= ahead
        gates[j] = 1 - ahead
    if low is not None:
        above = relu_moments(centre - low, spread)
        centre, spread = low + above.mean, above.variance
        gates *= above.gate
    return Largest(centre, spread, gates)


def maximum_independent(mean: ArrayLike, variance: ArrayLike, low: float | None = None) -> Largest:
    """Mean, variance and gates of max(low, x_1, …, x_W) for independent Gaussians; a ReLU before has low = 0.

    With F(t) = Π_j Φ((t − m_j)/s_j) for t ≥ low, and a ≥ low below which F is 0: E = a + ∫(1 − F) dt,
    E[(y − a)²] = ∫ 2(t − a)(1 − F) dt, g_j = ∫ f_j Π_{k≠j} F_k dt, f_j the density of x_j.
    mean, variance: (W, …); low: None without. Errors below 1e-6, in units of the largest s_j; without Numba
    slower, and below 1e-10. Raises WnError as `relu_moments`. Derived in docs/theory/moments.md.
    """
    m, v, floor = _checked(mean, variance, low)
    loops = compiled("maximum")
    if loops is None:
        return plain_maximum_independent(m, v, low)
    flat_m, flat_s = m.reshape(len(m), -1), np.sqrt(v).reshape(len(m), -1)
    flat = Largest(np.empty(flat_m.shape[1]), np.empty(flat_m.shape[1]), np.empty(flat_m.shape))
    loops.independent(flat_m, flat_s, floor, *flat)
    return _shaped(flat, m.shape[1:])


def plain_maximum_independent(mean: ArrayLike, variance: ArrayLike, low: float | None = None) -> Largest:
    """`maximum_independent` in plain NumPy: its test, and what is run without Numba."""
    m, v, floor = _checked(mean, variance, low)
    flat_m, flat_s = m.reshape(len(m), -1), np.sqrt(v).reshape(len(m), -1)
    windows = flat_m.shape[1]
    result = Largest(np.empty(windows), np.empty(windows), np.empty(flat_m.shape))
    size = max(1, CHUNK // ((len(SPLITS) * len(m) + 2) * NODES.size * (len(m) + 1)))
    for start in range(0, windows, size):
        part = slice(start, start + size)
        found = _by_quadrature(flat_m[:, part], flat_s[:, part], floor)
        result.mean[part], result.variance[part], result.gates[:, part] = found
    return _shaped(result, m.shape[1:])


def _checked(mean: ArrayLike, variance: ArrayLike, low: float | None) -> tuple[Floats, Floats, float]:
    m, v = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(variance, np.float64))
    if m.ndim < 1 or not len(m):
        raise WnError(f"mean (W, …) has no variables: {m.shape}")
    if not np.isfinite(m).all() or not (np.isfinite(v) & (v >= 0)).all():
        raise WnError("means of a window must be finite, and variances finite and not negative")
    return np.ascontiguousarray(m), np.ascontiguousarray(v), -math.inf if low is None else float(low)


def _shaped(flat: Largest, shape: tuple[int, ...]) -> Largest:
    """The windows (N,) in the axes that they had."""
    return Largest(*(values.reshape(*values.shape[:-1], *shape) for values in flat))


def _by_quadrature(m: Floats, s: Floats, low: float) -> Largest:
    """The integrals for windows (W, N), in panels within which every factor is smooth."""
    sure = np.where(s > 0, -np.inf, m)  # constants; the largest of them and of low is a floor
    floor = np.maximum(sure.max(axis=0), low)  # (N,)
    start = np.maximum(floor, (m - REACH * s).max(axis=0))
    end = np.maximum(start, (m + REACH * s).max(axis=0))
    edges = [np.clip(m + split * s, start, end) for split in SPLITS]
    ends = np.sort(np.concatenate([start[None], *edges, end[None]]), axis=0)  # (E, N)
    half = np.diff(ends, axis=0)[..., None] / 2  # (E − 1, N, 1)
    t = ends[:-1, :, None] + half * (1 + NODES)  # (E − 1, N, nodes)
    weight = half * WEIGHTS
    scale = np.where(s > 0, s, 1.0)
    z = [(t - m_j[:, None]) / s_j[:, None] for m_j, s_j in zip(m, scale, strict=True)]
    below = [np.where(s_j[:, None] > 0, ndtr(z_j), 1.0) for z_j, s_j in zip(z, s, strict=True)]
    above = 1 - np.prod(below, axis=0)
    first = (weight * above).sum(axis=(0, 2))
    second = (2 * weight * (t - start[:, None]) * above).sum(axis=(0, 2))
    gates = np.empty_like(m)
    for j in range(len(m)):
        others = np.prod([factor for k, factor in enumerate(below) if k != j], axis=0)  # 1 for none
        density = np.exp(-(z[j] ** 2) / 2) / math.sqrt(2 * math.pi) / scale[j][:, None]
        gates[j] = (weight * density * others).sum(axis=(0, 2))
    gates = np.where(s > 0, gates, 0.0)
    is_floor = (s == 0) & (m == floor) & (floor > low)  # a constant wins where no variable is above it
    left = np.maximum(1 - gates.sum(axis=0), 0)
    gates += is_floor * left / np.maximum(is_floor.sum(axis=0), 1)
    return Largest(start + first, np.maximum(second - first**2, 0), gates)
