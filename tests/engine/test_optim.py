"""Adam against the naive one, the cosine schedule at known epochs, clamping of weights and nothing else."""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive_training
from tests.engine.populations import check_error
from tests.engine.twin import BE, CONVOLUTIONAL, DENSE, by_name, random_network, same_bits
from wn.engine.optim import (
    Adam,
    AdamState,
    adam_constants,
    adam_start,
    adam_update,
    arrays,
    clamp_weights,
    cosine_annealing,
)
from wn.testing import strategies


class Pair(NamedTuple):
    w: Any
    b: Any


# ---- structures -----------------------------------------------------------------------------------------


def test_arrays_come_in_order():
    a, b, c, d = (np.full(1, value) for value in range(4))
    tree = (Pair(a, b), (), (Pair(c, ()), (d,)))
    found = arrays(tree)
    assert [array is expected for array, expected in zip(found, (a, b, c, d), strict=True)] == [True] * 4
    assert arrays(()) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_start_at_zero_in_the_structure_of_the_parameters(dtype):
    params, _ = random_network(CONVOLUTIONAL, 2, seed=0, dtype=dtype)
    state = adam_start(BE, params)
    assert isinstance(state, AdamState)
    for moments in state:
        assert [type(layer) for layer in moments] == [type(layer) for layer in params]
        for moment, array in zip(arrays(moments), arrays(params), strict=True):
            assert (moment.shape, moment.dtype) == (array.shape, dtype)
            assert not moment.any()
    first, second = arrays(state.first)[0], arrays(state.second)[0]
    assert not np.shares_memory(first, second)


# ---- Adam -----------------------------------------------------------------------------------------------


@given(
    seed=strategies.seeds(),
    learning_rate=st.floats(1e-5, 1.0),
    beta1=st.sampled_from([0.0, 0.5, 0.9]),
    beta2=st.sampled_from([0.0, 0.99, 0.999]),
    epsilon=st.sampled_from([1e-8, 1e-3]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_twenty_steps_equal_the_naive_ones(seed, learning_rate, beta1, beta2, epsilon, scale):
    rng = np.random.default_rng(seed)
    params = (Pair(rng.standard_normal((2, 2, 3)), rng.standard_normal((2, 2))), ())
    expected = [(array.copy(), np.zeros(array.shape), np.zeros(array.shape)) for array in arrays(params)]
    state = adam_start(BE, params)
    for step in range(1, 21):
        grads = (Pair(*(scale * rng.standard_normal(array.shape) for array in arrays(params))), ())
        kept = [gradient.copy() for gradient in arrays(grads)]
        adam = Adam(beta1, beta2, epsilon)
        adam_update(BE, params, grads, state, adam_constants(step, learning_rate, adam))
        expected = [
            naive_training.adam_step(p, g, m, v, step, learning_rate, beta1, beta2, epsilon)
            for g, (p, m, v) in zip(kept, expected, strict=True)
        ]
        for gradient, before in zip(arrays(grads), kept, strict=True):
            assert gradient.tobytes() == before.tobytes()
    found = zip(arrays(params), arrays(state.first), arrays(state.second), strict=True)
    for triple, reference in zip(found, expected, strict=True):
        for array, value in zip(triple, reference, strict=True):
            np.testing.assert_allclose(array, value, rtol=1e-12, atol=1e-13 * np.abs(value).max())


def test_the_constants_of_the_study_are_the_defaults():
    params, again = (Pair(np.ones((1, 3)), np.zeros((1, 2))) for _ in range(2))
    grads = Pair(np.array([[0.5, -2e3, 0.0]]), np.ones((1, 2)))
    adam_update(BE, params, grads, adam_start(BE, params), adam_constants(1, 0.1))
    constants = Adam(0.9, 0.999, 1e-8)
    adam_update(BE, again, grads, adam_start(BE, again), adam_constants(1, 0.1, constants))
    np.testing.assert_array_equal(params.w, again.w)
    # the first step is η·g/(|g| + ε): the learning rate times the sign
    np.testing.assert_allclose(params.w, [[0.9, 1.1, 1.0]], rtol=1e-8)


def test_members_and_dtypes_keep_to_themselves():
    rng = np.random.default_rng(1)
    w, g = (rng.standard_normal((3, 4, 5)).astype(np.float32) for _ in range(2))

    def trained(part):
        params = Pair(w[part].copy(), w[part, 0].copy())
        state = adam_start(BE, params)
        for step in (1, 2, 3):
            grads = Pair(g[part] / step, g[part, 0])
            adam_update(BE, params, grads, state, adam_constants(step, 0.01))
        return params

    together, alone = trained(slice(None)), trained(slice(1, 2))
    assert same_bits(together.w[1:2], alone.w)
    assert same_bits(together.b[1:2], alone.b)
    assert together.w.dtype == np.float32


def test_gradients_of_another_structure_are_refused():
    params = Pair(np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="zip"):
        adam_update(BE, params, (np.ones((1, 2)),), adam_start(BE, params), adam_constants(1, 1.0))


@pytest.mark.parametrize("step", [0, -1])
def test_steps_count_from_one(step):
    check_error(lambda: adam_constants(step, 1.0), f"step is {step}: steps count from 1")


@pytest.mark.parametrize("name", ["beta1", "beta2"])
@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, math.nan])
def test_a_decay_rate_is_below_one(name, value):
    check_error(lambda: Adam(**{name: value}), f"{name} is {value}: it must be at least 0 and below 1")


