"""Statistics of weights against direct ones, and growth with twins that are missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.analysis.weights import STATISTICS, growth, statistics


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]))
def test_statistics_are_direct_ones(seed: int, dtype: type) -> None:
    w = np.random.default_rng(seed).normal(0, 1, (3, 4, 5)).astype(dtype)
    flat = [float(value) for value in w.reshape(-1)]
    found = dict(zip(STATISTICS, statistics(w).tolist(), strict=True))
    mean = sum(flat) / 60
    assert found["mean_abs"] == pytest.approx(sum(map(abs, flat)) / 60)
    assert found["std"] == pytest.approx((sum((v - mean) ** 2 for v in flat) / 60) ** 0.5)
    assert found["norm"] == pytest.approx(sum(v * v for v in flat) ** 0.5)
    assert found["at_bound"] == sum(abs(v) >= 1 for v in flat) / 60


def test_clamped_weights_are_at_the_bound_and_nothing_else() -> None:
    assert statistics(np.clip([-3.0, -1.0, 0.999, 2.0], -1, 1))[3] == 0.75


def test_growth_is_relative_to_the_clean_twin() -> None:
    found = growth([[[2.0, 3.0]], [[4.0, 3.0]]], [[1.0, 0.0]])
    np.testing.assert_array_equal(found, [[[2.0, np.nan]], [[4.0, np.nan]]])
