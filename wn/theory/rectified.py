"""Gaussian variables through piecewise linear functions: ReLU, clip and leaky ReLU.

Letters as in docs/theory/moments.md: X ~ N(m, v), s = √v, α = m/s; φ and Φ are density and distribution
function of the standard normal. Everything is float64. Functions of one variable are elementwise, in any
shapes that broadcast; covariances are of F variables in B samples, batch last: mean (F, B), covariance
(F, F, B).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf, ndtr

from wn.basics.errors import WnError
from wn.theory.series import series_covariance

Floats = NDArray[np.float64]

TAIL = 3.0  # from here on the integrals of the tail come from their continued fraction
FRACTION_TERMS = 40  # of it: at x = 3 as precise as float64
FARTHEST = 40.0  # standard deviations: φ is 0 in float64 beyond
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)


class Rectified(NamedTuple):
    """Mean, variance and mean gate E[f′(X)] of y = f(X), elementwise."""

    mean: Floats
    variance: Floats
    gate: Floats


def relu_moments(mean: ArrayLike, variance: ArrayLike) -> Rectified:
    """Mean, variance and gate of max(X, 0) for X ~ N(m, v).

    E = m·Φ(α) + s·φ(α);  Var = (m² + v)·Φ(α) + m·s·φ(α) − E²;  gate = Φ(α), computed from the tail beyond 0,
    so that each keeps its digits however far m is from 0. At v = 0: max(m, 0), 0, and 1 if m > 0 else 0.
    mean, variance: shapes that broadcast; raises WnError unless m is finite and v finite and ≥ 0.
    Frey and Hinton 1999; derived in docs/theory/moments.md.
    """
    m, v = _checked(mean, variance)
    s, alpha = _standardised(m, v)
    first, second, _ = _tail_moments(np.abs(alpha))
    below = v * (second - first**2)  # Var of max(X, 0) for m ≤ 0, of max(−X, 0) for m > 0
    return Rectified(
        np.maximum(m, 0) + s * first,
        np.where(alpha > 0, v * erf(np.abs(alpha) / math.sqrt(2)), 0.0) + below,
        ndtr(alpha),
    )


def relu_third_cumulant(mean: ArrayLike, variance: ArrayLike) -> Floats:
    """Third cumulant κ₃ = E[(y − E y)³] of y = max(X, 0) for X ~ N(m, v).

    With J_n = ∫₀^∞ tⁿ φ(|α| + t) dt: κ₃/s³ = J₃ − 3J₂J₁ + 2J₁³, and for m > 0 3φ(α) − 6J₁Φ(α) besides.
    Shapes and errors as `relu_moments`. Derived in docs/theory/moments.md.
    """
    m, v = _checked(mean, variance)
    s, alpha = _standardised(m, v)
    first, second, third = _tail_moments(np.abs(alpha))
    below = third - 3 * second * first + 2 * first**3
    above = 3 * _density(alpha) - 6 * first * ndtr(alpha)
    return np.asarray(s**3 * (below + np.where(alpha > 0, above, 0.0)))


def hermite_coefficients(alpha: ArrayLike, terms: int) -> Floats:
    """A_n(α), n = 1 … terms, of the ReLU: the mean of the n-th derivative of max(α + u, 0), u ~ N(0, 1).

    A₁ = Φ(α), A₂ = φ(α), A₃ = −α·φ(α), …, A_n = (−1)ⁿ He_{n−2}(α)·φ(α). alpha: any shape, ±∞ too; returns
    (terms, *shape). Raises WnError unless terms ≥ 1. Derived in docs/theory/moments.md.
    """
    if terms < 1:
        raise WnError(f"terms is {terms}: it must be at least 1")
    given = np.asarray(alpha, np.float64)
    a = np.clip(given, -FARTHEST, FARTHEST)
    result = np.empty((terms, *a.shape))
    result[0] = ndtr(given)
    if terms > 1:
        result[1] = _density(a)
    for n in range(2, terms):  # He_{n−1} = α·He_{n−2} − (n − 2)·He_{n−3}
        result[n] = -a * result[n - 1] - (n - 2) * (result[n - 2] if n > 2 else 0.0)
    return result


# ---- ReLU: covariance -------------------------------------------------------------------------------------


def relu_covariance(mean: ArrayLike, covariance: ArrayLike, terms: int = 4) -> Floats:
    """Covariance matrix of max(X, 0) for Gaussian X, by the first terms of its series.

    Cov(y_i, y_j) = s_i s_j Σ_n ρⁿ/n! · A_n(α_i)·A_n(α_j), n = 1 … terms, ρ = C_ij/(s_i s_j), for i ≠ j; the
    diagonal is the variance of `relu_moments`. The remainder is at most |ρ|^(terms + 1) times
    that at ρ = 1. Positive semidefinite where C is. mean: (F, B); covariance: (F, F, B); returns (F, F, B).
    Raises WnError if the shapes do not fit, and as `relu_moments`. Mehler 1866, Price 1958; derived in
    docs/theory/moments.md.
    """
    m, c, v = _checked_matrix(mean, covariance)
    s, alpha = _standardised(m, v)
    coefficients = s * hermite_coefficients(alpha, terms) / _root_factorials(terms)
    return series_covariance(coefficients, s, c, relu_moments(m, v).variance)


def relu_covariance_exact(mean: ArrayLike, covariance: ArrayLike) -> Floats:
    """Covariance matrix of max(X, 0) for Gaussian X, by an integral in one dimension for each pair.

    Cov(y_i, y_j) = s_i s_j [ρ·Φ(α_i)·Φ(α_j) + ∫₀^ρ (ρ − t)·φ₂(α_i, α_j; t) dt], φ₂ the density of two
    standard normal variables of correlation t; with t = sin θ, in 40 Gauss–Legendre nodes, dense towards
    θ = ±π/2: to 1e-10 of s_i s_j. Slow; arguments, shapes and errors as `relu_covariance`. Price 1958;
    derived in docs/theory/moments.md.
    """
    m, c, v = _checked_matrix(mean, covariance)
    s, alpha = _standardised(m, v)
    gate, alpha = ndtr(alpha), np.clip(alpha, -FARTHEST, FARTHEST)
    scale = s[:, None] * s  # (F, F, B)
    rho = np.divide(c, scale, out=np.zeros_like(c), where=scale > 0).clip(-1, 1)
    angle, total = np.arcsin(rho), np.zeros_like(c)
    squares, product = alpha[:, None] ** 2 + alpha**2, alpha[:, None] * alpha
    back = (1 - NODES) / 2  # θ = angle·(1 − back²)
    for node, weight in zip(1 - back**2, WEIGHTS * back, strict=True):
        t = np.sin(angle * node)
        total += weight * (rho - t) * np.exp(-(squares - 2 * product * t) / (2 * (1 - t) * (1 + t)))
    result = scale * (rho * gate[:, None] * gate + angle * total / (2 * math.pi))
    result[np.diag_indices(len(m))] = relu_moments(m, v).variance
    return np.asarray(result)


# ---- leaky ReLU and clip ----------------------------------------------------------------------------------


def leaky_moments(mean: ArrayLike, variance: ArrayLike, slope: float) -> Rectified:
    """Mean, variance and gate of y = max(X, 0) + a·min(X, 0) for X ~ N(m, v) and a slope a.

    y = a·X + (1 − a)·X⁺, so E = a·m + (1 − a)·E[X⁺], gate = a + (1 − a)·Φ(α), and
    Var = a²v + 2a(1 − a)·v·Φ(α) + (1 − a)²·Var[X⁺].
    Shapes and errors as `relu_moments`; slope: in [0, 1], else WnError. Derived in docs/theory/moments.md.
    """
    m, v = _checked(mean, variance)
    a = _checked_slope(slope)
    relu = relu_moments(m, v)
    return Rectified(
        a * m + (1 - a) * relu.mean,
        a**2 * v + 2 * a * (1 - a) * v * relu.gate + (1 - a) ** 2 * relu.variance,
        a + (1 - a) * relu.gate,
    )


def leaky_covariance(mean: ArrayLike, covariance: ArrayLike, slope: float, terms: int = 4) -> Floats:
    """Covariance matrix of the leaky ReLU of Gaussian X by its series, with A_n of `leaky_moments`' y.

    A₁ = a + (1 − a)·Φ(α), A_n = (1 − a)·A_n[ReLU] for n ≥ 2. Shapes and errors as `relu_covariance`.
    """
    m, c, v = _checked_matrix(mean, covariance)
    a = _checked_slope(slope)
    s, alpha = _standardised(m, v)
    of_y = (1 - a) * hermite_coefficients(alpha, terms)
    of_y[0] += a
    return series_covariance(s * of_y / _root_factorials(terms), s, c, leaky_moments(m, v, a).variance)


def clip_moments(mean: ArrayLike, variance: ArrayLike, low: float, high: float) -> Rectified:
    """Mean, variance and gate of y = min(max(X, low), high) for X ~ N(m, v), as ReLU6 with low 0, high 6.

    With A = (X − low)⁺, D = (X − high)⁺: E = low + E[A] − E[D];
    Var = Var[A] − Var[D] − 2·E[D]·(high − E);  gate = Φ((high − m)/s) − Φ((low − m)/s), the probability of
    the slope. Shapes and errors as `relu_moments`; WnError unless low < high. Derived in
    docs/theory/moments.md.
    """
    m, v = _checked(mean, variance)
    width = _checked_width(low, high)
    centre = low + width / 2
    x = -np.abs(m - centre)  # by symmetry: the mean in the lower half, so that D is the smaller
    a, d = relu_moments(x + width / 2, v), relu_moments(x - width / 2, v)
    first = np.asarray(a.mean - d.mean)  # E[y] − low
    variance_ = np.asarray(a.variance - d.variance - 2 * d.mean * (width - first))
    narrow = np.sqrt(v) > width  # there these differences lose digits: E[yⁿ] = ∫ n·tⁿ⁻¹·P(X > low + t) dt
    if narrow.any():
        t = width * (NODES + 1) / 2
        above = ndtr((x[narrow] + width / 2 - t[:, None]) / np.sqrt(v[narrow])) * WEIGHTS[:, None] * width / 2
        first[narrow] = above.sum(axis=0)
        variance_[narrow] = (2 * t[:, None] * above).sum(axis=0) - first[narrow] ** 2
    gate = a.gate - d.gate
    return Rectified(np.where(m < centre, low + first, high - first), np.maximum(variance_, 0), gate)


def clip_covariance(
    mean: ArrayLike, covariance: ArrayLike, low: float, high: float, terms: int = 4
) -> Floats:
    """Covariance matrix of the clip of Gaussian X by its series, A_n((m − low)/s) − A_n((m − high)/s).

    Shapes and errors as `relu_covariance` and `clip_moments`. Derived in docs/theory/moments.md.
    """
    m, c, v = _checked_matrix(mean, covariance)
    _checked_width(low, high)
    s, at_low = _standardised(m - low, v)
    _, at_high = _standardised(m - high, v)
    of_y = hermite_coefficients(at_low, terms) - hermite_coefficients(at_high, terms)
    return series_covariance(s * of_y / _root_factorials(terms), s, c, clip_moments(m, v, low, high).variance)


# ---- parts ------------------------------------------------------------------------------------------------


def _checked(mean: ArrayLike, variance: ArrayLike) -> tuple[Floats, Floats]:
    m, v = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(variance, np.float64))
    if not np.isfinite(m).all():
        raise WnError(f"mean must be finite, not {m[~np.isfinite(m)].flat[0]}")
    wrong = ~(np.isfinite(v) & (v >= 0))
    if wrong.any():
        raise WnError(f"variance must be finite and not negative, not {v[wrong].flat[0]}")
    return m, v


def _checked_matrix(mean: ArrayLike, covariance: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Mean (F, B), covariance (F, F, B) and its diagonal (F, B)."""
    m, c = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    if m.ndim != 2 or c.shape != (len(m), *m.shape):
        raise WnError(f"mean (F, B) and covariance (F, F, B) do not fit: {m.shape} and {c.shape}")
    index = np.arange(len(m))
    return (m, c, _checked(m, c[index, index])[1])


