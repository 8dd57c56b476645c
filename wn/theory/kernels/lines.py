"""Compiled loops of linearised moments: ReLUs, 2×2 max poolings, and covariances from rows.

Derived in docs/theory/linearisation.md. Arrays are float32, population first and batch last; the innermost
loops run over samples. `rectified.py` is the plain version of the ReLU.
"""

import math
from typing import Any

import numba
import numpy as np

from wn.engine.backends.numba.kernels.compile import SUMS, parallel, serial

Array = Any  # of NumPy

ROOT_2PI: Any = np.float32(1 / math.sqrt(2 * math.pi))
FAR: Any = np.float32(6)  # standard deviations beyond which nothing is left in float32
SMALLEST: Any = np.float32(1e-30)  # a variance below which it is 0
POWERS: Any = np.exp2(-np.arange(64, dtype=np.float32))  # 2⁻ⁿ
FIRST: Any = np.int32(0)
LAST: Any = np.int32(63)
LOG2E: Any = np.float32(math.log2(math.e))
LN2: Any = np.float32(math.log(2))
ONE: Any = np.float32(1)
TWO: Any = np.float32(2)
HALF: Any = np.float32(0.5)
ZERO: Any = np.float32(0)

# Φ(−x)/φ(x) for x ≥ 0 as a polynomial of t = 1/(1 + CDF_T·x), error of Φ below 1e-7 (Abramowitz and Stegun,
# 26.2.17), and e^r for |r| ≤ ln 2/2 to float32.
CDF_T: Any = np.float32(0.2316419)
CDF: Any = tuple(map(np.float32, (0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429)))
EXP: Any = tuple(map(np.float32, (1, 1, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720)))


@serial(SUMS)
def density(x: Any) -> Any:
    """φ(x) for |x| ≤ FAR, by e^y = 2ⁿ·e^r: the compiler can take several at once, which it can't with exp."""
    y = -HALF * x * x
    n = min(max(np.int32(HALF - y * LOG2E), FIRST), LAST)  # of NaN, too, a place in the table
    r = y + np.float32(n) * LN2
    series = EXP[6]
    series = EXP[5] + r * series
    series = EXP[4] + r * series
    series = EXP[3] + r * series
    series = EXP[2] + r * series
    series = EXP[1] + r * series
    series = EXP[0] + r * series
    return series * POWERS[n] * ROOT_2PI


@serial(SUMS)
def upper_tail(x: Any, phi: Any) -> Any:
    """Φ(−|x|) where φ(x) is known."""
    t = ONE / (ONE + CDF_T * abs(x))
    return phi * t * (CDF[0] + t * (CDF[1] + t * (CDF[2] + t * (CDF[3] + t * CDF[4]))))


@serial(SUMS)
def tail(a: Any) -> tuple[Any, Any]:
    """φ(a) and Φ(−|a|), both 0 from FAR on: products of what is left there leave the range of float32."""
    phi = density(a)  # in any case: with a branch the compiler would take samples one by one
    phi = ZERO if abs(a) >= FAR else phi
    return phi, upper_tail(a, phi)


