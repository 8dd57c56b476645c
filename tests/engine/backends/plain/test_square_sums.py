"""Sums of squares over features: exact but for rounding, and those of a sample whatever is beside it."""

from math import fsum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wn.engine import backends

NUMPY, NUMBA = backends.get("numpy"), backends.get("numba")
FEATURES = st.sampled_from([(1,), (7,), (3, 2, 4), (64,)])
DTYPES = st.sampled_from([np.float32, np.float64])


def values(seed: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Values from next to nothing to huge: what a float32 sum would lose."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-18, 18, shape)).astype(dtype)


def naive(x: NDArray[Any]) -> NDArray[np.float64]:
    """Value by value, and the sum exact."""
    sums = np.empty((len(x), x.shape[-1]))
    for p, b in np.ndindex(sums.shape):
        sums[p, b] = fsum(float(value) ** 2 for value in x[p, ..., b].ravel())
    return sums


@given(st.integers(0, 2**32 - 1), FEATURES, DTYPES, st.integers(1, 3), st.sampled_from([1, 2, 255, 256, 300]))
def test_they_are_those_of_every_value(
    seed: int, features: tuple[int, ...], dtype: Any, members: int, batch: int
) -> None:
    x = values(seed, (members, *features, batch), dtype)
    before, expected = x.copy(), naive(x)
    for be in (NUMPY, NUMBA):
        found = be.square_sums(x)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-15 * (2 + x[0, ..., 0].size))
    np.testing.assert_array_equal(x, before)


@given(st.integers(0, 2**32 - 1), FEATURES, DTYPES, st.integers(3, 600))
def test_no_bit_depends_on_backend_members_and_batch(
    seed: int, features: tuple[int, ...], dtype: Any, batch: int
) -> None:
    x = values(seed, (3, *features, batch), dtype)
    whole = NUMPY.square_sums(x)
    np.testing.assert_array_equal(NUMBA.square_sums(x), whole)
    for be in (NUMPY, NUMBA):
        np.testing.assert_array_equal(be.square_sums(x[1:2]), whole[1:2])
        np.testing.assert_array_equal(be.square_sums(x[..., 1:]), whole[:, 1:])


@pytest.mark.parametrize("threads", [1, 2])
def test_no_bit_depends_on_threads(threads: int) -> None:
    x = values(1, (2, 5, 1000), np.float32)
    with NUMBA.working(threads):
        np.testing.assert_array_equal(NUMBA.square_sums(x), NUMPY.square_sums(x))