def _checked_slope(slope: float) -> float:
    if not 0 <= slope <= 1:
        raise WnError(f"slope of a leaky ReLU is {slope}: it must be in [0, 1]")
    return float(slope)


def _checked_width(low: float, high: float) -> float:
    if not -math.inf < low < high < math.inf:
        raise WnError(f"low and high of a clip are {low} and {high}: they must be finite, and low below high")
    return high - low


def _root_factorials(terms: int) -> Floats:
    """√n! for n = 1 … terms, (terms, 1, 1)."""
    return np.exp([0.5 * math.lgamma(n + 1) for n in range(1, terms + 1)])[:, None, None]


def _standardised(m: Floats, v: Floats) -> tuple[Floats, Floats]:
    """s and α = m/s; without variance ∞ for m > 0 and −∞ for m ≤ 0, as the gate of the engine at 0 is 0."""
    s = np.sqrt(v)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        alpha = np.where(s > 0, m / s, np.where(m > 0, np.inf, -np.inf))
    return s, alpha


def _density(u: Floats) -> Floats:
    """φ(u)."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi))


def _tail_moments(x: Floats) -> tuple[Floats, Floats, Floats]:
    """J₁, J₂, J₃ with J_n = ∫₀^∞ tⁿ φ(x + t) dt for x ≥ 0, ∞ too: positive, with all their digits.

    Near 0: J₁ = φ − x·Φ(−x), J_{n+1} = n·J_{n−1} − x·J_n. In the tail these differences lose digits: there
    the ratios r_n = J_n/(n·J_{n−1}) = 1/(x + (n + 1)·r_{n+1}), which come down from n = FRACTION_TERMS.
    """
    near = np.minimum(x, TAIL)
    zeroth, density = ndtr(-near), _density(near)
    first = np.asarray(density - near * zeroth)
    second = np.asarray(zeroth - near * first)
    third = np.asarray(2 * first - near * second)
    is_far = x > TAIL
    if not is_far.any():
        return first, second, third
    far = x[is_far]
    ratio = 2 / (far + np.sqrt(far**2 + 4 * FRACTION_TERMS))  # what r_n tends to
    ratios = []
    for n in range(FRACTION_TERMS - 1, 0, -1):
        ratio = 1 / (far + (n + 1) * ratio)
        ratios.append(ratio)
    moment = ndtr(-far)
    for n, values in ((1, first), (2, second), (3, third)):
        moment = n * ratios[-n] * moment
        values[is_far] = moment
    return first, second, third
