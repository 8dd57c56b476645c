"""Closed-form moments of the noise operators of docs/noise.md, for one draw and for R averaged draws.

Letters as in the book: y = x·M + D or y = (x + D)·M, with M ~ N(m, s²) and D ~ N(d, t²) independent of each
other, of x, and between elements and samples. Everything here is float64 and elementwise in x, which may have
any shape.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wn.basics.errors import WnError

Floats = NDArray[np.float64]

EXCESS_KURTOSIS = {"normal": 0.0, "uniform": -1.2, "laplace": 3.0}  # κ₄ of draws of variance 1


class Operator(Protocol):
    """The parts of a noise operator that the formulas are of; `wn.engine.noise.Noise` has them.

    order "mul_add": y = x·M + D; "add_mul": y = (x + D)·M. M and D have the means mean_mul, mean_add and the
    variances sigma_mul², sigma_add²; `distribution` is normal, uniform or laplace. Additive noise has
    sigma_mul = 0, multiplicative sigma_add = 0, none neither.
    R `repetitions` are R averaged draws if `draws_each`, else one draw with σ/√R.
    """

    @property
    def sigma_mul(self) -> Any: ...
    @property
    def mean_mul(self) -> Any: ...
    @property
    def sigma_add(self) -> Any: ...
    @property
    def mean_add(self) -> Any: ...
    @property
    def order(self) -> str: ...
    @property
    def distribution(self) -> str: ...
    @property
    def repetitions(self) -> int: ...
    @property
    def draws_each(self) -> bool: ...
    @property
    def normalize_to_input_size(self) -> bool: ...


class _Coefficients(NamedTuple):
    """Means m, d and variances s², t² of one draw of M and D, and the number of averaged draws."""

    m: float
    d: float
    s2: float
    t2: float
    draws: int


def _coefficients(operator: Operator) -> _Coefficients:
    """The numbers of an operator. Raises WnError where they depend on the member or the site."""
    values = (operator.mean_mul, operator.mean_add, operator.sigma_mul, operator.sigma_add)
    if any(np.ndim(value) for value in values):
        raise WnError("moments are of one operator, and this one has values for each member")
    if operator.normalize_to_input_size:
        raise WnError("normalised noise has moments where the size of the site is known: see for_elements")
    m, d, s, t = map(float, values)
    shrink, draws = (1, operator.repetitions) if operator.draws_each else (operator.repetitions, 1)
    return _Coefficients(m, d, s**2 / shrink, t**2 / shrink, draws)


class Moments(NamedTuple):
    """Mean and variance per element. Given x the elements are independent: every covariance is 0."""

    mean: Floats
    variance: Floats


class Cumulants(NamedTuple):
    """First four cumulants per element given x; the third is also the third central moment."""

    mean: Floats
    variance: Floats
    third: Floats
    fourth: Floats

    @property
    def fourth_central_moment(self) -> Floats:
        """μ₄ = κ₄ + 3κ₂²."""
        return self.fourth + 3 * self.variance**2


def output_moments(x: ArrayLike, operator: Operator, *, x_variance: ArrayLike = 0.0) -> Moments:
    """Mean and variance of the output, for a given x or for a random one with mean x.

    mul_add: E = m·x + d;    Var = m²·v + ((x² + v)·s² + t²)/R
    add_mul: E = m·(x + d);  Var = m²·v + (((x + d)² + v)·s² + m²·t² + s²·t²)/R
    x: any shape, the value or the mean of x; x_variance: v ≥ 0, its variance (broadcast against x).
    Raises WnError if v is negative.
    Derived in docs/noise.md.
    """
    mean_x, v = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(x_variance, np.float64))
    if (v < 0).any():
        raise WnError(f"x_variance must not be negative, not {v[v < 0].flat[0]}")
    m, d, s2, t2, draws = _coefficients(operator)
    if operator.order == "mul_add":
        mean, noise = m * mean_x + d, (mean_x**2 + v) * s2 + t2
    else:
        mean, noise = m * (mean_x + d), ((mean_x + d) ** 2 + v) * s2 + m**2 * t2 + s2 * t2
    return Moments(mean, m**2 * v + noise / draws)


def output_covariance(x_mean: ArrayLike, x_covariance: ArrayLike, operator: Operator) -> Floats:
    """Covariance matrix of the output elements of one sample, or of each sample of a batch, for random x.

    Cov(y_i, y_j) = m²·Cov(x_i, x_j) for i ≠ j; the diagonal is the variance of `output_moments`.
    x_mean: (I,) or (I, B); x_covariance: (I, I) or (I, I, B); returns the shape of x_covariance. Raises
    WnError if the shapes do not fit. Derived in docs/noise.md.
    """
    mean, covariance = np.asarray(x_mean, np.float64), np.asarray(x_covariance, np.float64)
    if mean.ndim not in (1, 2) or covariance.shape != (len(mean), *mean.shape):
        raise WnError(f"x_mean (I,) and x_covariance (I, I) do not fit: {mean.shape} and {covariance.shape}")
    index = np.arange(len(mean))
    result: Floats = _coefficients(operator).m ** 2 * covariance
    result[index, index] = output_moments(mean, operator, x_variance=covariance[index, index]).variance
    return result


def output_cumulants(x: ArrayLike, operator: Operator) -> Cumulants:
    """First four cumulants of the output for a given x.

    γ is the excess kurtosis of the draws: 0 normal, −6/5 uniform, 3 Laplace. Per draw,
    mul_add: κ₃ = 0;  κ₄ = γ·(x⁴s⁴ + t⁴);  add_mul with a = x + d, w = s²·t² and g = a²s² + m²t²:
    κ₂ = g + w;  κ₃ = 6·a·m·w;  κ₄ = γ·(a⁴s⁴ + m⁴t⁴) + 6·(γ + 2)·g·w + ((γ + 3)² − 3)·w².
    A mean of R draws: κ_n / R^(n−1).  x: any shape. Derived in docs/noise.md.
    """
    mean, variance = output_moments(x, operator)
    m, d, s2, t2, draws = _coefficients(operator)
    excess, given = EXCESS_KURTOSIS[operator.distribution], np.asarray(x, np.float64)
    if operator.order == "mul_add":
        fourth = excess * ((given**2 * s2) ** 2 + t2**2)
        return Cumulants(mean, variance, np.zeros_like(mean), fourth / draws**3)
    a = given + d
    w, by_mul, by_add = s2 * t2, a**2 * s2, m**2 * t2
    third = 6 * a * m * w
    fourth = excess * (by_mul**2 + by_add**2) + 6 * (excess + 2) * (by_mul + by_add) * w
    fourth += ((excess + 3) ** 2 - 3) * w**2
    return Cumulants(mean, variance, third / draws**2, fourth / draws**3)


def multiplier_moments(operator: Operator) -> tuple[float, float]:
    """Mean m and variance s²/R of the factor M̄ that backward applies: dx = M̄·dy. Derived in docs/noise.md."""
    parts = _coefficients(operator)
    return parts.m, parts.s2 / parts.draws


def backward_moments(dy: ArrayLike, operator: Operator) -> Moments:
    """Mean and variance of dx = M̄·dy for a dy that does not depend on the draws, as in a test of the layer.

    E = m·dy;  Var = dy²·s²/R.  dy: any shape. In a network dy is computed from y, and so knows the draws:
    E[M̄·dy] = m·E[dy] + Cov(M̄, dy), the gradient of the expected loss, and neither formula holds (for L = y²/2
    behind multiplicative noise the mean is x·(m² + s²/R)). Derived in docs/noise.md.
    """
    given = np.asarray(dy, np.float64)
    mean, variance = multiplier_moments(operator)
    return Moments(mean * given, variance * given**2)


def forward_backward_covariance(x: ArrayLike, operator: Operator) -> Floats:
    """Cov(y, M̄) per element for a given x: not 0 because backward uses the draws of forward.

    mul_add: x·s²/R;  add_mul: (x + d)·s²/R.  x: any shape. Derived in docs/noise.md.
    """
    given = np.asarray(x, np.float64)
    base = given if operator.order == "mul_add" else given + _coefficients(operator).d
    return base * multiplier_moments(operator)[1]


def variance_of_sample_variance(variance: ArrayLike, fourth_cumulant: ArrayLike, n: int) -> Floats:
    """Variance of the unbiased sample variance of n independent values.

    Var(S²) = κ₄/n + 2κ₂²/(n − 1).  variance, fourth_cumulant: any shape (broadcast); n ≥ 2, else WnError.
    Derived in docs/noise.md.
    """
    if n < 2:
        raise WnError(f"n must be at least 2, not {n}")
    k2, k4 = np.asarray(variance, np.float64), np.asarray(fourth_cumulant, np.float64)
    return np.asarray(k4 / n + 2 * k2**2 / (n - 1))