@parallel(SUMS)
def relu(m: Array, v: Array, mean: Array, variance: Array, gate: Array, rest: Array) -> None:
    """Write mean, variance and mean gate of max(X, 0), and the variance that the gate does not carry.

    E = mΦ + sφ;  rest = v[(α² + 1)Φ(1 − Φ) + αφ(1 − 2Φ) − φ²];  Var = v Φ² + rest. Results (P, F, B); m and v
    (P, F, B), or of fewer members, each for as many of the results' in a row.
    """
    members, features, batch = mean.shape
    for item in numba.prange(members * features):
        p, f = item // features, item % features
        of_m, of_v = m[p * len(m) // members, f], v[p * len(v) // members, f]
        for b in range(batch):
            s = math.sqrt(max(of_v[b], SMALLEST))
            a = min(max(of_m[b] / s, -FAR), FAR)
            phi, off = tail(a)
            on = off if a < ZERO else ONE - off
            left = (a * a + ONE) * off * (ONE - off) + a * phi * (ONE - TWO * on) - phi * phi
            left = max(left, ZERO) * of_v[b]
            mean[p, f, b] = max(of_m[b] * on + s * phi, ZERO)
            gate[p, f, b] = on
            rest[p, f, b] = left
            variance[p, f, b] = of_v[b] * on * on + left


@serial(SUMS)
def larger(m1: Any, v1: Any, m2: Any, v2: Any, c: Any) -> tuple[Any, Any, Any]:
    """Mean and variance of the larger of two Gaussians of covariance c, and P(it is the first).

    Exact (Clark 1961), so that no digits cancel; d = m₁ − m₂, θ² = v₁ + v₂ − 2c, a = d/θ, p = Φ(a) = 1 − q:
    E = max(m₁, m₂) + θ[φ − |a|Φ(−|a|)];  Var = v₁p + v₂q + d²pq + dθφ(q − p) − θ²φ².
    """
    d = m1 - m2
    theta = math.sqrt(max(v1 + v2 - TWO * c, SMALLEST))
    a = min(max(d / theta, -FAR), FAR)
    phi, less = tail(a)
    p = less if a < ZERO else ONE - less
    q = ONE - less if a < ZERO else less
    mean = max(m1, m2) + theta * (phi - abs(a) * less)
    cross = theta * phi
    variance = v1 * p + v2 * q + d * d * p * q + d * cross * (q - p) - cross * cross
    return mean, max(variance, ZERO), p


@parallel(SUMS)
def pool(
    m: Array, v: Array, r: Array, cut: bool, mean: Array, variance: Array, gates: Array, rest: Array
) -> None:
    """Write the moments of the largest of each 2×2 window of Gaussians, of 0 too if `cut`.

    The larger of a pair is exact; what two pairs give is taken for Gaussian (Clark 1961), and so is the
    largest before 0 is compared. mean, variance: (P, C, H', W', B); m, v: (P, C, H, W, B), or of fewer
    members as in `relu`; r, the correlations of pixels 01, 02, 03, 12, 13, 23 of a window: (P|1, C, 6).
    gates: (P, C, H, W, B), the probability that a pixel is the output; rest: (P, C, H', W', B), the variance
    that gates do not carry. Without members (0, …) both are left out.
    """
    members, channels, rows, columns, batch = mean.shape
    wanted = len(gates) > 0
    for item in numba.prange(members * channels):
        p, k = item // channels, item % channels
        x, y = m[p * len(m) // members, k], v[p * len(v) // members, k]
        within, work = r[p * len(r) // members, k], np.empty((5, batch), m.dtype)
        if wanted:
            gates[p, k, 2 * rows :] = 0
            gates[p, k, :, 2 * columns :] = 0
        for i in range(rows):
            for j in range(columns):
                h, w = 2 * i, 2 * j
                to, of = mean[p, k, i, j], variance[p, k, i, j]
                _window(
                    *(x[h, w], x[h, w + 1], x[h + 1, w], x[h + 1, w + 1]),
                    *(y[h, w], y[h, w + 1], y[h + 1, w], y[h + 1, w + 1]),
                    *(within, to, of, work),
                )
                if cut:
                    _cut(to, of, work)
                if wanted:
                    for b in range(batch):
                        rest[p, k, i, j, b] = max(of[b] - work[4, b], ZERO)
                    for n in range(4):
                        gates[p, k, h + n // 2, w + n % 2] = work[n]


@serial(SUMS)
def _window(
    x0: Array,
    x1: Array,
    x2: Array,
    x3: Array,
    y0: Array,
    y1: Array,
    y2: Array,
    y3: Array,
    r: Array,
    mean: Array,
    variance: Array,
    work: Array,
) -> None:
    """The largest of four along the batch; gates and the variance that they carry go to work (5, B).

    A loop of its own without branches: so the compiler takes several samples at once.
    """
    g0, g1, g2, g3, carried = work[0], work[1], work[2], work[3], work[4]
    r01, r02, r03, r12, r13, r23 = r[0], r[1], r[2], r[3], r[4], r[5]
    for b in range(len(mean)):
        v0, v1, v2, v3 = y0[b], y1[b], y2[b], y3[b]
        s0, s1, s2, s3 = math.sqrt(v0), math.sqrt(v1), math.sqrt(v2), math.sqrt(v3)
        c01, c02, c03 = r01 * s0 * s1, r02 * s0 * s2, r03 * s0 * s3
        c12, c13, c23 = r12 * s1 * s2, r13 * s1 * s3, r23 * s2 * s3
        ma, va, pa = larger(x0[b], v0, x1[b], v1, c01)
        mb, vb, pb = larger(x2[b], v2, x3[b], v3, c23)
        qa, qb = ONE - pa, ONE - pb
        between = pa * (pb * c02 + qb * c03) + qa * (pb * c12 + qb * c13)
        mean[b], variance[b], p = larger(ma, va, mb, vb, between)
        q = ONE - p
        h0, h1, h2, h3 = p * pa, p * qa, q * pb, q * qb
        own = h0 * h0 * v0 + h1 * h1 * v1 + h2 * h2 * v2 + h3 * h3 * v3
        pairs = h0 * h1 * c01 + h0 * h2 * c02 + h0 * h3 * c03 + h1 * h2 * c12 + h1 * h3 * c13 + h2 * h3 * c23
        g0[b], g1[b], g2[b], g3[b], carried[b] = h0, h1, h2, h3, own + TWO * pairs


@serial(SUMS)
def _cut(mean: Array, variance: Array, work: Array) -> None:
    """The ReLU of what `_window` has found, in its place."""
    g0, g1, g2, g3, carried = work[0], work[1], work[2], work[3], work[4]
    for b in range(len(mean)):
        m, v = mean[b], variance[b]
        s = math.sqrt(max(v, SMALLEST))
        a = min(max(m / s, -FAR), FAR)
        phi, off = tail(a)
        on = off if a < ZERO else ONE - off
        spread = (a * a + ONE) * off * (ONE - off) + a * phi * (ONE - TWO * on) - phi * phi
        mean[b] = max(m * on + s * phi, ZERO)
        variance[b] = v * (on * on + max(spread, ZERO))
        carried[b] *= on * on
        g0[b] *= on
        g1[b] *= on
        g2[b] *= on
        g3[b] *= on


@parallel()
def unpool(dy: Array, gates: Array, dx: Array) -> None:
    """Write dx = gate · dy of its window.

    dy: (P, K, C, H', W', B); gates: (P|1, C, H, W, B); dx: (P, K, C, H, W, B).
    """
    members, rows, channels, height, width, _ = dx.shape
    for item in numba.prange(members * rows):
        p, k = item // rows, item % rows
        for c in range(channels):
            for h in range(height):
                for w in range(width):
                    if h // 2 < dy.shape[3] and w // 2 < dy.shape[4]:
                        g = gates[p % len(gates), c, h, w]
                        for b in range(dx.shape[5]):
                            dx[p, k, c, h, w, b] = g[b] * dy[p, k, c, h // 2, w // 2, b]
                    else:
                        dx[p, k, c, h, w] = 0


@parallel(SUMS)
def add_covariance(g: Array, v: Array, total: Array) -> None:
    """Add Σ_f g_k v g_l to total: g (P, K, F, B), v (P|1, F, B), total (P, K, K, B)."""
    members, classes, features, batch = g.shape
    for p in numba.prange(members):
        row, of = np.empty(batch, g.dtype), v[p % len(v)]
        for f in range(features):
            for k in range(classes):
                for b in range(batch):
                    row[b] = g[p, k, f, b] * of[f, b]
                for o in range(k + 1):
                    for b in range(batch):
                        total[p, k, o, b] += row[b] * g[p, o, f, b]
        for k in range(classes):
            for o in range(k):
                total[p, o, k] = total[p, k, o]


@parallel(SUMS)
def combined(g: Array, v: Array, of: Array, result: Array) -> None:
    """Write Σ_k g_k of_kq v: g (P, K, F, B), v (P|1, F, B), of (P, K, Q, B), result (P, Q, F, B)."""
    members, classes, features, batch = g.shape
    for item in numba.prange(members * features):  # so that a feature's rows stay in the cache
        p, f = item // features, item % features
        scale = v[p % len(v), f]
        for q in range(of.shape[2]):
            to = result[p, q, f]
            for b in range(batch):
                to[b] = g[p, 0, f, b] * of[p, 0, q, b]
            for k in range(1, classes):
                for b in range(batch):
                    to[b] += g[p, k, f, b] * of[p, k, q, b]
            for b in range(batch):
                to[b] *= scale[b]


@parallel(SUMS)
def given(m: Array, v: Array, t: Array, u: Array, mean: Array, variance: Array) -> None:
    """Write m + Σ_q t_q u_q and max(v − Σ_q t_q², 0).

    t: (P, Q, F, B), u: (N, Q, B), mean: (P·N, F, B), variance: (P, F, B) or (P·N, F, B); m and v of as many
    members or fewer, each for several in a row.
    """
    members, directions, features, batch = t.shape
    points, each = len(u), len(variance) // len(t)
    for item in numba.prange(members * features):
        p, f = item // features, item % features
        left = np.zeros(batch, t.dtype)
        for q in range(directions):
            for b in range(batch):
                left[b] += t[p, q, f, b] * t[p, q, f, b]
        for n in range(p * each, (p + 1) * each):
            of = v[n * len(v) // len(variance), f]
            for b in range(batch):
                variance[n, f, b] = max(of[b] - left[b], ZERO)
        for n in range(points):
            to, of = mean[p * points + n, f], m[(p * points + n) * len(m) // len(mean), f]
            for b in range(batch):
                to[b] = of[b]
            for q in range(directions):
                for b in range(batch):
                    to[b] += t[p, q, f, b] * u[n, q, b]
