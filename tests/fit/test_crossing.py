"""The measured crossing and its interval: against brute force, simulated truth, and at the edges."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.naive_midpoint import jackknife_error, log_crossing
from tests.fit import coverage_of_crossings as simulation
from tests.fit.coverage_of_crossings import FAMILIES, Setting
from wn.basics.groups import totals
from wn.fit.counts import Entries
from wn.fit.crossing import Between, Crossing, Scatter, crossing_of, falls_at
from wn.fit.midpoint import fit_midpoint

HALF = Between(0.9, 0.1)
NONE, BINOMIAL = Scatter(0.0, 4.0), Scatter(1.0, 1.96**2)


def crossing(
    sigma: Any, correct: Any, total: Any = 100, between: Between = HALF, scatter: Scatter = BINOMIAL
) -> Crossing | None:
    k = np.asarray(correct, float)
    return crossing_of(Entries(np.asarray(sigma, float), k, np.full(k.size, float(total))), between, scatter)


def there(found: Crossing | None) -> Crossing:
    assert found is not None
    return found


# ---- the crossing ---------------------------------------------------------------------------------------


def test_it_is_interpolated_in_log_sigma() -> None:
    found = there(crossing([1, 10, 100, 1000], [90, 70, 30, 10]))
    assert found.at == pytest.approx(1.5 * math.log(10), rel=1e-12)


def test_a_level_exactly_half_way_is_the_crossing() -> None:
    found = there(crossing([1, 10, 100], [90, 50, 10], scatter=NONE))
    assert found.at == pytest.approx(math.log(10), rel=1e-12)
    assert found.low == pytest.approx(found.at, rel=1e-9)  # nothing scatters, nothing is interpolated
    assert found.high == pytest.approx(found.at, rel=1e-9)


levels = st.lists(st.tuples(st.integers(0, 200), st.floats(-30, 30)), min_size=1, max_size=12)


@settings(max_examples=150)
@given(levels, st.floats(0.2, 1), st.floats(0, 0.19))
def test_it_is_that_of_violators_pooled_one_by_one(
    points: list[tuple[int, float]], clean: float, chance: float
) -> None:
    k, x = (np.array(values, float) for values in zip(*points, strict=True))
    sigma, n, between = np.exp(np.round(x)), np.full(k.size, 200.0), Between(clean, chance)
    naive = log_crossing(sigma, k, n, between.half)
    found = crossing(sigma, k, 200, between)
    if found is None:
        assert math.isnan(naive)
        return
    assert found.at == pytest.approx(naive, rel=1e-9, abs=1e-9)
    assert found.low <= found.at <= found.high
    scaled = there(crossing(sigma * 2, k, 200, between))
    for before, after in zip(found, scaled, strict=True):
        assert after == pytest.approx(before + math.log(2) * (before is not found.error), abs=1e-6)


@pytest.mark.parametrize("right", [[90, 80, 60], [40, 30, 20], [50, 50, 50], [30, 60, 60], [10], [90], []])
def test_there_is_none_if_accuracy_does_not_fall_through_half_way(right: list[int]) -> None:
    if right:
        assert crossing(np.arange(1, len(right) + 1), right) is None


def test_lines_that_never_reach_a_level_end_beyond_the_data() -> None:
    x, y = np.array([0.0, 1.0, 2.0]), np.array([0.8, 0.6, 0.4])
    assert falls_at(x, y, 0.5) == pytest.approx(1.5)
    assert falls_at(x, y, 0.3) == math.inf
    assert falls_at(x, y, 0.8) == -math.inf


# ---- its interval ---------------------------------------------------------------------------------------


def test_a_step_may_be_anywhere_in_its_gap() -> None:
    """The kind: two levels with nothing between them, and a midpoint that looks exact."""
    found = there(crossing([1, 2, 8, 9], [10**6 * 0.9, 10**6 * 0.9, 10**6 * 0.1, 10**6 * 0.1], 10**6))
    assert found.low <= math.log(2) < math.log(8) <= found.high
    resolved = there(crossing([1, 2, 4, 8], [10**6 * 0.9, 10**6 * 0.7, 10**6 * 0.3, 10**6 * 0.1], 10**6))
    assert math.log(2) < resolved.low < resolved.high < math.log(4)


def test_evidence_of_one_side_bounds_one_side() -> None:
    ends_early = there(crossing([1, 10, 100], [90, 70, 49]))
    assert ends_early.high == math.inf
    assert math.log(10) < ends_early.low < ends_early.at
    begins_late = there(crossing([1, 10, 100], [51, 30, 10]))
    assert begins_late.low == -math.inf
    assert begins_late.at < begins_late.high < math.log(10)


def test_a_midpoint_without_a_bound_says_so() -> None:
    fit = fit_midpoint([1, 10, 100], [900, 700, 495], [1000] * 3, clean_accuracy=0.9, chance=0.1)
    assert fit.reached
    assert fit.crossing_high == math.inf


@pytest.mark.parametrize("family", ["logistic, s = 5", "slow, then fast", "fast, then slow", "normal"])
def test_what_is_between_the_levels_is_in_the_interval(family: str) -> None:
    """Endlessly many images on a coarse grid: all that is left is interpolation. A line alone misses it."""
    alone = 0.0
    for start in np.linspace(0, 1, 21)[:-1]:
        x = (np.arange(-5, 6) + start) * math.log(10) / 3
        counts = np.rint((0.1 + 0.8 * FAMILIES[family](x)) * 1e12)
        found = there(crossing(np.exp(x), counts, 1e12, scatter=NONE))
        beyond = max(found.low, -found.high, 0.0)
        assert beyond < 0.01, (family, start)
        alone = max(alone, abs(found.at))
    assert alone > 0.015


def test_more_scatter_more_width() -> None:
    points = ([1, 10, 100, 1000], [90, 70, 30, 10])
    widths = [there(crossing(*points, scatter=Scatter(factor, 4.0))) for factor in (0.0, 1.0, 4.0)]
    assert widths[0].high < widths[1].high < widths[2].high
    assert widths[0].low > widths[1].low > widths[2].low
    assert widths[2].error == pytest.approx(2 * widths[1].error)
    # √(p(1 − p)/n) at both levels, each with weight ½, over the slope of .4 in ln 10
    assert widths[1].error == pytest.approx(math.sqrt(0.0021 / 2) * math.log(10) / 0.4)


def test_the_standard_error_is_that_of_crossings_without_one_group() -> None:
    x = np.linspace(-3.1, 3, 14)
    correct, clean = simulation.simulated(Setting("slow, then fast"), x, 4000, np.random.default_rng(5))
    groups = correct[0].astype(float)
    by_group = (groups, totals(4000, x.size).astype(float))
    entries = Entries(np.exp(x), groups.sum(axis=1), by_group[1].sum(axis=1), by_group)
    a0 = clean.sum() / 4000

    def again(k: Any, n: Any, accuracy: float) -> float:
        return log_crossing(np.exp(x), k, n, (accuracy + 0.1) / 2)

    naive = jackknife_error(again, groups, by_group[1][0], clean[0].astype(float))
    found = there(crossing_of(entries, Between(a0, 0.1, clean[0].astype(float)), NONE))
    print(f"standard error {found.error:.5f}, by brute force {naive:.5f}")
    assert found.error == pytest.approx(naive, rel=0.03)
    exact = there(crossing_of(entries, Between(a0, 0.1), NONE))  # the planted bug: a0 taken as exact
    assert exact.error != pytest.approx(naive, rel=0.03)


def test_the_table_of_errors_between_levels() -> None:
    cells = simulation.exact("slow, then fast", 5).split("|")
    assert [cell.strip() for cell in cells[1:3]] == ["slow, then fast", "5"]
    assert float(cells[3].strip(" %")) > 1 > 0.2 > float(cells[4].strip(" %"))


# ---- coverage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        Setting("logistic, s = 2", 8),
        Setting("slow, then fast", 5),
        Setting("two falls", 5),
        Setting("slow, then fast", 5, floor=0.3),
        Setting("fast, then slow", 5, networks=3, shift=0.05),
    ],
    ids=str,
)
def test_intervals_hold_the_crossing_in_truth(setting: Setting) -> None:
    """All σ share images; networks share them too. The logistic fit is far off where the curve is another."""
    runs = 100
    found = simulation.found(setting, 10_000, runs, seed=3)
    z = (found.held - 0.95 * runs) / math.sqrt(0.95 * 0.05 * runs)
    print(f"{found.held} of {runs}, seed 3, z = {z:.2f}; error {found.crossing.mean():.4f}")
    assert abs(z) < 6
    assert abs(found.crossing.mean()) < 0.02
    if setting.family == "slow, then fast":
        assert abs(np.nanmean(found.logistic)) > 0.02
    assert simulation.line(setting, found).count("|") == simulation.HEAD.splitlines()[0].count("|")
