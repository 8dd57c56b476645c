"""Tolerances: the formula, what counts as close, and messages that say where a tolerance comes from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.basics.errors import WnError
from wn.testing import assert_close, strategies, tolerance
from wn.testing.tolerances import GUARD, Z_LIMIT


def test_the_formula():
    assert tolerance(np.float64, 1) == GUARD * 2.0**-52
    assert tolerance(np.float32, 784) == pytest.approx(GUARD * 2.0**-23 * 28)
    assert tolerance("float32", 1, scale=0.5) == GUARD * 2.0**-24
    assert tolerance(np.float32, 1, scale=10, reason="float32 exponentials") == 10 * tolerance(np.float32, 1)
    assert Z_LIMIT == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 2}, "loosened by 2 needs its reason"),
        ({"scale": 2, "reason": "  "}, "needs its reason"),
        ({"scale": 0}, "scale is 0"),
        ({"scale": float("inf"), "reason": "because"}, "scale is inf"),
        ({"reduction_length": 0}, "reduction_length is 0"),
        ({"reduction_length": 1.5}, "reduction_length is 1.5"),
        ({"dtype": np.int64}, "not int64"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(WnError, match=message):
        tolerance(**{"dtype": np.float32, "reduction_length": 1, **arguments})


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 300), st.integers(1, 5)),
    seed=strategies.seeds(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_two_orders_of_a_sum_are_close(shape, seed, dtype):
    """What the tolerance is for: the same product, summed forwards, backwards and pairwise."""
    population, outputs, inputs, batch = shape
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((population, outputs, inputs)).astype(dtype)
    x = rng.standard_normal((population, inputs, batch)).astype(dtype)
    product, size = (
        w @ x,
        np.abs(w) @ np.abs(x),
    )  # of a few sums, all may cancel: the size of the terms is given
    assert_close(w[:, :, ::-1] @ x[:, ::-1], product, reduction_length=inputs, magnitude=size)
    terms = w[:, :, :, None] * x[:, None, :, :]  # (P, O, I, B)
    assert_close(np.cumsum(terms, axis=2)[:, :, -1], product, reduction_length=inputs, magnitude=size)
    assert_close(product, w.astype(np.float64) @ x, reduction_length=inputs, magnitude=size)


@given(seed=strategies.seeds())
def test_the_largest_value_is_size_enough_where_there_are_many(seed):
    rng = np.random.default_rng(seed)
    w, x = rng.standard_normal((2, 8, 100)), rng.standard_normal((2, 100, 8))
    assert_close(w[:, :, ::-1] @ x[:, ::-1], w @ x, reduction_length=100)


def test_an_error_above_the_tolerance_is_seen():
    expected = np.random.default_rng(0).standard_normal((2, 50))
    bound = tolerance(np.float64, 100) * np.max(np.abs(expected), axis=1)
    actual = expected.copy()
    actual[1, 3] += 0.9 * bound[1]
    assert_close(actual, expected, reduction_length=100)
    actual[1, 3] += 0.2 * bound[1]
    with pytest.raises(AssertionError, match=r"1 of 100 elements; the worst is y\[1, 3\]"):
        assert_close(actual, expected, reduction_length=100, name="y")


def test_members_are_measured_by_their_own_size():
    """A member with values of 1e10 must not hide the errors of one with values of 1."""
    expected = np.array([[1.0, 2.0], [1e10, 2e10]])
    large, small = expected.copy(), expected.copy()
    large[1, 0] += 1e-6
    small[0, 0] += 1e-6
    assert_close(large, expected, reduction_length=1)
    with pytest.raises(AssertionError, match=r"result\[0, 0\]"):
        assert_close(small, expected, reduction_length=1)


def test_the_message_shows_everything():
    with pytest.raises(AssertionError) as failure:
        assert_close(
            np.float32([1.0, 2.5, 3.0]),
            np.float64([1.0, 2.0, 3.0]),
            reduction_length=16,
            scale=3,
            reason="the polynomial logarithm",
            name="dw",
        )
    message = str(failure.value)
    for part in (
        "dw[1] = 2.5, expected 2.0",
        "differ by 0.5",
        "8 · eps(float32) · √16 · scale 3",
        "loosened because the polynomial logarithm",
        "1 of 3 elements",
    ):
        assert part in message


def test_the_coarser_dtype_decides():
    third = np.float32(1 / 3)
    assert_close(third, 1 / 3, reduction_length=1)
    assert_close(1 / 3, third, reduction_length=1)
    with pytest.raises(AssertionError, match="float64"):
        assert_close(third, 1 / 3, reduction_length=1, dtype=np.float64)
    assert_close(np.array([1, 2]), np.array([1, 2]), reduction_length=1)


def test_shapes_do_not_broadcast():
    with pytest.raises(AssertionError, match=r"result has shape \(1, 2\), expected is \(2,\)"):
        assert_close(np.ones((1, 2)), np.ones(2), reduction_length=1)


@pytest.mark.parametrize(
    ("actual", "expected", "close"),
    [
        (np.inf, np.inf, True),
        (-np.inf, np.inf, False),
        (1e308, np.inf, False),
        (np.inf, 1.0, False),
        (np.nan, 1.0, False),
        (np.nan, np.nan, False),
        (1.0, np.nan, False),
        (0.0, -0.0, True),
        (5e-324, 0.0, True),  # underflow is not an error
        (1e-30, 0.0, False),
    ],
)
def test_special_values(actual, expected, close):
    for companions in ([], [1e-20], [np.inf]):  # an infinity elsewhere must not make everything close
        a, e = np.array([actual, *companions]), np.array([expected, *companions])
        if close:
            assert_close(a, e, reduction_length=1)
        else:
            with pytest.raises(AssertionError, match=r"result\[0\]"):
                assert_close(a, e, reduction_length=1)


def test_magnitude_of_the_terms_can_be_given():
    assert_close(np.array([1e-14]), np.array([0.0]), reduction_length=1, magnitude=100.0)
    with pytest.raises(AssertionError):
        assert_close(np.array([1e-14]), np.array([0.0]), reduction_length=1, magnitude=1.0)
    with pytest.raises(WnError, match="magnitude is nan"):
        assert_close(np.array([0.0]), np.array([0.0]), reduction_length=1, magnitude=float("nan"))


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        ([[1 + 1j]], [[1 - 1j]], "result is complex128: compare its real"),
        ([1.0], [1 + 1e-9j], "the expected result is complex128"),
        (np.ones((2, 0)), np.ones((2, 0)), r"result is empty, of shape \(2, 0\)"),
        ([], [], "result is empty"),
        (["a"], ["b"], "result is <U1"),
        ([None], [None], "result is object"),
        (np.array(["2020-01-01"], "M8[D]"), np.array(["2021-01-01"], "M8[D]"), "only real numbers"),
    ],
)
def test_what_cannot_be_compared_is_refused(actual, expected, message):
    """Values whose difference says nothing must not pass: imaginary parts were dropped, nothing was equal."""
    with pytest.raises(WnError, match=message):
        assert_close(actual, expected, reduction_length=1)


def test_shapes_of_empty_arrays_differ():
    with pytest.raises(AssertionError, match="shape"):
        assert_close(np.ones((2, 0)), np.ones((0, 2)), reduction_length=1)
    with pytest.raises(WnError, match="magnitude is complex128"):
        assert_close([1.0], [1.0], reduction_length=1, magnitude=1j)
