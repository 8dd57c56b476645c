"""The compiled series of covariances against the plain one, and without Numba."""

import numpy as np
import pytest

from wn.theory import series


@pytest.mark.parametrize("terms", [1, 4, 7])
def test_compiled_and_plain_sums_agree(terms: int) -> None:
    rng = np.random.default_rng(terms)
    features, batch = 6, 37
    root = rng.normal(size=(batch, features, 3))
    matrix = (root @ root.transpose(0, 2, 1)).transpose(1, 2, 0)  # (F, F, B), not contiguous
    matrix[2], matrix[:, 2] = 0, 0  # a variable without variance
    deviation = np.sqrt(np.einsum("iib->ib", matrix))
    coefficients = rng.normal(size=(terms, features, batch))
    given = coefficients, deviation, matrix, rng.random((features, batch))
    expected = series.plain_series_covariance(*given)
    np.testing.assert_allclose(series.series_covariance(*given), expected, rtol=1e-12, atol=1e-13)
    assert not expected[2, 3].any()


def test_without_numba_the_plain_sum_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "compiled", lambda name: None)
    result = series.series_covariance(
        np.ones((2, 2, 1)), np.ones((2, 1)), np.full((2, 2, 1), 0.5), np.ones((2, 1))
    )
    np.testing.assert_array_equal(result[:, :, 0], [[1, 0.75], [0.75, 1]])
