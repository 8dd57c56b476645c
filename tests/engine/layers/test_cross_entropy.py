"""Cross-entropy against loops, against differences, and with logits out of the range of exp."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive_statistics
from tests.engine.layers import FEW
from wn.engine import backends
from wn.engine import loss as losses
from wn.testing import assert_close, check_layer
from wn.testing import strategies as shapes

BE = backends.get("numpy")


@st.composite
def problems(draw, smallest_population=1):
    """Logits (P, K, B), labels (B,), and class weights (K,) or None."""
    population, classes, batch = draw(shapes.dense_shapes(smallest_population=smallest_population))
    logits = draw(shapes.arrays((population, classes, batch), scale=3.0))
    labels = draw(shapes.labels(batch, classes))
    weights = draw(st.none() | shapes.arrays((classes,)).map(lambda z: np.abs(z) + 0.1))
    return logits, labels, weights


@given(problems())
def test_equals_loops(problem):
    logits, labels, weights = problem
    loss, cache = losses.forward(BE, logits, labels, weights)
    expected = naive_statistics.cross_entropy_forward(logits, labels, weights)
    # terms of the loss are logits: the loss itself may be nearly 0
    assert_close(loss, expected, reduction_length=logits.size, magnitude=float(np.abs(logits).max()) + 1)
    dlogits = losses.backward(BE, cache)
    expected = naive_statistics.cross_entropy_backward(logits, labels, weights)
    assert_close(dlogits, expected, reduction_length=logits.size, magnitude=1.0)


def _as_layer():
    """Loss and its gradient with an upstream gradient per member, as a layer."""

    def forward(be, params, x, labels, weights):
        return losses.forward(be, x, labels, weights)

    def backward(be, dy, cache):
        return losses.backward(be, cache) * dy[:, None, None], ()

    return forward, backward


@FEW
@given(problems(smallest_population=2), shapes.seeds())
def test_contract_and_gradient(problem, seed):
    logits, labels, weights = problem
    if logits.shape[1] == 1:  # one class: the loss is constant, and differences show nothing
        logits, labels, weights = np.repeat(logits, 2, axis=1), labels, None
        logits[:, 1] -= 0.5
    check_layer(_as_layer(), BE, (), logits, static={"labels": labels, "weights": weights}, seed=seed)


@given(problems())
def test_gradient_sums_to_zero_over_classes(problem):
    _, cache = losses.forward(BE, *problem)
    np.testing.assert_allclose(losses.backward(BE, cache).sum(axis=1), 0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_neither_overflow_nor_lose_the_answer(dtype):
    logits = np.array([[[1e30, 0.0], [-1e30, 1000.0], [0.0, 0.0]]], dtype)
    loss, cache = losses.forward(BE, logits, np.array([0, 1]))
    assert loss.dtype == dtype
    np.testing.assert_array_equal(loss, [0.0])
    np.testing.assert_array_equal(losses.backward(BE, cache), np.zeros(logits.shape))


def test_equal_logits_cost_the_log_of_the_number_of_classes():
    loss, _ = losses.forward(BE, np.zeros((2, 10, 4)), np.array([0, 3, 9, 9]))
    np.testing.assert_allclose(loss, np.log(10), rtol=1e-15)


def test_weights_are_a_weighted_mean():
    logits = np.random.default_rng(0).standard_normal((1, 3, 4))
    labels, weights = np.array([0, 1, 1, 2]), np.array([1.0, 2.0, 5.0])
    singles = [losses.forward(BE, logits[:, :, n : n + 1], labels[n : n + 1])[0] for n in range(4)]
    expected = (1 * singles[0] + 2 * singles[1] + 2 * singles[2] + 5 * singles[3]) / 10
    np.testing.assert_allclose(losses.forward(BE, logits, labels, weights)[0], expected, rtol=1e-14)
