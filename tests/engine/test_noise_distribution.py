"""The noise operators' moments and distributions against the closed forms of `wn.theory`."""

import numpy as np
import pytest
from scipy import stats

from tests.engine.twin import BE
from wn.engine.layers import noise as layer
from wn.engine.noise import additive, mixed, mixed_direct, multiplicative
from wn.testing import check_covariance, check_independence, check_mean, check_variance
from wn.testing.tolerances import Z_LIMIT
from wn.theory import moments

FEATURES, BATCH = 60, 5000
N = FEATURES * BATCH
P_LIMIT = 1e-9  # a distribution test fails below: once in 10⁹ correct operators

KINDS = {
    "additive": lambda **options: additive(0.7, mean=0.3, **options),
    "multiplicative": lambda **options: multiplicative(1.3, mean=0.8, **options),
    "mixed": lambda **options: mixed(2.0, 0.25, **options),
    "mixed-direct": lambda **options: mixed_direct(0.5, 1.5, mean_mul=0.5, mean_add=-1.0, **options),
    "add->mul": lambda **options: mixed(2.0, 0.25, mean_add=-1.0, order="add_mul", **options),
    "uniform": lambda **options: additive(0.7, mean=0.3, distribution="uniform", **options),
    "laplace": lambda **options: multiplicative(1.3, mean=0.8, distribution="laplace", **options),
    "uniform add->mul": lambda **options: mixed(
        2.0, 0.25, mean_add=-1.0, order="add_mul", distribution="uniform", **options
    ),
}
OF_NORMAL_DRAWS = [kind for kind in KINDS if not kind.startswith(("uniform", "laplace", "add"))]


def outputs(noise, x, seed, training=True, dtype=np.float64):
    """Return y (FEATURES·BATCH draws) and the multiplier that backward applies, for one value of x."""
    value = np.full((1, FEATURES, BATCH), x, dtype)
    streams = layer.draws((seed,), np.arange(BATCH), 0, 1, training)
    y, cache = layer.forward(BE, noise, value, streams)
    return y, layer.backward(BE, np.ones_like(value), cache)


def check_moments(y, x, noise, seed, name):
    cumulants = moments.output_cumulants(x, noise)
    variance = float(cumulants.variance)
    check_mean(y, float(cumulants.mean), variance, seed=seed, name=f"{name}: mean")
    kurtosis = float(cumulants.fourth_central_moment) / variance**2
    check_variance(y, variance, seed=seed, kurtosis=kurtosis, name=f"{name}: variance")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("execution", ["single", "each"])
@pytest.mark.parametrize("repetitions", [1, 4])
def test_moments(kind, execution, repetitions):
    for seed, (x, training) in enumerate([(1.7, True), (-0.4, False)]):
        noise = KINDS[kind](execution=execution, repetitions=repetitions)
        y, gain = outputs(noise, x, seed, training)
        check_moments(y, x, noise, seed, f"{kind}, {execution}, R = {repetitions}, x = {x}")
        mean, variance = moments.multiplier_moments(noise)
        if variance:
            check_mean(gain, mean, variance, seed=seed, name="multiplier: mean")
            excess = moments.EXCESS_KURTOSIS[noise.distribution]
            kurtosis = 3 + excess / (repetitions if noise.draws_each else 1)
            check_variance(gain, variance, seed=seed, kurtosis=kurtosis, name="multiplier: variance")


@pytest.mark.parametrize("kind", KINDS)
def test_moments_in_float32_with_normalisation(kind):
    noise = KINDS[kind](normalize_to_input_size=True, repetitions=2)
    y, _ = outputs(noise, 1.0, seed=3, dtype=np.float32)
    assert y.dtype == np.float32
    check_moments(y, 1.0, noise.for_elements(FEATURES), 3, f"{kind}, σ/{FEATURES}")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("additive", "uniform")])
def test_backward_is_correlated_with_forward_as_it_must_be(kind):
    """Cov(y, M̄) is not 0: backward has the draws of forward. With fresh draws it would be."""
    x, seed = 1.5, 7
    noise = KINDS[kind](repetitions=3, execution="each")
    y, gain = outputs(noise, x, seed)
    expected = float(moments.forward_backward_covariance(x, noise))
    variances = (
        float(moments.output_moments(x, noise).variance),
        moments.multiplier_moments(noise)[1],
    )
    if kind in OF_NORMAL_DRAWS:  # jointly normal
        check_covariance(y, gain, expected, variances, seed=seed)
        spread = np.sqrt((variances[0] * variances[1] + expected**2) / N)
        assert expected / spread > 10 * Z_LIMIT  # n is large enough to tell it from 0
    else:
        products = (y - y.mean()) * (gain - gain.mean())
        check_covariance(y, gain, expected, variances, seed=seed, product_variance=float(products.var()))


def test_add_mul_is_never_drawn_once():
    """One draw with σ/√R has another variance: s²t²/R² instead of s²t²/R."""
    noise = mixed_direct(1.0, 1.0, order="add_mul", repetitions=4)
    y, _ = outputs(noise, 0.0, seed=5)
    check_moments(y, 0.0, noise, 5, "add->mul, R = 4, asked for a single draw")
    single = mixed_direct(0.5, 0.5, order="add_mul")
    with pytest.raises(AssertionError, match=r"\|z\| must be below 6"):
        check_moments(y, 0.0, single, 5, "the variance of a single draw")


