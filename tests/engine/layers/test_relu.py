"""ReLU against loops, against differences, and at its kink."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reference import naive
from tests.engine.layers import FEW, relu
from wn.engine import backends
from wn.engine.layers.relu import Relu
from wn.testing import check_layer
from wn.testing import strategies as shapes

BE = backends.get("numpy")


@given(st.one_of(shapes.dense_shapes(), shapes.image_shapes()).flatmap(shapes.tied), shapes.seeds())
def test_equals_loops_also_at_the_kink(values, seed):
    x = values - 1  # −1 and 0, …
    x = np.where(np.random.default_rng(seed).random(x.shape) < 0.5, x, x + 1)
    y, cache = relu.forward(BE, (), x)
    np.testing.assert_array_equal(y, naive.relu_forward(x))
    dy = np.random.default_rng(seed).standard_normal(x.shape)
    dx, grads = relu.backward(BE, dy, cache)
    np.testing.assert_array_equal(dx, naive.relu_backward(dy, x))
    assert grads == ()


@FEW
@given(shapes.dense_shapes(smallest_population=2).flatmap(shapes.away_from_zero), shapes.seeds())
def test_contract_and_gradient(x, seed):
    check_layer(relu, BE, (), x, seed=seed)


def test_gradient_at_the_kink_is_zero():
    x = np.array([[[-1.0, -0.0, 0.0, 1e-300, 1.0]]])
    _, cache = relu.forward(BE, (), x)
    np.testing.assert_array_equal(relu.backward(BE, np.full(x.shape, 2.0), cache)[0], [[[0, 0, 0, 2, 2]]])


def test_shared_input_takes_the_gradients_of_all_members():
    z = np.random.default_rng(0).standard_normal
    x, dy = z((1, 3, 4)), z((5, 3, 4))
    _, cache = relu.forward(BE, (), x)
    np.testing.assert_array_equal(relu.backward(BE, dy, cache)[0], naive.relu_backward(dy, x))


def test_nan_is_not_hidden():
    y, _ = relu.forward(BE, (), np.array([[[np.nan, 1.0]]]))
    assert np.isnan(y[0, 0, 0])


def test_in_a_network():
    layer = Relu()
    assert not layer.learns
    assert layer.output_shape((3, 4, 5)) == (3, 4, 5)
    assert layer.initial_parameters(BE, (3,), None) == ()
    assert layer.initial_state(BE, (3,), 2, np.float32) == ()
