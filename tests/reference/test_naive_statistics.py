"""Naive batch norm, cross-entropy and noise against central differences, SciPy and cases by hand."""

import math

import numpy as np
import pytest
from scipy import special

from reference import finite_difference as fd
from reference import naive_statistics as ns

RTOL = 1e-8


def random(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def assert_is_gradient(found, loss, value):
    """`found` is the gradient of loss(value); a gradient per member of a shared value adds up to it."""
    expected = fd.gradient(loss, value, richardson=True)
    if found.shape != value.shape:
        found = found.sum(axis=0, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)


# ---- batch norm -----------------------------------------------------------------------------------------


def test_batch_norm_by_hand():
    x = np.array([[[1.0, 3.0], [2.0, 2.0]]])  # (1, 2, 2): means 2 and 2, variances 1 and 0
    y, mean, variance = ns.batch_norm_forward(
        x, np.array([[10.0, 10.0]]), np.array([[0.5, 0.5]]), epsilon=3.0
    )
    assert mean.tolist() == [[2.0, 2.0]]
    assert variance.tolist() == [[1.0, 0.0]]
    assert y.tolist() == [[[-4.5, 5.5], [0.5, 0.5]]]  # 0.5 ± 10 · 1/√(1 + 3)


def test_running_statistics_by_hand():
    x = np.array([[[1.0, 3.0]]])  # mean 2, biased variance 1, unbiased 2
    mean, variance = ns.batch_norm_running(np.array([[10.0]]), np.array([[20.0]]), x)
    assert mean == pytest.approx(np.array([[0.9 * 10 + 0.1 * 2]]))
    assert variance == pytest.approx(np.array([[0.9 * 20 + 0.1 * 2]]))
    with pytest.raises(ValueError, match="single value"):
        ns.batch_norm_running(np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1, 1)))


SHAPES = [(2, 3, 5), (1, 2, 2), (2, 2, 2, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_statistics_against_numpy(shape):
    (x,) = random(1, shape)
    axes = tuple(range(2, len(shape)))
    mean, variance = ns.batch_statistics(x)
    np.testing.assert_allclose(mean, x.mean(axis=axes), rtol=1e-12)
    np.testing.assert_allclose(variance, x.var(axis=axes), rtol=1e-12)
    old = np.zeros(shape[:2])
    _, running = ns.batch_norm_running(old, old, x, momentum=1.0)
    np.testing.assert_allclose(running, x.var(axis=axes, ddof=1), rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 2, 4), (2, 2, 2, 2, 2)])
@pytest.mark.parametrize("population", [1, 2])
def test_batch_norm_gradient(shape, population):
    shape = (min(shape[0], population), *shape[1:])
    x, gamma, beta = random(2, shape, (population, shape[1]), (population, shape[1]))
    (dy,) = random(3, (population, *shape[1:]))

    def loss(x, gamma, beta):
        return np.sum(dy * ns.batch_norm_forward(x, gamma, beta).y)

    dx, dgamma, dbeta = ns.batch_norm_backward(dy, x, gamma)
    assert dx.shape == dy.shape
    assert_is_gradient(dx, lambda v: loss(v, gamma, beta), x)
    assert_is_gradient(dgamma, lambda v: loss(x, v, beta), gamma)
    assert_is_gradient(dbeta, lambda v: loss(x, gamma, v), beta)


