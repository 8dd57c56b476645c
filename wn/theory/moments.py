"""Closed-form moments of the noise operators of docs/noise.md, for one draw and for R averaged draws.

Letters as in the book: y = x·M + D or y = (x + D)·M, with M ~ N(m, s²) and D ~ N(d, t²) independent of each
other, of x, and between elements and samples. Everything here is float64 and elementwise in x, which may have
any shape.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wn.errors import WnError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Operator:
    """One noise operator in canonical form, of which every noise kind is a special case.

    order "mul_add": y = x·M + D; "add_mul": y = (x + D)·M, where M ~ N(mean_mul, sigma_mul²) and
    D ~ N(mean_add, sigma_add²). Additive noise has sigma_mul = 0, multiplicative sigma_add = 0, none neither.
    repetitions: R ≥ 1. execution: "each" averages R results on the same x; "single" is one draw with σ/√R,
    which the engine makes for mul_add only (its add_mul always draws R times: "each").
    elements: N ≥ 1, number of elements per sample by which both σ are divided (normalisation to input size).
    Raises WnError for σ negative or not finite, means not finite, R or N below 1, unknown names.
    Derived in docs/noise.md.
    """

    sigma_mul: float = 0.0
    mean_mul: float = 1.0
    sigma_add: float = 0.0
    mean_add: float = 0.0
    order: Literal["mul_add", "add_mul"] = "mul_add"
    repetitions: int = 1
    execution: Literal["each", "single"] = "each"
    elements: int = 1

    def __post_init__(self) -> None:
        for name, value in (("sigma_mul", self.sigma_mul), ("sigma_add", self.sigma_add)):
            if not 0 <= value < math.inf:
                raise WnError(f"{name} must be finite and not negative, not {value}")
        for name, value in (("mean_mul", self.mean_mul), ("mean_add", self.mean_add)):
            if not math.isfinite(value):
                raise WnError(f"{name} must be finite, not {value}")
        for name, count in (("repetitions", self.repetitions), ("elements", self.elements)):
            if count < 1:
                raise WnError(f"{name} must be at least 1, not {count}")
        if self.order not in ("mul_add", "add_mul"):
            raise WnError(f"order must be 'mul_add' or 'add_mul', not {self.order!r}")
        if self.execution not in ("each", "single"):
            raise WnError(f"execution must be 'each' or 'single', not {self.execution!r}")

    def draw_variances(self) -> tuple[float, float]:
        """Variance s² of one draw of M and t² of one draw of D, normalisation and execution included."""
        shrink = self.repetitions if self.execution == "single" else 1
        return (self.sigma_mul / self.elements) ** 2 / shrink, (self.sigma_add / self.elements) ** 2 / shrink

    @property
    def draws(self) -> int:
        """Number of draws that are averaged: R for "each", 1 for "single"."""
        return self.repetitions if self.execution == "each" else 1


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
    x: any shape, the value or the mean of x; x_variance: v ≥ 0, its variance (broadcast against x). "single"
    divides s² and t² by R instead, so that its term s²·t² is divided by R². Raises WnError if v is negative.
    Derived in docs/noise.md.
    """
    mean_x, v = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(x_variance, np.float64))
    if (v < 0).any():
        raise WnError(f"x_variance must not be negative, not {v[v < 0].flat[0]}")
    m, d = operator.mean_mul, operator.mean_add
    s2, t2 = operator.draw_variances()
    if operator.order == "mul_add":
        mean, noise = m * mean_x + d, (mean_x**2 + v) * s2 + t2
    else:
        mean, noise = m * (mean_x + d), ((mean_x + d) ** 2 + v) * s2 + m**2 * t2 + s2 * t2
    return Moments(mean, m**2 * v + noise / operator.draws)


def output_covariance(x_mean: ArrayLike, x_covariance: ArrayLike, operator: Operator) -> Floats:
    """Covariance matrix of the output elements of one sample for random x.

    Cov(y_i, y_j) = m²·Cov(x_i, x_j) for i ≠ j; the diagonal is the variance of `output_moments`.
    x_mean: (I,); x_covariance: (I, I); returns (I, I). Raises WnError if the shapes do not fit.
    Derived in docs/noise.md.
    """
    mean, covariance = np.asarray(x_mean, np.float64), np.asarray(x_covariance, np.float64)
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise WnError(f"x_mean (I,) and x_covariance (I, I) do not fit: {mean.shape} and {covariance.shape}")
    result: Floats = operator.mean_mul**2 * covariance
    np.fill_diagonal(result, output_moments(mean, operator, x_variance=np.diag(covariance)).variance)
    return result


def output_cumulants(x: ArrayLike, operator: Operator) -> Cumulants:
    """First four cumulants of the output for a given x.

    mul_add is Gaussian: κ₃ = κ₄ = 0. add_mul with a = x + d and w = s²·t², per draw:
    κ₂ = a²s² + m²t² + w;  κ₃ = 6·a·m·w;  κ₄ = 12·(a²s² + m²t²)·w + 6·w².  A mean of R draws: κ_n / R^(n−1).
    x: any shape. Derived in docs/noise.md.
    """
    mean, variance = output_moments(x, operator)
    if operator.order == "mul_add":
        return Cumulants(mean, variance, np.zeros_like(mean), np.zeros_like(mean))
    a, m = np.asarray(x, np.float64) + operator.mean_add, operator.mean_mul
    s2, t2 = operator.draw_variances()
    w, gaussian = s2 * t2, a**2 * s2 + m**2 * t2
    third, fourth = 6 * a * m * w, 12 * gaussian * w + 6 * w**2
    return Cumulants(mean, variance, third / operator.draws**2, fourth / operator.draws**3)


def multiplier_moments(operator: Operator) -> tuple[float, float]:
    """Mean m and variance s²/R of the factor M̄ that backward applies: dx = M̄·dy. Derived in docs/noise.md."""
    return float(operator.mean_mul), operator.draw_variances()[0] / operator.draws


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
    base = given if operator.order == "mul_add" else given + operator.mean_add
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
