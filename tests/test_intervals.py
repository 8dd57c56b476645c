"""The interval of a midpoint must cover misfit and the scatter between repeats, not one curve alone."""

from dataclasses import replace
from math import exp, inf, isnan, log, nan, sqrt

import numpy as np
import pytest
from scipy.stats import t as student

from wn.intervals import measured_crossing, with_measured_crossing, with_repeats
from wn.midpoint import Midpoint

FIT = Midpoint(1.0, 0.99, 1.01, 2.0, 1.0, 0.1, 0.9, True, "", 1.0)


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


def test_measured_crossing_is_interpolated_in_log_sigma() -> None:
    sigma, correct = [0.0, 1.0, 10.0, 100.0], [95, 90, 70, 30]
    assert measured_crossing(sigma, correct, [100] * 4, 0.5) == pytest.approx(10**1.5, rel=1e-12)
    assert measured_crossing(sigma, correct, [100] * 4, 0.7) == pytest.approx(10.0, rel=1e-12)


def test_measured_crossing_pools_repeats_and_violators() -> None:
    """Levels 1 and 10 rise (0.6, 0.8) and become 0.7 each; the repeats of level 100 average to 0.3."""
    sigma, correct = [1, 10, 100, 100], [60, 80, 20, 40]
    assert measured_crossing(sigma, correct, [100] * 4, 0.5) == pytest.approx(10**1.5, rel=1e-12)


@pytest.mark.parametrize(
    ("sigma", "correct"),
    [([1, 10], [90, 80]), ([1, 10], [20, 10]), ([1], [50]), ([0, 0], [90, 10])],
    ids=["never falls", "already below", "one level", "no noise"],
)
def test_measured_crossing_that_is_not_there(sigma: list[int], correct: list[int]) -> None:
    assert isnan(measured_crossing(sigma, correct, [100] * len(sigma), 0.5))


def test_interval_holds_the_measured_crossing() -> None:
    assert with_measured_crossing(FIT, 2.0).ci_high == 2.0
    assert with_measured_crossing(FIT, 0.5).ci_low == 0.5
    assert with_measured_crossing(FIT, 1.0) == replace(FIT, measured_crossing=1.0)
    joint = replace(FIT, interval="joint")
    assert with_measured_crossing(joint, 2.0) == replace(joint, measured_crossing=2.0)
    assert with_measured_crossing(FIT, nan) == FIT
