"""check_layer passes correct layers of every shape and says clearly what it cannot check."""

import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testing import toys
from wn.errors import WnError
from wn.testing import LayerCase, check_layer, check_shapes, strategies
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


# ---- failures can be repeated ---------------------------------------------------------------------------


def failing_case(size=2):
    params, x = toys.linear_case(population=2, size=size, batch=2)

    def backward(be, dy, cache):
        dx, grads = toys.linear_backward(be, dy, cache)
        return dx[:, :1], grads

    def forward(be, params, x, flag):
        return toys.linear_forward(be, params, x)

    return LayerCase((forward, backward), None, params, x, {"flag": True}, seed=77)


def test_repro_snippet_rebuilds_the_case():
    case = failing_case()
    with pytest.raises(AssertionError) as failure:
        check_shapes(case)
    message, mark, snippet = str(failure.value).partition("# repro, seed 77:\n")
    assert mark
    assert "gradient of x has shape (2, 1, 2), x has (2, 2, 2)" in message
    built: dict = {"LinearParams": toys.LinearParams}
    lines = snippet.splitlines()
    exec("\n".join(lines[:-1]), built)
    assert built["x"].tobytes() == case.x.tobytes()
    assert built["x"].dtype == case.x.dtype
    assert all(np.array_equal(a, b) for a, b in zip(built["params"], case.params, strict=True))
    assert "seed=77" in lines[-1]
    assert "'flag': True" in lines[-1]
    assert "forward" in lines[-1]


def test_large_arrays_are_named_by_dtype_and_shape():
    snippet = failing_case(size=9).repro()
    assert "float64 (2, 9, 9): too large to show" in snippet
    assert len(snippet) < 2000
