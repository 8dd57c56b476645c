"""Batch-norm kernels agree with the plain code, and their sums are as accurate as NumPy's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.backends.numba import DTYPES, blank, check_threads, same_bits
from tests.engine.layers import norms
from wn.engine import backends
from wn.engine.backends.numba.kernels import batch_norm
from wn.engine.backends.numba.kernels.batch_norm import BLOCK
from wn.engine.layers.batch_norm import EPSILON, BatchNormCache, BatchNormParams
from wn.testing import assert_close, strategies

BE = backends.get("numpy")
COUNTS = st.integers(2, 40) | st.sampled_from([128, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])


def forward(rows: Any, gamma: Any, beta: Any) -> tuple[Any, ...]:
    """(y, mean, residual, variance, inverse)."""
    y = blank((max(len(rows), len(gamma)), *rows.shape[1:]), rows.dtype)
    statistics = tuple(blank(rows.shape[:2], rows.dtype) for _ in range(4))
    batch_norm.forward_training(rows, gamma, beta, EPSILON, y, *statistics, False)
    return y, *statistics


def backward(drows: Any, rows: Any, gamma: Any, mean: Any, residual: Any, inverse: Any) -> tuple[Any, ...]:
    """(dx, dgamma, dbeta)."""
    dx, dgamma, dbeta = (blank(shape, rows.dtype) for shape in (drows.shape, *2 * [drows.shape[:2]]))
    no_relu, statistics = (drows[:0], drows[:0]), (mean, residual, inverse)
    batch_norm.backward_training(drows, *no_relu, rows, gamma, *statistics, dx, dgamma, dbeta)
    return dx, dgamma, dbeta


def moments(rows: Any) -> tuple[Any, Any]:
    ones = np.ones(rows.shape[:2], rows.dtype)
    _, mean, _, variance, _ = forward(rows, ones, ones)
    return mean, variance


def normalise(rows: Any, mean: Any, scale: Any, shift: Any) -> Any:
    y = blank((max(map(len, (rows, mean, scale, shift))), *rows.shape[1:]), rows.dtype)
    batch_norm.normalise(rows, mean, scale, shift, False, y)
    return y


def sums(drows: Any, rows: Any, mean: Any, residual: Any, inverse: Any) -> tuple[Any, Any]:
    dgamma, dbeta = blank(drows.shape[:2], rows.dtype), blank(drows.shape[:2], rows.dtype)
    batch_norm.normalise_sums(drows, rows, mean, residual, inverse, dgamma, dbeta)
    return dgamma, dbeta


def draw(shape: tuple[int, ...], seed: int, dtype: Any) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def largest(array: Any) -> float:
    return float(np.abs(array).max())


# ---- against the plain code -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 3), st.booleans(), st.integers(1, 4), COUNTS, strategies.seeds())
def test_training_agrees(
    dtype: Any, members: int, shared: bool, features: int, count: int, seed: int
) -> None:
    rows = draw((1 if shared else members, features, count), seed, dtype)
    gamma, beta = draw((2, members, features), seed + 1, dtype)
    y, mean, residual, variance, inverse = forward(rows, gamma, beta)
    plain, cache, _ = norms.forward_training(BE, BatchNormParams(gamma, beta), rows)
    size = largest(rows)  # rounding errors of means and deviations are relative to the values themselves
    assert_close(mean, cache.mean, reduction_length=count, magnitude=size)
    assert_close(residual, cache.residual, reduction_length=count, magnitude=size)
    assert_close(variance, cache.variance, reduction_length=count, magnitude=size**2)
    width = largest(inverse)
    assert_close(inverse, cache.inverse, reduction_length=count, magnitude=size**2 * width**3)
    slope = width + size**2 * width**3
    assert_close(y, plain, reduction_length=count, magnitude=largest(gamma) * slope * size + largest(beta))


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 3), st.booleans(), st.integers(1, 4), COUNTS, strategies.seeds())
def test_gradients_agree(
    dtype: Any, members: int, shared: bool, features: int, count: int, seed: int
) -> None:
    rows = draw((1 if shared else members, features, count), seed, dtype)
    drows, gamma = draw((members, features, count), seed + 1, dtype), draw((members, features), 3, dtype)
    _, cache, _ = norms.forward_training(BE, BatchNormParams(gamma, gamma), rows)
    mean, inverse = cache.mean, cache.inverse
    dx, dgamma, dbeta = backward(drows, rows, gamma, mean, cache.residual, inverse)
    expected, grads = norms.backward_training(BE, drows, cache)
    normalised = largest(rows - mean[:, :, None]) * largest(inverse)
    assert_close(dgamma, grads.gamma, reduction_length=count, magnitude=count**0.5 * normalised * 4)
    assert_close(dbeta, grads.beta, reduction_length=count, magnitude=count**0.5 * 4)
    terms = largest(drows) * (1 + normalised**2)  # that may cancel: with two values nearly all of them do
    size = largest(gamma) * largest(inverse) * terms
    assert_close(dx, expected, reduction_length=count, magnitude=size)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 3), st.booleans(), st.integers(1, 4), st.just(1) | COUNTS, strategies.seeds())
def test_inference_agrees(
    dtype: Any, members: int, shared: bool, features: int, count: int, seed: int
) -> None:
    rows = draw((1 if shared else members, features, count), seed, dtype)
    drows = draw((members, features, count), seed + 1, dtype)
    mean, shift, scale = draw((3, members, features), seed + 2, dtype)
    mean = mean[: len(rows)]
    size, width = largest(rows - mean[:, :, None]), np.abs(scale)
    cache = BatchNormCache(rows, scale, mean, mean / 9, mean, width)
    _, grads = norms.backward_inference(BE, drows, cache)
    for found, expected in zip(sums(drows, rows, mean, mean / 9, width), grads, strict=True):
        bound = count**0.5 * 4 * (1 + 2 * size * largest(scale))
        assert_close(found, expected, reduction_length=count, magnitude=bound)
    y = normalise(rows, mean, scale, shift)
    expected = (rows - mean[:, :, None]) * scale[:, :, None] + shift[:, :, None]
    assert_close(y, expected, reduction_length=1, magnitude=size * largest(scale) + largest(shift))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_beyond_the_range_the_variance_is_not_finite(value: float) -> None:
    rows = draw((1, 3, 50), 0, np.float32)
    rows[0, 1, 7] = value
    ones = np.ones((1, 3), np.float32)
    variance = forward(rows, ones, ones)[3]
    assert np.isfinite(variance).tolist() == [[True, False, True]]


# ---- accuracy -------------------------------------------------------------------------------------------


def test_sums_of_a_million_values_lose_no_digits() -> None:
    rows = np.random.default_rng(0).random((1, 1, 1_000_000), np.float32)
    drows = np.random.default_rng(1).random((1, 1, 1_000_000), np.float32)
    exact = rows.astype(np.float64)
    mean, variance = moments(rows)
    eps = float(np.finfo(np.float32).eps)
    assert abs(mean[0, 0] / exact.mean() - 1) < 2 * eps
    assert abs(variance[0, 0] / exact.var() - 1) < 4 * eps
    nothing, one = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    dgamma, dbeta = sums(drows, rows, nothing, nothing, one)
    assert abs(dgamma[0, 0] / (exact * drows).sum() - 1) < 4 * eps
    assert abs(dbeta[0, 0] / drows.sum(dtype=np.float64) - 1) < 2 * eps


def test_nothing_cancels_in_the_variance() -> None:
    rows = (1000 + draw((1, 2, 10_000), 0, np.float64)).astype(np.float32)
    variance = moments(rows)[1]
    assert_close(variance, rows.astype(np.float64).var(axis=2), reduction_length=1)


# ---- independence ---------------------------------------------------------------------------------------


def training(rows: Any, gamma: Any, beta: Any, drows: Any) -> tuple[Any, ...]:
    y, mean, residual, variance, inverse = forward(rows, gamma, beta)
    others = *sums(drows, rows, mean, residual, inverse), normalise(rows, mean, gamma, beta)
    gradients = backward(drows, rows, gamma, mean, residual, inverse)
    return y, mean, residual, variance, inverse, *gradients, *others


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [2, 45, BLOCK + 21])
def test_members_do_not_matter_to_each_other(count: int, dtype: Any) -> None:
    rows, drows = draw((2, 3, 2, count), 0, dtype)
    gamma, beta = draw((2, 3, 2), 1, dtype)
    together = training(rows, gamma, beta, drows)
    for p in range(3):
        member = slice(p, p + 1)
        alone = training(rows[member], gamma[member], beta[member], drows[member])
        assert all(same_bits(one, all_[member]) for one, all_ in zip(alone, together, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_shared_row_has_the_bits_of_one_for_each_member(dtype: Any) -> None:
    rows, (gamma, beta) = draw((1, 2, 45), 0, dtype), draw((2, 3, 2), 1, dtype)
    repeated = np.repeat(rows, 3, axis=0)
    assert same_bits(forward(rows, gamma, beta)[0], forward(repeated, gamma, beta)[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_do_not_matter_to_each_other_in_inference(dtype: Any) -> None:
    rows, (mean, scale, shift) = draw((1, 2, 75), 0, dtype), draw((3, 3, 2), 1, dtype)
    together = normalise(rows, mean, scale, shift)
    for start in range(0, 75, 7):
        some = normalise(np.ascontiguousarray(rows[:, :, start:]), mean, scale, shift)
        assert same_bits(some, np.ascontiguousarray(together[:, :, start:]))


def test_threads_do_not_matter() -> None:
    rows, drows = draw((2, 3, 5, BLOCK + 77), 0, np.float32)
    gamma, beta = draw((2, 3, 5), 1, np.float32)
    check_threads(lambda: (*training(rows, gamma, beta, drows), normalise(rows, gamma, beta, gamma)))
