"""check_layer passes correct layers of every shape and says clearly what it cannot check."""

import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testing import toys
from wn.basics.errors import WnError
from wn.testing import KinkError, LayerCase, batch_first, check_layer, strategies
from wn.testing.layers import term_sizes

few = settings(max_examples=15)  # each example runs the layer several hundred times


@few
@given(data=st.data(), shape=strategies.linear_shapes(smallest_population=2), seed=strategies.seeds())
def test_correct_linear_layers_pass(data, shape, seed):
    params = toys.LinearParams(*(data.draw(strategies.arrays(s)) for s in (shape.w, shape.b)))
    x = data.draw(strategies.arrays(shape.x))
    check_layer(toys.LINEAR, None, params, x, seed=seed)
    check_layer(toys.LINEAR, None, params, x[:1], seed=seed)  # an input that the members share


@few
@given(data=st.data(), shape=strategies.dense_shapes(smallest_population=2))
def test_correct_relu_layers_pass(data, shape):
    check_layer(toys.RELU, None, (), data.draw(strategies.away_from_zero(shape)))


@few
@given(data=st.data(), image=st.booleans(), seed=strategies.seeds())
def test_correct_batch_norm_passes(data, image, seed):
    shapes = strategies.image_shapes if image else strategies.dense_shapes
    shape = data.draw(shapes(smallest_population=2, smallest_batch=3))
    params = toys.NormParams(*(data.draw(strategies.arrays(shape[:2])) for _ in range(2)))
    check_layer(toys.NORM, None, params, data.draw(strategies.distinct(shape)), seed=seed)


@few
@given(data=st.data(), shape=strategies.pooling_shapes(smallest_population=2, size=4))
def test_correct_max_pooling_passes(data, shape):
    x = data.draw(strategies.distinct(shape.x))
    check_layer(toys.MAX_POOL, None, (), x, static={"window": shape.window})


