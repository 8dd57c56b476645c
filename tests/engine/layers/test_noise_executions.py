"""Noise in a population, executed once or R times, against the naive operators; planted bugs; streams.

What every layer has to keep is tested in test_noise.py, distributions in
tests/engine/test_noise_distribution.py.
"""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive_statistics
from tests.engine.twin import BE, reference_draws
from wn.engine.layers import noise as layer
from wn.engine.network import Conditions
from wn.engine.noise import additive, mixed_direct, multiplicative, none, of_kind
from wn.testing import assert_close, check_independence, check_layer, strategies

SAMPLES = np.array([7, 0, 4_000_000_000, 3, 12, 5])


def streams(seeds=(1,), samples=SAMPLES, epoch=2, site=3, training=True):
    return layer.draws(seeds, np.asarray(samples), epoch, site, training)


def apply(noise, x, dy=None, **address):
    """Return y, or (y, dx)."""
    y, cache = layer.forward(BE, noise, x, streams(samples=SAMPLES[: x.shape[-1]], **address))
    return y if dy is None else (y, layer.backward(BE, dy, cache))


# ---- against the naive operators ------------------------------------------------------------------------


@st.composite
def operators(draw, population):
    """An operator of any kind, with the σ of each member or one for all, executed either way."""
    specification = draw(strategies.noise_specifications())
    if specification["kind"] != "none":
        specification["execution"] = draw(st.sampled_from(["single", "each"]))
        if draw(st.booleans()):
            sigma = st.lists(strategies.sigmas(), min_size=population, max_size=population)
            specification["sigma"] = draw(sigma)
    return of_kind(**specification)


@given(
    data=st.data(),
    shape=strategies.dense_shapes() | strategies.image_shapes(size=3),
    shared_x=st.booleans(),
    shared_seed=st.booleans(),
    training=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=strategies.seeds(),
)
def test_equals_the_naive_operator(data, shape, shared_x, shared_seed, training, dtype, seed):
    population, batch = shape[0], shape[-1]
    noise = data.draw(operators(population))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1 if shared_x else population, *shape[1:])).astype(dtype)
    before = x.copy()
    seeds = (seed,) * population if shared_seed else tuple(range(seed, seed + population))
    conditions = Conditions({}, seeds, SAMPLES[:batch], epoch=2, training=training)
    gain, offset, order = reference_draws(noise, shape[1:-1], conditions, 3)

    y, cache = layer.forward(BE, noise, x, streams(seeds, SAMPLES[:batch], training=training))
    expected = naive_statistics.noise_forward(x, gain, offset, order)
    assert y.dtype == dtype
    assert len(y) in (1, population)
    size = (np.abs(x).max() + np.abs(offset).max()) * max(1.0, np.abs(gain).max()) + np.abs(offset).max()
    spread = np.broadcast_to(y, expected.shape)
    assert_close(spread, expected, dtype=dtype, magnitude=size, reduction_length=4 * noise.repetitions)

    dy = rng.standard_normal(expected.shape).astype(dtype)
    upstream = dy.copy()
    dx = layer.backward(BE, dy, cache)
    expected = naive_statistics.noise_backward(dy, x, gain, offset, order)
    assert dx.dtype == dtype
    size = np.abs(dy).max() * np.abs(gain).max()
    assert_close(dx, expected, dtype=dtype, magnitude=size, reduction_length=4 * noise.repetitions)
    assert x.tobytes() == before.tobytes()
    assert dy.tobytes() == upstream.tobytes()


# ---- the gradient by differences, with σ and seeds by member, and bugs that it must see ------------------


class Contract:
    """The layer as the checkers call it: σ and seeds are arrays with a row per member."""

    def __init__(self, **options):
        self.options = options

    def forward(self, be, params, x, sigma_mul, sigma_add, seeds):
        noise = mixed_direct(sigma_mul, sigma_add, **self.options)
        return layer.forward(be, noise, x, streams(tuple(map(int, seeds)), SAMPLES[: x.shape[-1]]))

    def backward(self, be, dy, cache):
        return layer.backward(be, dy, cache), ()


STATIC = {"sigma_mul": np.array([0.5, 0.1]), "sigma_add": np.array([0.3, 2.0]), "seeds": np.array([5, 9])}


def check(case):
    x = np.random.default_rng(3).standard_normal((2, 3, 2))
    check_layer(case, BE, (), x, static=STATIC, per_member=tuple(STATIC))


@pytest.mark.parametrize("execution", ["single", "each"])
@pytest.mark.parametrize("order", ["mul_add", "add_mul"])
def test_contract_and_gradient(order, execution):
    options = {"mean_mul": 0.8, "mean_add": -0.4, "normalize_to_input_size": True}
    check(Contract(order=order, repetitions=2, execution=execution, **options))


def planted_fresh_draws(self, be, dy, cache):
    """Backward with draws of its own."""
    z = np.random.default_rng(0).standard_normal(dy.shape[1:])
    return (1 + 0.3 * z).astype(dy.dtype) * dy, ()


def planted_no_multiplier(self, be, dy, cache):
    """Backward as if the noise were additive."""
    return dy.copy(), ()


def planted_in_place(self, be, params, x, **static):
    """Forward that adds its noise to x itself."""
    y, cache = CORRECT_FORWARD(self, be, params, x, **static)
    x += y - x
    return x, cache


CORRECT_FORWARD = Contract.forward


@pytest.mark.parametrize(
    ("name", "bug", "message"),
    [
        ("backward", planted_fresh_draws, "gradient is wrong"),
        ("backward", planted_no_multiplier, "gradient is wrong"),
        ("forward", planted_in_place, "changed its input x"),
    ],
)
def test_a_planted_bug_is_noticed(monkeypatch, name, bug, message):
    monkeypatch.setattr(Contract, name, bug)
    with pytest.raises(AssertionError, match=message):
        check(Contract())


