"""The midpoint fit: recovery, invariances, intervals, extremes, and bugs that these tests must catch."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import t as student

from wn import midpoint as module
from wn.errors import WnError
from wn.midpoint import Midpoint, fit_midpoint, root_sum_square_rule

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Fit = Callable[..., Midpoint]
SIGMA = np.logspace(-2, 2, 17)
EXACT = 10**10  # so many images that counts are accuracies


def logistic(sigma: Floats, mu: float, s: float, a0: float, floor: float) -> Floats:
    return floor + (a0 - floor) / (1 + (sigma / mu) ** s)


def counts(p: Floats, n: int) -> tuple[Ints, Ints]:
    return np.rint(p * n).astype(np.int64), np.full(p.size, n)


def same(a: Midpoint, b: Midpoint, rel: float, scale: float = 1.0) -> None:
    """b is a with every σ times `scale`."""
    assert (a.reached, a.reason) == (b.reached, b.reason)
    for name in ("midpoint", "ci_low", "ci_high", "location"):
        assert getattr(b, name) == pytest.approx(getattr(a, name) * scale, rel=rel, nan_ok=True), name
    for name in ("slope", "floor", "dispersion"):
        assert getattr(b, name) == pytest.approx(getattr(a, name), rel=1000 * rel), name


# --- recovery --------------------------------------------------------------------------------------------


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


# --- invariances -----------------------------------------------------------------------------------------

hits = st.lists(st.integers(0, 200), min_size=1, max_size=10)
either_floor = st.sampled_from(["chance", "free"])


@settings(max_examples=12)
@given(st.floats(-15, 15), st.floats(0.7, 5), st.integers(0, 2**32 - 1), either_floor)
def test_scaling_sigma_scales_the_midpoint(decades: float, s: float, seed: int, floor: str) -> None:
    k = np.random.default_rng(seed).binomial(300, logistic(SIGMA, 0.8, s, 0.9, 0.1))
    n, scale = np.full(17, 300), 10**decades
    one = fit_midpoint(SIGMA, k, n, clean_accuracy=0.9, chance=0.1, floor=floor)
    two = fit_midpoint(SIGMA * scale, k, n, clean_accuracy=0.9, chance=0.1, floor=floor)
    same(one, two, 1e-6, scale)


@settings(max_examples=10)
@given(hits, st.integers(0, 2**32 - 1), either_floor)
def test_order_does_not_matter(correct: list[int], seed: int, floor: str) -> None:
    rng = np.random.default_rng(seed)
    sigma, k = rng.choice(SIGMA, len(correct)), np.array(correct)
    n, order = np.full(k.size, 200), rng.permutation(k.size)
    one = fit_midpoint(sigma, k, n, clean_accuracy=0.9, chance=0.1, floor=floor)
    two = fit_midpoint(sigma[order], k[order], n, clean_accuracy=0.9, chance=0.1, floor=floor)
    same(one, two, 1e-6)
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


# --- likelihood and interval -----------------------------------------------------------------------------


@given(st.floats(-3, 3), st.floats(-1, 2), st.floats(0.02, 0.3), st.booleans(), st.integers(0, 2**32 - 1))
def test_gradient_against_central_differences(
    location: float, log_slope: float, floor: float, pinned: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    t, total = np.sort(rng.uniform(-4, 4, 9)), rng.integers(1, 1000, 9).astype(float)
    data = module._pooled(t, np.floor(total * rng.random(9)), total, 0.9, 0.1)
    half = data.half if pinned else None
    theta = np.array([location, log_slope, floor])
    _, gradient = module._differentiated(data, theta, half)
    scale = max(1.0, float(np.abs(gradient).max()))
    for i, h in enumerate((1e-5, 1e-5, 1e-6)):
        up, down = theta.copy(), theta.copy()
        up[i], down[i] = theta[i] + h, theta[i] - h
        values = [module._differentiated(data, point, half)[0] for point in (up, down)]
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


# --- extremes --------------------------------------------------------------------------------------------


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
    assert (np.diff(curve) <= 0).all()
    assert curve[0] == pytest.approx(a0, abs=1e-5)
    if fit.reached:
        assert sigma.min() * (1 - 1e-9) <= fit.midpoint <= sigma.max() * (1 + 1e-9)
        assert 0 <= fit.ci_low <= fit.midpoint <= fit.ci_high
        assert fit.reason == ""
    else:
        assert math.isnan(fit.midpoint)
        assert math.isnan(fit.ci_low)
        assert math.isnan(fit.ci_high)
        assert fit.reason in (module.NEVER_FALLS, module.ALREADY_BELOW)


@pytest.mark.parametrize("floor", ["chance", "free"])
@pytest.mark.parametrize(
    ("accuracy", "reason"),
    [
        (0.9, module.NEVER_FALLS),
        (1.0, module.NEVER_FALLS),
        (0.5, module.NEVER_FALLS),  # flat at exactly half-way: it falls through nothing
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
    data = module._pooled(np.arange(k.size, dtype=float), k, n, 0.9, 0.1)
    size = k.size
    expected = [
        min(max(k[a:b].sum() / n[a:b].sum() for b in range(i + 1, size + 1)) for a in range(i + 1))
        for i in range(size)
    ]
    np.testing.assert_allclose(module._falling_means(data), expected, rtol=1e-12)


def test_one_stray_error_does_not_blow_up_the_dispersion() -> None:
    k, n = counts(logistic(SIGMA, 3.0, 4.0, 1.0, 0.1), 100)
    k[0] -= 1  # the model expects 1e-8 errors here: Pearson's term alone would be 1e6
    fit = fit_midpoint(SIGMA, k, n, clean_accuracy=1.0, chance=0.1)
    assert fit.dispersion < 2
    assert fit.midpoint == pytest.approx(3.0, rel=0.1)


# --- bad input -------------------------------------------------------------------------------------------


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
        ({"chance": 0.0}, "chance must lie strictly between 0 and 1, not 0.0"),
        ({"chance": 1.0}, "chance must lie strictly between 0 and 1, not 1.0"),
        ({"chance": math.nan}, "chance must lie strictly between 0 and 1, not nan"),
        ({"floor": "zero"}, "floor must be 'chance' or 'free', not 'zero'"),
        ({"confidence": 95}, "confidence must lie strictly between 0 and 1, not 95"),
    ],
)
def test_bad_settings_are_refused(settings_: dict[str, float | str], message: str) -> None:
    with pytest.raises(WnError, match=message):
        fit_midpoint([1.0], [1], [2], **{"clean_accuracy": 0.9, "chance": 0.1, **settings_})


# --- root-sum-square rule --------------------------------------------------------------------------------


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
