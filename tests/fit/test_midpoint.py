"""The midpoint fit: recovery, invariances, bad input, and bugs that these tests must catch."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from tests.fit.accuracy_curves import SIGMA, Floats, Ints, counts, logistic
from wn.basics.errors import WnError
from wn.fit import midpoint as module
from wn.fit.midpoint import Midpoint, fit_midpoint, root_sum_square_rule

Fit = Callable[..., Midpoint]
EXACT = 10**10  # so many images that counts are accuracies


def check_same(a: Midpoint, b: Midpoint, rel: float, scale: float = 1.0) -> None:
    """b is a with every σ times `scale`."""
    assert (a.reached, a.reason) == (b.reached, b.reason)
    for name in ("midpoint", "ci_low", "ci_high", "location"):
        assert getattr(b, name) == pytest.approx(getattr(a, name) * scale, rel=rel, nan_ok=True), name
    for name in ("slope", "floor", "dispersion"):
        assert getattr(b, name) == pytest.approx(getattr(a, name), rel=1000 * rel, nan_ok=True), name


# --- recovery ------------------------------------------------------------------------------------------


@settings(max_examples=12)
@given(st.floats(-10, 10), st.floats(0.3, 8), st.floats(0.5, 1), st.floats(0.01, 0.25), st.floats(-2, 2))
def test_exact_curves_give_back_their_parameters(
    decade: float, s: float, a0: float, chance: float, shift: float
) -> None:
    mu = 10**decade
    sigma = mu * np.exp((np.linspace(-8, 8, 25) + shift) / s)
    for floor in ("chance", "free"):
        k, n = counts(logistic(sigma, mu, s, a0, chance), EXACT)
        fit = fit_midpoint(sigma, k, n, clean_accuracy=a0, chance=chance, floor=floor)
        assert fit.reached
        assert fit.midpoint == pytest.approx(mu, rel=1e-5)
        assert fit.slope == pytest.approx(s, rel=1e-4)
        assert fit.floor == pytest.approx(chance, abs=1e-5)
        assert fit.ci_low < mu * (1 + 1e-5)
        assert fit.ci_high > mu * (1 - 1e-5)


@settings(max_examples=15)
@given(st.floats(0.5, 6), st.floats(0.02, 0.4), st.floats(0.6, 0.99))
def test_a_free_floor_is_found_and_the_midpoint_stays_half_way_to_chance(
    s: float, floor: float, a0: float
) -> None:
    chance, sigma = 0.1, np.exp(np.linspace(-10, 10, 31) / s)
    k, n = counts(logistic(sigma, 1.0, s, a0, floor), EXACT)
    fit = fit_midpoint(sigma, k, n, clean_accuracy=a0, chance=chance, floor="free")
    assert fit.floor == pytest.approx(floor, abs=1e-4)
    half = (a0 + chance) / 2
    if floor > half + 1e-3:
        assert (fit.reached, fit.reason) == (False, module.NEVER_FALLS)
    elif floor < half - 1e-3:
        expected = ((a0 - half) / (half - floor)) ** (1 / s)
        if sigma[0] < expected < sigma[-1]:
            assert fit.midpoint == pytest.approx(expected, rel=1e-3)
            assert float(fit.accuracy(fit.midpoint)) == pytest.approx(half, abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_binomial_data_over_twenty_decades(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mu, s, n = 10.0 ** (2 * seed - 10), rng.uniform(1, 4), 500
    sigma = np.repeat(mu * np.logspace(-1.5, 1.5, 13), 3)
    k = rng.binomial(n, logistic(sigma, mu, s, 0.95, 0.1))
    fit = fit_midpoint(sigma, k, np.full(sigma.size, n), clean_accuracy=0.95, chance=0.1)
    se = math.log(fit.ci_high / fit.ci_low) / (2 * student.ppf(0.975, sigma.size - 2))
    z = math.log(fit.midpoint / mu) / se
    print(f"z = {z:.2f}, n = {n} x {sigma.size}, seed = {seed}")
    assert abs(z) < 6
    assert se < 0.1


# --- invariances ---------------------------------------------------------------------------------------

hits = st.lists(st.integers(0, 200), min_size=1, max_size=10)
either_floor = st.sampled_from(["chance", "free"])


@settings(max_examples=12)
@given(st.floats(-15, 15), st.floats(0.7, 5), st.integers(0, 2**32 - 1), either_floor)
def test_scaling_sigma_scales_the_midpoint(decades: float, s: float, seed: int, floor: str) -> None:
    k = np.random.default_rng(seed).binomial(300, logistic(SIGMA, 0.8, s, 0.9, 0.1))
    n, scale = np.full(17, 300), 10**decades
    one = fit_midpoint(SIGMA, k, n, clean_accuracy=0.9, chance=0.1, floor=floor)
    two = fit_midpoint(SIGMA * scale, k, n, clean_accuracy=0.9, chance=0.1, floor=floor)
    check_same(one, two, 1e-6, scale)


@settings(max_examples=10)
@given(hits, st.integers(0, 2**32 - 1), either_floor)
def test_order_does_not_matter(correct: list[int], seed: int, floor: str) -> None:
    rng = np.random.default_rng(seed)
    sigma, k = rng.choice(SIGMA, len(correct)), np.array(correct)
    n, order = np.full(k.size, 200), rng.permutation(k.size)
    one = fit_midpoint(sigma, k, n, clean_accuracy=0.9, chance=0.1, floor=floor)
    two = fit_midpoint(sigma[order], k[order], n, clean_accuracy=0.9, chance=0.1, floor=floor)
    check_same(one, two, 1e-6)
    assert one.midpoint == two.midpoint or not one.reached


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), either_floor)
def test_two_repeats_equal_one_of_twice_the_size(seed: int, floor: str) -> None:
    rng = np.random.default_rng(seed)
    p, n = logistic(SIGMA, 0.8, 2.0, 0.9, 0.1), np.full(17, 200)
    a, b = rng.binomial(200, p), rng.binomial(200, p)
    apart = fit_midpoint(
        np.tile(SIGMA, 2), np.append(a, b), np.tile(n, 2), clean_accuracy=0.9, chance=0.1, floor=floor
    )
    pooled = fit_midpoint(SIGMA, a + b, 2 * n, clean_accuracy=0.9, chance=0.1, floor=floor)
    assert (apart.midpoint, apart.slope, apart.floor) == (pooled.midpoint, pooled.slope, pooled.floor)


def test_entries_at_sigma_zero_do_not_take_part() -> None:
    k, n = counts(logistic(SIGMA, 0.8, 2.0, 0.9, 0.1), 500)
    with_zero = fit_midpoint(
        np.append(0.0, SIGMA), np.append(3, k), np.append(500, n), clean_accuracy=0.9, chance=0.1
    )
    assert with_zero == fit_midpoint(SIGMA, k, n, clean_accuracy=0.9, chance=0.1)


def check_that_totals_weigh(fit: Fit) -> None:
    """An entry of 50·n images counts as 50 entries of n."""
    rng = np.random.default_rng(4)
    weight = np.where(np.arange(17) % 2, 50, 1)
    k = rng.binomial(40, logistic(SIGMA, 0.8, 2.0, 0.9, 0.1))
    heavy = fit(SIGMA, k * weight, 40 * weight, clean_accuracy=0.9, chance=0.1)
    copies = fit(
        SIGMA.repeat(weight), k.repeat(weight), np.full(weight.sum(), 40), clean_accuracy=0.9, chance=0.1
    )
    assert heavy.midpoint == pytest.approx(copies.midpoint, rel=1e-9)


def test_totals_weigh_and_a_fit_that_ignores_them_is_caught() -> None:
    def unweighted(sigma: Floats, correct: Ints, total: Ints, **rest: float) -> Midpoint:
        thousand = np.full(sigma.size, 1000)
        return fit_midpoint(sigma, np.rint(1000 * correct / total), thousand, **rest)

    check_that_totals_weigh(fit_midpoint)
    weight = np.where(np.arange(17) % 2, 50, 1)
    k = np.random.default_rng(4).binomial(40, logistic(SIGMA, 0.8, 2.0, 0.9, 0.1))
    wrong = unweighted(SIGMA, k * weight, 40 * weight, clean_accuracy=0.9, chance=0.1)
    right = fit_midpoint(SIGMA, k * weight, 40 * weight, clean_accuracy=0.9, chance=0.1)
    assert wrong.midpoint != pytest.approx(right.midpoint, rel=1e-9)


# --- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "correct", "total", "message"),
    [
        ([1.0, 2.0], [1], [2, 2], "must be equally long, not 2, 1 and 2"),
        ([[1.0]], [[1]], [[2]], "sigma must be a non-empty 1-d array of numbers"),
        (1.0, 1, 2, "sigma must be a non-empty 1-d array of numbers"),
        ([], [], [], "sigma must be a non-empty 1-d array of numbers"),
        (["a"], [1], [2], "sigma must be a non-empty 1-d array of numbers"),
        ([[1.0], [1.0, 2.0]], [1], [2], "sigma must be a non-empty 1-d array of numbers"),
        ([-1.0], [1], [2], "sigma must be finite and not negative, not -1.0"),
        ([math.nan], [1], [2], "sigma must be finite and not negative, not nan"),
        ([math.inf], [1], [2], "sigma must be finite and not negative, not inf"),
        ([1.0], [3], [2], "correct must lie between 0 and total, not 3 of 2"),
        ([1.0], [-1], [2], "correct must lie between 0 and total, not -1 of 2"),
        ([1.0], [0], [0], "total must be at least 1, not 0"),
        ([1.0], [0.5], [2], "correct must hold whole numbers, not 0.5"),
        ([1.0], [1], [2.5], "total must hold whole numbers, not 2.5"),
        ([1.0], [math.nan], [2], "correct must hold whole numbers, not nan"),
    ],
)
def test_bad_counts_are_refused(sigma: object, correct: object, total: object, message: str) -> None:
    with pytest.raises(WnError, match=message):
        fit_midpoint(sigma, correct, total, clean_accuracy=0.9, chance=0.1)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"clean_accuracy": 1.1}, "clean_accuracy must lie between 0 and 1, not 1.1"),
        ({"clean_accuracy": math.nan}, "clean_accuracy must lie between 0 and 1, not nan"),
        ({"chance": -1e-9}, "chance must be at least 0 and below 1, not -1e-09"),
        ({"chance": 1.0}, "chance must be at least 0 and below 1, not 1.0"),
        ({"chance": math.nan}, "chance must be at least 0 and below 1, not nan"),
        ({"floor": "zero"}, "floor must be 'chance' or 'free', not 'zero'"),
        ({"confidence": 95}, "confidence must lie strictly between 0 and 1, not 95"),
    ],
)
def test_bad_settings_are_refused(settings_: dict[str, float | str], message: str) -> None:
    with pytest.raises(WnError, match=message):
        fit_midpoint([1.0], [1], [2], **{"clean_accuracy": 0.9, "chance": 0.1, **settings_})


# --- accuracies at the ends of their range -------------------------------------------------------------


def test_a_chance_of_zero_counts_as_a_millionth() -> None:
    sigma, right, images = [0.1, 0.3, 1, 3, 10, 30], [900, 900, 700, 500, 100, 50], [1000] * 6
    fit = fit_midpoint(sigma, right, images, clean_accuracy=0.9, chance=0.0)
    assert (fit.midpoint, fit.ci_low, fit.ci_high) == pytest.approx((3.022, 2.154, 4.214), rel=2e-4)
    assert fit.floor == 0
    tiny = fit_midpoint(sigma, right, images, clean_accuracy=0.9, chance=1e-6)
    assert (fit.midpoint, fit.ci_low, fit.ci_high) == (tiny.midpoint, tiny.ci_low, tiny.ci_high)


@pytest.mark.parametrize("floor", ["chance", "free"])
@pytest.mark.parametrize(
    ("a0", "chance"),
    [(1.0, 0.0), (1.0, 0.99), (1.0, 1 - 1e-9), (1e-9, 0.0), (0.5, 0.5 - 1e-9), (1.0, 1e-12), (0.3, 0.0)],
)
def test_accuracies_at_the_ends_of_their_range_give_an_honest_answer(
    a0: float, chance: float, floor: str
) -> None:
    """A clean accuracy above chance, however little, is never said to be at chance."""
    k, n = counts(logistic(SIGMA, 0.8, 2.0, a0, chance), 10**9)
    fit = fit_midpoint(SIGMA, k, n, clean_accuracy=a0, chance=chance, floor=floor)
    assert fit.reason != module.NOT_LEARNT
    if fit.reached:
        assert fit.ci_low <= fit.midpoint <= fit.ci_high
    if a0 - chance > 1e-3:
        assert fit.midpoint == pytest.approx(0.8, rel=1e-3)


# --- root-sum-square rule ------------------------------------------------------------------------------


def test_root_sum_square_rule() -> None:
    assert root_sum_square_rule([3.0]) == 3.0
    assert root_sum_square_rule([1.0] * 4) == pytest.approx(0.5)
    assert root_sum_square_rule([3.0, 4.0]) == pytest.approx(12 / 5)
    assert root_sum_square_rule([2.0, math.nan, math.inf]) == 2.0
    assert root_sum_square_rule([math.nan]) == math.inf
    assert root_sum_square_rule([1e-300, 1e16]) == pytest.approx(1e-300, rel=1e-12)


def test_root_sum_square_rule_on_the_published_midpoints() -> None:
    with_bn = [0.52, 2.08, 1.14, 0.85, 1.38, 2.01, 1.34, 3.03, 6.46, 5.42, 18.1]
    without = [0.50, 3.12, 2.32, 6.74, 5.57, 17.9, 16.6, 35.6]
    assert root_sum_square_rule(with_bn) == pytest.approx(0.350, rel=0.05)
    assert root_sum_square_rule(without) == pytest.approx(0.471, rel=0.05)


@pytest.mark.parametrize("bad", [[], [0.0], [-1.0, 2.0], [[1.0]], ["x"]])
def test_root_sum_square_rule_refuses_bad_input(bad: object) -> None:
    with pytest.raises(WnError, match="midpoints must be"):
        root_sum_square_rule(bad)
