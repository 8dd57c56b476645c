"""Average pooling against loops and against differences; the window of 1×1 is the identity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive
from tests.engine.backends.cuda import needs_compiler, on_host
from tests.engine.layers import FEW, average_pooling
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.layers.average_pooling import AveragePooling
from wn.testing import assert_close, check_layer
from wn.testing import strategies as shapes

BE = backends.get("numpy")


@st.composite
def pools(draw, smallest_population=1, size=6):
    """x and a window that fits."""
    shape = draw(shapes.pooling_shapes(smallest_population=smallest_population, size=size))
    return draw(shapes.arrays(shape.x)), shape.window


@given(pools(), shapes.seeds())
def test_equals_loops(pool, seed):
    x, window = pool
    y, cache = average_pooling.forward(BE, (), x, window)
    expected = naive.average_pool_forward(x, window)
    assert_close(y, expected, reduction_length=window[0] * window[1], magnitude=float(np.abs(x).max()))
    dy = np.random.default_rng(seed).standard_normal(y.shape)
    dx, grads = average_pooling.backward(BE, dy, cache)
    assert_close(dx, naive.average_pool_backward(dy, x.shape, window), reduction_length=1)
    assert grads == ()


@FEW
@given(pools(smallest_population=2, size=4), shapes.seeds())
def test_contract_and_gradient(pool, seed):
    x, window = pool
    check_layer(average_pooling, BE, (), x, static={"window": window}, seed=seed)


def test_a_window_of_one_is_the_identity():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 6)).astype(np.float32)
    y, cache = average_pooling.forward(BE, (), x, (1, 1))
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(average_pooling.backward(BE, -x, cache)[0], -x)
    assert AveragePooling((1, 1)).output_shape((3, 4, 5)) == (3, 4, 5)


def test_rows_and_columns_that_fill_no_window_are_dropped():
    x = np.zeros((1, 1, 5, 7, 2))
    x[:, :, 4:], x[:, :, :, 6:] = 9.0, 9.0
    y, cache = average_pooling.forward(BE, (), x, (2, 3))
    np.testing.assert_array_equal(y, np.zeros((1, 1, 2, 2, 2)))
    dx, _ = average_pooling.backward(BE, np.full(y.shape, 6.0), cache)
    np.testing.assert_array_equal(dx[:, :, :4, :6], 1)
    np.testing.assert_array_equal(dx[:, :, 4:], 0)
    np.testing.assert_array_equal(dx[:, :, :, 6:], 0)


def test_in_a_network():
    layer = AveragePooling((2, 2))
    assert layer.output_shape((4, 5, 7)) == (4, 2, 3)
    assert not layer.learns
    with pytest.raises(WnError, match="average pooling with a window of 2×2 does not fit an image of 1×7"):
        layer.output_shape((4, 1, 7))
    with pytest.raises(WnError, match=r"window of an average pooling is \(0, 1\)"):
        AveragePooling((0, 1))


@pytest.mark.parametrize("backend", ["numpy", "numba", pytest.param("cuda", marks=needs_compiler)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window", [(2, 2), (1, 3), (5, 4)])
def test_a_mean_is_found_where_the_sum_is_out_of_range(backend, dtype, window):
    """The kind: a result in range that is computed by way of one that is not. All else keeps its bits."""
    be, largest = on_host() if backend == "cuda" else backends.get(backend), np.finfo(dtype).max
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 12, 6)).astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # as in training
        ordinary, _ = average_pooling.forward(be, (), x, window)
        x[..., 1], x[..., 2], x[..., 4] = largest, x[..., 2] * (largest / dtype(8)), np.inf
        x[:, :, ::2, ::2, 3] = np.nan
        y, _ = average_pooling.forward(be, (), x, window)
    np.testing.assert_array_equal(y[..., [0, 5]], ordinary[..., [0, 5]])
    np.testing.assert_allclose(y[..., 1], largest, rtol=20 * np.finfo(dtype).eps)
    expected = naive.average_pool_forward(x[..., 2:3] / largest, window) * largest
    assert_close(y[..., 2:3], expected, reduction_length=20, dtype=dtype, magnitude=float(largest))
    assert np.isnan(y[..., 3]).any()
    assert (y[..., 4] == np.inf).all()
