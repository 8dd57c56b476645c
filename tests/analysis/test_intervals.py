"""Intervals of means: closed forms, coverage, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wn.analysis.intervals import accuracy, paired_difference, student, wilson
from wn.basics.errors import WnError

numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=9)


@given(numbers)
def test_students_interval_is_that_of_scipy(values: list[float]) -> None:
    found = student(values)
    error = stats.sem(values)
    half = stats.t.ppf(0.975, len(values) - 1) * error
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.high - found.low) / 2 == pytest.approx(half, abs=1e-9)
    assert (found.high + found.low) / 2 == pytest.approx(found.mean, abs=1e-9)


@given(st.integers(1, 2000), st.data())
def test_wilsons_interval_is_that_of_scipy(total: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, total))
    expected = stats.binomtest(correct, total).proportion_ci(method="wilson")
    found = wilson(correct, total)
    assert found == pytest.approx((correct / total, expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low <= found.mean <= found.high <= 1


def test_one_value_has_no_interval() -> None:
    found = student([0.5])
    assert found.mean == 0.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_few_repeats_have_the_interval_of_images() -> None:
    assert accuracy([900], [1000]) == wilson(900, 1000)
    two = accuracy([900, 800], [1000, 1000])
    assert two.mean == pytest.approx(0.85)
    assert two[1:] == wilson(850, 1000)[1:]  # the images are the same: they count once
    three = accuracy([900, 800, 850], [1000] * 3)
    assert three == pytest.approx(student([0.9, 0.8, 0.85]))


def test_accuracies_stay_between_0_and_1() -> None:
    found = accuracy([1000, 1000, 700], [1000] * 3)
    assert found.high == 1.0
    assert accuracy([0, 0, 100], [1000] * 3).low == 0.0


def test_pairs_take_away_what_they_share() -> None:
    scatter = np.array([0.0, 10.0, -10.0, 5.0])
    found = paired_difference(scatter + np.array([1.0, 1.1, 0.9, 1.0]), scatter)
    assert found.mean == pytest.approx(1.0)
    assert found.high - found.low < 0.5
    with pytest.raises(WnError, match="must be alike"):
        paired_difference([1.0], [1.0, 2.0])


@pytest.mark.parametrize("counts", [(-1, 10), (11, 10), (0, 0)])
def test_counts_that_are_none(counts: tuple[int, int]) -> None:
    with pytest.raises(WnError, match="counts"):
        wilson(*counts)
    with pytest.raises(WnError, match="at least"):
        student([])


@given(st.integers(1, 10**6), st.floats(0, 1), st.sampled_from([0.5, 0.95, 0.999]))
def test_wilsons_interval_holds_all_shares_that_do_not_reject_the_count(
    n: int, share: float, confidence: float
) -> None:
    """Its ends are the roots of |k/n − p| = z √(p(1 − p)/n)."""
    k = round(share * n)
    _, low, high = wilson(k, n, confidence)
    z = stats.norm.ppf((1 + confidence) / 2)
    assert 0 <= low <= k / n <= high <= 1
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            assert abs(k / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), rel=1e-6)