# ---- distributions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_draw_has_the_distribution_of_the_average(kind):
    first, _ = outputs(KINDS[kind](repetitions=3, execution="single"), 0.6, seed=11)
    second, _ = outputs(KINDS[kind](repetitions=3, execution="each"), 0.6, seed=12)
    p = stats.ks_2samp(first.ravel(), second.ravel(), method="asymp").pvalue
    print(f"{kind}: n = {N}, seeds = 11 and 12, p = {p:.3g}")
    assert p > P_LIMIT


def test_the_two_sample_test_sees_a_forgotten_root():
    """A single draw with σ/R in place of σ/√R, and one with σ."""
    right, _ = outputs(additive(1.0, repetitions=3, execution="each"), 0.6, seed=11)
    for sigma in (1.0 / 3, 1.0):
        wrong, _ = outputs(additive(sigma), 0.6, seed=12)
        assert stats.ks_2samp(right.ravel(), wrong.ravel(), method="asymp").pvalue < P_LIMIT


@pytest.mark.parametrize("kind", OF_NORMAL_DRAWS)
@pytest.mark.parametrize("repetitions", [1, 3])
def test_the_output_is_normal(kind, repetitions):
    noise = KINDS[kind](repetitions=repetitions, execution="each")
    y, _ = outputs(noise, 1.0, seed=21)
    mean, variance = moments.output_moments(1.0, noise)
    p = stats.kstest(y.ravel(), "norm", args=(float(mean), float(variance) ** 0.5)).pvalue
    print(f"{kind}, R = {repetitions}: n = {N}, seed = 21, p = {p:.3g}")
    assert p > P_LIMIT


@pytest.mark.parametrize(
    ("distribution", "law"),
    [("uniform", stats.uniform(0.3 - 3**0.5, 2 * 3**0.5)), ("laplace", stats.laplace(0.3, 0.5**0.5))],
)
def test_the_output_has_the_distribution_of_its_draws(distribution, law):
    for noise, x in (
        (additive(1.0, mean=0.3, distribution=distribution), 0.0),
        (multiplicative(1.0, mean=0.3, distribution=distribution), 1.0),
    ):
        y, _ = outputs(noise, x, seed=21)
        p = stats.kstest(y.ravel(), law.cdf).pvalue
        print(f"{distribution}, {noise.kind}: n = {N}, seed = 21, p = {p:.3g}")
        assert p > P_LIMIT
        other, _ = outputs(additive(1.0, mean=0.3), 0.0, seed=21)
        assert stats.kstest(other.ravel(), law.cdf).pvalue < P_LIMIT  # the test would see normal draws


def test_the_mean_of_uniform_draws_is_not_uniform():
    """One draw with σ/√R would be: so uniform and Laplace draws are made R times, whatever is asked for."""
    y, _ = outputs(additive(1.0, repetitions=12, distribution="uniform"), 0.0, seed=22)
    scaled = np.sqrt(12) * y.ravel()
    assert np.abs(scaled).max() > 3**0.5
    check_moments(y, 0.0, additive(1.0, repetitions=12, distribution="uniform"), 22, "uniform, R = 12")


# ---- independence ---------------------------------------------------------------------------------------


def uncorrelated(first, second, variance, seed, name):
    check_covariance(first, second, 0.0, (variance, variance), seed=seed, name=name)
    check_independence(first, second, seed=seed, name=name)


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "mixed"])
def test_features_and_samples_are_independent(kind):
    noise, seed = KINDS[kind](), 31
    y, _ = outputs(noise, 1.0, seed)
    variance = float(moments.output_moments(1.0, noise).variance)
    for step in (1, 2, 3, 4):  # four features come from one counter
        uncorrelated(y[0, :-step], y[0, step:], variance, seed, f"{kind}: features {step} apart")
    uncorrelated(y[..., :-1], y[..., 1:], variance, seed, f"{kind}: neighbouring samples")


def test_members_sites_epochs_and_phases_are_independent():
    seed = 41

    def z(seed=seed, epoch=0, site=1, training=True):
        streams = layer.draws((seed,), np.arange(BATCH), epoch, site, training)
        return layer.forward(BE, additive(1.0), np.zeros((1, FEATURES, BATCH)), streams)[0]

    first = z()
    others = {
        "sites": z(site=2),
        "epochs": z(epoch=1),
        "phases": z(training=False),
        "members": z(seed=seed + 1),
    }
    for name, other in others.items():
        uncorrelated(first, other, 1.0, seed, name)


def test_the_two_parts_of_mixed_noise_are_independent():
    """M from x = 1, D from x = 0, in one mixed operator."""
    noise, seed = mixed_direct(1.0, 1.0), 51
    offset, _ = outputs(noise, 0.0, seed)
    both, gain = outputs(noise, 1.0, seed)
    uncorrelated(offset, gain - 1.0, 1.0, seed, "D and M")
    np.testing.assert_allclose(both, gain + offset, rtol=0, atol=1e-12)


def test_members_with_seeds_of_their_own_are_independent_in_one_population():
    noise, seeds = multiplicative(1.0), (61, 62)
    streams = layer.draws(seeds, np.arange(BATCH), 0, 1, True)
    y, _ = layer.forward(BE, noise, np.ones((1, FEATURES, BATCH)), streams)
    assert y.shape == (2, FEATURES, BATCH)
    uncorrelated(y[0], y[1], 1.0, 61, "members")
