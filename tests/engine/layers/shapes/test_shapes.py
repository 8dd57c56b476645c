"""Reshape, identity and zero padding against loops and differences."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive_layers
from tests.engine.backends.cuda import needs_compiler, on_host
from tests.engine.layers import FEW, Run
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.layers.shapes import identity, reshape, zero_padding
from wn.engine.layers.shapes.identity import Identity
from wn.engine.layers.shapes.reshape import Reshape
from wn.engine.layers.shapes.zero_padding import ZeroPadding
from wn.testing import check_layer, check_recorded
from wn.testing import strategies as shapes

BE: Any = backends.get("numpy")
PADDING, RESHAPE, IDENTITY = map(Run, (zero_padding.FORMULA, reshape.FORMULA, identity.FORMULA))
SIDES = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 3))] * 2)


@FEW
@given(shapes.image_shapes(smallest_population=2, size=4).flatmap(shapes.arrays), SIDES, shapes.seeds())
def test_zero_padding_equals_loops(x, sides, seed):
    for be in (BE, *([] if needs_compiler.args[0] else [on_host()])):
        y, cache = PADDING.forward(be, (), x, sides)
        np.testing.assert_array_equal(y, naive_layers.zero_padding(x, sides))
        dy = np.random.default_rng(seed).standard_normal(y.shape)
        (top, _), (left, _) = sides
        inner = dy[:, :, top : top + x.shape[2], left : left + x.shape[3]]
        np.testing.assert_array_equal(PADDING.backward(be, dy, cache)[0], inner)
    check_layer(PADDING, BE, (), x, static={"sides": sides}, seed=seed)


@FEW
@given(shapes.image_shapes(smallest_population=2, size=4).flatmap(shapes.arrays))
def test_reshape_and_identity(x):
    shape = (x.shape[3], x.shape[1], x.shape[2])
    y, cache = RESHAPE.forward(BE, (), x, shape)
    rows = np.moveaxis(x, -1, 1).reshape(len(x), x.shape[-1], -1)  # the values of each sample, in order
    np.testing.assert_array_equal(np.moveaxis(y, -1, 1).reshape(rows.shape), rows)
    np.testing.assert_array_equal(RESHAPE.backward(BE, y, cache)[0], x)
    check_layer(RESHAPE, BE, (), x, static={"shape": shape})
    y, cache = IDENTITY.forward(BE, (), x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(IDENTITY.backward(BE, 2 * x, cache)[0], 2 * x)


@pytest.mark.parametrize(
    ("layer", "before", "after"),
    [
        (Reshape((2, 3, 4)), (24,), (2, 3, 4)),
        (Reshape(24), (2, 3, 4), (24,)),
        (Identity(), (2, 3, 4), (2, 3, 4)),
        (ZeroPadding(1), (2, 3, 4), (2, 5, 6)),
        (ZeroPadding(((0, 1), (2, 0))), (2, 3, 4), (2, 4, 6)),
    ],
    ids=str,
)
def test_in_a_network_it_is_recorded_and_may_be(layer, before, after):
    assert layer.output_shape(before) == after
    assert not layer.learns
    assert not layer.noisy
    y, cache, _ = layer.forward(BE, (), np.ones((2, *before, 5)), ())
    assert y.shape == (2, *after, 5)
    assert layer.backward(BE, y, cache, True)[0].shape == (2, *before, 5)
    if BE.name == "numba" and not isinstance(layer, Reshape):
        check_recorded(layer, before)
    if BE.name == "numpy" and not needs_compiler.args[0] and not isinstance(layer, Reshape):
        check_recorded(layer, before, be=on_host().be)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Reshape((2, 0, 1)), r"shape of a reshape is \(2, 0, 1\): it must be"),
        (lambda: Reshape((2, -1)), r"shape of a reshape is \(2, -1\)"),
        (lambda: Reshape(6).output_shape((5,)), r"a reshape to \(6,\) takes 6 values, got \(5,\)"),
        (lambda: ZeroPadding("same"), "padding of a zero padding is 'same': it must be in numbers"),
        (lambda: ZeroPadding(-1), r"padding of a zero padding is \(-1, -1\)"),
        (lambda: ZeroPadding(1).output_shape((5,)), r"takes \(channels, height, width\), got \(5,\)"),
    ],
)
def test_settings_out_of_range(made, message):
    with pytest.raises(WnError, match=message):
        made()
