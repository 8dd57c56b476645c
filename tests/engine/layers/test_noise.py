"""The noise layer against loops over the same draws, for every kind, and its contract as a layer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive_statistics
from tests.engine.layers import FEW
from wn.basics.errors import WnError
from wn.engine import backends, noise
from wn.engine.layers import noise as noise_layer
from wn.testing import assert_close, check_layer
from wn.testing import strategies as shapes

BE = backends.get("numpy")
INPUTS = st.one_of(shapes.dense_shapes(features=5), shapes.image_shapes(size=4))


def streams_for(batch, seeds=(3,), training=False, site=2):
    return noise_layer.draws(seeds, np.arange(batch) * 7 + 1, 5, site, training)


def draws_of(operator, x, streams):
    """Return (gain, offset) (R, P|1, …, B) in float64 from the standard normals of the streams."""
    features = int(np.prod(x.shape[1:-1]))
    each = operator.repetitions > 1 and operator.draws_each
    shrink = 1.0 / features if operator.normalize_to_input_size else 1.0
    shrink /= 1.0 if each else np.sqrt(operator.repetitions)
    repetitions = range(operator.repetitions if each else 1)
    found = []
    for key, sigma, mean in (
        (streams.mul, operator.sigma_mul, operator.mean_mul),
        (streams.add, operator.sigma_add, operator.mean_add),
    ):
        z = np.stack(
            [
                BE.standard_draws(key, features, r, operator.distribution).reshape(-1, *x.shape[1:])
                for r in repetitions
            ]
        )
        column = (-1, *[1] * (x.ndim - 1))
        found.append(np.reshape(mean, column) + shrink * np.reshape(sigma, column) * z.astype(np.float64))
    return found


@given(shapes.noise_specifications(), INPUTS, st.booleans(), shapes.seeds())
def test_equals_loops_over_the_same_draws(specification, shape, training, seed):
    operator = noise.of_kind(**specification)
    z = np.random.default_rng(seed).standard_normal
    x, streams = z(shape), streams_for(shape[-1], training=training)
    y, cache = noise_layer.forward(BE, operator, x, streams)
    gain, offset = draws_of(operator, x, streams)
    expected = naive_statistics.noise_forward(x, gain, offset, operator.order)
    size = float((np.abs(gain).max() + 1) * (np.abs(x).max() + np.abs(offset).max() + 1))
    assert_close(y, expected, reduction_length=3, magnitude=size, name="y")
    dy = z(shape)
    expected = naive_statistics.noise_backward(dy, x, gain, offset, operator.order)
    size = float((np.abs(gain).max() + 1) * np.abs(dy).max())
    assert_close(noise_layer.backward(BE, dy, cache), expected, reduction_length=3, magnitude=size, name="dx")


def _forward(be, params, x, operator, streams):
    return noise_layer.forward(be, operator, x, streams)


def _backward(be, dy, cache):
    return noise_layer.backward(be, dy, cache), ()


@FEW
@given(
    shapes.noise_specifications(),
    shapes.dense_shapes(smallest_population=2, features=4, batch=4),
    shapes.seeds(),
)
def test_contract_and_gradient(specification, shape, seed):
    specification |= {"sigma": min(specification["sigma"], 1.0)}  # larger draws drown differences in x
    static = {"operator": noise.of_kind(**specification), "streams": streams_for(shape[-1])}
    x = np.random.default_rng(seed).standard_normal(shape)
    check_layer((_forward, _backward), BE, (), x, static=static, seed=seed)


@pytest.mark.parametrize("order", ["mul_add", "add_mul"])
@pytest.mark.parametrize("repetitions", [1, 3])
def test_members_with_their_own_sigma_and_seed_equal_separate_operators(order, repetitions):
    sigma, seeds = np.array([0.5, 0.0, 2.0]), (11, 12, 13)
    options = {"order": order, "repetitions": repetitions}
    operator = noise.mixed_direct(sigma, 2 * sigma, **options)
    z = np.random.default_rng(0).standard_normal
    x, dy = z((1, 4, 5)), z((3, 4, 5))
    y, cache = noise_layer.forward(BE, operator, x, streams_for(5, seeds))
    dx = noise_layer.backward(BE, dy, cache)
    for p in range(3):
        alone = noise.mixed_direct(float(sigma[p]), 2 * float(sigma[p]), **options)
        y_alone, cache = noise_layer.forward(BE, alone, x, streams_for(5, seeds[p : p + 1]))
        np.testing.assert_array_equal(y[p], y_alone[0])
        np.testing.assert_array_equal(dx[p], noise_layer.backward(BE, dy[p : p + 1], cache)[0])
    np.testing.assert_array_equal(y[1], x[0])  # σ = 0


def test_a_sample_keeps_its_draws_wherever_it_stands():
    operator, x = noise.mixed(1.0, 0.5), np.random.default_rng(0).standard_normal((2, 3, 8))
    order = np.array([5, 0, 7, 2])

    def at(samples):
        streams = noise_layer.draws((3,), samples, 0, 1, True)
        return noise_layer.forward(BE, operator, x[:, :, samples], streams)[0]

    np.testing.assert_array_equal(at(order), at(np.arange(8))[:, :, order])


def test_sites_phases_and_parts_have_different_draws():
    x = np.zeros((1, 3, 4))
    settings = [(1, True), (1, False), (2, True), (2, False)]
    outputs = []
    for site, training in settings:
        streams = streams_for(4, site=site, training=training)
        outputs += [noise_layer.forward(BE, noise.additive(1.0), x, streams)[0]]
        outputs += [noise_layer.forward(BE, noise.multiplicative(1.0, mean=0.0), x + 1, streams)[0]]
    for i, first in enumerate(outputs):
        for second in outputs[:i]:
            assert not np.any(first == second)


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "mixed", "mixed-direct"])
def test_sigma_of_1e10_in_float32(kind):
    x = np.random.default_rng(0).standard_normal((1, 8, 16)).astype(np.float32)
    y, cache = noise_layer.forward(BE, noise.of_kind(kind, 1e10), x, streams_for(16))
    assert y.dtype == np.float32
    assert np.isfinite(y).all()
    assert np.abs(y).max() > 1e9
    assert np.isfinite(noise_layer.backward(BE, x, cache)).all()


def test_sigma_beyond_the_dtype_is_an_error():
    x = np.zeros((1, 2, 3), np.float32)
    with pytest.raises(WnError, match="1e\\+39 is beyond float32"):
        noise_layer.forward(BE, noise.additive(1e39), x, streams_for(3))
    y, _ = noise_layer.forward(BE, noise.additive(1e39), x.astype(np.float64), streams_for(3))
    assert np.isfinite(y).all()
