"""Kernels of the loss agree with the plain code; counting is exact."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.backends.numba import DTYPES, blank, check_threads, same_bits
from wn.engine.backends.numba.kernels import loss
from wn.engine.layers import cross_entropy as plain
from wn.engine.layers.cross_entropy import CrossEntropyCache
from wn.testing import assert_close, strategies

BATCHES = st.integers(1, 9) | st.sampled_from([31, 32, 33, 133])


def cross_entropy(logits: Any, labels: Any, a: Any) -> tuple[Any, Any]:
    """(loss, log-probabilities)."""
    values, log_q = blank(logits.shape[:1], logits.dtype), blank(logits.shape, logits.dtype)
    loss.cross_entropy(logits, labels, a, log_q, values)
    return values, log_q


def log_softmax(logits: Any) -> Any:
    """Log-probabilities by the formula."""
    return plain.forward(np, (), logits, np.zeros(logits.shape[2], int))[1].log_q


def cross_entropy_backward(log_q: Any, labels: Any, a: Any) -> Any:
    dlogits = blank(log_q.shape, log_q.dtype)
    loss.cross_entropy_backward(log_q, labels, a, dlogits)
    return dlogits


def count_correct(logits: Any, labels: Any, groups: int = 1) -> Any:
    hits = np.full((len(logits), groups), 1 << 40)
    loss.count_correct(logits, labels, hits)
    return hits[:, 0] if groups == 1 else hits


def example(shape: tuple[int, int, int], seed: int, dtype: Any, scale: float = 3) -> tuple[Any, Any, Any]:
    """Logits (P, K, B), labels (B,), and a (B,) whose sum is 1."""
    generator = np.random.default_rng(seed)
    logits = (scale * generator.standard_normal(shape)).astype(dtype)
    a = generator.random(shape[2]) + 0.1
    labels = generator.integers(0, shape[1], shape[2])
    return logits, labels, (a / a.sum()).astype(dtype)


# ---- loss -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 3), st.integers(1, 12), BATCHES, strategies.seeds(), st.sampled_from([1e-3, 3, 300]))
def test_loss_and_gradient_agree(
    dtype: Any, members: int, classes: int, batch: int, seed: int, scale: float
) -> None:
    logits, labels, a = example((members, classes, batch), seed, dtype, scale)
    values, log_q = cross_entropy(logits, labels, a)
    expected = log_softmax(logits)
    expected_values = -(expected[:, labels, np.arange(batch)] * a).sum(axis=1)
    size = 1 + float(np.abs(logits).max())
    assert_close(log_q, expected, reduction_length=classes, magnitude=size)
    assert_close(values, expected_values, reduction_length=classes + batch, magnitude=size)
    dlogits = cross_entropy_backward(expected, labels, a)
    expected = plain.backward(np, None, CrossEntropyCache(expected, labels, a))[0]
    assert_close(dlogits, expected, reduction_length=1, magnitude=a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_that_are_no_ordinary_numbers(dtype: Any) -> None:
    big = float(np.finfo(dtype).max) / 4
    columns = [
        [big, 0, -big],
        [-big, -big, -big],
        [np.nan, 0, 1],
        [0, 1, np.nan],
        [np.inf, 0, 1],
        [-np.inf, 0, 1],
    ]
    logits = np.array(columns, dtype).T[None].copy()
    labels, a = np.array([0, 1, 2, 0, 1, 2]), np.full(6, 0.5, dtype)
    values, log_q = cross_entropy(logits, labels, a)
    with np.errstate(invalid="ignore"):
        expected = log_softmax(logits)
    np.testing.assert_allclose(log_q, expected, rtol=1e-6)
    assert np.isnan(values).all()
    dlogits = cross_entropy_backward(log_q, labels, a)
    np.testing.assert_array_equal(np.isnan(dlogits[0]).any(axis=0), [False, False, True, True, True, False])
    np.testing.assert_array_equal(dlogits[0, :, 0], [0, 0, 0])
    assert dlogits[0, 0, 5] == 0  # exp(−∞)


@pytest.mark.parametrize(("dtype", "lowest"), [(np.float32, -87), (np.float64, -700)])
def test_exponentials_are_rounded_only_once_or_twice(dtype: Any, lowest: float) -> None:
    x = np.concatenate([np.linspace(lowest, 0, 50_001), -np.logspace(-30, 1.9, 1000)])[1:].astype(dtype)
    log_q = np.stack([x, x])[None]
    nothing_wanted = np.ones(len(x), np.int64)  # the label is class 1, so class 0 has dlogits = exp
    y = cross_entropy_backward(log_q, nothing_wanted, np.ones(len(x), dtype))[0, 0]
    relative = y.astype(np.float64) / np.exp(x.astype(np.float64)) - 1
    assert np.abs(relative).max() < 2 * np.finfo(dtype).eps
    assert y[-1001] == 1  # exp(0)


def test_below_the_smallest_probability_there_is_none() -> None:
    log_q = np.array([[[-87.1, -88, -104, -1e30, -np.inf], 5 * [0.0]]], np.float32)
    dlogits = cross_entropy_backward(log_q, np.ones(5, np.int64), np.ones(5, np.float32))
    assert same_bits(dlogits, np.zeros((1, 2, 5), np.float32))


# ---- counting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 3), st.integers(1, 12), BATCHES, st.integers(0, 3), strategies.seeds())
def test_ties_go_to_the_smaller_class(
    dtype: Any, members: int, classes: int, batch: int, padding: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.integers(-1, 2, (members, classes, batch + padding)).astype(dtype)
    labels = generator.integers(0, classes, batch)
    expected = (logits[:, :, :batch].argmax(axis=1) == labels).sum(axis=1)
    np.testing.assert_array_equal(count_correct(logits, labels), expected)
    hits = logits[:, :, :batch].argmax(axis=1) == labels
    by_group = np.stack([hits[:, g::5].sum(axis=1) for g in range(5)], axis=1)
    np.testing.assert_array_equal(count_correct(logits, labels, 5), by_group)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_members_with_a_logit_that_is_not_finite_have_no_count(value: float) -> None:
    logits, labels, _ = example((3, 4, 10), 0, np.float32)
    expected = count_correct(logits, labels)
    logits[1, 3, 9] = value
    logits[2, 3, 7] = value
    np.testing.assert_array_equal(count_correct(logits, labels), [expected[0], -1, -1])
    seen = count_correct(logits, labels[:8])  # what is behind the labels is padding
    assert seen[1] == count_correct(logits[1:2, :, :8].copy(), labels[:8])[0] >= 0
    assert seen[2] == -1


# ---- independence ---------------------------------------------------------------------------------------


def everything(logits: Any, labels: Any, a: Any) -> tuple[Any, ...]:
    values, log_q = cross_entropy(logits, labels, a)
    dlogits = cross_entropy_backward(log_q, labels, a)
    return values, log_q, dlogits, count_correct(logits, labels)


@pytest.mark.parametrize("dtype", DTYPES)
def test_members_do_not_matter_to_each_other(dtype: Any) -> None:
    logits, labels, a = example((3, 5, 73), 0, dtype)
    together = everything(logits, labels, a)
    for p in range(3):
        alone = everything(logits[p : p + 1], labels, a)
        assert all(same_bits(one, all_[p : p + 1]) for one, all_ in zip(alone, together, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_do_not_matter_to_each_other(dtype: Any) -> None:
    logits, labels, a = example((2, 5, 73), 0, dtype)
    _, log_q, dlogits, _ = everything(logits, labels, a)
    for start in range(1, 73, 5):
        some = np.ascontiguousarray(logits[:, :, start:])
        found = everything(some, labels[start:], a[start:])
        assert same_bits(found[1], np.ascontiguousarray(log_q[:, :, start:]))
        assert same_bits(found[2], np.ascontiguousarray(dlogits[:, :, start:]))


def test_threads_do_not_matter() -> None:
    logits, labels, a = example((3, 10, 193), 0, np.float32)
    check_threads(lambda: everything(logits, labels, a))
