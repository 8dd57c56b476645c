"""The interval of a midpoint must cover the scatter between repeats, not only that of one curve."""

from dataclasses import replace
from math import exp, inf, log, nan, sqrt

import numpy as np
import pytest
from scipy.stats import t as student

from wn.midpoint import Midpoint
from wn.repeats import widened

FIT = Midpoint(1.0, 0.99, 1.01, 2.0, 1.0, 0.1, 0.9, True, "", 1.0)


def at(midpoint: float) -> Midpoint:
    return replace(FIT, midpoint=midpoint, ci_low=midpoint * 0.99, ci_high=midpoint * 1.01)


def test_interval_is_students_for_the_log_midpoints() -> None:
    single = [at(0.8), at(1.0), at(1.25)]
    half = student.ppf(0.975, 2) * np.std([log(0.8), 0, log(1.25)], ddof=1) / sqrt(3)
    wide = widened(FIT, single)
    assert (wide.ci_low, wide.ci_high) == pytest.approx((exp(-half), exp(half)), rel=1e-12)
    assert wide.midpoint == FIT.midpoint


def test_interval_never_shrinks() -> None:
    wide = widened(replace(FIT, ci_low=0.1, ci_high=inf), [at(0.9999), at(1.0001)])
    assert (wide.ci_low, wide.ci_high) == (0.1, inf)


@pytest.mark.parametrize(
    "single", [[at(2.0)], [at(2.0), at(nan)]], ids=["one repeat", "a repeat that is not reached"]
)
def test_nothing_to_learn_from(single: list[Midpoint]) -> None:
    assert widened(FIT, single) == FIT


def test_not_reached_stays_not_reached() -> None:
    missing = replace(FIT, midpoint=nan, ci_low=nan, ci_high=nan, reached=False)
    assert widened(missing, [at(1.0), at(2.0)]) is missing


def test_coverage_of_repeats_that_scatter() -> None:
    """Midpoints of three repeats scatter by 20 %, each curve is exact: 95 % of the intervals hold 1."""
    rng = np.random.default_rng(3)
    n, hits = 4000, 0
    for _ in range(n):
        logs = 0.2 * rng.standard_normal(3)
        centre = exp(logs.mean())
        wide = widened(
            replace(FIT, midpoint=centre, ci_low=centre, ci_high=centre), [at(exp(m)) for m in logs]
        )
        hits += wide.ci_low <= 1 <= wide.ci_high
    z = (hits - 0.95 * n) / sqrt(n * 0.95 * 0.05)
    print(f"n={n} seed=3 hits={hits} z={z:.2f}")
    assert abs(z) < 6
