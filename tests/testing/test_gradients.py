"""check_gradient at kinks, at steep and at large values: it fails loudly where it cannot judge."""

import numpy as np
import pytest

from tests.testing import toys
from wn.basics.errors import WnError
from wn.testing import KinkError, LayerCase, UnresolvedError, check_gradient
from wn.testing.gradients import sum_shared

STEP = 2.0**-14


def elementwise(function, derivative):
    """A layer y = function(x)."""

    def forward(be, params, x):
        return function(x), toys.MaskCache(x)

    def backward(be, dy, cache):
        return dy * derivative(cache.mask), ()

    return forward, backward


def values(*numbers):
    """An array (1, 1, B)."""
    return np.array([[[*numbers, 1.0]]])


# ---- kinks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [-0.5, 0.5, 1e-6])
def test_a_kink_at_x_is_named(other):
    case = LayerCase(toys.RELU, None, (), values(0.0, other))
    with pytest.raises(
        KinkError, match=r"x lies on a kink: at x\[0, 0, 0\] the slope of y\[0, 0, 0\] changes"
    ):
        check_gradient(case)


@pytest.mark.parametrize("distance", [1e-1, 3e-3, 1e-4, -7e-5, 1e-6, -1e-7])
def test_a_kink_beside_x_does_not_matter(distance):
    """Steps shrink until they are on one side of it: no step of the caller's is needed."""
    check_gradient(LayerCase(toys.RELU, None, (), values(distance, -0.5)))
    with pytest.raises(AssertionError, match="gradient is wrong"):
        check_gradient(LayerCase(elementwise(lambda x: np.maximum(x, 0), np.cos), None, (), values(distance)))


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_any_subgradient_is_accepted_where_the_caller_says_so(slope):
    """ReLU at 0: each slope in [0, 1] is a convention in use; beyond that it is wrong."""
    relu = elementwise(lambda x: np.maximum(x, 0), lambda x: np.heaviside(x, slope))
    check_gradient(LayerCase(relu, None, (), values(0.0, -0.5, 0.3)), subgradients=True)
    for wrong in (1.001, -0.001, np.nan):
        relu = elementwise(lambda x: np.maximum(x, 0), lambda x, wrong=wrong: np.heaviside(x, wrong))
        with pytest.raises(AssertionError, match=r"half the jump of the slope|nan"):
            check_gradient(LayerCase(relu, None, (), values(0.0, -0.5, 0.3)), subgradients=True)


def test_a_mistake_elsewhere_does_not_hide_behind_a_kink():
    relu = elementwise(lambda x: np.maximum(x, 0), lambda x: np.where(x > 0.2, 1.001, x > 0))
    with pytest.raises(AssertionError, match=r"gradient is wrong: x\[0, 0, 2\]"):
        check_gradient(LayerCase(relu, None, (), values(0.0, -0.5, 0.3)), subgradients=True)


def test_a_tie_of_max_pooling_is_a_kink():
    x = np.array([1.0, 1.0, 0.5, 0.0]).reshape(1, 1, 2, 2, 1)
    with pytest.raises(KinkError, match="kink"):
        check_gradient(LayerCase(toys.MAX_POOL, None, (), x, {"window": (2, 2)}))


def one_of_the_tied(share):
    """Max pooling whose backward gives the first of tied elements a share and the second the rest."""

    def backward(be, dy, cache):
        dx = np.zeros((1, 1, 2, 2, 1))
        dx[0, 0, 0, 0], dx[0, 0, 0, 1] = share * dy[0, 0, 0, 0], (1 - share) * dy[0, 0, 0, 0]
        return dx, ()

    return toys.max_pool_forward, backward


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_ties_of_max_pooling_may_be_split_in_any_way(share):
    x = np.array([1.0, 1.0, 0.5, 0.0]).reshape(1, 1, 2, 2, 1)
    check_gradient(LayerCase(one_of_the_tied(share), None, (), x, {"window": (2, 2)}), subgradients=True)
    for layer in (one_of_the_tied(1.5), toys.MAX_POOL):  # the toy gives both elements all of it
        with pytest.raises(AssertionError, match="gradient is wrong"):
            check_gradient(LayerCase(layer, None, (), x, {"window": (2, 2)}), subgradients=True)


def test_a_jump_is_a_kink():
    sign = elementwise(np.sign, np.zeros_like)
    with pytest.raises(KinkError, match="jumps"):
        check_gradient(LayerCase(sign, None, (), values(0.0)))
    check_gradient(LayerCase(sign, None, (), values(1e-5)))  # beside it, y is constant
    floor = elementwise(np.floor, np.zeros_like)
    with pytest.raises(KinkError, match="jumps"):
        check_gradient(LayerCase(floor, None, (), values(3.0)))


