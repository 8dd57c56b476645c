"""check_vjp and numerical_gradient: right gradients pass, wrong ones do not, the rest is said."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wn.basics.errors import WnError
from wn.testing import KinkError, UnresolvedError, check_vjp, numerical_gradient, strategies

RNG = np.random.default_rng(0)
X, A = RNG.normal(size=(5, 4)), RNG.normal(size=(3, 4))  # samples first
WIDE = 10.0 ** np.linspace(-4, 4, 9)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    p = np.exp(x - x.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def softmax_vjp(dy, x):
    p = softmax(x)
    return p * (dy - (dy * p).sum(axis=1, keepdims=True))


def scaled_sine(scale):
    return lambda x: scale * np.sin(x / scale), lambda dy, x: dy * np.cos(x / scale), X * scale


RIGHT = {
    "samples first": (lambda x, a: x @ a.T, lambda dy, x, a: (dy @ a, dy.T @ x), X, A),
    "values of 1e-200": scaled_sine(1e-200),
    "values of 1e200": scaled_sine(1e200),
    "log over eight decades": (np.log, lambda dy, x: dy / x, WIDE),
    "sqrt over eight decades": (np.sqrt, lambda dy, x: dy / (2 * np.sqrt(x)), WIDE),
    "log close to 0": (np.log, lambda dy, x: dy / x, np.array([1e-12, 1.0, 2.0])),
    "many periods": (lambda x: np.sin(1e3 * x), lambda dy, x: 1e3 * dy * np.cos(1e3 * x), X),
    "whole periods": (
        lambda x: np.sin(128 * np.pi * x),
        lambda dy, x: 128 * np.pi * dy * np.cos(128 * np.pi * x),
        X,
    ),
    "steps": (np.floor, lambda dy, x: 0 * dy, X),
    "a constant": (lambda x: np.full(3, 7.0), lambda dy, x: 0 * x, X),
    "switched off": (lambda x: np.maximum(x, 0), lambda dy, x: 0 * dy, -np.abs(X) - 0.1),
    "saturated": (np.tanh, lambda dy, x: dy * (1 - np.tanh(x) ** 2), np.array([20.0, 1.0, 0.3, -25.0])),
    "almost saturated": (
        sigmoid,
        lambda dy, x: dy * sigmoid(x) * (1 - sigmoid(x)),
        np.array([34.0, 30, 1, -25]),
    ),
    "softmax with tiny outputs": (softmax, softmax_vjp, 10 * X),
    "unused elements": (lambda x: np.max(x, axis=0) + 1e4, lambda dy, x: dy * (x == x.max(axis=0)), X),
    "a number": (lambda x: x * x, lambda dy, x: 2 * dy * x, 3.0),
    "an array without axes": (lambda x: x * x, lambda dy, x: 2 * dy * x, np.array(3.0)),
    "a tuple of one": (np.exp, lambda dy, x: (dy * np.exp(x),), X),
    "end of the domain": (lambda x: x**2.5, lambda dy, x: 2.5 * dy * x**1.5, np.array([0.0, 1.0])),
    "not contiguous": (np.exp, lambda dy, x: dy * np.exp(x), X[::2, ::-1].T),
    "half precision": (np.exp, lambda dy, x: dy * np.exp(x), X.astype(np.float16)),
    "extended precision": (np.exp, lambda dy, x: dy * np.exp(x), X.astype(np.longdouble)),
    "an empty array beside": (
        lambda x, e: np.exp(x),
        lambda dy, x, e: (dy * np.exp(x), 0 * e),
        X,
        np.ones((0, 2)),
    ),
    "an index beside": (
        lambda x, i: x[:, i],
        lambda dy, x, i: (dy[:, None] * (np.arange(4) == i), None),
        X,
        2,
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_pass(name):
    f, vjp, *arrays = RIGHT[name]
    check_vjp(f, vjp, *arrays)


@pytest.mark.parametrize("error", [1e-6, -1e-3, 1.0])
@pytest.mark.parametrize(
    "name", [n for n in RIGHT if n not in ("steps", "a constant", "switched off", "unused elements")]
)
def test_an_error_in_a_single_element_does_not(name, error):
    """The element with the smallest gradient that is not nothing: it must not hide behind the others."""
    f, vjp, *arrays = RIGHT[name]

    def wrong(dy, *arrays):
        result = vjp(dy, *arrays)
        first = np.array(result[0] if isinstance(result, tuple) else result)
        sizes = np.abs(first).reshape(-1)
        weakest = np.argmin(np.where(sizes > 1e-6 * sizes.max(), sizes, np.inf))
        first.reshape(-1)[weakest] *= 1 + error
        first = first if np.ndim(first) else first[()]
        return (first, *result[1:]) if isinstance(result, tuple) else first

    with pytest.raises(AssertionError, match="the gradient is wrong"):
        check_vjp(f, wrong, *arrays)


# ---- what is large must not hide what is small ----------------------------------------------------------


@pytest.mark.parametrize("exponent", [4, 8, 10, 12, 14, 16, 17, 20])
def test_terms_that_dwarf_others(exponent):
    """y = w·x with x[0] of 1e10: rounding of y counts only where y depends on what is probed."""
    x = np.array([10.0**exponent, 1.0, 1.0])
    w = np.ones((2, 3))
    check_vjp(lambda w: w @ x, lambda dy, w: np.outer(dy, x), w)
    for part in (0.0, 1.01):
        if exponent < 17 or part == 0:
            with pytest.raises(AssertionError, match=r"wrong: w\[0, 1\]"):
                check_vjp(lambda w: w @ x, lambda dy, w, part=part: np.outer(dy, x * [1, part, part]), w)


@pytest.mark.parametrize("exponent", [4, 8, 10, 12, 14, 16, 17, 20])
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_terms_that_dwarf_bent_ones(exponent, part):
    """y = 1e10·a + sin(b): larger steps cannot help. A wrong gradient is caught, or nothing is decided."""
    scale = 10.0**exponent

    def vjp(dy, x):
        return dy * np.array([scale, part * np.cos(x[1])])

    expected = AssertionError if part < 1 and exponent < 14 else UnresolvedError
    if part == 1 and exponent == 4:
        check_vjp(lambda x: scale * x[0] + np.sin(x[1]), vjp, np.ones(2))
        return
    with pytest.raises(expected):
        check_vjp(lambda x: scale * x[0] + np.sin(x[1]), vjp, np.ones(2))


def test_an_output_that_dwarfs_another():
    for vjp in (lambda dy, x: 1e10 * dy[0], lambda dy, x: 1e10 * dy[0] + 1.001 * dy[1]):
        with pytest.raises(AssertionError, match="gradient is wrong"):
            check_vjp(lambda x: (1e10 * x, x), vjp, X)


def test_terms_that_cancel():
    """A bias before batch norm: its gradient is exactly 0, and y holds the rounding of the bias."""

    def f(x, b):
        z = x + b
        return (z - z.mean(axis=0)) / z.std(axis=0)

    def vjp(dy, x, b, factor=1.0):
        z = x + b
        n = (z - z.mean(axis=0)) / z.std(axis=0)
        dx = (dy - dy.mean(axis=0) - n * (dy * n).mean(axis=0)) / z.std(axis=0)
        return factor * dx, np.zeros(b.shape)

    for bias in (0.0, 1.0, 10.0, 1e4):
        b = bias + RNG.normal(size=4)
        check_vjp(f, vjp, X, b)
        check_vjp(f, lambda dy, x, b: (vjp(dy, x, b)[0], vjp(dy, x, b)[0].sum(axis=0)), X, b)
        with pytest.raises(AssertionError, match="gradient is wrong: x"):
            check_vjp(f, lambda dy, x, b: vjp(dy, x, b, 1 + 1e-6), X, b)
        with pytest.raises(AssertionError, match="gradient is wrong: b"):
            check_vjp(f, lambda dy, x, b: (vjp(dy, x, b)[0], np.full(4, 1e-7)), X, b)


# ---- kinks and what else cannot be decided --------------------------------------------------------------


def test_kinks():
    x = np.array([0.0, 2.0, -1.0])
    for slope in (0.0, 0.4, 1.0):
        relu = lambda x: np.maximum(x, 0), lambda dy, x, slope=slope: dy * np.heaviside(x, slope)
        with pytest.raises(KinkError, match=r"at x\[0\] the slope of y\[0\] changes from 0 to 1"):
            check_vjp(*relu, x)
        check_vjp(*relu, x, subgradients=True)
    with pytest.raises(AssertionError, match="half the jump"):
        check_vjp(lambda x: np.maximum(x, 0), lambda dy, x: dy * np.heaviside(x, 1.1), x, subgradients=True)
    for f in (np.floor, np.sign):
        with pytest.raises(KinkError, match="jumps"):
            check_vjp(f, lambda dy, x: 0 * dy, x)
    with pytest.raises(KinkError):
        check_vjp(np.sqrt, lambda dy, x: np.full(1, np.inf), np.zeros(1))


def test_a_result_in_float32():
    """JAX's default, torch.float32: differences would see steps of 1e-7."""
    with pytest.raises(UnresolvedError, match="y is float32 although x is float64"):
        check_vjp(lambda x: np.float32(x), lambda dy, x: dy, X)
    with pytest.raises(UnresolvedError, match="y is float16 although w is float64"):
        numerical_gradient(lambda w: np.float16(w), 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_float32_inside(seed):
    """The right gradient must not look wrong by 1.00045, the wrong one must."""

    def f(x):
        return (np.float32(x) ** 2 + np.float32(3)).astype(np.float64)

    x = np.random.default_rng(seed).normal(size=(3, 4))
    with pytest.raises(UnresolvedError, match="as if f used float32"):
        check_vjp(f, lambda dy, x: 2 * dy * x, x, seed=seed)
    with pytest.raises(AssertionError, match="gradient is wrong"):
        check_vjp(f, lambda dy, x: dy * x, x, seed=seed)


@pytest.mark.parametrize(
    ("f", "vjp", "message"),
    [
        (lambda x: x * RNG.normal(), lambda dy, x: dy, "^f twice on the same input gives different results"),
        (
            lambda x: x,
            lambda dy, x: dy * RNG.normal(),
            "^vjp twice on the same input gives different results",
        ),
        (lambda x: np.multiply(x, 2, out=x), lambda dy, x: 2 * dy, "^f changed its argument x"),
        (lambda x: x, lambda dy, x: dy[:1], r"^the gradient of x has shape \(1, 4\), x has \(5, 4\)"),
        (lambda x: x.sum(), lambda dy, x: dy, r"^the gradient of x has shape \(\), x has \(5, 4\)"),
        (lambda x: x, lambda dy, x: np.float32(dy), "^the gradient of x is float32 although"),
        (lambda x: x, lambda dy, x: dy.astype(int), "^the gradient of x is int64 although"),
        (lambda x: x, lambda dy, x: [dy, dy], "^the gradient of x is list of 2, it must be an array"),
        (lambda x: x, lambda dy, x: dy * np.nan, "^the gradient is wrong: .* nan"),
        (lambda x: x, lambda dy, x: None, r"^the gradient is wrong: x\[0, 0\]: the vjp gives 0.0"),
    ],
)
def test_broken_functions(f, vjp, message):
    with pytest.raises(AssertionError, match=message):
        check_vjp(f, vjp, X)


@pytest.mark.parametrize(
    ("f", "arrays", "message"),
    [
        (lambda x: x, (), "no arrays"),
        (lambda x: x, (3,), "x is int"),
        (lambda x: x, (np.ones(3, bool),), "x is bool of shape"),
        (lambda x: x, (np.ones((0, 3)),), r"x is float64 of shape \(0, 3\)"),
        (lambda x: x, (1j,), "x is complex"),
        (lambda x: x, ({"w": np.ones(2, complex)},), "x.w is complex"),
        (lambda x: x, (np.array([np.inf]),), "x must be finite"),
        (lambda x: 1j * x, (X,), "y is complex128"),
        (lambda x: x > 0, (X,), "y is bool"),
        (lambda x: (x, None), (X,), r"y\[1\] is None"),
        (lambda x: "y", (X,), "y is str"),
        (lambda x: x[:0], (X,), "y is empty"),
        (lambda x: np.full(2, np.nan), (X,), r"y\[0\] is nan: there is no derivative"),
        (lambda x: np.log(x), (-1.0,), "y is nan"),
        (5, (X,), "f is int"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_has_no_gradient(f, arrays, message):
    with pytest.raises(WnError, match=message):
        check_vjp(f, lambda dy, *arrays: dy, *arrays)


# ---- structures -----------------------------------------------------------------------------------------


class Pair(NamedTuple):
    w: np.ndarray
    b: np.ndarray


def dense(params, x, power):
    """Two outputs in a dict, one of them a list."""
    return {"a": x @ params["w"].T + params["b"], "norms": [params["b"] ** power, float(np.sum(x * x))]}


def dense_vjp(dy, params, x, power):
    a, (c, d) = dy["a"], dy["norms"]
    db = a.sum(axis=0) + power * c * params["b"] ** (power - 1)
    return {"w": a.T @ x, "b": db}, a @ params["w"] + 2 * d * x, None


def test_dicts_lists_and_numbers():
    params = {"w": A, "b": np.abs(A[:, 0]) + 1}
    check_vjp(dense, dense_vjp, params, X, 3)
    with pytest.raises(AssertionError, match=r"wrong: params\.b\[0\]"):
        check_vjp(dense, lambda dy, *a: dense_vjp(dy, *a[:2], 2), params, X, 3)
    with pytest.raises(AssertionError, match=r"the gradient of params has \['w'\], params has \['b', 'w'\]"):
        check_vjp(dense, lambda dy, *a: ({"w": 0 * A}, X, None), params, X, 3)
    with pytest.raises(AssertionError, match="for 3 arrays it must be a tuple of 3"):
        check_vjp(dense, lambda dy, *a: dense_vjp(dy, *a)[:2], params, X, 3)


def test_named_tuples_and_nested_lists():
    def f(params):
        return params[0].w @ params[0].b + params[1][0]

    def vjp(dy, params):
        pair = Pair(np.outer(dy, params[0].b), params[0].w.T @ dy)
        return [pair, [dy]]

    params = [Pair(A, X[0]), [np.ones(3)]]
    check_vjp(f, vjp, params)
    with pytest.raises(AssertionError, match=r"must be of params\[0\]'s type Pair"):
        check_vjp(f, lambda dy, params: [tuple(vjp(dy, params)[0]), [dy]], params)


def test_directions_on_the_simplex_and_among_symmetric_matrices():
    """Along what the caller allows: f is not even defined elsewhere."""

    def entropy(p):
        assert abs(p.sum() - 1) < 1e-12
        return -np.sum(p * np.log(p))

    p, along = np.array([0.2, 0.3, 0.5]), [[1.0, -1.0, 0.0], np.array([0.0, 1.0, -1.0])]
    check_vjp(entropy, lambda dy, p: -dy * np.log(p), p, directions=along)
    with pytest.raises(AssertionError, match=r"wrong: directions\[0\]"):
        check_vjp(entropy, lambda dy, p: -dy * p, p, directions=along)

    def log_determinant(s):
        assert np.array_equal(s, s.T)
        return 2 * np.sum(np.log(np.diag(np.linalg.cholesky(s))))

    s = np.cov(RNG.normal(size=(3, 50)))
    along = [np.ones((3, 3)), np.diag([1.0, 0, 0]), np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, 0]])]
    check_vjp(log_determinant, lambda dy, s: dy * np.linalg.inv(s), s, directions=along)
    with pytest.raises(AssertionError, match="gradient is wrong"):
        check_vjp(log_determinant, lambda dy, s: dy * np.linalg.inv(s).round(2), s, directions=along)
    with pytest.raises(UnresolvedError, match="pass directions in which it is defined"):
        check_vjp(log_determinant, lambda dy, s: dy * np.linalg.inv(s), s)
    (both,) = [
        (
            lambda x, s: x * log_determinant(s),
            lambda dy, x, s: (dy * log_determinant(s), dy * x * np.linalg.inv(s)),
        )
    ]
    check_vjp(*both, 2.0, s, directions=[(1.0, along[0]), (None, along[1])])


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        ([], "at least one direction"),
        (3, "a sequence"),
        ([np.zeros((5, 4))], r"directions\[0\] is zero"),
        ([np.ones(4)], r"shape \(5, 4\) of x, it is \(4,\)"),
        ([np.full((5, 4), np.nan)], "finite"),
    ],
)
def test_directions_that_do_not_fit(directions, message):
    with pytest.raises(WnError, match=message):
        check_vjp(np.exp, lambda dy, x: dy * np.exp(x), X, directions=directions)


