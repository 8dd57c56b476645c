"""The moment checks must pass true draws, see errors of 1 %, and have the false-alarm rate they claim."""

import inspect

import numpy as np
import pytest

from wn.basics.errors import WnError
from wn.testing import check_covariance, check_independence, check_mean, check_variance, moments

SEED = 20_240_901
N = 2_000_000
FEWER = 300_000  # for independence, which sorts


@pytest.fixture(scope="module")
def pair():
    z = np.random.default_rng(SEED).standard_normal((2, N))
    z.flags.writeable = False
    return z


# ---- true draws pass, and the numbers are right ---------------------------------------------------------


def test_true_normal_draws_pass(pair, capsys):
    z, other = pair
    assert abs(check_mean(z, 0.0, 1.0, seed=SEED).z) < 6
    check_variance(z, 1.0, seed=SEED)
    check_variance(3 + 2 * z, 4.0, seed=SEED, mean=3.0)
    check_covariance(z, 0.6 * z + 0.8 * other, 0.6, (1.0, 1.0), seed=SEED)
    assert len(check_independence(z[:FEWER], other[:FEWER], seed=SEED)) == 4
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all(
        f"n = {n}, seed = {SEED}" in line for n, line in zip([N] * 4 + [FEWER] * 4, lines, strict=True)
    )
    assert all("z = " in line for line in lines)


def test_z_scores_by_hand():
    x = np.tile([0.0, 2.0], 1000)  # n 2000, mean 1, Σ(x − x̄)² = 2000
    assert check_mean(x, 1.1, 4.0, seed=0).z == pytest.approx(-0.1 / np.sqrt(4 / 2000))
    expected, n = 1.02, 2000
    spread = expected * np.sqrt((3 - (n - 3) / (n - 1)) / n)
    assert check_variance(x, expected, seed=0).z == pytest.approx((n / (n - 1) - expected) / spread)
    spread = expected * np.sqrt((2.5 - 1) / n)
    assert check_variance(x, expected, seed=0, mean=1.0, kurtosis=2.5).z == pytest.approx(-0.02 / spread)
    found = check_covariance(x, 2 * x, 2.1, (1.2, 4.0), seed=0)
    assert found.z == pytest.approx((2 * n / (n - 1) - 2.1) / np.sqrt((1.2 * 4 + 2.1**2) / n))


CHECKS = {
    "mean": lambda x, y: [check_mean(x, 0.5, 1 / 12, seed=0)],
    "variance": lambda x, y: [check_variance(x, 1 / 12, seed=0, kurtosis=1.8)],
    "variance, known mean": lambda x, y: [check_variance(x, 1 / 12, seed=0, mean=0.5, kurtosis=1.8)],
    "covariance": lambda x, y: [
        check_covariance(x, x, 1 / 12, (1 / 12, 1 / 12), seed=0, product_variance=0.8 / 144)
    ],
    "independence": lambda x, y: list(check_independence(x, y, seed=0)),
}


@pytest.mark.parametrize("check", CHECKS)
def test_z_is_standard_normal_over_many_samples(check):
    """Were the claimed spread wrong, |z| < 6 would not mean what it says: z has mean 0 and variance 1."""
    rng = np.random.default_rng(1)
    z = np.array([[found.z for found in CHECKS[check](*rng.random((2, 1000)))] for _ in range(400)])
    assert np.all(np.abs(z.mean(axis=0)) * np.sqrt(400) < 6)
    assert np.all(np.abs(z.var(axis=0) - 1) / np.sqrt(2 / 400) < 6)
    assert np.max(np.abs(z)) > 2  # and it does move


# ---- planted bugs ---------------------------------------------------------------------------------------

MOMENT_BUGS = {
    "mean biased by 1 % of σ": lambda z, y: check_mean(z + 0.01, 0.0, 1.0, seed=SEED),
    "mean of σ = 1e10 biased by 1 %": lambda z, y: check_mean(1e10 * z + 1e8, 0.0, 1e20, seed=SEED),
    "variance 1 % too large": lambda z, y: check_variance(z * np.sqrt(1.01), 1.0, seed=SEED),
    "variance 1 % too small, known mean": lambda z, y: check_variance(
        z * 0.99**0.5, 1.0, seed=SEED, mean=0.0
    ),
    "mean in the variance": lambda z, y: check_variance(z + 0.1, 1.0, seed=SEED, mean=0.0),
    "σ/R instead of σ/√R": lambda z, y: check_variance(z / 3, 1 / 3, seed=SEED),
    "correlated by 1 %": lambda z, y: check_covariance(z, y + 0.01 * z, 0.0, (1.0, 1.0), seed=SEED),
    "covariance missing": lambda z, y: check_covariance(z, y, 0.01, (1.0, 1.0), seed=SEED),
    "NaN among the draws": lambda z, y: check_mean(np.where(z > 5, np.nan, z), 0.0, 1.0, seed=SEED),
}

