"""The largest of correlated Gaussian logits, against scipy, quadrature, closed forms, the plain version."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal

from reference.orthant import orthant_probability
from wn.basics.errors import WnError
from wn.testing.tolerances import Z_LIMIT
from wn.theory import argmax
from wn.theory.accuracy import argmax_probability
from wn.theory.argmax import ArgmaxProbability, gaussian_argmax, lattice
from wn.theory.kernels.orthant_loops import LEAST, MOST, argmax_probabilities, normal_quantile

Floats = NDArray[np.float64]
FINE = {"points": 1024, "shifts": 16}


def moments(classes: int, images: int, seed: int, rank: int | None = None) -> tuple[Floats, Floats]:
    """Means (K, N) and covariances (K, K, N) of different sizes; of full rank, or of a smaller one."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(classes, rank or classes, images)) * 10 ** rng.uniform(-1, 1, images)
    return 2 * rng.normal(size=(classes, images)), np.einsum("krn,lrn->kln", root, root)


def within(found: ArgmaxProbability, expected: NDArray[np.float64] | float, rounding: float = 1e-11) -> bool:
    """Whether all are within six standard errors and rounding."""
    return bool((np.abs(found.probability - expected) <= Z_LIMIT * found.error + rounding).all())


# ---- against others -------------------------------------------------------------------------------------


def test_two_classes_are_exact() -> None:
    m, c = moments(2, 50, seed=1)
    y = np.arange(50) % 2
    own = np.arange(50)
    std = np.sqrt(c[0, 0] + c[1, 1] - 2 * c[0, 1])
    found = gaussian_argmax(m, c, y)
    np.testing.assert_allclose(found.probability, ndtr((m[y, own] - m[1 - y, own]) / std), atol=1e-14)
    assert (found.error == 0).all()


def test_three_classes_equal_quadrature() -> None:
    """P(d₁ > 0, d₂ > 0) = ∫ φ(z) Φ((d₂ + βz) / s) dz over z > −d₁/s₁, the second margin given the first."""
    m, c = moments(3, 12, seed=2)
    y = np.arange(12) % 3
    found = gaussian_argmax(m, c, y, **FINE)
    for n in range(12):
        others = [j for j in range(3) if j != y[n]]
        difference = np.eye(3)[y[n]] - np.eye(3)[others]  # (2, 3)
        d, v = difference @ m[:, n], difference @ c[:, :, n] @ difference.T
        slope = v[0, 1] / math.sqrt(v[0, 0])
        left = math.sqrt(v[1, 1] - slope**2)

        def integrand(z: float, d: Floats = d, slope: float = slope, left: float = left) -> float:
            return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * float(ndtr((d[1] + slope * z) / left))

        low = -d[0] / math.sqrt(v[0, 0])
        expected = 0.0 if low > 9 else quad(integrand, max(low, -9), 9, epsabs=1e-12, limit=500)[0]
        assert abs(found.probability[n] - expected) <= Z_LIMIT * found.error[n] + 1e-10


def test_zero_means_of_three_classes_have_a_closed_form() -> None:
    """¼ + arcsin(ρ)/2π, with ρ the correlation of the two margins (Sheppard 1899)."""
    _, c = moments(3, 40, seed=3)
    found = gaussian_argmax(np.zeros((3, 40)), c, np.zeros(40, int), **FINE)
    v11, v22 = (c[0, 0] - 2 * c[0, j] + c[j, j] for j in (1, 2))
    rho = (c[0, 0] - c[0, 1] - c[0, 2] + c[1, 2]) / np.sqrt(v11 * v22)
    assert within(found, 0.25 + np.arcsin(rho) / (2 * np.pi))


def test_independent_logits_equal_the_quadrature_of_their_own() -> None:
    rng = np.random.default_rng(4)
    m, s, y = 2 * rng.normal(size=(10, 300)), rng.random((10, 300)) + 0.05, rng.integers(0, 10, 300)
    c = s**2 * np.eye(10)[:, :, None]
    found, expected = gaussian_argmax(m, c, y, **FINE), argmax_probability(m, s, y)
    assert within(found, expected)
    print(f"largest error {np.abs(found.probability - expected).max():.1e}, n = 300, seed 4")
    assert found.error.max() < 1e-4