# ---- numerical_gradient ---------------------------------------------------------------------------------


def test_numerical_gradient():
    assert np.allclose(numerical_gradient(lambda x: np.sum(x**3), X), 3 * X**2, rtol=1e-10)
    dy = RNG.normal(size=(5, 3))
    dx, da = numerical_gradient(lambda x, a: x @ a.T, X, A, dy=dy)
    assert np.allclose(dx, dy @ A, rtol=1e-10)
    assert np.allclose(da, dy.T @ X, rtol=1e-10)
    assert numerical_gradient(lambda x: x * x, 3.0).shape == ()
    params, count = {"w": A, "b": [X[0]]}, 3
    grads, none = numerical_gradient(lambda p, n: n * np.sum(p["w"] @ p["b"][0]), params, count)
    assert none is None
    assert np.allclose(grads["w"], 3 * np.tile(X[0], (3, 1)))
    assert np.allclose(grads["b"][0], 3 * A.sum(axis=0))


def test_what_numerical_gradient_refuses():
    with pytest.raises(WnError, match=r"f returns y of shape \(5, 4\): pass dy"):
        numerical_gradient(np.exp, X)
    with pytest.raises(WnError, match=r"dy has shape \(4,\), y has \(5, 4\)"):
        numerical_gradient(np.exp, X, dy=np.ones(4))
    with pytest.raises(KinkError):
        numerical_gradient(lambda x: abs(x), 0.0)
    with pytest.raises(UnresolvedError, match="the rounding of y hides the gradient at x"):
        numerical_gradient(lambda x: 1e12 + np.sin(x), 0.5)
    with pytest.raises(AssertionError, match="f twice"):
        numerical_gradient(lambda x: x * RNG.normal(), 0.5)
    with pytest.raises(WnError, match="step is -1"):
        numerical_gradient(np.exp, 0.5, step=-1)


@settings(max_examples=25)
@given(
    exponents=st.lists(st.integers(-6, 6), min_size=1, max_size=5),
    seed=strategies.seeds(),
    power=st.integers(1, 4),
)
def test_gradients_of_any_scale(exponents, seed, power):
    """Every element is known relative to its own size, whatever stands beside it."""
    scale = 10.0 ** np.array(exponents)
    x = scale * (1 + np.random.default_rng(seed).uniform(size=scale.size))
    found = numerical_gradient(lambda x: x**power / scale + np.log(x), x, dy=np.ones(x.size))
    assert np.allclose(found, power * x ** (power - 1) / scale + 1 / x, rtol=1e-7)
