"""The brute-force oracles of small noise, on functions whose answers are known."""

import numpy as np
import pytest

from reference import naive_smoothing


def test_the_jacobian_of_a_linear_map_is_its_matrix() -> None:
    w = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(naive_smoothing.jacobian(lambda x: w @ x, np.ones(4)), w, rtol=1e-8)


def test_the_trace_of_two_equal_classes() -> None:
    """ℓ = (x, −x) at 0: p = ½, S = ¼ [[1, −1], [−1, 1]], so JᵀSJ = 1; times the variance."""
    found = naive_smoothing.gauss_newton_trace(lambda x: np.array([x[0], -x[0]]), [0.0], [2.0])
    assert found == pytest.approx(2.0)


def test_expectations_of_polynomials() -> None:
    found = naive_smoothing.expected(lambda y: y[0] ** 2 * y[1] ** 4, [1.0, 0.0], [0.5, 2.0], 201)
    assert found == pytest.approx((1 + 0.25) * 3 * 2**4, rel=1e-9)
    assert naive_smoothing.expected(lambda y: y[0] ** 3, [2.0], [1.0]) == pytest.approx(8 + 3 * 2, rel=1e-12)


def test_three_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="3 dimensions"):
        naive_smoothing.expected(lambda y: y[0], np.zeros(3), np.ones(3))