DEPENDENT = {
    "the same draws twice": lambda z, y: z,
    "antithetic draws": lambda z, y: -z,
    "correlated by 2 %": lambda z, y: y + 0.02 * z,
    "one size, independent signs": lambda z, y: z * np.sign(y),
    "size follows place": lambda z, y: y * (2 + np.tanh(z)),
    "place follows size": lambda z, y: np.abs(z) + y,
    "every fiftieth pair equal": lambda z, y: np.where(np.arange(z.size) % 50 == 0, z, y),
    "infinity among the draws": lambda z, y: np.where(z > 4, np.inf, y),
    "a constant": lambda z, y: np.zeros_like(y),
}


@pytest.mark.parametrize("bug", MOMENT_BUGS)
def test_wrong_draws_are_seen(bug, pair):
    with pytest.raises(AssertionError) as failure:
        MOMENT_BUGS[bug](*pair)
    assert str(N) in str(failure.value)


@pytest.mark.parametrize("bug", DEPENDENT)
@pytest.mark.parametrize("swapped", [False, True])
def test_dependent_draws_are_seen(bug, swapped, pair):
    z, y = pair[:, :FEWER]
    draws = [z, DEPENDENT[bug](z, y)]
    with pytest.raises(AssertionError, match="independence"):
        check_independence(*(reversed(draws) if swapped else draws), seed=SEED)


def test_failure_says_n_seed_and_z():
    with pytest.raises(
        AssertionError, match=r"bias of fc1: n = 2000, seed = 9, .*z = \+22\.36: \|z\| must be"
    ):
        check_mean(np.full(2000, 0.5), 0.0, 1.0, seed=9, name="bias of fc1")


def test_the_limit_is_six_and_no_argument_changes_it():
    assert moments.Z_LIMIT == 6
    for check in (check_mean, check_variance, check_covariance, check_independence):
        assert not {"limit", "z_limit", "tolerance", "sigmas", "threshold"} & set(
            inspect.signature(check).parameters
        )
    x = np.zeros(10_000)
    check_mean(x, 0.0599, 1.0, seed=0)  # z = −5.99
    with pytest.raises(AssertionError, match=r"z = -6\.01"):
        check_mean(x, 0.0601, 1.0, seed=0)


def test_an_undefined_score_fails():
    with pytest.raises(AssertionError, match="nan"):
        check_mean(np.zeros(1000), float("nan"), 1.0, seed=0)


Z = np.zeros(1000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_mean(np.zeros(999), 0.0, 1.0, seed=0), "999 samples are too few"),
        (lambda: check_mean(Z, 0.0, 0.0, seed=0), "variance is 0.0"),
        (lambda: check_mean(Z, 0.0, float("inf"), seed=0), "variance is inf"),
        (lambda: check_variance(Z, -1.0, seed=0), "expected variance is -1.0"),
        (lambda: check_variance(Z, 1.0, seed=0, kurtosis=0.5), "kurtosis is 0.5"),
        (lambda: check_covariance(Z, Z[1:], 0.0, (1.0, 1.0), seed=0), "shapes"),
        (lambda: check_covariance(Z, Z, 2.0, (1.0, 1.0), seed=0), "impossible"),
        (lambda: check_covariance(Z, Z, 0.0, (1.0, 0.0), seed=0), "second variance is 0.0"),
        (lambda: check_independence(Z, Z[:10], seed=0), "shapes"),
    ],
)
def test_arguments_out_of_range(call, message):
    with pytest.raises(WnError, match=message):
        call()


# ---- heavy tails ----------------------------------------------------------------------------------------


def test_samples_too_few_for_their_tails_are_refused():
    """Lognormal draws: four false alarms in 3000 at n = 1000, since a single draw decides."""
    rng = np.random.default_rng(0)
    variance, kurtosis = (np.e - 1) * np.e, np.e**4 + 2 * np.e**3 + 3 * np.e**2 - 3
    for n in (1000, 100_000):
        x = rng.lognormal(size=n)
        with pytest.raises(WnError, match=r"too few for a kurtosis of 113.936, at least 2"):
            check_variance(x, variance, seed=0, kurtosis=kurtosis)
        with pytest.raises(WnError, match=r"too few for a kurtosis of 113.936"):
            check_covariance(
                x, x, variance, (variance, variance), seed=0, product_variance=(kurtosis - 1) * variance**2
            )
        check_variance(np.log(x), 1.0, seed=0)


@pytest.mark.parametrize(
    ("draw", "variance", "kurtosis"),
    [("standard_normal", 1.0, 3.0), ("laplace", 2.0, 6.0), ("random", 1 / 12, 1.8)],
)
def test_no_false_alarms_with_the_fewest_samples(draw, variance, kurtosis):
    rng = np.random.default_rng(1)
    n = max(1000, int(np.ceil(12 * kurtosis**4)))
    draws = [rng.laplace(size=n) if draw == "laplace" else getattr(rng, draw)(n) for _ in range(300)]
    z = [check_variance(x, variance, seed=1, kurtosis=kurtosis).z for x in draws]
    assert np.max(np.abs(z)) < 4.5


@pytest.mark.parametrize("samples", [np.ones(2000) * 1j, ["a"] * 2000, [None] * 2000])
def test_moments_are_of_real_numbers(samples):
    with pytest.raises(WnError, match="moments are of real numbers"):
        check_mean(samples, 0.0, 1.0, seed=0)
    with pytest.raises(WnError, match="moments are of real numbers"):
        check_independence(samples, samples, seed=0)
