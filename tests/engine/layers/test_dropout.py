"""Dropout: masks by address against loops; the same bits everywhere; a part of training alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wn
from reference import naive_layers
from tests.engine.backends.cuda import needs_compiler, on_host
from tests.engine.layers import FEW
from wn import layers
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.layers import dropout
from wn.engine.layers.dropout import Dropout
from wn.engine.layers.noise import DrawKey
from wn.engine.layers.shapes.identity import Identity
from wn.engine.network import Conditions
from wn.random import Purpose
from wn.testing import check_recorded
from wn.testing import strategies as shapes

BE: Any = backends.get("numpy")


def key(seeds, samples, epoch=3, place=5):
    return DrawKey(tuple(seeds), np.asarray(samples, np.uint32), epoch, Purpose.DROPOUT, place)


def _backends() -> list[Any]:
    return [BE, *([] if needs_compiler.args[0] else [on_host()])]


@FEW
@given(
    shapes.dense_shapes() | shapes.image_shapes(size=3),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    shapes.seeds(),
)
def test_equals_loops(shape, p, epoch, shared, seed):
    rng = np.random.default_rng(seed)
    seeds, samples = [7] * shape[0] if shared else [*range(shape[0])], rng.integers(0, 2**32, shape[-1])
    x, place = rng.standard_normal(shape), int(rng.integers(0, 4096))
    expected = naive_layers.dropout_mask(seeds, samples.tolist(), epoch, place, p, x[0, ..., 0].size)
    expected = expected.reshape(shape)
    for be in _backends():
        for dtype in (np.float32, np.float64):
            given_x = x.astype(dtype)
            y, cache = dropout.forward(be, given_x, p, key(seeds, samples, epoch, place))
            np.testing.assert_array_equal(y, given_x * expected.astype(dtype))
            assert y.dtype == dtype
            np.testing.assert_array_equal(dropout.backward(be, 2 * given_x, cache), 2 * y)


def test_a_shared_input_has_a_mask_for_each_seed():
    x = np.ones((1, 50, 4))
    for be in _backends():
        y, cache = dropout.forward(be, x, 0.5, key([1, 2], range(4)))
        assert y.shape == (2, 50, 4)
        assert (y[0] != y[1]).any()
        assert dropout.backward(be, y, cache).shape == y.shape


def test_a_mask_belongs_to_samples_and_features():
    """Whatever the batch, the order and the other members: the same bits."""
    samples, x = np.arange(40, dtype=np.uint32)[::-1], np.ones((2, 3, 5, 4, 40), np.float32)
    for be in _backends():
        whole = be.dropout_mask(key([4, 9], samples), x, 0.3)
        for part in (slice(0, 7), slice(7, 40)):
            mask = be.dropout_mask(key([4, 9], samples[part]), x[..., part], 0.3)
            np.testing.assert_array_equal(mask, whole[..., part])
        alone = be.dropout_mask(key([9], samples), x[:1], 0.3)
        np.testing.assert_array_equal(alone[0], whole[1])
        others = [key([4, 9], samples, epoch=4), key([4, 9], samples, place=6), key([5, 9], samples)]
        assert all((be.dropout_mask(other, x, 0.3)[0] != whole[0]).any() for other in others)


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.97])
def test_share_and_mean(p):
    """z-scores of the share that is dropped, and of the mean, with a fixed seed: n = 400,000."""
    x = np.ones((1, 1000, 400))
    mask = BE.dropout_mask(key([11], range(400)), x, p)
    assert set(np.unique(mask)) == {0.0, 1 / (1 - p)}
    share, deviation = (mask == 0).mean(), (p * (1 - p) / mask.size) ** 0.5
    assert abs(share - p) / deviation < 6, f"z = {(share - p) / deviation}, n = {mask.size}, seed 11"


def network():
    return wn.network(
        6, [layers.Linear(40), layers.Dropout(0.4), layers.Relu(), layers.Dropout(0.4), layers.Linear(3)]
    )


def _passed(be, training, samples, x):
    net = network()
    params, states = net.initial_parameters(be, (1,), np.float64), net.initial_states(be, 1, np.float64)
    conditions = Conditions({}, (1,), samples, 2, training)
    return net.forward(be, params, states, x, conditions)


def test_in_a_network_it_is_part_of_training_alone():
    if BE.name == "formulas":
        return  # products in tiles are of the backends
    x, samples = np.random.default_rng(0).standard_normal((1, 6, 8)), np.arange(8, dtype=np.uint32)
    y, cache, _ = _passed(BE, True, samples, x)
    masks = [one.mask for one in cache.layers if isinstance(one, dropout.DropoutCache)]
    expected = [naive_layers.dropout_mask([1], [*range(8)], 2, place, 0.4, 40) for place in (1, 3)]
    np.testing.assert_allclose(masks, expected, rtol=1e-15)
    part, _, _ = _passed(BE, True, samples[3:], x[..., 3:])
    np.testing.assert_allclose(part, y[..., 3:], rtol=1e-12)
    clean, cache, _ = _passed(BE, False, samples, x)
    assert not [one for one in cache.layers if isinstance(one, dropout.DropoutCache)]
    assert (clean != y).any()


def test_the_gradient_is_that_of_the_pass_with_its_masks():
    be, net = backends.get("numpy"), network()
    params = net.initial_parameters(be, (1,), np.float64)
    x, dy = (
        np.random.default_rng(1).standard_normal((1, 6, 8)),
        np.random.default_rng(2).standard_normal((1, 3, 8)),
    )
    conditions = Conditions({}, (1,), np.arange(8, dtype=np.uint32), 0, True)

    def run(moved):
        return net.forward(be, params, net.initial_states(be, 1, np.float64), moved, conditions)

    _, cache, _ = run(x)
    dx, _ = net.backward(be, dy, cache, need_dx=True)
    direction, step = np.random.default_rng(3).standard_normal(x.shape), 1e-6
    change = (run(x + step * direction)[0] - run(x - step * direction)[0]) / (2 * step)
    np.testing.assert_allclose((change * dy).sum(), (dx * direction).sum(), rtol=1e-7)


def test_it_is_recorded_and_may_be():
    if BE.name == "numba":
        check_recorded(Dropout(0.3), (5,))
        check_recorded(Dropout(0.3), (2, 4, 4), members=3)
    if BE.name == "numpy" and not needs_compiler.args[0]:
        check_recorded(Dropout(0.3), (5,), be=on_host().be)


def test_in_each_phase():
    assert Dropout().p == 0.5
    assert Dropout(0.2).for_phase(True) == Dropout(0.2)
    assert [Dropout(0.2).for_phase(False), Dropout(0).for_phase(True)] == [Identity()] * 2
    assert Dropout().output_shape((2, 3, 4)) == (2, 3, 4)
    assert (Dropout().noisy, Dropout().learns) == (False, False)
    for p in (1, -0.1, np.nan, "0.5", None):
        with pytest.raises(WnError, match=r"p of a dropout is .*: it must be at least 0 and below 1"):
            Dropout(p)
