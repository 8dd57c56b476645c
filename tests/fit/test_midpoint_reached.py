"""Which curves have a midpoint: extremes, level curves, genuine falls."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fit.accuracy_curves import SIGMA, Floats, counts, logistic
from wn.fit import midpoint as module
from wn.fit.falling import falling_means
from wn.fit.midpoint import fit_midpoint

hits = st.lists(st.integers(0, 200), min_size=1, max_size=10)
either_floor = st.sampled_from(["chance", "free"])


@settings(max_examples=25)
@given(
    hits.flatmap(
        lambda k: st.tuples(
            st.just(k), st.lists(st.floats(-300, 16), min_size=len(k), max_size=len(k)), either_floor
        )
    ),
    st.sampled_from([0.3, 0.9, 1.0]),
    st.sampled_from([1e-12, 0.1, 0.29]),
)
def test_anything_counted_gives_an_honest_answer(
    case: tuple[list[int], list[float], str], a0: float, chance: float
) -> None:
    k, decades, floor = case
    sigma = 10.0 ** np.array(decades)
    fit = fit_midpoint(sigma, k, np.full(len(k), 200), clean_accuracy=a0, chance=chance, floor=floor)
    assert fit.dispersion >= 1
    curve = fit.accuracy(np.sort(np.append(sigma, 0.0)))
    if fit.reached:
        assert (np.diff(curve) <= 0).all()
        assert curve[0] == pytest.approx(a0, abs=1e-5)
        assert sigma.min() * (1 - 1e-9) <= fit.midpoint <= sigma.max() * (1 + 1e-9)
        assert 0 <= fit.ci_low <= fit.midpoint <= fit.ci_high
        assert 0 <= fit.crossing_low <= fit.measured_crossing <= fit.crossing_high
        assert sigma.min() * (1 - 1e-9) <= fit.measured_crossing <= sigma.max() * (1 + 1e-9)
        assert fit.crossing_error >= 0
        assert fit.reason == ""
    else:
        assert np.isnan([fit.midpoint, fit.ci_low, fit.ci_high, fit.slope, fit.location]).all()
        assert np.isnan([fit.measured_crossing, fit.crossing_low, fit.crossing_high]).all()
        assert np.isnan(curve).all()
        assert fit.reason in (module.NEVER_FALLS, module.ALREADY_BELOW, module.NO_FALL)


@pytest.mark.parametrize("floor", ["chance", "free"])
@pytest.mark.parametrize(
    ("accuracy", "reason"),
    [
        (0.9, module.NEVER_FALLS),
        (1.0, module.NEVER_FALLS),
        (0.5, module.NO_FALL),  # flat at exactly half-way: it falls through nothing
        (0.7, module.NEVER_FALLS),
        (0.1, module.ALREADY_BELOW),
        (0.0, module.ALREADY_BELOW),
        (0.3, module.ALREADY_BELOW),
    ],
)
@pytest.mark.parametrize("levels", [1, 2, 17])
def test_flat_curves_are_not_reached(accuracy: float, reason: str, levels: int, floor: str) -> None:
    k, n = counts(np.full(levels, accuracy), 1000)
    fit = fit_midpoint(SIGMA[:levels], k, n, clean_accuracy=0.9, chance=0.1, floor=floor)
    assert (fit.reached, fit.reason) == (False, reason)
    assert math.isnan(fit.midpoint)


def test_a_midpoint_outside_the_measured_range_is_not_reached() -> None:
    for mu, reason in ((300.0, module.NEVER_FALLS), (0.003, module.ALREADY_BELOW)):
        k, n = counts(logistic(SIGMA, mu, 2.0, 0.9, 0.1), 10_000)
        assert fit_midpoint(SIGMA, k, n, clean_accuracy=0.9, chance=0.1).reason == reason


def test_a_curve_that_rises_is_not_reached_and_one_that_dips_is() -> None:
    k, n = counts(logistic(SIGMA, 0.8, 2.0, 0.9, 0.1), 1000)
    assert not fit_midpoint(SIGMA, k[::-1], n, clean_accuracy=0.9, chance=0.1).reached
    k[3] = 300
    assert fit_midpoint(SIGMA, k, n, clean_accuracy=0.9, chance=0.1).reached


def test_two_points() -> None:
    fit = fit_midpoint([1.0, 4.0], [700, 300], [1000, 1000], clean_accuracy=0.9, chance=0.1)
    assert fit.midpoint == pytest.approx(2.0, rel=1e-6)
    assert 1 < fit.ci_low < fit.ci_high < 4


def test_sigma_of_the_extreme_runs() -> None:
    sigma = np.logspace(0, 16, 65)
    k, n = counts(logistic(sigma, 1e9, 0.7, 0.98, 0.1), 10_000)
    assert fit_midpoint(sigma, k, n, clean_accuracy=0.98, chance=0.1).midpoint == pytest.approx(1e9, rel=1e-3)
    wide = fit_midpoint([1e-300, 1e16], [900, 100], [1000, 1000], clean_accuracy=0.9, chance=0.1)
    assert wide.midpoint == pytest.approx(1e-142, rel=1e-6)
    assert (wide.ci_low, wide.ci_high) == (pytest.approx(1e-300), pytest.approx(1e16))


def test_not_learnt_and_nothing_noisy() -> None:
    for clean in (0.1, 0.05, 0.0):
        fit = fit_midpoint(SIGMA, np.full(17, 100), np.full(17, 1000), clean_accuracy=clean, chance=0.1)
        assert (fit.reached, fit.reason) == (False, module.NOT_LEARNT)
        assert np.isnan(fit.accuracy([0.0, 1.0])).all()
    fit = fit_midpoint([0.0, 0.0], [900, 901], [1000, 1000], clean_accuracy=0.9, chance=0.1)
    assert (fit.reached, fit.reason) == (False, module.NO_NOISE)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(50, 90)), min_size=1, max_size=8))
def test_isotonic_means_equal_the_min_max_formula(pairs: list[tuple[int, int]]) -> None:
    k, n = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    size = k.size
    expected = [
        min(max(k[a:b].sum() / n[a:b].sum() for b in range(i + 1, size + 1)) for a in range(i + 1))
        for i in range(size)
    ]
    np.testing.assert_allclose(falling_means(k, n), expected, rtol=1e-12)


# --- level curves and genuine falls ----------------------------------------------------------------------


def reasons(
    p: Floats, n: int, runs: int, *, repeats: int = 1, factor: float = 1.0, floor: str = "chance"
) -> list[str]:
    """Why each of `runs` simulated curves is not reached; beta-binomial counts of dispersion `factor`."""
    rng, sigma = np.random.default_rng(12), np.repeat(np.logspace(-1, 1, p.size), repeats)
    p, found = np.repeat(p, repeats), []
    for _ in range(runs):
        q = p
        if factor > 1:
            strength = (n - 1) / (factor - 1) - 1
            q = rng.beta(p * strength, (1 - p) * strength)
        k, total = rng.binomial(n, q), np.full(p.size, n)
        found.append(fit_midpoint(sigma, k, total, clean_accuracy=0.9, chance=0.1, floor=floor).reason)
    print(f"{found.count('')} of {runs} reached, n = {n}, seed = 12")
    return found


@pytest.mark.parametrize(("repeats", "factor"), [(1, 1.0), (1, 10.0), (3, 10.0)])
def test_level_curves_at_half_way_are_not_reached(repeats: int, factor: float) -> None:
    """Scatter alone carries the isotonic means of most of them through half-way."""
    found = reasons(np.full(8, 0.5), 2000, 60, repeats=repeats, factor=factor)
    assert found.count("") <= 1
    assert found.count(module.NO_FALL) > 20


def test_the_reason_of_a_level_curve_says_on_which_side_of_half_way_it_lies() -> None:
    assert set(reasons(np.full(8, 0.6), 2000, 5)) == {module.NEVER_FALLS}
    assert set(reasons(np.full(8, 0.4), 2000, 5)) == {module.ALREADY_BELOW}


@pytest.mark.parametrize("floor", ["chance", "free"])
@pytest.mark.parametrize(
    ("p", "n"),
    [
        (np.linspace(0.55, 0.45, 8), 4000),
        (np.linspace(0.6, 0.4, 8), 1000),
        (np.repeat([0.9, 0.1], 4), 50),
        (np.repeat([0.55, 0.45], 4), 4000),
        (np.array([0.9] + [0.4] * 7), 1000),
        (np.array([0.9] * 7 + [0.4]), 1000),
        (np.array([0.9, 0.8, 0.1]), 10_000),
        (np.array([0.7, 0.3]), 200),
    ],
    ids=["gentle", "less gentle", "step", "small step", "early", "late", "three levels", "two levels"],
)
def test_genuine_falls_are_reached(p: Floats, n: int, floor: str) -> None:
    assert set(reasons(p, n, 5, floor=floor)) == {""}


@pytest.mark.parametrize(
    ("right", "reason"),
    [([500, 100], module.ALREADY_BELOW), ([500, 500], module.NO_FALL)],
    ids=["starts there", "stays there"],
)
def test_curves_that_touch_half_way(right: list[int], reason: str) -> None:
    fit = fit_midpoint([1.0, 4.0], right, [1000, 1000], clean_accuracy=0.9, chance=0.1)
    assert math.isnan(fit.measured_crossing) == (reason != "")
    assert fit.reason == reason


# ---- scatter that is no fall's fault ----------------------------------------------------------------------


def with_one_level_at(place: int, accuracy: float) -> Floats:
    """A fall from 0.9 to 0.1 over nine levels: at one a training failed, or noise did nothing."""
    p = logistic(np.logspace(-2, 2, 9), 1.0, 2.0, 0.9, 0.1)
    p[place] = accuracy
    return p


@pytest.mark.parametrize("floor", ["chance", "free"])
@pytest.mark.parametrize("accuracy", [0.1, 0.9])
@pytest.mark.parametrize("place", range(9))
def test_a_fall_with_one_outlier_has_a_midpoint_with_a_wide_interval(
    place: int, accuracy: float, floor: str
) -> None:
    p, sigma = with_one_level_at(place, accuracy), np.logspace(-2, 2, 9)
    fit = fit_midpoint(sigma, *counts(p, 1000), clean_accuracy=0.9, chance=0.1, floor=floor)
    assert fit.reason == ""
    if abs(p[place] - logistic(sigma, 1.0, 2.0, 0.9, 0.1)[place]) > 0.5:
        assert floor == "free" or fit.ci_low < 1 < fit.ci_high
        assert fit.ci_high > 4 * fit.ci_low


@pytest.mark.parametrize("floor", ["chance", "free"])
def test_a_fall_that_is_not_monotone_has_a_midpoint(floor: str) -> None:
    """The other members: few levels, several repeats of which one has failed at one level or at all."""
    sigma, right = [0.1, 0.3, 1, 3, 10, 30], [900, 900, 300, 700, 100, 100]
    fit = fit_midpoint(sigma, right, [1000] * 6, clean_accuracy=0.9, chance=0.1, floor=floor)
    assert fit.reason == ""
    assert fit.ci_low < 1 < 3 < fit.ci_high
    p = with_one_level_at(2, 0.1)
    k, n = counts(np.concatenate([p, with_one_level_at(0, 0.9)]), 1000)
    assert fit_midpoint(
        np.tile(np.logspace(-2, 2, 9), 2), k, n, clean_accuracy=0.9, chance=0.1, floor=floor
    ).reached


@pytest.mark.parametrize(("levels", "factor"), [(6, 1.0), (9, 10.0)])
def test_one_outlier_of_many_makes_no_fall_of_level_curves(levels: int, factor: float) -> None:
    """Whichever level is left out, the rest is level; one in the middle that is far off changes nothing."""
    p = np.full(levels, 0.5)
    assert reasons(p, 1000, 30, factor=factor).count("") == 0
    p[levels // 2] = 0.9
    assert reasons(p, 1000, 30, factor=factor).count("") == 0