@pytest.mark.parametrize("with_scale", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_static_arrays_of_members_and_absent_parameters(with_scale, dtype):
    z = np.random.default_rng(0).standard_normal
    params = toys.SmoothParams(z((2, 3)).astype(dtype) if with_scale else None)
    static = {"weight": z((2, 1, 1)).astype(dtype)}
    x = z((2, 3, 4)).astype(dtype)
    check_layer(toys.SMOOTH, None, params, x, static=static, per_member=("weight",))


def test_gradient_of_a_shared_array_may_be_summed_over_the_members_or_not():
    params, x = toys.linear_case()

    def summed(be, dy, cache):
        dx, grads = toys.linear_backward(be, dy, cache)
        return dx.sum(axis=0, keepdims=True), grads

    check_layer(toys.LINEAR, None, params, x[:1])
    check_layer((toys.linear_forward, summed), None, params, x[:1])
    shared = toys.LinearParams(params.w[:1], params.b[:1])
    check_layer(toys.LINEAR, None, shared, x)


def test_a_module_or_an_object_is_a_layer():
    module = types.SimpleNamespace(forward=toys.linear_forward, backward=toys.linear_backward)
    check_layer(module, None, *toys.linear_case())


class Device(np.ndarray):
    """Stands for the arrays of another backend."""


class DeviceBackend:
    moved = 0

    def asarray(self, array):
        self.moved += 1
        return array.view(Device)

    def to_numpy(self, array):
        assert isinstance(array, Device)
        return array.view(np.ndarray)


def test_arrays_go_through_the_backend():
    def forward(be, params, x):
        assert all(isinstance(array, Device) for array in (x, *params))
        return toys.linear_forward(be, params, x)

    def backward(be, dy, cache):
        assert isinstance(dy, Device)
        return toys.linear_backward(be, dy, cache)

    be = DeviceBackend()
    check_layer((forward, backward), be, *toys.linear_case())
    assert be.moved > 100


def test_arguments_are_left_alone():
    params, x = toys.linear_case()
    before = [array.tobytes() for array in (x, *params)]
    check_layer(toys.LINEAR, None, params, x)
    assert [array.tobytes() for array in (x, *params)] == before


def test_the_size_of_terms_is_seen_where_they_cancel():
    """y = 1000 − 1000 + 0.001: layouts may differ by the roundings of 1000, not by those of 0.001."""
    params = toys.LinearParams(np.ones((2, 1, 3)), np.zeros((2, 1)))
    x = np.array([[[1000.0], [-1000.0], [1e-3]], [[1.0], [2.0], [3.0]]])
    case = LayerCase(toys.LINEAR, None, params, x)
    sizes = term_sizes(case, np.ones((2, 1, 1)))
    assert 1000 <= sizes["y"][0].item() <= 8000  # a rounding of 1000 is up to 1024 eps
    assert 6 <= sizes["y"][1].item() <= 24
    assert sizes["dx"].shape == x.shape


def test_a_sum_that_cancels_is_no_failure():
    """Two orders of a sum of one feature only, whose terms nearly cancel."""
    rng = np.random.default_rng(0)
    terms = rng.standard_normal((2, 1, 200))
    terms[:, :, -1] -= terms.sum(axis=2) * (1 - 1e-6)
    check_layer(toys.NORM, None, toys.NormParams(np.ones((2, 1)), np.zeros((2, 1))), terms)
    check_layer(toys.LINEAR, None, toys.LinearParams(terms, np.zeros((2, 1))), np.ones((2, 200, 1)))


# ---- what cannot be checked is said ---------------------------------------------------------------------


def test_a_population_of_one_is_refused():
    with pytest.raises(WnError, match="at least 2"):
        check_layer(toys.LINEAR, None, *toys.linear_case(population=1))


X = np.ones((2, 3, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": (toys.linear_forward,)}, "forward and backward"),
        ({"layer": object()}, "forward and backward"),
        ({"params": np.ones(3)}, "NamedTuple"),
        ({"params": {"x": np.ones((2, 3, 3))}}, "a parameter is called x"),
        ({"params": {3.5: np.ones((2, 3, 3))}}, "key 3.5"),
        (
            {"params": toys.LinearParams(np.ones((3, 3, 3)), np.ones((3, 3)))},
            "the first axis is 2 for x, 3 for w",
        ),
        ({"params": toys.LinearParams(np.ones((2, 3, 3), int), np.ones((2, 3)))}, "w must be a floating"),
        ({"x": np.full((2, 3, 4), np.nan)}, "x of shape .* finite"),
        ({"x": np.ones((2, 0, 4))}, "must not be empty"),
        ({"x": [[1.0]]}, "x must be a floating NumPy array"),
        ({"per_member": ("weight",)}, "'weight'"),
        ({"static": {"weight": np.ones((3, 1))}, "per_member": ("weight",)}, "2 for x, 3 for weight"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    case = {"layer": toys.RELU, "be": None, "params": (), "x": X, **arguments}
    with pytest.raises(WnError, match=message):
        LayerCase(**case)


# ---- other layouts --------------------------------------------------------------------------------------


def dense_forward(params, x, scale=1.0):
    """Samples first, no members, weights in a dict: (B, I) -> (B, O)."""
    return scale * x @ params["w"] + params["b"], (params, x, scale)


def dense_backward(dy, cache):
    params, x, scale = cache
    return scale * dy @ params["w"].T, {"w": scale * x.T @ dy, "b": dy.sum(axis=0)}


def dense_case():
    z = np.random.default_rng(2).standard_normal
    return {"w": z((4, 3)), "b": z(3)}, z((8, 4))


def test_layers_with_the_batch_first():
    params, x = dense_case()
    check_layer(batch_first(dense_forward, dense_backward), None, params, x)
    check_layer(batch_first(dense_forward, dense_backward), None, params, x, static={"scale": 2.0})
    as_list = (
        lambda params, x: dense_forward({"w": params[0], "b": params[1][0]}, x),
        lambda dy, cache: (dense_backward(dy, cache)[0], [dense_backward(dy, cache)[1][n] for n in "wb"]),
    )
    with pytest.raises(AssertionError, match=r"grads\[1\] is ndarray, params\[1\] is list of 1"):
        check_layer(batch_first(*as_list), None, [params["w"], [params["b"]]], x)


BATCH_FIRST_BUGS = {
    r"gradient is wrong: w\[0, 0\]": lambda dx, grads, dy: (dx, grads | {"w": grads["w"] / 2}),
    r"the gradient of x has shape \(7, 4\), x has \(8, 4\) \(samples, features…\)": lambda dx, grads, dy: (
        dx[1:],
        grads,
    ),
    r"the gradient of b has shape \(8, 3\), b has \(3,\)": lambda dx, grads, dy: (dx, grads | {"b": dy}),
    "grads has arrays for|grads has \\['w'\\]": lambda dx, grads, dy: (dx, {"w": grads["w"]}),
}


@pytest.mark.parametrize("message", BATCH_FIRST_BUGS)
def test_their_mistakes_are_named_in_their_layout(message):
    def backward(dy, cache):
        return BATCH_FIRST_BUGS[message](*dense_backward(dy, cache), dy)

    with pytest.raises(AssertionError, match=message) as failure:
        check_layer(batch_first(dense_forward, backward), None, *dense_case())
    assert "batch_first(" in str(failure.value) or "BatchFirst" in str(failure.value)


def test_a_layout_that_was_not_meant_is_named():
    """Batch first without the adapter: the message says what each axis is, and where to go."""
    params, x = dense_case()
    with pytest.raises(
        WnError, match=r"the first axis is 8 for x, 4 for w, 3 for b.*`batch_first`"
    ) as failure:
        check_layer((dense_forward, dense_backward), None, params, x)
    assert "counts the members P" in str(failure.value)
    with pytest.raises(WnError, match="backward is int: batch_first takes two functions"):
        batch_first(dense_forward, 3)


# ---- repeatability --------------------------------------------------------------------------------------


def test_random_draws_are_named_first():
    """Dropout without fixed draws looked like a kink, a random backward like a spoiled cache."""
    rng = np.random.default_rng(0)
    params, x = toys.linear_case()

    def dropout(be, params, x):
        y, cache = toys.linear_forward(be, params, x)
        return y * rng.integers(0, 2, y.shape), cache

    def noisy(be, dy, cache):
        dx, grads = toys.linear_backward(be, dy, cache)
        return dx + 1e-9 * rng.standard_normal(dx.shape), grads

    with pytest.raises(AssertionError, match=r"^forward twice on the same input gives different results"):
        check_layer((dropout, toys.linear_backward), None, params, x)
    with pytest.raises(AssertionError, match=r"^backward twice on the same input gives different results"):
        check_layer((toys.linear_forward, noisy), None, params, x)


def test_subgradients_at_kinks():
    layer = (toys.relu_forward, toys.relu_backward)
    x = np.array([[[0.0, 1.0]], [[-1.0, 0.0]]])
    with pytest.raises(KinkError, match="subgradients=True"):
        check_layer(layer, None, (), x)
    check_layer(layer, None, (), x, subgradients=True)