@pytest.mark.parametrize("rho", [-0.1, 0.5, 0.99])
def test_equal_correlations_are_independent_logits_of_a_smaller_variance(rho: float) -> None:
    """A part that all logits share moves no argmax: C = s²(ρ11ᵀ + (1 − ρ)I) is s²(1 − ρ)I."""
    rng = np.random.default_rng(5)
    m, y = rng.normal(size=(10, 100)), rng.integers(0, 10, 100)
    c = 2.25 * (rho * np.ones((10, 10)) + (1 - rho) * np.eye(10))
    found = gaussian_argmax(m, np.repeat(c[:, :, None], 100, 2), y, **FINE)
    assert within(found, argmax_probability(m, 1.5 * math.sqrt(1 - rho), y))


def test_correlated_logits_equal_scipys_distribution() -> None:
    m, c = moments(6, 20, seed=6)
    y = np.arange(20) % 6
    found = gaussian_argmax(m, c, y, **FINE)
    for n in range(20):
        difference = np.eye(6)[y[n]] - np.eye(6)[[j for j in range(6) if j != y[n]]]
        v = difference @ c[:, :, n] @ difference.T
        expected = multivariate_normal.cdf(
            difference @ m[:, n], np.zeros(5), v, maxpts=200_000, abseps=1e-6, rng=np.random.default_rng(0)
        )
        assert abs(found.probability[n] - expected) <= Z_LIMIT * found.error[n] + 2e-6


def test_the_compiled_loops_are_the_plain_version() -> None:
    m, c = moments(7, 60, seed=7)
    m, y, points = m / 4, np.arange(60) % 7, lattice(8, 5)
    shifts, found = np.random.default_rng(7).random((60, 2, 5)), np.empty((60, 2))
    argmax_probabilities(m, c, y, points, shifts, found)
    compared = 0
    for n in range(60):
        difference = np.eye(7)[y[n]] - np.eye(7)[[j for j in range(7) if j != y[n]]]
        d, v = difference @ m[:, n], difference @ c[:, :, n] @ difference.T
        if (np.abs(d) > 8 * np.sqrt(np.diag(v))).any():
            continue  # a rival out of reach is left out
        compared += 1
        for s in range(2):
            expected = orthant_probability(d, v, np.abs(2 * ((points + shifts[n, s]) % 1) - 1))
            np.testing.assert_allclose(found[n, s], expected, rtol=1e-9, atol=1e-13)
    assert compared > 30


def test_the_quantile_is_scipys() -> None:
    tails = 10.0 ** np.linspace(-300, -1, 2000)
    p = np.concatenate(
        [[LEAST], tails, np.linspace(1e-3, 1 - 1e-3, 4001), 1 - 10 ** np.linspace(-15, -2, 99), [MOST]]
    )
    np.testing.assert_allclose([normal_quantile(value) for value in p], ndtri(p), rtol=4e-15, atol=1e-16)


# ---- properties -----------------------------------------------------------------------------------------

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 12)