@pytest.mark.parametrize("value", [0.0, -1e-8, math.inf, math.nan])
def test_epsilon_is_positive(value):
    check_error(lambda: Adam(epsilon=value), f"epsilon is {value}: it must be above 0 and finite")


# ---- cosine annealing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "epochs", "share"),
    [
        (0, 1, 1.0),
        (0, 8, 1.0),
        (2, 8, (2 + math.sqrt(2)) / 4),
        (4, 8, 0.5),
        (6, 8, (2 - math.sqrt(2)) / 4),
        (1, 3, 0.75),
        (2, 3, 0.25),
        (99, 100, 2.467198171342e-4),  # sin²(π/200)
    ],
)
def test_known_values_of_the_schedule(epoch, epochs, share):
    assert cosine_annealing(1e-3, epoch, epochs) == pytest.approx(1e-3 * share, rel=1e-12)


@given(st.integers(1, 500), st.floats(1e-6, 10.0))
def test_the_schedule_falls_from_the_first_rate_towards_zero(epochs, rate):
    rates = [cosine_annealing(rate, epoch, epochs) for epoch in range(epochs)]
    assert rates[0] == rate
    assert all(after < before for before, after in pairwise(rates))
    assert rates[-1] > 0
    for epoch, value in enumerate(rates):
        expected = naive_training.cosine_annealing(rate, epoch, epochs)
        assert value == pytest.approx(expected, rel=1e-12, abs=1e-15 * rate)
    # symmetric about half time, so that the mean rate, with 0 at the end, is half the first
    assert sum(rates) - rate / 2 == pytest.approx(epochs * rate / 2, rel=1e-9)


@pytest.mark.parametrize(("epoch", "epochs"), [(-1, 5), (5, 5), (6, 5), (0, 0)])
def test_an_epoch_outside_of_the_training_is_refused(epoch, epochs):
    check_error(
        lambda: cosine_annealing(1e-3, epoch, epochs), f"epoch is {epoch}: it must be in 0…{epochs - 1}"
    )


# ---- clamping -------------------------------------------------------------------------------------------


@given(seed=strategies.seeds(), limit=st.sampled_from([0.0, 0.5, 1.0]))
def test_clamping_equals_the_naive_one(seed, limit):
    weights = [
        2 * np.random.default_rng(seed).standard_normal(shape) for shape in ((2, 3, 4), (1, 2, 1, 2, 2))
    ]
    expected = [naive_training.clamp_weights(w, -limit, limit) for w in weights]
    clamp_weights(BE, weights, limit)
    for w, value in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(w, value)


@pytest.mark.parametrize("network", [DENSE, CONVOLUTIONAL], ids=lambda network: network.name)
def test_only_weights_of_linear_and_convolution_layers_are_clamped(network):
    params, _ = random_network(network, 2, seed=3)
    for array in arrays(params):
        array *= 5
    before = {name: array.copy() for name, array in by_name(network, params).items()}
    clamp_weights(BE, network.clampable(params))
    for name, array in by_name(network, params).items():
        if name.endswith(".w"):
            np.testing.assert_array_equal(array, np.clip(before[name], -1, 1))
            assert not np.array_equal(array, before[name])
        else:
            np.testing.assert_array_equal(array, before[name])
            assert np.abs(array).max() > 1


@pytest.mark.parametrize("limit", [-1.0, math.nan])
def test_a_limit_is_not_negative(limit):
    check_error(lambda: clamp_weights(BE, [], limit), f"the limit of weights is {limit}", "at least 0")
