"""Batch norm in training and inference against loops and differences; running statistics; extreme values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive_statistics
from tests.engine.backends.cuda import needs_compiler, on_host
from tests.engine.layers import FEW, batch_norm_inference, batch_norm_training, norms
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.backends.numpy.batch_norm import moments
from wn.engine.layers import batch_norm
from wn.engine.layers.batch_norm import BatchNorm, BatchNormParams, BatchStatistics, RunningStatistics
from wn.testing import assert_close, check_layer, check_recorded
from wn.testing import strategies as shapes

BE = backends.get("numpy")


def inputs(smallest_population=1):
    """Shapes of x, dense or images, with at least 2 values per feature."""
    return st.one_of(
        shapes.dense_shapes(smallest_population=smallest_population, features=4, smallest_batch=2),
        shapes.image_shapes(smallest_population=smallest_population, size=3, smallest_batch=2),
    )


def random_params(shape, seed):
    """Random gamma and beta (P, F): ones and zeros would hide errors."""
    z = np.random.default_rng([seed, 1]).standard_normal
    return BatchNormParams(z(shape[:2]), z(shape[:2]))


def random_running(shape, seed):
    rng = np.random.default_rng([seed, 2])
    size = shape[:2]
    return RunningStatistics(rng.standard_normal(size), rng.uniform(0.5, 2.0, size), np.zeros(size))


def spread(shape, seed):
    """Values whose features have different means and are not all nearly equal: their variance is ≥ 0.1."""
    x = np.random.default_rng(seed).standard_normal(shape)
    x[..., 0], x[..., 1] = np.abs(x[..., 0]) + 0.5, -np.abs(x[..., 1]) - 0.5
    return x + np.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2))


@given(inputs(), st.booleans(), shapes.seeds())
def test_training_equals_loops(shape, shared, seed):
    x, params = spread(shape, seed), random_params(shape, seed)
    x = x[:1] if shared else x
    y, cache, statistics = norms.forward_training(BE, params, x)
    expected = naive_statistics.batch_norm_forward(np.broadcast_to(x, shape), *params)
    terms = x[0].size
    assert_close(y, expected.y, reduction_length=terms, name="y")
    size = float(np.abs(x).max())  # of values that may cancel
    mean = expected.mean[: len(x)]
    assert_close(statistics.mean, mean, reduction_length=terms, magnitude=size, name="mean")
    assert_close(statistics.variance, expected.variance[: len(x)], reduction_length=terms, name="variance")
    assert statistics.values == x[0, 0].size
    dy = np.random.default_rng([seed, 3]).standard_normal(shape)
    dx, grads = norms.backward_training(BE, dy, cache)
    reference = naive_statistics.batch_norm_backward(dy, np.broadcast_to(x, shape), params.gamma)
    # with two values per feature dx is a difference of terms of the size of dy·γ/√variance that nearly cancel
    sizes = (float(np.abs(dy).max() * np.abs(params.gamma).max() * 10), None, None)
    for name, actual, wanted, size in zip(
        ("dx", "dgamma", "dbeta"), (dx, *grads), reference, sizes, strict=True
    ):
        size = float(np.abs(dy).sum()) if size is None else size
        assert_close(actual, wanted, reduction_length=terms, magnitude=size, name=name)


@given(inputs(), st.booleans(), shapes.seeds())
def test_inference_equals_loops(shape, shared, seed):
    x, params, running = spread(shape, seed), random_params(shape, seed), random_running(shape, seed)
    x = x[:1] if shared else x
    y, cache = norms.forward_inference(BE, params, running, x)
    expected = naive_statistics.batch_norm_inference_forward(x, *params, running.mean, running.variance)
    assert_close(y, expected, reduction_length=4, name="y")
    dy = np.random.default_rng([seed, 3]).standard_normal(shape)
    dx, grads = norms.backward_inference(BE, dy, cache)
    reference = naive_statistics.batch_norm_inference_backward(
        dy, x, params.gamma, running.mean, running.variance
    )
    for name, actual, wanted in zip(("dx", "dgamma", "dbeta"), (dx, *grads), reference, strict=True):
        magnitude = None if name == "dx" else float(np.abs(dy).sum() * np.abs(x).max())
        assert_close(actual, wanted, reduction_length=x[0].size, magnitude=magnitude, name=name)


@given(inputs(), shapes.seeds(), st.booleans())
def test_running_statistics_equal_loops(shape, seed, shared):
    x, running = spread(shape, seed), random_running(shape, seed)
    x = x[:1] if shared else x
    before = [array.copy() for array in running]
    _, _, statistics = norms.forward_training(BE, random_params(shape, seed), x)
    new = norms.update_running(BE, running, statistics)
    mean, variance = naive_statistics.batch_norm_running(running.mean, running.variance, x)
    assert_close(new.mean, mean, reduction_length=x[0].size, magnitude=10.0, name="mean")
    assert_close(new.variance, variance, reduction_length=x[0].size, magnitude=10.0, name="variance")
    assert_close(new.residual, np.zeros_like(mean), reduction_length=1, magnitude=10.0, name="residual")
    for array, old in zip(running, before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_running_statistics_by_hand():
    x = np.array([[[1.0, 2.0, 6.0]]])  # mean 3, Σ deviations² = 14
    _, _, statistics = norms.forward_training(BE, BatchNormParams(np.ones((1, 1)), np.zeros((1, 1))), x)
    np.testing.assert_allclose(statistics.variance, 14 / 3)
    running = RunningStatistics(np.array([[10.0]]), np.array([[20.0]]), np.zeros((1, 1)))
    new = norms.update_running(BE, running, statistics)
    np.testing.assert_allclose(new.mean, 0.9 * 10 + 0.1 * 3)
    np.testing.assert_allclose(new.variance, 0.9 * 20 + 0.1 * 14 / 2)


@FEW
@given(inputs(smallest_population=2), shapes.seeds())
def test_training_contract_and_gradient(shape, seed):
    check_layer(batch_norm_training, BE, random_params(shape, seed), spread(shape, seed), seed=seed)


def _inference_forward(be, params, x, mean, variance, residual):
    return norms.forward_inference(be, params, RunningStatistics(mean, variance, residual), x)


@FEW
@given(inputs(smallest_population=2), shapes.seeds())
def test_inference_contract_and_gradient(shape, seed):
    layer = (_inference_forward, norms.backward_inference)
    static = random_running(shape, seed)._asdict()
    params, x = random_params(shape, seed), spread(shape, seed)
    check_layer(layer, BE, params, x, static=static, per_member=("mean", "variance", "residual"), seed=seed)


@given(inputs(), shapes.seeds())
def test_output_has_mean_beta_and_standard_deviation_gamma(shape, seed):
    x, params = 1e3 * spread(shape, seed), random_params(shape, seed)
    y, _, _ = norms.forward_training(BE, params, x)
    rows = y.reshape(*shape[:2], -1)
    np.testing.assert_allclose(rows.mean(axis=2), params.beta, atol=1e-9)
    np.testing.assert_allclose(rows.std(axis=2), np.abs(params.gamma), rtol=1e-6)  # ε is 1e-5 of ≥ 1e5


@given(inputs(), shapes.seeds())
def test_dx_is_orthogonal_to_shift_and_scale_of_x(shape, seed):
    """y does not change when a feature is shifted, and hardly when it is scaled, so dx has no such part."""
    x = 1e3 * spread(shape, seed)
    _, cache, statistics = norms.forward_training(BE, random_params(shape, seed), x)
    dy = np.random.default_rng([seed, 3]).standard_normal(shape)
    dx, _ = norms.backward_training(BE, dy, cache)
    rows, deviations = dx.reshape(*shape[:2], -1), x.reshape(*shape[:2], -1) - statistics.mean[:, :, None]
    np.testing.assert_allclose(rows.sum(axis=2), 0, atol=1e-14)
    np.testing.assert_allclose((rows * deviations).sum(axis=2), 0, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 1), (1, 4, 1, 1, 1)])
def test_a_single_value_per_feature_is_an_error_in_training(shape):
    x, params = np.zeros(shape), random_params(shape, 0)
    with pytest.raises(
        WnError, match=r"at least 2 values per feature.*got 1: the variance of a single value"
    ):
        norms.forward_training(BE, params, x)
    y, _ = norms.forward_inference(BE, params, random_running(shape, 0), x)
    assert y.shape == shape


def test_one_sample_with_several_pixels_is_fine():
    x = spread((1, 2, 3, 3, 2), 0)[..., :1]
    _, _, statistics = norms.forward_training(BE, random_params(x.shape, 0), x)
    assert statistics.values == 9


def test_constant_features_give_beta():
    params = random_params((1, 3), 0)
    y, cache, statistics = norms.forward_training(BE, params, np.full((1, 3, 8), 0.1, np.float64))
    np.testing.assert_allclose(y, np.broadcast_to(params.beta[:, :, None], y.shape), atol=1e-12)
    assert np.all(statistics.variance < 1e-30)
    assert np.isfinite(norms.backward_training(BE, np.ones(y.shape), cache)[0]).all()


def test_a_large_mean_does_not_drown_the_variance():
    """Squares of x would lose it: x² is 1e8, of which float32 keeps steps of 8."""
    x = (1e4 + np.random.default_rng(0).standard_normal((1, 2, 5000))).astype(np.float32)
    mean, _, variance = moments(np, x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=2), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var(axis=2), rtol=1e-5)
    assert mean.dtype == variance.dtype == np.float32


def test_long_rows_are_summed_accurately_in_float32():
    x = (1 + np.random.default_rng(0).random((1, 1, 1_000_000))).astype(np.float32)
    mean, _, variance = moments(np, x)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axis=2), rtol=5e-7)
    np.testing.assert_allclose(variance, x.astype(np.float64).var(axis=2), rtol=5e-6)


def test_noise_of_1e10_is_normalised_like_any_other_spread():
    z = np.random.default_rng(0).standard_normal((1, 3, 128)).astype(np.float32)
    params = BatchNormParams(*(array.astype(np.float32) for array in random_params(z.shape, 0)))
    dy = np.random.default_rng(1).standard_normal(z.shape).astype(np.float32)
    small, large = (
        norms.forward_training(BE, params, factor * z) for factor in (np.float32(2**10), np.float32(2**40))
    )
    np.testing.assert_allclose(large[0], small[0], rtol=1e-4, atol=1e-5)
    dx = [norms.backward_training(BE, dy, cache)[0] for cache in (small[1], large[1])]
    np.testing.assert_allclose(dx[1] * np.float32(2**30), dx[0], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_activations_that_are_not_finite_are_an_error(value):
    x = np.ones((1, 2, 4), np.float32)
    x[0, 1, 2] = value
    params = BatchNormParams(*(array.astype(np.float32) for array in random_params(x.shape, 0)))
    if BE.name == "formulas":  # a backend looks for it
        with np.errstate(invalid="ignore"):
            assert np.isnan(norms.forward_training(BE, params, x)[0][:, 1]).all()
        return
    with pytest.raises(WnError, match=r"batch norm: an activation is not finite in float32.*float64"):
        norms.forward_training(BE, params, x)


def test_in_a_network():
    layer = BatchNorm()
    assert layer.learns
    assert layer.output_shape((3, 4, 5)) == (3, 4, 5)
    assert layer.output_shape((7,)) == (7,)
    with pytest.raises(WnError, match=r"takes \(features,\) or .* got \(3, 4\)"):
        layer.output_shape((3, 4))

    def draw(part, shape, bound):
        return np.full((2, *shape), -bound, np.float32)

    params = layer.initial_parameters(BE, (3, 4, 5), draw)
    np.testing.assert_array_equal(params.gamma, np.ones((2, 3)))
    np.testing.assert_array_equal(params.beta, np.zeros((2, 3)))
    state = layer.initial_state(BE, (3, 4, 5), 2, np.float32)
    np.testing.assert_array_equal(state.mean, np.zeros((2, 3)))
    np.testing.assert_array_equal(state.variance, np.ones((2, 3)))
    np.testing.assert_array_equal(state.residual, np.zeros((2, 3)))
    assert {array.dtype for array in (*params, *state)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_updates_the_state_and_inference_uses_it(dtype):
    shape = (2, 3, 4, 4, 5)
    layer, x = BatchNorm(), spread(shape, 0).astype(dtype)
    params = BatchNormParams(*(array.astype(dtype) for array in random_params(shape, 0)))
    state = layer.initial_state(BE, shape[1:4], 2, dtype)
    training, inference = layer.for_phase(True), layer.for_phase(False)
    _, cache, new = training.forward(BE, params, x, state)
    assert new.mean.dtype == new.variance.dtype == dtype
    assert np.abs(new.mean - state.mean).max() > 0.01
    dx, grads = training.backward(BE, x, cache, True)
    np.testing.assert_array_equal(dx, norms.backward_training(BE, x, cache)[0])
    assert grads.gamma.dtype == dtype
    y, cache, same = inference.forward(BE, params, x, new)
    assert same is new
    np.testing.assert_array_equal(y, norms.forward_inference(BE, params, new, x)[0])
    np.testing.assert_array_equal(
        inference.backward(BE, x, cache, True)[0], norms.backward_inference(BE, x, cache)[0]
    )


def test_a_forward_that_would_never_be_called_is_refused():
    with pytest.raises(WnError, match="Own: a batch norm with its own forward needs its own for_phase"):

        class Own(BatchNorm):
            def forward(self, be, params, x, state):
                return x, None, state

    class Beside:
        def backward(self, be, dy, cache, need_dx):
            return dy, ()

    with pytest.raises(WnError, match="Mixed: a batch norm with its own backward needs its own for_phase"):

        class Mixed(Beside, BatchNorm):
            pass


def test_statistics_of_a_shared_input_update_every_member():
    running = random_running((3, 2), 0)
    batch = BatchStatistics(np.ones((1, 2)), np.full((1, 2), 2.0), 5, np.zeros((1, 2)))
    new = norms.update_running(BE, running, batch)
    np.testing.assert_allclose(new.mean, 0.9 * running.mean + 0.1)
    np.testing.assert_allclose(new.variance, 0.9 * running.variance + 0.1 * 2.5)


# ---- other settings ---------------------------------------------------------------------------------------

EPS = st.sampled_from([1e-8, 1e-3, 0.5])


@FEW
@given(inputs(smallest_population=2), EPS, shapes.seeds())
def test_any_eps_equals_loops(shape, eps, seed):
    x, params, running = spread(shape, seed), random_params(shape, seed), random_running(shape, seed)
    dy = np.random.default_rng([seed, 3]).standard_normal(shape)
    for be in (BE, *([] if needs_compiler.args[0] else [on_host()])):
        y, cache = batch_norm_training.forward(be, params, x, eps)
        expected = naive_statistics.batch_norm_forward(x, *params, eps).y
        assert_close(y, expected, reduction_length=x[0].size, magnitude=20.0, name="y")
        dx, grads = batch_norm_training.backward(be, dy, cache)
        expected = naive_statistics.batch_norm_backward(dy, x, params.gamma, eps)
        for found, wanted in zip((dx, *grads), expected, strict=True):
            assert_close(found, wanted, reduction_length=x[0].size, magnitude=float(np.abs(dy).sum() * 20))
        y, cache = batch_norm_inference.forward(be, params, x, running, eps)
        given_running = running.mean, running.variance
        expected = naive_statistics.batch_norm_inference_forward(x, *params, *given_running, eps)
        assert_close(y, expected, reduction_length=4, name="y")
        dx, grads = batch_norm_inference.backward(be, dy, cache)
        expected = naive_statistics.batch_norm_inference_backward(dy, x, params.gamma, *given_running, eps)
        for found, wanted in zip((dx, *grads), expected, strict=True):
            assert_close(found, wanted, reduction_length=x[0].size, magnitude=float(np.abs(dy).sum() * 20))
    check_layer(batch_norm_training, BE, params, x, static={"eps": eps}, seed=seed)


@pytest.mark.parametrize("momentum", [0.0, 0.03, 1.0])
def test_any_momentum_equals_loops(momentum):
    shape = (2, 3, 4, 5, 6)
    x, running = spread(shape, 1), random_running(shape, 1)
    for be in (BE, *([] if needs_compiler.args[0] else [on_host()])):
        _, _, statistics = norms.forward_training(be, random_params(shape, 1), x)
        new = be.update_running(running, statistics, momentum)
        mean, variance = naive_statistics.batch_norm_running(running.mean, running.variance, x, momentum)
        assert_close(new.mean, mean, reduction_length=x[0].size, magnitude=10.0, name="mean")
        assert_close(new.variance, variance, reduction_length=x[0].size, magnitude=10.0, name="variance")


def test_without_gamma_and_beta_they_are_1_and_0():
    shape = (2, 3, 4, 5, 6)
    x, dy = spread(shape, 2), np.random.default_rng(3).standard_normal(shape)
    usual = BatchNormParams(np.ones((2, 3)), np.zeros((2, 3)))
    layer = BatchNorm(eps=1e-3, momentum=0.2, affine=False)
    assert layer.initial_parameters(BE, (3, 4, 5), None) == ()
    for training in (True, False):
        found, expected = (one.for_phase(training) for one in (layer, BatchNorm(1e-3, 0.2)))
        y, cache, state = found.forward(BE, (), x, random_running(shape, 4))
        wanted, its_cache, its_state = expected.forward(BE, usual, x, random_running(shape, 4))
        np.testing.assert_array_equal(y, wanted)
        dx, grads = found.backward(BE, dy, cache, True)
        np.testing.assert_array_equal(dx, expected.backward(BE, dy, its_cache, True)[0])
        assert grads == ()
        for one, other in zip(state, its_state, strict=True):
            np.testing.assert_array_equal(one, other)


def test_settings_of_the_layer_are_run():
    shape = (1, 2, 3, 4, 5)
    x, params, running = spread(shape, 5), random_params(shape, 5), random_running(shape, 5)
    layer = BatchNorm(0.25, 0.5)
    _, _, state = layer.for_phase(True).forward(BE, params, x, running)
    mean, _ = naive_statistics.batch_norm_running(running.mean, running.variance, x, 0.5)
    np.testing.assert_allclose(state.mean, mean, rtol=1e-12)
    y, _, _ = layer.for_phase(False).forward(BE, params, x, running)
    expected = naive_statistics.batch_norm_inference_forward(x, *params, running.mean, running.variance, 0.25)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert BatchNorm().usual
    assert BatchNorm(batch_norm.EPSILON, batch_norm.MOMENTUM) == BatchNorm()
    assert not any(one.usual for one in (layer, BatchNorm(eps=1e-3), BatchNorm(affine=False)))


@pytest.mark.parametrize("layer", [BatchNorm(1e-3, 0.2), BatchNorm(affine=False)], ids=str)
def test_with_other_settings_it_is_recorded_and_may_be(layer):
    if BE.name == "numba":
        check_recorded(layer, (2, 4, 4))
    if BE.name == "numpy" and not needs_compiler.args[0]:
        check_recorded(layer, (2, 4, 4), be=on_host().be)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": 0.0}, "eps of a batch norm is 0.0: it must be above 0 and finite"),
        ({"eps": np.nan}, "eps of a batch norm is nan"),
        ({"momentum": 1.1}, "momentum of a batch norm is 1.1: it must be from 0 to 1"),
        ({"momentum": None}, "momentum of a batch norm is None"),
        ({"affine": 0}, "affine of a batch norm is 0: it must be True or False"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(WnError, match=message):
        BatchNorm(**settings)
