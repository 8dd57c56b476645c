"""Exact accuracies of a noisy argmax against adaptive quadrature, Monte Carlo and closed special cases."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import ndtr

from wn.basics.errors import WnError
from wn.theory.accuracy import argmax_probability, correct_count, two_class_accuracy

Floats = NDArray[np.float64]


def by_quadrature(m: Floats, s: Floats, label: int) -> float:
    """The defining integral by scipy's adaptive rule, split around every rise and width of the integrand."""
    others = [j for j in range(m.size) if j != label]
    centres, widths = (m[others] - m[label]) / s[label], s[others] / s[label]
    splits = np.concatenate([centres + k * widths for k in (-8, -4, -2, -1, 0, 1, 2, 4, 8)])
    edges = np.unique(np.concatenate([np.linspace(-10, 10, 9), splits.clip(-10, 10)]))

    def integrand(u: float) -> float:
        return math.exp(-u * u / 2) / math.sqrt(2 * math.pi) * float(np.prod(ndtr((u - centres) / widths)))

    return sum(quad(integrand, a, b, epsabs=1e-13, epsrel=1e-10)[0] for a, b in itertools.pairwise(edges))


@pytest.mark.parametrize("seed", range(6))
def test_argmax_probability_equals_adaptive_quadrature(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 8))
    m = rng.normal(size=classes) * 10 ** rng.uniform(-1, 1)
    s = 10 ** rng.uniform(-1.5, 1.5, classes) if seed % 2 else np.full(classes, 10 ** rng.uniform(-1, 1))
    for label in range(classes):
        got = argmax_probability(m[:, None], s[:, None], np.array([label]))[0]
        assert got == pytest.approx(by_quadrature(m, s, label), abs=1e-11)


moderate = st.floats(-50, 50)


@given(st.lists(moderate, min_size=2, max_size=6), st.data())
def test_probabilities_of_all_labels_sum_to_one(values: list[float], data: st.DataObject) -> None:
    stds = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=len(values), max_size=len(values)))
    m, s = np.array(values)[:, None], np.array(stds)[:, None]
    total = sum(argmax_probability(m, s, np.array([label]))[0] for label in range(len(values)))
    assert total == pytest.approx(1.0, abs=1e-12)


@given(moderate, st.floats(1e-3, 1e3))
def test_two_classes_equal_the_closed_form(margin: float, sigma: float) -> None:
    general = argmax_probability([[margin], [0.0]], sigma, np.array([0]))[0]
    assert general == pytest.approx(float(two_class_accuracy(margin, sigma)), abs=1e-13)


def test_known_values() -> None:
    assert float(two_class_accuracy(math.sqrt(2), 1.0)) == pytest.approx(0.8413447460685429, abs=1e-15)
    np.testing.assert_array_equal(two_class_accuracy([2.0, 0.0, -2.0], 0.0), [1.0, 0.5, 0.0])
    for classes in (2, 3, 10, 100, 1000):  # equal logits: every label is as likely
        p = argmax_probability(np.zeros((classes, 1)), 3.0, np.array([0]))[0]
        assert p == pytest.approx(1 / classes, abs=1e-13 if classes < 1000 else 1e-11)


def test_no_noise_is_the_plain_argmax() -> None:
    m = np.array([[1.0, 0.0, 1.0, 2.0], [0.0, 1.0, 1.0, 2.0], [0.0, 0.0, 0.0, 2.0]])
    np.testing.assert_array_equal(argmax_probability(m, 0.0, np.zeros(4, int)), [1.0, 0.0, 0.5, 0.25])


def test_exact_logits_among_noisy_ones() -> None:
    # label noisy, both rivals exact: it must exceed the larger; then the label exact, rivals noisy
    p = argmax_probability([[0.3], [0.5], [-1.0]], [[2.0], [0.0], [0.0]], np.array([0]))[0]
    assert p == pytest.approx(float(ndtr((0.3 - 0.5) / 2)), abs=1e-13)
    p = argmax_probability([[0.3], [0.5], [-1.0]], [[0.0], [1.0], [2.0]], np.array([0]))[0]
    assert p == pytest.approx(float(ndtr(-0.2) * ndtr(0.65)), abs=1e-15)


def test_extreme_scales_neither_overflow_nor_warn() -> None:
    m = np.array([[1e30, 1e-300], [-1e30, -1e-300]])
    s = np.array([[1e-300, 1e10], [1e-30, 1e10]])
    np.testing.assert_allclose(argmax_probability(m, s, np.zeros(2, int)), [1.0, 0.5], atol=1e-13)


def test_count_against_monte_carlo_with_multiplicative_noise() -> None:
    n, seed = 400, 21
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(5, 300))
    labels = logits.argmax(axis=0)
    count = correct_count(logits, 0.8 * np.abs(logits), labels)
    noisy = logits * (1 + 0.8 * rng.standard_normal((n, 5, 300)))
    correct = (noisy.argmax(axis=1) == labels).sum()
    z = (correct - n * count.mean) / math.sqrt(n * count.variance)
    print(f"z = {z:.2f}, n = {n} x 300 samples, seed = {seed}")
    assert abs(z) < 6
    wrong = correct_count(logits, 0.4, labels)  # additive noise instead: must be told apart
    assert abs(correct - n * wrong.mean) / math.sqrt(n * wrong.variance) > 6


def test_many_samples_are_the_same_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    m, s, y = rng.normal(size=(4, 500)), rng.random((4, 500)), rng.integers(0, 4, 500)
    together = argmax_probability(m, s, y)
    for b in range(0, 500, 83):
        assert together[b] == pytest.approx(argmax_probability(m[:, [b]], s[:, [b]], y[[b]])[0], abs=1e-14)


def test_bad_input_is_refused() -> None:
    m, y = np.zeros((3, 2)), np.zeros(2, int)
    with pytest.raises(WnError, match="mean must be"):
        argmax_probability(np.zeros(3), 1.0, y)
    with pytest.raises(WnError, match="mean must be"):
        argmax_probability(m, 1.0, np.zeros(2))
    with pytest.raises(WnError, match=r"labels must lie in \[0, 3\)"):
        argmax_probability(m, 1.0, np.array([0, 3]))
    with pytest.raises(WnError, match="does not broadcast"):
        argmax_probability(m, np.ones(5), y)
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(WnError, match="not negative"):
            argmax_probability(m, bad, y)
        with pytest.raises(WnError, match="sigma must be finite and not negative"):
            two_class_accuracy(1.0, bad)
