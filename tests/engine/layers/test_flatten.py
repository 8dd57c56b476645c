"""Flatten against loops, against differences, and on views."""

import numpy as np
from hypothesis import given

from reference import naive
from tests.engine.layers import FEW, flatten
from wn.engine import backends
from wn.engine.layers.flatten import Flatten
from wn.testing import check_layer
from wn.testing import strategies as shapes

BE = backends.get("numpy")


@given(shapes.image_shapes().flatmap(shapes.arrays), shapes.seeds())
def test_equals_loops(x, seed):
    y, cache = flatten.forward(BE, (), x)
    np.testing.assert_array_equal(y, naive.flatten_forward(x))
    dy = np.random.default_rng(seed).standard_normal(y.shape)
    dx, grads = flatten.backward(BE, dy, cache)
    np.testing.assert_array_equal(dx, naive.flatten_backward(dy, x.shape))
    assert grads == ()


@FEW
@given(shapes.image_shapes(smallest_population=2, size=4).flatmap(shapes.arrays), shapes.seeds())
def test_contract_and_gradient(x, seed):
    check_layer(flatten, BE, (), x, seed=seed)


def test_nothing_is_copied_where_x_is_contiguous():
    x = np.zeros((2, 3, 4, 5, 6))
    assert np.shares_memory(flatten.forward(BE, (), x)[0], x)


def test_in_a_network():
    assert Flatten().output_shape((3, 4, 5)) == (60,)
    assert Flatten().output_shape((7,)) == (7,)
    assert not Flatten().learns