def test_curvature_is_not_a_kink():
    """Second differences of smooth functions fall by four however curved, so no false alarm."""
    for function, derivative in [
        (np.exp, np.exp),
        (lambda x: 1 / (x + 3), lambda x: -1 / (x + 3) ** 2),
        (lambda x: np.tanh(20 * x), lambda x: 20 / np.cosh(20 * x) ** 2),
        (lambda x: x**6, lambda x: 6 * x**5),
    ]:
        x = np.random.default_rng(1).uniform(-1, 1, (2, 3, 4))
        check_gradient(LayerCase(elementwise(function, derivative), None, (), x))


# ---- where differences cannot decide --------------------------------------------------------------------


def test_values_that_drown_the_differences():
    """Larger steps help where y is a line; where it is bent, nothing does."""
    huge = elementwise(lambda x: x + 1e14, np.ones_like)
    check_gradient(LayerCase(huge, None, (), values(0.5)))
    bent = elementwise(lambda x: np.sin(x) + 1e14, np.cos)
    with pytest.raises(UnresolvedError, match="the rounding of y hides the gradient"):
        check_gradient(LayerCase(bent, None, (), values(0.5)))


def test_a_function_too_steep_for_the_step():
    wild = elementwise(lambda x: np.sin(1500 * x), lambda x: 1500 * np.cos(1500 * x))
    case = LayerCase(wild, None, (), values(0.3, 0.4))
    check_gradient(case)
    check_gradient(case, step=1e-5)


def test_an_output_that_does_not_depend_on_x_has_gradient_zero():
    constant = elementwise(lambda x: np.full_like(x, 7.0), np.zeros_like)
    check_gradient(LayerCase(constant, None, (), values(0.5)))
    wrong = elementwise(lambda x: np.full_like(x, 7.0), lambda x: np.full_like(x, 1e-6))
    with pytest.raises(AssertionError, match="gradient is wrong"):
        check_gradient(LayerCase(wrong, None, (), values(0.5)))
    tiny = elementwise(lambda x: np.full_like(x, 7.0), lambda x: np.full_like(x, 1e-15))
    with pytest.raises(UnresolvedError, match="hides"):  # y = 7 + 1e-15·x would look the same
        check_gradient(LayerCase(tiny, None, (), values(0.5)))


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1.0, 1e10, 1e100])
def test_the_step_follows_the_values(scale):
    params, x = toys.linear_case()
    params = params._replace(b=params.b * scale)
    check_gradient(LayerCase(toys.LINEAR, None, params, x * scale))
    wrong = (toys.linear_forward, lambda be, dy, cache: (dy * 1.0, toys.linear_backward(be, dy, cache)[1]))
    with pytest.raises(AssertionError, match="gradient is wrong: x"):
        check_gradient(LayerCase(wrong, None, params, x * scale))


def test_float32_cases_are_checked_in_float64():
    params, x = toys.linear_case()
    single = toys.LinearParams(*(a.astype(np.float32) for a in params))
    seen = set()

    def forward(be, params, x):
        seen.add((x.dtype.name, params.w.dtype.name))
        return toys.linear_forward(be, params, x)

    check_gradient(LayerCase((forward, toys.linear_backward), None, single, x.astype(np.float32)))
    assert seen == {("float64", "float64")}


def test_every_coordinate_is_probed_where_there_are_few():
    params, x = toys.linear_case(population=2, size=2, batch=2)
    for index in np.ndindex(x.shape):

        def backward(be, dy, cache, index=index):
            dx, grads = toys.linear_backward(be, dy, cache)
            dx[index] += 1e-5
            return dx, grads

        place = rf"x\[{', '.join(map(str, index))}\]"
        with pytest.raises(AssertionError, match=f"gradient is wrong: {place}"):
            check_gradient(LayerCase((toys.linear_forward, backward), None, params, x))


def test_random_directions_see_what_no_coordinate_was_chosen_for():
    params, x = toys.linear_case(size=10, batch=10)

    def backward(be, dy, cache):
        dx, grads = toys.linear_backward(be, dy, cache)
        dx[-1, -1, -1] += 0.1
        return dx, grads

    with pytest.raises(AssertionError, match="x along random direction 0"):
        check_gradient(LayerCase((toys.linear_forward, backward), None, params, x), coordinates=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"directions": 0}, "directions is 0"),
        ({"coordinates": 0}, "coordinates is 0"),
        ({"step": 0.0}, "step is 0.0"),
        ({"step": float("nan")}, "step is nan"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(WnError, match=message):
        check_gradient(LayerCase(toys.LINEAR, None, *toys.linear_case()), **settings)


def test_sum_shared():
    gradient = np.arange(6.0).reshape(3, 2)
    assert sum_shared(gradient, (1, 2)).tolist() == [[6.0, 9.0]]
    assert sum_shared(gradient, (3, 2)) is gradient