# ---- special cases that are exact -----------------------------------------------------------------------


@pytest.mark.parametrize("execution", ["single", "each"])
def test_no_noise_is_the_identity(execution):
    x = np.random.default_rng(0).standard_normal((3, 5, 6)).astype(np.float32)
    for noise in (none(), additive(0.0, repetitions=7, execution=execution)):
        y, dx = apply(noise, x, x)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(dx, x)
    # a member with σ = 0 among others, where the draws are made but weigh nothing
    for order in ("mul_add", "add_mul"):
        noise = mixed_direct([0, 1, 1], [0, 1, 1], repetitions=7, execution=execution, order=order)
        y, dx = apply(noise, x, x)
        np.testing.assert_array_equal(y[0], x[0])
        np.testing.assert_array_equal(dx[0], x[0])
        assert not np.array_equal(y[1], x[1])


@pytest.mark.parametrize("execution", ["single", "each"])
@pytest.mark.parametrize("order", ["mul_add", "add_mul"])
def test_a_member_does_not_depend_on_its_neighbours(order, execution):
    """Bit for bit, also where a σ is 0 and the operator alone would be a simpler one."""
    sigma_mul, sigma_add = [0.0, 0.0, 0.5, 0.5], [0.0, 0.3, 0.0, 0.3]
    options = {"order": order, "execution": execution, "repetitions": 3}
    x = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(np.float32)
    y, dx = apply(mixed_direct(sigma_mul, sigma_add, **options), x, x, seeds=(1, 2, 2, 3))
    for p, seed in enumerate((1, 2, 2, 3)):
        alone = mixed_direct(sigma_mul[p], sigma_add[p], **options)
        y_alone, dx_alone = apply(alone, x[p : p + 1], x[p : p + 1], seeds=(seed,))
        np.testing.assert_array_equal(y[p], y_alone[0])
        np.testing.assert_array_equal(dx[p], dx_alone[0])


@pytest.mark.parametrize("execution", ["single", "each"])
@pytest.mark.parametrize("training", [False, True])
def test_backward_has_the_draws_of_forward(execution, training):
    """With x = 1 multiplicative noise gives the multiplier itself, and so does backward with dy = 1."""
    ones = np.ones((2, 5, 6), np.float32)
    noise = multiplicative([0.5, 2.0], mean=0.7, repetitions=3, execution=execution)
    y, dx = apply(noise, ones, ones, seeds=(4, 5), training=training)
    np.testing.assert_array_equal(y, dx)
    assert not np.array_equal(y, ones)


def test_additive_noise_passes_the_gradient_on():
    dy = np.random.default_rng(0).standard_normal((2, 5, 6))
    _, dx = apply(additive([1.0, 2.0], mean=3.0, repetitions=2, execution="each"), dy * 2, dy)
    np.testing.assert_array_equal(dx, dy)


def test_normalisation_divides_by_the_number_of_elements():
    x = np.zeros((1, 3, 2, 5, 6))
    whole = apply(additive(6.0), x)
    shared = apply(additive(6.0, normalize_to_input_size=True), x)
    assert_close(shared * prod((3, 2, 5)), whole, reduction_length=1)


# ---- streams: who shares draws with whom -----------------------------------------------------------------


def z_of(sigma=1.0, **address):
    """The standard draws of additive noise: (P, 40, 6)."""
    return apply(additive(sigma), np.zeros((1, 40, 6)), **address) / np.reshape(sigma, (-1, 1, 1))


def test_members_that_share_a_seed_share_their_draws():
    z = z_of(sigma=[0.5, 2.0, 1e6], seeds=(3,))
    assert_close(z, np.broadcast_to(z[:1], z.shape), reduction_length=1)
    np.testing.assert_array_equal(z_of(sigma=[0.5, 2.0], seeds=(3, 3)), z[:2])
    z = z_of(sigma=[1.0, 1.0, 1.0], seeds=(3, 4, 3))
    np.testing.assert_array_equal(z[0], z[2])
    np.testing.assert_array_equal(z[1:2], z_of(seeds=(4,)))


@pytest.mark.parametrize(
    "other",
    [{"seeds": (2,)}, {"epoch": 3}, {"site": 4}, {"training": False}, {"seeds": (1 + 2**32,)}],
    ids=str,
)
@pytest.mark.parametrize("make", [additive, multiplicative])
def test_other_addresses_have_other_draws(make, other):
    ones = np.ones((1, 400, 6))
    first, second = apply(make(1.0), ones), apply(make(1.0), ones, **other)
    assert np.mean(first == second) < 0.001  # draws are float32: two may agree by chance
    check_independence(first, second, seed=1, name=f"draws at {other}")


def test_the_parts_of_mixed_noise_have_the_draws_of_the_parts_alone():
    zeros, ones = np.zeros((1, 400, 6)), np.ones((1, 400, 6))
    offset = apply(mixed_direct(1.0, 1.0), zeros)
    gain = apply(mixed_direct(1.0, 1.0), ones) - offset
    check_independence(offset, gain, seed=1, name="D and M")
    np.testing.assert_array_equal(offset, apply(additive(1.0), zeros))
    assert_close(gain, apply(multiplicative(1.0), ones), reduction_length=4, magnitude=10.0)


def test_repetitions_have_draws_of_their_own():
    zeros = np.zeros((1, 400, 6))
    first = apply(additive(1.0), zeros)
    second = 2 * apply(additive(1.0, repetitions=2, execution="each"), zeros) - first
    check_independence(first, second, seed=1, name="two repetitions")