@given(sizes, seeds, st.booleans())
def test_probabilities_of_all_labels_sum_to_one(classes: int, seed: int, singular: bool) -> None:
    m, c = moments(classes, 1, seed, rank=max(classes // 2, 1) if singular else None)
    labels = np.arange(classes)
    found = gaussian_argmax(m.repeat(classes, 1), c.repeat(classes, 2), labels, points=128, shifts=16)
    assert abs(found.probability.sum() - 1) <= Z_LIMIT * found.error.sum() + 1e-7


@given(sizes, seeds, st.floats(0, 1e4), st.floats(1e-3, 1e3))
def test_a_common_part_a_scale_and_the_order_of_rivals_change_nothing(
    classes: int, seed: int, common: float, scale: float
) -> None:
    m, c = moments(classes, 5, seed)
    y, order = np.arange(5) % classes, np.random.default_rng(seed).permutation(classes)
    plain = gaussian_argmax(m, c, y, seed=1)
    others = (
        gaussian_argmax(m + common, c + common, y, seed=1),
        gaussian_argmax(scale * m, scale**2 * c, y, seed=1),
        gaussian_argmax(m[order], c[np.ix_(order, order)], np.argsort(order)[y], seed=1),
    )
    for found in others:
        np.testing.assert_allclose(found.probability, plain.probability, atol=1e-6)


@given(sizes, seeds)
def test_a_larger_logit_of_the_label_wins_more_often(classes: int, seed: int) -> None:
    m, c = moments(classes, 1, seed)
    raised = m.repeat(5, 1)
    raised[0] += np.linspace(0, 3 * math.sqrt(c[0, 0, 0]), 5)
    found = gaussian_argmax(raised, c.repeat(5, 2), np.zeros(5, int), points=64, shifts=16)
    assert (np.diff(found.probability) >= -Z_LIMIT * (found.error[1:] + found.error[:-1]) - 1e-12).all()
    assert ((found.probability >= 0) & (found.probability <= 1)).all()


@pytest.mark.parametrize("rank", [1, 2, 5, 9])
def test_singular_covariances_equal_draws(rank: int) -> None:
    classes, n, seed = 10, 200_000, 8 + rank
    m, c = moments(classes, 4, seed, rank)
    values, vectors = np.linalg.eigh(c.transpose(2, 0, 1))
    root = vectors * np.sqrt(values.clip(0))[:, None]  # (4, K, K)
    y = m.argmax(axis=0)
    found = gaussian_argmax(m, c, y, points=4096, shifts=8)
    z = np.random.default_rng(seed).standard_normal((n, classes))
    for image in range(4):
        hits = ((m[:, image] + z @ root[image].T).argmax(axis=1) == y[image]).sum()
        p, variance = found.probability[image], found.probability[image] * (1 - found.probability[image]) / n
        score = (hits / n - p) / math.sqrt(variance + found.error[image] ** 2 + 1e-18)
        print(f"rank {rank}: P = {p:.5f}, z = {score:+.2f}, n = {n}, seed {seed}")
        assert abs(score) < Z_LIMIT


def test_noise_in_one_direction_has_a_closed_form() -> None:
    """ℓ = m + a z: the label wins for z in an interval."""
    rng = np.random.default_rng(9)
    m, a = rng.normal(size=(8, 30)), rng.normal(size=(8, 30))
    y = m.argmax(axis=0)
    own = np.arange(30)
    d, slope = m[y, own] - m, a[y, own] - a
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = -d / slope
    low = np.where(slope > 0, bound, -np.inf).max(axis=0)
    high = np.where(slope < 0, bound, np.inf).min(axis=0)
    found = gaussian_argmax(m, a[:, None] * a, y)
    np.testing.assert_allclose(found.probability, (ndtr(high) - ndtr(low)).clip(0), atol=1e-9)
    np.testing.assert_allclose(found.error, 0, atol=1e-9)


def test_equal_logits_share_the_probability() -> None:
    """A twin of the label takes half of it; a rival's twin takes nothing."""
    m, c = moments(5, 20, seed=10)
    y = np.zeros(20, int)
    plain = gaussian_argmax(m, c, y, **FINE)
    for twin, share in ((0, 0.5), (3, 1.0)):
        index = [0, 1, 2, 3, 4, twin]
        found = gaussian_argmax(m[index], c[np.ix_(index, index)], y, **FINE)
        both = ArgmaxProbability(found.probability, found.error + plain.error)
        assert within(both, share * plain.probability, 1e-9)
    assert plain.probability.max() > 0.1


def test_no_noise_is_the_plain_argmax() -> None:
    m = np.array([[1.0, 0.0, 1.0, 2.0], [0.0, 1.0, 1.0, 2.0], [0.0, 0.0, 0.0, 2.0]])
    found = gaussian_argmax(m, np.zeros((3, 3, 4)), np.zeros(4, int))
    np.testing.assert_array_equal(found.probability, [1.0, 0.0, 0.5, 0.25])
    assert (found.error == 0).all()


def test_rivals_out_of_reach_neither_warn_nor_count() -> None:
    c = np.repeat(np.diag([1.0, 1.0, 1e-300, 0.0])[:, :, None], 3, 2)
    m = np.array([[1e30, -1e30, 0.5], [0.0, 0.0, 0.0], [0.0, 0.0, -1e300], [-5e29, 0.0, -30.0]])
    found = gaussian_argmax(m, c, np.zeros(3, int))
    np.testing.assert_allclose(found.probability, [1, 0, ndtr(0.5 / math.sqrt(2))], atol=1e-15)


# ---- the error, and the rest ----------------------------------------------------------------------------


def test_the_error_is_that_of_the_estimate() -> None:
    """Against quadrature: squared errors over images are on average what their standard errors say."""
    rng = np.random.default_rng(11)
    images = 4000
    m, y = 2 * rng.normal(size=(10, images)), rng.integers(0, 10, images)
    c = np.repeat(np.eye(10)[:, :, None], images, 2)
    found, expected = gaussian_argmax(m, c, y, points=16), argmax_probability(m, 1.0, y)
    ratio = ((found.probability - expected) ** 2).sum() / (found.error**2).sum()
    z = (found.mean - expected.mean()) / found.mean_error
    print(f"mean square over its estimate {ratio:.3f}, z of the mean {z:+.2f}, n = {images}, seeds 11 and 0")
    assert 0.8 < ratio < 1.25
    assert abs(z) < Z_LIMIT
    variance = (expected * (1 - expected)).sum()
    assert found.count_variance == pytest.approx(variance, rel=1e-3)


def test_images_do_not_depend_on_each_other() -> None:
    m, c = moments(6, 130, seed=12)
    y = m.argmax(axis=0)
    together = gaussian_argmax(m, c, y, seed=3)
    rng = np.random.default_rng(3)
    parts = [gaussian_argmax(m[:, i], c[:, :, i], y[i], seed=rng) for i in (slice(0, 65), slice(65, 130))]
    apart = np.concatenate([part.probability for part in parts])
    np.testing.assert_array_equal(apart, together.probability)


def test_bad_input_is_refused() -> None:
    m, c, y = np.zeros((3, 2)), np.zeros((3, 3, 2)), np.zeros(2, int)
    for wrong in ((m[0], c, y), (m[:1], c[:1, :1], y), (m, c[:2], y), (m, c, y[:1]), (m, c, np.zeros(2))):
        with pytest.raises(WnError, match="do not fit"):
            gaussian_argmax(*wrong)
    with pytest.raises(WnError, match=r"labels must lie in \[0, 3\)"):
        gaussian_argmax(m, c, np.array([0, 3]))
    for bad in (math.nan, math.inf):
        with pytest.raises(WnError, match="must be finite"):
            gaussian_argmax(m + bad, c, y)
        with pytest.raises(WnError, match="must be finite"):
            gaussian_argmax(m, c + bad, y)
    with pytest.raises(WnError, match="variances must not be negative"):
        gaussian_argmax(m, -np.repeat(np.eye(3)[:, :, None], 2, 2), y)
    negative = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 2.0], [0.0, 2.0, 1.0]])  # an eigenvalue −1
    with pytest.raises(WnError, match="covariance of image 1 has a negative eigenvalue"):
        gaussian_argmax(m, np.stack([np.eye(3), negative], axis=2), y)
    with pytest.raises(WnError, match="points is 0"):
        gaussian_argmax(m, c, y, points=0)
    with pytest.raises(WnError, match="shifts is 1"):
        gaussian_argmax(m, c, y, shifts=1)


def test_without_numba_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argmax, "compiled", lambda name: None)
    with pytest.raises(WnError, match="compiled by Numba, which can't be used here"):
        gaussian_argmax(np.zeros((2, 1)), np.zeros((2, 2, 1)), np.zeros(1, int))
