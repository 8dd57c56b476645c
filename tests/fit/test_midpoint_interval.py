"""The interval of a midpoint: gradient of the deviance, profile likelihood, coverage, steps, dispersion."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import t as student

from tests.fit.accuracy_curves import SIGMA, Floats, Ints, counts, logistic
from wn.fit import logistic as likelihood
from wn.fit.midpoint import fit_midpoint


@given(st.floats(-3, 3), st.floats(-1, 2), st.floats(0.02, 0.3), st.booleans(), st.integers(0, 2**32 - 1))
def test_gradient_against_central_differences(
    location: float, log_slope: float, floor: float, pinned: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    t, total = np.sort(rng.uniform(-4, 4, 9)), rng.integers(1, 1000, 9).astype(float)
    data = likelihood.pooled(t, np.floor(total * rng.random(9)), total, 0.9, 0.1)
    half = data.half if pinned else None
    theta = np.array([location, log_slope, floor])
    _, gradient = likelihood.differentiated(data, theta, half)
    scale = max(1.0, float(np.abs(gradient).max()))
    for i, h in enumerate((1e-5, 1e-5, 1e-6)):
        up, down = theta.copy(), theta.copy()
        up[i], down[i] = theta[i] + h, theta[i] - h
        values = [likelihood.differentiated(data, point, half)[0] for point in (up, down)]
        assert (values[0] - values[1]) / (2 * h) == pytest.approx(gradient[i], abs=1e-5 * scale)


def plain_deviance(sigma: Floats, k: Ints, n: Ints, mu: float, s: float) -> float:
    p = logistic(sigma, mu, s, 0.9, 0.1)
    return -2 * float(np.sum(xlogy(k, p) + xlogy(n - k, 1 - p)))


@pytest.mark.parametrize("seed", range(4))
def test_interval_ends_where_the_profile_deviance_reaches_its_quantile(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sigma = np.repeat(np.logspace(-1, 1, 7), 2)
    k, n = rng.binomial(150, logistic(sigma, 0.8, 2.5, 0.9, 0.1)), np.full(14, 150)
    fit = fit_midpoint(sigma, k, n, clean_accuracy=0.9, chance=0.1, confidence=0.9)
    p = logistic(sigma, fit.midpoint, fit.slope, 0.9, 0.1)
    pearson = float(np.sum((k - n * p) ** 2 / (n * p * (1 - p)))) / 12
    assert fit.dispersion == pytest.approx(
        max(1.0, pearson), rel=0.1
    )  # up to the correction for sparse counts

    def profile(mu: float) -> float:
        best = minimize_scalar(lambda ls: plain_deviance(sigma, k, n, mu, math.exp(ls)), bounds=(-2, 4))
        return float(best.fun)

    allowance = fit.dispersion * student.ppf(0.95, 12) ** 2
    for end in (fit.ci_low, fit.ci_high):
        excess = profile(end) - plain_deviance(sigma, k, n, fit.midpoint, fit.slope)
        assert excess == pytest.approx(allowance, rel=1e-3)


def test_interval_grows_with_confidence_and_shrinks_with_images() -> None:
    p = logistic(SIGMA, 0.8, 2.0, 0.9, 0.1)
    widths = []
    for size, confidence in ((4000, 0.95), (1000, 0.95), (1000, 0.99)):
        k, n = counts(p, size)
        fit = fit_midpoint(SIGMA, k, n, clean_accuracy=0.9, chance=0.1, confidence=confidence)
        widths.append(math.log(fit.ci_high / fit.ci_low))
    assert widths[0] * 2 == pytest.approx(widths[1], rel=0.01)
    assert widths[1] < widths[2]


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_coverage_of_the_interval(factor: float) -> None:
    """95 % intervals; binomial ones may cover more (dispersion is never put below 1), none much less."""
    runs, n, mu, seed = 40, 400, 0.7, 6
    rng = np.random.default_rng(seed)
    sigma = np.repeat(np.logspace(-2, 2, 9), 3)
    p, hit, hit_without = logistic(sigma, mu, 2.0, 0.9, 0.1), 0, 0
    for _ in range(runs):
        q = p
        if factor > 1:  # beta-binomial: the variance of a count becomes factor·n·p·(1 − p)
            strength = (n - 1) / (factor - 1) - 1
            q = rng.beta(p * strength, (1 - p) * strength)
        k = rng.binomial(n, q)
        fit = fit_midpoint(sigma, k, np.full(27, n), clean_accuracy=0.9, chance=0.1)
        hit += fit.ci_low <= mu <= fit.ci_high
        narrow = math.log(fit.ci_high / fit.midpoint) / math.sqrt(fit.dispersion)
        hit_without += abs(math.log(mu / fit.midpoint)) <= narrow
    z, z_without = ((h - 0.95 * runs) / math.sqrt(0.95 * 0.05 * runs) for h in (hit, hit_without))
    print(f"coverage {hit}/{runs}, z = {z:.2f}; without dispersion z = {z_without:.2f}; seed = {seed}")
    assert z > -3
    if factor > 1:
        assert z_without < -6  # the planted bug: intervals that take the scatter for binomial


@pytest.mark.parametrize("floor", ["chance", "free"])
@pytest.mark.parametrize("a0", [0.9, 1.0])
def test_a_step_between_two_levels_has_an_interval_that_brackets_them(a0: float, floor: str) -> None:
    k, n = counts(np.where(SIGMA < 1.2, a0, 0.1), 2000)
    fit = fit_midpoint(SIGMA, k, n, clean_accuracy=a0, chance=0.1, floor=floor)
    left, right = SIGMA[8], SIGMA[9]
    assert fit.ci_low <= left * (1 + 1e-12)
    assert left < fit.midpoint < right
    assert fit.ci_high >= right * (1 - 1e-12)
    assert fit.ci_high / fit.ci_low < 2.5


def test_one_stray_error_does_not_blow_up_the_dispersion() -> None:
    k, n = counts(logistic(SIGMA, 3.0, 4.0, 1.0, 0.1), 100)
    k[0] -= 1  # the model expects 1e-8 errors here: Pearson's term alone would be 1e6
    fit = fit_midpoint(SIGMA, k, n, clean_accuracy=1.0, chance=0.1)
    assert fit.dispersion < 2
    assert fit.midpoint == pytest.approx(3.0, rel=0.1)
