"""Compiled loops of `wn.theory.argmax`: the probability that correlated Gaussian margins are all positive.

Separation of variables (Genz, J. Comput. Graph. Stat. 1, 1992), rivals in the order of their conditional
probabilities (Gibson, Glasbey, Elston 1994). Derived in docs/theory/tails.md; `reference/orthant.py` is the
plain version.
"""

import math
from typing import Any

import numba
import numpy as np

from wn.engine.backends.numba.kernels.compile import parallel, serial

REACH = 8.3  # standard deviations: Φ(−8.3) = 5e-17 is nothing beside 1
ROUNDING = 1e-13  # of Var ℓ_y + Var ℓ_j: a variance of their difference below this is 0
SINGULAR = 1e-10  # of a margin's variance: what is left of it, given margins before it, is 0
NEGATIVE = -1e-6  # of a margin's variance: what no rounding makes of a covariance
LEAST, MOST = 1e-300, 1 - 2.0**-53  # arguments of Φ⁻¹
LANES = 64  # images that are one thread's work

Array = Any  # of NumPy

# Φ⁻¹ by rational functions: numerator and denominator about ½, and of r = √(−ln p) up to 5 and beyond
# (Wichura, Algorithm AS 241, PPND16, Applied Statistics 37, 1988).
CENTRE = (
    (3.3871328727963666080e0, 1.0),
    (1.3314166789178437745e2, 4.2313330701600911252e1),
    (1.9715909503065514427e3, 6.8718700749205790830e2),
    (1.3731693765509461125e4, 5.3941960214247511077e3),
    (4.5921953931549871457e4, 2.1213794301586595867e4),
    (6.7265770927008700853e4, 3.9307895800092710610e4),
    (3.3430575583588128105e4, 2.8729085735721942674e4),
    (2.5090809287301226727e3, 5.2264952788528545610e3),
)
TAIL = (
    (1.42343711074968357734e0, 1.0),
    (4.63033784615654529590e0, 2.05319162663775882187e0),
    (5.76949722146069140550e0, 1.67638483018380384940e0),
    (3.64784832476320460504e0, 6.89767334985100004550e-1),
    (1.27045825245236838258e0, 1.48103976427480074590e-1),
    (2.41780725177450611770e-1, 1.51986665636164571966e-2),
    (2.27238449892691845833e-2, 5.47593808499534494600e-4),
    (7.74545014278341407640e-4, 1.05075007164441684324e-9),
)
FAR_TAIL = (
    (6.65790464350110377720e0, 1.0),
    (5.46378491116411436990e0, 5.99832206555887937690e-1),
    (1.78482653991729133580e0, 1.36929880922735805310e-1),
    (2.96560571828504891230e-1, 1.48753612908506148525e-2),
    (2.65321895265761230930e-2, 7.86869131145613259100e-4),
    (1.24266094738807843860e-3, 1.84631831751005468180e-5),
    (2.71155556874348757815e-5, 1.42151175831644588870e-7),
    (2.01033439929228813265e-7, 2.04426310338993978564e-15),
)


@serial()
def normal_cdf(x: float) -> float:
    """Φ(x)."""
    return 0.5 * math.erfc(-x * 0.7071067811865476)


@serial()
def _ratio(coefficients: Array, r: float) -> float:
    """Numerator over denominator, by Horner's rule."""
    top, bottom = coefficients[7]
    for k in range(6, -1, -1):
        top, bottom = top * r + coefficients[k][0], bottom * r + coefficients[k][1]
    ratio: float = top / bottom
    return ratio


@serial()
def normal_quantile(p: float) -> float:
    """Φ⁻¹(p) for p in [LEAST, MOST], to 1e-15 of its size."""
    q = p - 0.5
    if abs(q) <= 0.425:
        return q * _ratio(CENTRE, 0.180625 - q * q)
    r = math.sqrt(-math.log(min(p, 1 - p)))
    value = _ratio(TAIL, r - 1.6) if r <= 5 else _ratio(FAR_TAIL, r - 5)
    return -value if q < 0 else value


