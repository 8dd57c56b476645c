"""Compiled loops of the largest of each 2×2 window of independent Gaussians, by quadrature.

Derived in docs/theory/moments.md; `wn.theory.maximum` has the same to more digits, and slower. Arrays are
float32, population first and batch last; the innermost loops run over samples.
"""

import math
from typing import Any

import numba
import numpy as np

from wn.engine.backends.numba.kernels.compile import SUMS, parallel, serial
from wn.theory.kernels.lines import FAR, ONE, SMALLEST, TWO, ZERO, tail

Array = Any  # of NumPy

LOWER: Any = np.float32(3.5)  # standard deviations below and above means that the integral is over
UPPER: Any = np.float32(4.5)
ABOVE: Any = np.float32(1e-5)  # of the range: so far above its lower end a constant there is below
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
NODES: Any = tuple(map(np.float32, (_NODES + 1) / 2))
WEIGHTS: Any = tuple(map(np.float32, _WEIGHTS / 2))
LEAST: Any = np.float32(1e-9)  # a sum of gates below which nothing wins


@serial(SUMS)
def _below(t: Any, m: Any, inverse: Any) -> tuple[Any, Any]:
    """Distribution function and density of N(m, 1/inverse²) at t."""
    a = min(max((t - m) * inverse, -FAR), FAR)
    phi, less = tail(a)
    return (less if a < ZERO else ONE - less), phi * inverse


@parallel(SUMS)
def independent(
    m: Array, v: Array, cut: bool, mean: Array, variance: Array, gates: Array, rest: Array
) -> None:
    """Write the moments of the largest of each 2×2 window of independent Gaussians, of 0 too if `cut`.

    With F(t) = Π_j Φ((t − m_j)/s_j) from lo = max_j (m_j − 3.5 s_j) on, and from 0 if `cut`:
    E = lo + ∫(1 − F), E[(y − lo)²] = ∫ 2(t − lo)(1 − F), g_j ∝ ∫ f_j Π_{k≠j} F_k with the sum 1 − F(lo), in
    10 nodes. Arrays as those of `lines.pool`.
    """
    members, channels, rows, columns, batch = mean.shape
    wanted = len(gates) > 0
    for item in numba.prange(members * channels):
        p, k = item // channels, item % channels
        x, y = m[p * len(m) // members, k], v[p * len(v) // members, k]
        ends, inverse = np.empty((3, batch), m.dtype), np.empty((4, batch), m.dtype)
        sums = np.empty((6, batch), m.dtype)
        if wanted:
            gates[p, k, 2 * rows :] = 0
            gates[p, k, :, 2 * columns :] = 0
        for i in range(rows):
            for j in range(columns):
                h, w = 2 * i, 2 * j
                four = x[h, w], x[h, w + 1], x[h + 1, w], x[h + 1, w + 1]
                spread = y[h, w], y[h, w + 1], y[h + 1, w], y[h + 1, w + 1]
                _range(*four, *spread, cut, ends, inverse)
                sums[:] = 0
                for n in range(len(NODES)):
                    _node(*four, NODES[n], WEIGHTS[n], ends, inverse, sums)
                _moments(*spread, ends, sums, mean[p, k, i, j], variance[p, k, i, j])
                if wanted:
                    for b in range(batch):
                        rest[p, k, i, j, b] = max(variance[p, k, i, j, b] - sums[0, b], ZERO)
                    for n in range(4):
                        gates[p, k, h + n // 2, w + n % 2] = sums[2 + n]


@serial(SUMS)
def _range(
    x0: Array,
    x1: Array,
    x2: Array,
    x3: Array,
    y0: Array,
    y1: Array,
    y2: Array,
    y3: Array,
    cut: bool,
    ends: Array,
    inverse: Array,
) -> None:
    """Write lo, the length of the range and 1 − F(lo) to ends (3, B), and 1/s_j to inverse (4, B)."""
    lowest = ZERO if cut else np.float32(-np.inf)
    for b in range(ends.shape[1]):
        s0, s1 = math.sqrt(max(y0[b], SMALLEST)), math.sqrt(max(y1[b], SMALLEST))
        s2, s3 = math.sqrt(max(y2[b], SMALLEST)), math.sqrt(max(y3[b], SMALLEST))
        low = max(max(x0[b] - LOWER * s0, x1[b] - LOWER * s1), max(x2[b] - LOWER * s2, x3[b] - LOWER * s3))
        high = max(max(x0[b] + UPPER * s0, x1[b] + UPPER * s1), max(x2[b] + UPPER * s2, x3[b] + UPPER * s3))
        low, high = max(low, lowest), max(high, lowest)
        i0, i1, i2, i3 = ONE / s0, ONE / s1, ONE / s2, ONE / s3
        t = low + ABOVE * (high - low)
        f0, f1 = _below(t, x0[b], i0)[0], _below(t, x1[b], i1)[0]
        f2, f3 = _below(t, x2[b], i2)[0], _below(t, x3[b], i3)[0]
        ends[0, b], ends[1, b], ends[2, b] = low, high - low, ONE - f0 * f1 * f2 * f3
        inverse[0, b], inverse[1, b], inverse[2, b], inverse[3, b] = i0, i1, i2, i3


@serial(SUMS)
def _node(
    x0: Array,
    x1: Array,
    x2: Array,
    x3: Array,
    node: Any,
    weight: Any,
    ends: Array,
    inverse: Array,
    sums: Array,
) -> None:
    """Add what a node of the integrals over [0, 1] gives to sums (6, B): 1 − F, 2u(1 − F), and four gates."""
    for b in range(ends.shape[1]):
        t = ends[0, b] + ends[1, b] * node
        f0, d0 = _below(t, x0[b], inverse[0, b])
        f1, d1 = _below(t, x1[b], inverse[1, b])
        f2, d2 = _below(t, x2[b], inverse[2, b])
        f3, d3 = _below(t, x3[b], inverse[3, b])
        above = weight * (ONE - f0 * f1 * f2 * f3)
        sums[0, b] += above
        sums[1, b] += TWO * node * above
        length = weight * ends[1, b]
        sums[2, b] += length * d0 * f1 * f2 * f3
        sums[3, b] += length * f0 * d1 * f2 * f3
        sums[4, b] += length * f0 * f1 * d2 * f3
        sums[5, b] += length * f0 * f1 * f2 * d3


@serial(SUMS)
def _moments(
    y0: Array, y1: Array, y2: Array, y3: Array, ends: Array, sums: Array, mean: Array, variance: Array
) -> None:
    """Write mean and variance; gates get their sum, and the variance that they carry goes to sums[0]."""
    for b in range(len(mean)):
        first, length = sums[0, b], ends[1, b]
        mean[b] = ends[0, b] + length * first
        variance[b] = length * length * max(sums[1, b] - first * first, ZERO)
        total = sums[2, b] + sums[3, b] + sums[4, b] + sums[5, b]
        scale = ends[2, b] / max(total, LEAST)
        g0, g1, g2, g3 = sums[2, b] * scale, sums[3, b] * scale, sums[4, b] * scale, sums[5, b] * scale
        sums[0, b] = g0 * g0 * y0[b] + g1 * g1 * y1[b] + g2 * g2 * y2[b] + g3 * g3 * y3[b]
        sums[2, b], sums[3, b], sums[4, b], sums[5, b] = g0, g1, g2, g3
