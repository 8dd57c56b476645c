"""Pooling kernels against the plain code: values, ties, NaN, and pixels that no window covers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.backends.numba import DTYPES, blank, check_threads, same_bits
from tests.engine.layers import Formulas
from tests.engine.layers import average_pooling as plain_average
from tests.engine.layers import max_pooling as plain_max
from wn.engine.backends.numba.kernels import pooling
from wn.engine.layers.average_pooling import AveragePoolingCache
from wn.engine.layers.max_pooling import MaxPoolingCache
from wn.testing import strategies
from wn.testing.strategies import PoolingShape

BE = Formulas()
Window = tuple[int, int]

# Of each two shapes one has the 2×2 windows that have a loop of their own.
SHAPES = strategies.pooling_shapes() | strategies.pooling_shapes().map(
    lambda shape: PoolingShape((*shape.x[:2], shape.x[2] + 1, shape.x[3] + 1, shape.x[4]), (2, 2))
)


def pooled(x: Any, window: Window) -> Any:
    members, channels, height, width, batch = x.shape
    return blank((members, channels, height // window[0], width // window[1], batch), x.dtype)


def max_pool(x: Any, window: Window) -> Any:
    y = pooled(x, window)
    pooling.max_pool(x, y, *window)
    return y


def max_pool_backward(dy: Any, x: Any, y: Any, window: Window) -> Any:
    dx = blank((len(dy), *x.shape[1:]), dy.dtype)
    pooling.max_pool_backward(dy, x, y, dx, *window, False)
    return dx


def average_pool(x: Any, window: Window) -> Any:
    y = pooled(x, window)
    pooling.average_pool(x, y, *window)
    return y


def average_pool_backward(dy: Any, size: tuple[int, int], window: Window) -> Any:
    dx = blank((*dy.shape[:2], *size, dy.shape[4]), dy.dtype)
    pooling.average_pool_backward(dy, dx, *window)
    return dx


def values(shape: tuple[int, ...], seed: int, dtype: Any, several: int) -> Any:
    """Normal values, or, for ties, integers 1 … several: no zeros, whose signs could differ."""
    generator = np.random.default_rng(seed)
    if several == 0:
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, several, shape).astype(dtype) + 1


@pytest.mark.parametrize("dtype", DTYPES)
@given(SHAPES, strategies.seeds(), st.integers(0, 3))
def test_max_pooling_is_the_plain_one(dtype: Any, shape: PoolingShape, seed: int, several: int) -> None:
    x = values(shape.x, seed, dtype, several)
    y = max_pool(x, shape.window)
    assert same_bits(y, plain_max.forward(BE, (), x, shape.window)[0])
    dy = values(y.shape, seed + 1, dtype, 0)
    dx = max_pool_backward(dy, x, y, shape.window)
    np.testing.assert_array_equal(dx, plain_max.backward(BE, dy, MaxPoolingCache(x, y, shape.window))[0])


@given(SHAPES, strategies.seeds())
def test_nan_and_infinities_in_max_pooling(shape: PoolingShape, seed: int) -> None:
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0], np.float32)
    x = special[np.random.default_rng(seed).integers(0, len(special), shape.x)]
    y = max_pool(x, shape.window)
    np.testing.assert_array_equal(y, plain_max.forward(BE, (), x, shape.window)[0])
    dy = values(y.shape, seed, np.float32, 0)
    dx = max_pool_backward(dy, x, y, shape.window)
    np.testing.assert_array_equal(dx, plain_max.backward(BE, dy, MaxPoolingCache(x, y, shape.window))[0])


def test_the_first_of_equal_values_gets_the_gradient() -> None:
    x = np.array([[1, 3, 3], [3, 1, 9], [9, 9, 9]], np.float32).reshape(1, 1, 3, 3, 1)
    dy = np.full((1, 1, 1, 1, 1), np.inf, np.float32)
    dx = max_pool_backward(dy, x, max_pool(x, (2, 2)), (2, 2))
    assert dx[0, 0, :, :, 0].tolist() == [[0, np.inf, 0], [0, 0, 0], [0, 0, 0]]


def test_the_first_nan_gets_the_gradient() -> None:
    x = np.array([[7, np.nan], [np.nan, 9]], np.float32).reshape(1, 1, 2, 2, 1)
    y = max_pool(x, (2, 2))
    assert np.isnan(y[0, 0, 0, 0, 0])
    dx = max_pool_backward(np.ones_like(y), x, y, (2, 2))
    assert dx[0, 0, :, :, 0].tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize("dtype", DTYPES)
@given(SHAPES, strategies.seeds())
def test_average_pooling_is_the_plain_one(dtype: Any, shape: PoolingShape, seed: int) -> None:
    x = values(shape.x, seed, dtype, 0)
    y = average_pool(x, shape.window)
    assert same_bits(y, plain_average.forward(BE, (), x, shape.window)[0])
    cache = AveragePoolingCache((shape.x[2], shape.x[3]), shape.window)
    assert same_bits(average_pool_backward(y, *cache), plain_average.backward(BE, y, cache)[0])


def test_shared_images_take_the_gradients_of_all_members() -> None:
    x, dy = values((1, 2, 5, 4, 3), 0, np.float32, 0), values((4, 2, 2, 2, 3), 1, np.float32, 0)
    y = max_pool(x, (2, 2))
    dx = max_pool_backward(dy, x, y, (2, 2))
    np.testing.assert_array_equal(dx, plain_max.backward(BE, dy, MaxPoolingCache(x, y, (2, 2)))[0])


@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
def test_members_and_samples_do_not_matter_to_each_other(window: Window) -> None:
    x = values((3, 2, 7, 6, 37), 0, np.float32, 0)
    y, mean = max_pool(x, window), average_pool(x, window)
    dx, dmean = max_pool_backward(y, x, y, window), average_pool_backward(mean, (7, 6), window)
    for part in (np.s_[1:2], np.s_[:, :, :, :, 20:21], np.s_[:, :, :, :, 3:]):
        some, some_y, some_mean = (np.ascontiguousarray(array[part]) for array in (x, y, mean))
        assert same_bits(max_pool(some, window), some_y)
        assert same_bits(average_pool(some, window), some_mean)
        assert same_bits(max_pool_backward(some_y, some, some_y, window), np.ascontiguousarray(dx[part]))
        assert same_bits(average_pool_backward(some_mean, (7, 6), window), np.ascontiguousarray(dmean[part]))


@pytest.mark.parametrize("window", [(2, 2), (1, 3)])
def test_threads_do_not_matter(window: Window) -> None:
    x = values((2, 3, 9, 8, 19), 0, np.float32, 0)

    def compute() -> tuple[Any, ...]:
        y, mean = max_pool(x, window), average_pool(x, window)
        return y, mean, max_pool_backward(y, x, y, window), average_pool_backward(mean, (9, 8), window)

    check_threads(compute)
