"""The interval of a midpoint must cover misfit and the scatter between repeats, not one curve alone."""

from dataclasses import replace
from math import exp, inf, log, nan, sqrt

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from wn.fit.intervals import reaching_the_crossing, with_repeats
from wn.fit.midpoint import ALREADY_BELOW, NEVER_FALLS, NO_FALL, Midpoint

FIT = Midpoint(
    midpoint=1.0,
    ci_low=0.99,
    ci_high=1.01,
    slope=2.0,
    location=1.0,
    floor=0.1,
    clean_accuracy=0.9,
    reached=True,
    reason="",
    dispersion=1.0,
)


def at(midpoint: float) -> Midpoint:
    return replace(FIT, midpoint=midpoint, ci_low=midpoint * 0.99, ci_high=midpoint * 1.01)


def test_interval_is_students_for_the_log_midpoints() -> None:
    single = [at(0.8), at(1.0), at(1.25)]
    half = student.ppf(0.975, 2) * np.std([log(0.8), 0, log(1.25)], ddof=1) / sqrt(3)
    wide = with_repeats(FIT, single)
    assert (wide.ci_low, wide.ci_high) == pytest.approx((exp(-half), exp(half)), rel=1e-12)
    assert wide.midpoint == FIT.midpoint


def test_interval_never_shrinks() -> None:
    wide = with_repeats(replace(FIT, ci_low=0.1, ci_high=inf), [at(0.9999), at(1.0001)])
    assert (wide.ci_low, wide.ci_high) == (0.1, inf)


@pytest.mark.parametrize(
    "single", [[at(2.0)], [at(2.0), at(nan)]], ids=["one repeat", "a repeat that is not reached"]
)
def test_nothing_to_learn_from(single: list[Midpoint]) -> None:
    assert with_repeats(FIT, single) == FIT


@pytest.mark.parametrize(
    ("reason", "interval"),
    [(ALREADY_BELOW, (0.0, 1.01)), (NEVER_FALLS, (0.99, inf)), (NO_FALL, (0.99, 1.01))],
)
def test_an_interval_is_open_on_the_side_of_a_repeat_that_is_not_reached(
    reason: str, interval: tuple[float, float]
) -> None:
    """Of its midpoint nothing is known but the side."""
    missing = replace(FIT, midpoint=nan, ci_low=nan, ci_high=nan, reached=False, reason=reason)
    wide = with_repeats(FIT, [at(1.0), missing, at(1.1)])
    assert (wide.ci_low, wide.ci_high) == interval


def test_repeats_that_share_their_images_do_not_average_the_images_out() -> None:
    """V = V_images + V_own/R: with equal networks (s = 0) what is left is z √V_images."""
    shared, own, count = 0.04, 0.01, 4
    joint = replace(FIT, interval="joint", standard_error=sqrt(shared + own / count))
    single = [replace(FIT, interval="joint", standard_error=sqrt(shared + own))] * count
    half = norm.ppf(0.975) * sqrt(shared)
    wide = with_repeats(joint, single)
    assert (wide.ci_low, wide.ci_high) == pytest.approx((exp(-half), exp(half)), rel=1e-9)
    assert with_repeats(replace(joint, interval="independent"), single).ci_high == FIT.ci_high


def test_not_reached_stays_not_reached() -> None:
    missing = replace(FIT, midpoint=nan, ci_low=nan, ci_high=nan, reached=False)
    assert with_repeats(missing, [at(1.0), at(2.0)]) is missing


def test_coverage_of_repeats_that_scatter() -> None:
    """Midpoints of three repeats scatter by 20 %, each curve is exact: 95 % of the intervals hold 1."""
    rng = np.random.default_rng(3)
    n, hits = 4000, 0
    for _ in range(n):
        logs = 0.2 * rng.standard_normal(3)
        centre = exp(logs.mean())
        wide = with_repeats(
            replace(FIT, midpoint=centre, ci_low=centre, ci_high=centre), [at(exp(m)) for m in logs]
        )
        hits += wide.ci_low <= 1 <= wide.ci_high
    z = (hits - 0.95 * n) / sqrt(n * 0.95 * 0.05)
    print(f"n={n} seed=3 hits={hits} z={z:.2f}")
    assert abs(z) < 6


def test_an_interval_of_independent_counts_holds_the_measured_crossing() -> None:
    def reaching(crossing: float, interval: str = "independent") -> Midpoint:
        return reaching_the_crossing(replace(FIT, measured_crossing=crossing, interval=interval))

    assert reaching(2.0).ci_high == 2.0
    assert reaching(0.5).ci_low == 0.5
    assert (reaching(1.0).ci_low, reaching(1.0).ci_high) == (FIT.ci_low, FIT.ci_high)
    assert reaching(2.0, "joint").ci_high == FIT.ci_high
    assert reaching_the_crossing(FIT) == FIT


def test_the_crossing_has_the_scatter_of_the_repeats_crossings() -> None:
    """The kind: midpoints that agree, whose measured curves do not."""
    single = [replace(FIT, measured_crossing=sigma, crossing_error=0.01) for sigma in (0.8, 1.0, 1.25)]
    pooled = replace(FIT, measured_crossing=1.0, crossing_low=0.99, crossing_high=1.05, crossing_error=0.01)
    half = student.ppf(0.975, 2) * np.std([log(0.8), 0, log(1.25)], ddof=1) / sqrt(3)
    between_levels = log(1.05) - norm.ppf(0.975) * 0.01  # in the upper bound, and in no repeat's scatter
    wide = with_repeats(pooled, single)
    ends = exp(-half), exp(half + between_levels)
    assert (wide.crossing_low, wide.crossing_high) == pytest.approx(ends, rel=1e-9)
    without = with_repeats(replace(pooled, crossing_low=0.0, crossing_high=inf, crossing_error=1e4), single)
    assert (without.crossing_low, without.crossing_high) == (0.0, inf)
    assert (wide.ci_low, wide.ci_high) == (FIT.ci_low, FIT.ci_high)
