"""Sums and concatenations against loops, against differences, and for shared inputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive_joins
from tests.engine.layers import Run
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.layers.joins import add, concatenate
from wn.engine.layers.joins.add import Add
from wn.engine.layers.joins.concatenate import ConcatenateChannels
from wn.testing import strategies as shapes

BE = backends.get("numpy")
SUM, SIDE_BY_SIDE = Run(add.FORMULA), Run(concatenate.FORMULA)


@st.composite
def inputs(draw, same_channels):
    """2 … 4 arrays of one image size, each of its own channels or all of the same, some shared by all."""
    population, channels, height, width, batch = draw(st.tuples(*[st.integers(1, 4)] * 5))
    rng = np.random.default_rng(draw(shapes.seeds()))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    found = []
    for _ in range(draw(st.integers(2, 4))):
        members = draw(st.sampled_from([1, population]))
        own = channels if same_channels else draw(st.integers(1, 4))
        found.append(rng.standard_normal((members, own, height, width, batch)).astype(dtype))
    return tuple(found)


@given(inputs(same_channels=True), shapes.seeds())
def test_a_sum_equals_loops(x, seed):
    before = [part.copy() for part in x]
    y, cache = SUM.forward(BE, (), x)
    np.testing.assert_allclose(y, naive_joins.add_forward(x), rtol=4 * np.finfo(y.dtype).eps, atol=1e-6)
    assert y.dtype == x[0].dtype
    dy = np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)
    dx, grads = SUM.backward(BE, dy, cache)
    assert len(dx) == len(x)
    assert grads == ()
    for part in dx:
        np.testing.assert_array_equal(part, dy)
    for part, kept in zip(x, before, strict=True):
        np.testing.assert_array_equal(part, kept)


@given(inputs(same_channels=False), shapes.seeds())
def test_a_concatenation_equals_loops(x, seed):
    y, cache = SIDE_BY_SIDE.forward(BE, (), x)
    np.testing.assert_array_equal(y, naive_joins.concatenate_forward(x))
    assert y.dtype == x[0].dtype
    dy = np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)
    dx, grads = SIDE_BY_SIDE.backward(BE, dy, cache)
    expected = naive_joins.concatenate_backward(dy, [part.shape[1] for part in x])
    for found, wanted in zip(dx, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert grads == ()


@given(inputs(same_channels=True), shapes.seeds())
def test_gradients_are_those_of_the_pullback(x, seed):
    """⟨dy, f(x + v) − f(x)⟩ = Σ ⟨dx_j, v_j⟩, exactly up to rounding: both layers are linear."""
    rng = np.random.default_rng(seed)
    x = tuple(part.astype(np.float64) for part in x)
    v = tuple(rng.standard_normal(part.shape) for part in x)
    for layer in (SUM, SIDE_BY_SIDE):
        (y, cache), (moved, _) = (layer.forward(BE, (), given) for given in (x, v))
        dy = rng.standard_normal(y.shape)
        dx, _ = layer.backward(BE, dy, cache)
        assert np.sum(dy * moved) == pytest.approx(
            sum(np.sum(part * way) for part, way in zip(dx, v, strict=True)), rel=1e-9, abs=1e-9
        )


def test_large_arrays_are_cut_into_chunks():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((1, 5, 30, 30, 9)), rng.standard_normal((3, 5, 30, 30, 9))
    np.testing.assert_array_equal(SUM.forward(BE, (), (a, b))[0], a + b)
    whole = np.concatenate((np.broadcast_to(a, b.shape), b), axis=1)
    np.testing.assert_array_equal(SIDE_BY_SIDE.forward(BE, (), (a, b))[0], whole)


def test_in_a_network():
    assert Add().output_shape(((3, 4, 5), (3, 4, 5))) == (3, 4, 5)
    assert ConcatenateChannels().output_shape(((3, 4, 5), (1, 4, 5))) == (4, 4, 5)
    assert ConcatenateChannels().output_shape(((3,), (2,), (1,))) == (6,)
    assert Add.joins
    assert ConcatenateChannels.joins
    with pytest.raises(WnError, match=r"a sum takes at least two inputs of one shape, got \(3,\), \(4,\)"):
        Add().output_shape(((3,), (4,)))
    with pytest.raises(WnError, match="at least two inputs"):
        Add().output_shape(((3,),))
    for wrong in (((3, 4, 5), (3, 4, 6)), ((3,), (3, 1, 1)), ((3,),)):
        with pytest.raises(WnError, match="a concatenation takes"):
            ConcatenateChannels().output_shape(wrong)
