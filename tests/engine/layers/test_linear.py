"""The linear layer against loops, against differences, and its place in a network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive
from tests.engine.layers import FEW, Run, linear
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.layers.base import Weights
from wn.engine.layers.linear import WITHOUT_BIAS, Linear, LinearParams
from wn.testing import assert_close, check_layer, check_recorded
from wn.testing import strategies as shapes

BE = backends.get("numpy")
without_bias = Run(WITHOUT_BIAS)


@given(shapes.linear_shapes(size=5), st.booleans(), st.booleans(), shapes.seeds())
def test_equals_loops(shape, shared_x, shared_params, seed):
    z = np.random.default_rng(seed).standard_normal
    x, w, b = z(shape.x), z(shape.w), z(shape.b)
    x = x[:1] if shared_x else x
    w, b = (w[:1], b[:1]) if shared_params else (w, b)
    y, cache = linear.forward(BE, LinearParams(w, b), x)
    size = naive.linear_forward(*map(np.abs, (x, w, b)))  # of terms that may cancel
    assert_close(y, naive.linear_forward(x, w, b), reduction_length=shape.inputs, magnitude=size, name="y")
    dy = z(y.shape)
    dx, grads = linear.backward(BE, dy, cache)
    expected = naive.linear_backward(dy, x, w)
    sizes = naive.linear_backward(*map(np.abs, (dy, x, w)))
    for name, actual, reference, size in zip(("dx", "dw", "db"), (dx, *grads), expected, sizes, strict=True):
        terms = shape.outputs * shape.batch
        assert_close(actual, reference, reduction_length=terms, magnitude=size, name=name)


@FEW
@given(shapes.linear_shapes(smallest_population=2, size=3), shapes.seeds())
def test_contract_and_gradient(shape, seed):
    z = np.random.default_rng(seed).standard_normal
    check_layer(linear, BE, LinearParams(z(shape.w), z(shape.b)), z(shape.x), seed=seed)


def test_shared_input_equals_repeated_input():
    z = np.random.default_rng(0).standard_normal
    x, params, dy = z((1, 7, 5)), LinearParams(z((3, 4, 7)), z((3, 4))), z((3, 4, 5))
    shared, repeated = (linear.forward(BE, params, value) for value in (x, x.repeat(3, axis=0)))
    np.testing.assert_array_equal(shared[0], repeated[0])
    for a, b in zip(
        linear.backward(BE, dy, shared[1])[1], linear.backward(BE, dy, repeated[1])[1], strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_backward_skips_dx_when_it_is_not_needed():
    z = np.random.default_rng(1).standard_normal
    _, cache = linear.forward(BE, LinearParams(z((2, 3, 4)), z((2, 3))), z((2, 4, 5)))
    dx, grads = linear.backward(BE, z((2, 3, 5)), cache, need_dx=False)
    assert dx is None
    assert grads.w.shape == (2, 3, 4)


def test_in_a_network():
    layer = Linear(3)
    assert layer.learns
    assert layer.output_shape((5,)) == (3,)
    bounds = {}

    def draw(part, shape, bound):
        bounds[part] = bound
        return np.zeros((2, *shape))

    params = layer.initial_parameters(BE, (16,), draw)
    assert params.w.shape == (2, 3, 16)
    assert params.b.shape == (2, 3)
    assert bounds == {0: 0.25, 1: 0.25}  # 1/√16
    with pytest.raises(WnError, match=r"takes \(features,\), got \(1, 4, 4\).*flatten"):
        layer.output_shape((1, 4, 4))


@FEW
@given(shapes.linear_shapes(smallest_population=2), shapes.seeds())
def test_without_bias_is_with_a_bias_of_zero(shape, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal(shape.x), rng.standard_normal(shape.w)
    y, cache = without_bias.forward(BE, Weights(w), x)
    expected = linear.forward(BE, LinearParams(w, np.zeros(shape.b)), x)
    np.testing.assert_array_equal(y, expected[0])
    dy = rng.standard_normal(y.shape)
    dx, grads = without_bias.backward(BE, dy, cache)
    expected = linear.backward(BE, dy, expected[1])
    np.testing.assert_array_equal(dx, expected[0])
    np.testing.assert_array_equal(grads.w, expected[1].w)
    assert grads._fields == ("w",)
    check_layer(without_bias, BE, Weights(w), x, seed=seed)


def test_without_bias_in_a_network():
    layer = Linear(3, bias=False)
    params = layer.initial_parameters(BE, (4,), lambda part, shape, bound: np.full((2, *shape), bound))
    assert isinstance(params, Weights)
    assert (params.w.shape, layer.usual, Linear(3).usual) == ((2, 3, 4), False, True)
    assert layer.forward(BE, params, np.ones((2, 4, 5)), ())[0].shape == (2, 3, 5)
    with pytest.raises(WnError, match="bias of a linear layer is 0: it must be True or False"):
        Linear(3, bias=0)
    if BE.name == "numba":
        check_recorded(layer, (4,))