def test_batch_norm_gradient_against_the_jacobian():
    """dx_j = γ Σ_i dy_i (δ_ij − 1/N − x̂_i x̂_j / N) / s, an independent form of the same derivative."""
    x, dy, gamma = random(4, (1, 1, 6), (1, 1, 6), (1, 1))
    s = math.sqrt(x.var() + 1e-5)
    normalised = (x[0, 0] - x.mean()) / s
    jacobian = gamma[0, 0] * (np.eye(6) - 1 / 6 - np.outer(normalised, normalised) / 6) / s
    dx, _, _ = ns.batch_norm_backward(dy, x, gamma)
    np.testing.assert_allclose(dx[0, 0], jacobian @ dy[0, 0], rtol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_inference_gradient(shape):
    x, dy = random(5, shape, shape)
    gamma, beta, mean = random(6, *[shape[:2]] * 3)
    variance = np.random.default_rng(7).uniform(0.5, 2, shape[:2])

    def loss(x, gamma, beta):
        return np.sum(dy * ns.batch_norm_inference_forward(x, gamma, beta, mean, variance))

    dx, dgamma, dbeta = ns.batch_norm_inference_backward(dy, x, gamma, mean, variance)
    assert_is_gradient(dx, lambda v: loss(v, gamma, beta), x)
    assert_is_gradient(dgamma, lambda v: loss(x, v, beta), gamma)
    assert_is_gradient(dbeta, lambda v: loss(x, gamma, v), beta)


def test_batch_norm_inference_of_a_shared_input():
    x, gamma, beta, mean = random(8, (1, 2, 3), (4, 2), (4, 2), (4, 2))
    variance = np.full((1, 2), 0.25)
    y = ns.batch_norm_inference_forward(x, gamma, beta, mean, variance, epsilon=0.0)
    np.testing.assert_allclose(y, gamma[..., None] * (x - mean[..., None]) * 2 + beta[..., None], rtol=1e-12)


# ---- cross-entropy --------------------------------------------------------------------------------------


def test_cross_entropy_by_hand():
    logits = np.log(np.array([[[1.0, 1.0], [3.0, 1.0]]]))  # probabilities ¼ ¾ and ½ ½
    assert ns.cross_entropy_forward(logits, [0, 1]) == pytest.approx([(math.log(4) + math.log(2)) / 2])
    weighted = ns.cross_entropy_forward(logits, [0, 1], class_weights=[3.0, 1.0])
    assert weighted == pytest.approx([(3 * math.log(4) + math.log(2)) / 4])
    d = ns.cross_entropy_backward(logits, [0, 1], class_weights=[3.0, 1.0])
    np.testing.assert_allclose(d, [[[-0.75 * 3 / 4, 0.5 / 4], [0.75 * 3 / 4, -0.5 / 4]]], rtol=1e-14)


@pytest.mark.parametrize("class_weights", [None, [0.5, 2.0, 0.0, 1.25]])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_cross_entropy_against_scipy(class_weights, scale):
    (logits,) = random(9, (2, 4, 5))
    logits *= scale
    labels = np.array([0, 1, 3, 1, 2])
    shares = np.ones(5) if class_weights is None else np.array(class_weights)[labels]
    shares = shares / shares.sum()
    losses = -special.log_softmax(logits, axis=1)[:, labels, np.arange(5)]
    np.testing.assert_allclose(
        ns.cross_entropy_forward(logits, labels, class_weights), losses @ shares, rtol=1e-12
    )
    one_hot = np.eye(4)[labels].T
    expected = shares * (special.softmax(logits, axis=1) - one_hot)
    found = ns.cross_entropy_backward(logits, labels, class_weights)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("class_weights", [None, [0.5, 2.0, 1.0]])
def test_cross_entropy_gradient(class_weights):
    (logits,) = random(10, (2, 3, 4))
    labels = [2, 0, 0, 1]
    found = ns.cross_entropy_backward(logits, labels, class_weights)
    for p in range(2):  # the losses of the members are separate functions
        loss = fd.gradient(lambda v, p=p: ns.cross_entropy_forward(v, labels, class_weights)[p], logits)
        np.testing.assert_allclose(loss[p], found[p], rtol=1e-8, atol=1e-9)
        assert not np.any(loss[1 - p])


# ---- noise ----------------------------------------------------------------------------------------------


def test_noise_by_hand():
    x = np.array([[[2.0]]])
    gain, offset = np.array([[[[3.0]]], [[[5.0]]]]), np.array([[[[10.0]]], [[[30.0]]]])  # R = 2
    assert ns.noise_forward(x).item() == 2.0
    assert ns.noise_forward(x, offset=offset).item() == 22.0
    assert ns.noise_forward(x, gain=gain).item() == 8.0
    assert ns.noise_forward(x, gain, offset).item() == (2 * 3 + 10 + 2 * 5 + 30) / 2
    assert ns.noise_forward(x, gain, offset, "add_mul").item() == ((2 + 10) * 3 + (2 + 30) * 5) / 2
    dy = np.array([[[7.0]]])
    assert ns.noise_backward(dy, x, offset=offset).item() == 7.0
    assert ns.noise_backward(dy, x, gain, offset).item() == 28.0
    assert ns.noise_backward(dy, x, gain, offset, "add_mul").item() == 28.0


@pytest.mark.parametrize("order", ["mul_add", "add_mul"])
@pytest.mark.parametrize("parts", ["gain", "offset", "both"])
def test_noise_gradient(order, parts):
    x, gain, offset, dy = random(11, (1, 2, 3), (3, 2, 2, 3), (3, 2, 2, 3), (2, 2, 3))
    draws = {"gain": (gain, None), "offset": (None, offset), "both": (gain, offset)}[parts]
    dx = ns.noise_backward(dy, x, *draws, order)
    assert dx.shape == dy.shape
    assert_is_gradient(dx, lambda v: np.sum(dy * ns.noise_forward(v, *draws, order)), x)


def test_noise_arguments():
    x = np.ones((1, 1, 1))
    with pytest.raises(ValueError, match="'mul_add' or 'add_mul'"):
        ns.noise_forward(x, order="sideways")
    with pytest.raises(ValueError, match="repetitions"):
        ns.noise_forward(x, np.ones((2, 1, 1, 1)), np.ones((3, 1, 1, 1)))