@parallel()
def argmax_probabilities(
    mean: Array, covariance: Array, labels: Array, lattice: Array, shifts: Array, result: Array
) -> None:
    """Write the probability that the label's logit is the largest, an estimate for each shift.

    mean: (K, N); covariance: (K, K, N); labels: (N,); lattice: (n, D ≥ K − 2) in [0, 1); shifts: (N, S, D);
    result: (N, S), NaN for a covariance that has a negative eigenvalue.
    """
    classes, count = mean.shape
    values = lattice.shape[0] * shifts.shape[1]
    for run in numba.prange(-(-count // LANES)):
        d, v = np.empty(classes - 1), np.empty((classes - 1, classes - 1))
        y, work = np.zeros((classes - 1, values)), np.empty((4, values))
        for n in range(run * LANES, min((run + 1) * LANES, count)):
            factor, rivals = _margins(mean[:, n], covariance[:, :, n], labels[n], d, v)
            if factor > 0 and not _factorise(d[:rivals], v[:rivals, :rivals]):
                factor = np.nan
            if factor > 0 and rivals > 0:
                _orthant(d[:rivals], v[:rivals, :rivals], lattice, shifts[n], y, work)
            for s in range(shifts.shape[1]):
                result[n, s] = factor * work[0, s] if factor > 0 and rivals > 0 else factor


@serial()
def _margins(mean: Array, covariance: Array, label: int, d: Array, v: Array) -> tuple[float, int]:
    """Write mean d and covariance v of the label's margins over the rivals in reach; return their number.

    Also returns the factor of the others: 0 if one of them wins for certain, ½ for each tie.
    """
    factor, rivals, kept = 1.0, 0, np.empty(len(mean), np.int64)
    own = covariance[label, label]
    for j in range(len(mean)):
        if j == label:
            continue
        margin = mean[label] - mean[j]
        variance = own - covariance[label, j] - covariance[j, label] + covariance[j, j]
        if variance <= ROUNDING * (own + covariance[j, j]):
            factor *= 0.5 + 0.5 * np.sign(margin)  # ½: a tie
        elif margin < -REACH * math.sqrt(variance):
            factor = 0.0
        elif margin < REACH * math.sqrt(variance):
            d[rivals], kept[rivals] = margin, j
            rivals += 1
    for a in range(rivals):
        for b in range(rivals):
            i, j = kept[a], kept[b]
            v[a, b] = own - covariance[label, j] - covariance[i, label] + covariance[i, j]
    return factor, rivals


@serial()
def _factorise(d: Array, v: Array) -> bool:
    """Order the margins by conditional probability, and factorise their covariance in place: v = LLᵀ.

    Then row i and d_i are divided by L_ii, so that margin i is positive where z_i < d_i − Σ_{k<i} L_ik z_k,
    and L_ii is 1. Rows whose variance is used up by z_i follow row i: they have L_jj = 0, and are positive
    where L_ji z_i < d_j − Σ_{k<i} L_jk z_k. False for a variance below 0.
    """
    m, t, whole = len(d), np.empty(len(d)), np.empty(len(d))
    for i in range(m):
        t[i], whole[i] = d[i], v[i, i]  # t: d, given that the margins before are as expected
    row = 0
    while row < m:
        i, best, least = row, row, math.inf  # the least bound, as Φ has equals where it is nearly 0 or 1
        for j in range(i, m):
            if t[j] / math.sqrt(v[j, j]) < least:
                best, least = j, t[j] / math.sqrt(v[j, j])
        _exchange(i, best, v, d, t, whole)
        v[i, i] = math.sqrt(v[i, i])
        e = normal_cdf(least)
        expected = -math.exp(-0.5 * least**2) * 0.3989422804014327 / e if e > 1e-12 else least
        for j in range(i + 1, m):
            v[j, i] /= v[i, i]
            t[j] -= v[j, i] * expected
        for j in range(i + 1, m):
            for k in range(i + 1, m):
                v[j, k] -= v[j, i] * v[k, i]
        row = i + 1
        for j in range(i + 1, m):
            if v[j, j] < NEGATIVE * whole[j]:
                return False
            if v[j, j] <= SINGULAR * whole[j]:
                _exchange(row, j, v, d, t, whole)
                for k in range(row, m):
                    v[k, row] = 0.0
                row += 1
        d[i] /= v[i, i]
        for k in range(i):
            v[i, k] /= v[i, i]
        v[i, i] = 1.0
    return True


@serial()
def _exchange(i: int, j: int, v: Array, d: Array, t: Array, whole: Array) -> None:
    """Exchange margins i and j."""
    d[i], d[j], t[i], t[j], whole[i], whole[j] = d[j], d[i], t[j], t[i], whole[j], whole[i]
    for k in range(len(d)):
        v[i, k], v[j, k] = v[j, k], v[i, k]
    for k in range(len(d)):
        v[k, i], v[k, j] = v[k, j], v[k, i]


@serial()
def _orthant(d: Array, factor: Array, lattice: Array, shifts: Array, y: Array, work: Array) -> None:
    """Write the estimate of each shift, Σ Π e_i / n over its points, to work[0, :S]; L is `factor` (m, m).

    e_i = Φ(u_i) − Φ(l_i), y_i = Φ⁻¹(Φ(l_i) + w_i e_i), w = |2·frac(lattice + shift) − 1|, with the bounds of
    y_i that its rows are: u_i = d_i − Σ_{k<i} L_ik y_k, and those of rows j with L_jj = 0 behind it.
    y: (≥ m, S·n); work: (4, S·n).
    """
    n, groups, m = len(lattice), len(shifts), len(d)
    product, upper, lower, bound = work[0], work[1], work[2], work[3]
    for q in range(groups * n):
        product[q] = 1.0
    row = 0
    while row < m:
        i, two_sided = row, False
        _bounds(d[i], factor[i], i, y, upper)
        row += 1
        while row < m and factor[row, row] == 0:
            slope = factor[row, i]
            _bounds(d[row], factor[row], i, y, bound)
            for q in range(groups * n):
                if slope > 0:
                    upper[q] = min(upper[q], bound[q] / slope)
                else:
                    lower[q] = max(lower[q], bound[q] / slope) if two_sided else bound[q] / slope
            two_sided = two_sided or slope <= 0
            row += 1
        for q in range(groups * n):
            low = normal_cdf(lower[q]) if two_sided else 0.0
            e = max(normal_cdf(upper[q]) - low, 0.0)
            product[q] *= e
            if row < m:  # there is another variable
                x = lattice[q % n, i] + shifts[q // n, i]
                w = abs(2 * (x - math.floor(x)) - 1)
                y[i, q] = normal_quantile(min(max(low + w * e, LEAST), MOST))
    for s in range(groups):
        total = 0.0
        for q in range(s * n, (s + 1) * n):
            total += product[q]
        product[s] = total / n


@serial()
def _bounds(d: float, factors: Array, i: int, y: Array, bound: Array) -> None:
    """Write d − Σ_{k<i} L_k y_k for each point."""
    for q in range(len(bound)):
        bound[q] = d
    for k in range(i):
        for q in range(len(bound)):
            bound[q] -= factors[k] * y[k, q]
