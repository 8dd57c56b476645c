"""Max pooling against loops, against differences, and where several values are equally large."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive
from tests.engine.layers import FEW, max_pooling
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.layers.max_pooling import MaxPooling
from wn.testing import check_layer
from wn.testing import strategies as shapes

BE = backends.get("numpy")


@st.composite
def pools(draw, values, smallest_population=1, size=6):
    """x and a window that fits."""
    shape = draw(shapes.pooling_shapes(smallest_population=smallest_population, size=size))
    return draw(values(shape.x)), shape.window


def _assert_equals_loops(x, window, seed):
    y, cache = max_pooling.forward(BE, (), x, window)
    np.testing.assert_array_equal(y, naive.max_pool_forward(x, window))
    dy = np.random.default_rng(seed).standard_normal(y.shape)
    dx, grads = max_pooling.backward(BE, dy, cache)
    np.testing.assert_array_equal(dx, naive.max_pool_backward(dy, x, window))
    assert grads == ()


@given(pools(shapes.distinct), shapes.seeds())
def test_equals_loops(pool, seed):
    _assert_equals_loops(*pool, seed)


@given(pools(shapes.tied), shapes.seeds())
def test_equals_loops_with_ties(pool, seed):
    _assert_equals_loops(*pool, seed)


@FEW
@given(pools(shapes.distinct, smallest_population=2, size=4), shapes.seeds())
def test_contract_and_gradient(pool, seed):
    x, window = pool
    check_layer(max_pooling, BE, (), x, static={"window": window}, seed=seed)


@pytest.mark.parametrize("places", [(0, 1, 2, 3), (1, 2), (2, 3), (3,)])
def test_the_first_of_equal_values_gets_the_gradient(places):
    window = np.zeros(4)
    window[list(places)] = 7.0
    _, cache = max_pooling.forward(BE, (), window.reshape(1, 1, 2, 2, 1), (2, 2))
    dx, _ = max_pooling.backward(BE, np.full((1, 1, 1, 1, 1), 3.0), cache)
    np.testing.assert_array_equal(dx.ravel(), np.where(np.arange(4) == places[0], 3.0, 0.0))


def test_zeros_of_either_sign_are_equal():
    x = np.array([-0.0, 0.0, 0.0, -0.0]).reshape(1, 1, 2, 2, 1)
    _, cache = max_pooling.forward(BE, (), x, (2, 2))
    dx, _ = max_pooling.backward(BE, np.ones((1, 1, 1, 1, 1)), cache)
    np.testing.assert_array_equal(dx.ravel(), [1, 0, 0, 0])


def test_rows_and_columns_that_fill_no_window_are_dropped():
    x = np.zeros((1, 1, 5, 7, 2))
    x[:, :, 4:], x[:, :, :, 6:] = 9.0, 9.0
    y, cache = max_pooling.forward(BE, (), x, (2, 3))
    assert y.shape == (1, 1, 2, 2, 2)
    np.testing.assert_array_equal(y, 0)
    dx, _ = max_pooling.backward(BE, np.ones(y.shape), cache)
    np.testing.assert_array_equal(dx[:, :, 4:], 0)
    np.testing.assert_array_equal(dx[:, :, :, 6:], 0)
    assert dx.sum() == y.size


def test_shared_input_takes_the_gradients_of_all_members():
    z = np.random.default_rng(0).standard_normal
    x, dy = z((1, 2, 4, 4, 3)), z((3, 2, 2, 2, 3))
    _, cache = max_pooling.forward(BE, (), x, (2, 2))
    np.testing.assert_array_equal(
        max_pooling.backward(BE, dy, cache)[0], naive.max_pool_backward(dy, x, (2, 2))
    )


def test_gradient_of_a_nan_goes_to_the_nan():
    """As in PyTorch: the NaN is the largest value, and the first of several is taken."""
    x = np.ones((1, 1, 2, 4, 1))
    x[0, 0, 1, 0, 0] = x[0, 0, 1, 2, 0] = x[0, 0, 1, 3, 0] = np.nan
    y, cache = max_pooling.forward(BE, (), x, (2, 2))
    dx, _ = max_pooling.backward(BE, np.array([3.0, 5.0]).reshape(y.shape), cache)
    expected = np.zeros((2, 4))
    expected[1, 0], expected[1, 2] = 3.0, 5.0
    np.testing.assert_array_equal(dx[0, 0, :, :, 0], expected)


def test_nan_is_not_hidden():
    x = np.ones((1, 1, 2, 2, 1))
    x[0, 0, 1, 0, 0] = np.nan
    assert np.isnan(max_pooling.forward(BE, (), x, (2, 2))[0]).all()


def test_in_a_network():
    layer = MaxPooling((2, 3))
    assert layer.output_shape((4, 5, 7)) == (4, 2, 2)
    assert not layer.learns
    with pytest.raises(WnError, match=r"window of 2×3 does not fit an image of 5×2"):
        layer.output_shape((4, 5, 2))
    with pytest.raises(WnError, match=r"takes \(channels, height, width\), got \(9,\)"):
        layer.output_shape((9,))


@pytest.mark.parametrize("window", [2.0, (2,), (0, 2), (2, -1), (2.0, 2), (True, 2)])
def test_a_window_is_a_pair_of_positive_integers(window):
    with pytest.raises(WnError, match="window of a max pooling"):
        MaxPooling(window)
