"""The naive layers against central differences, SciPy and cases worked out by hand."""

import numpy as np
import pytest
from scipy import signal

from reference import finite_difference as fd
from reference import naive

RTOL = 1e-8  # central differences with Richardson extrapolation reach 1e-11; values are of order 1


def random(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def assert_is_gradient(found, loss, value, shared_over=None):
    """`found` is the gradient of loss(value); per member where value is shared by `shared_over` members."""
    expected = fd.gradient(loss, value, richardson=True)
    if shared_over is not None:
        assert found.shape == (shared_over, *value.shape[1:])
        found = found.sum(axis=0, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)


# ---- members --------------------------------------------------------------------------------------------


def test_members_counts_and_refuses():
    assert naive.members(np.ones((1, 2)), np.ones((3, 2)), np.ones((3, 1))) == 3
    assert naive.members(np.ones((1, 2))) == 1
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        naive.members(np.ones((2, 2)), np.ones((3, 2)))


# ---- linear ---------------------------------------------------------------------------------------------


def test_linear_by_hand():
    x = np.array([[[1.0], [2.0]]])  # (1, 2, 1)
    w = np.array([[[3.0, 4.0]], [[5.0, 6.0]]])  # (2, 1, 2)
    b = np.array([[10.0], [20.0]])
    assert naive.linear_forward(x, w, b).tolist() == [[[21.0]], [[37.0]]]
    dx, dw, db = naive.linear_backward(np.array([[[2.0]], [[3.0]]]), x, w)
    assert dx.tolist() == [[[6.0], [8.0]], [[15.0], [18.0]]]
    assert dw.tolist() == [[[2.0, 4.0]], [[3.0, 6.0]]]
    assert db.tolist() == [[2.0], [3.0]]


@pytest.mark.parametrize("x_members", [1, 2])
@pytest.mark.parametrize("w_members", [1, 2])
def test_linear_gradient(x_members, w_members):
    population = max(x_members, w_members)
    x, w, b, dy = random(1, (x_members, 3, 4), (w_members, 2, 3), (w_members, 2), (population, 2, 4))
    dx, dw, db = naive.linear_backward(dy, x, w)
    assert_is_gradient(dx, lambda v: np.sum(dy * naive.linear_forward(v, w, b)), x, _shared(x, population))
    assert_is_gradient(dw, lambda v: np.sum(dy * naive.linear_forward(x, v, b)), w, _shared(w, population))
    assert_is_gradient(db, lambda v: np.sum(dy * naive.linear_forward(x, w, v)), b, _shared(b, population))


def _shared(array, population):
    return population if array.shape[0] == 1 else None


def test_linear_against_matrix_products():
    x, w, b, dy = random(2, (3, 5, 7), (3, 4, 5), (3, 4), (3, 4, 7))
    np.testing.assert_allclose(naive.linear_forward(x, w, b), w @ x + b[:, :, None], rtol=1e-13)
    dx, dw, db = naive.linear_backward(dy, x, w)
    np.testing.assert_allclose(dx, np.einsum("poi,pon->pin", w, dy), rtol=1e-13)
    np.testing.assert_allclose(dw, np.einsum("pon,pin->poi", dy, x), rtol=1e-13)
    np.testing.assert_allclose(db, dy.sum(axis=2), rtol=1e-13)


# ---- ReLU and flatten -----------------------------------------------------------------------------------


def test_relu_by_hand():
    x = np.array([[[-1.0, 0.0, 2.0]]])
    assert naive.relu_forward(x).tolist() == [[[0.0, 0.0, 2.0]]]
    dy = np.array([[[5.0, 6.0, 7.0]], [[1.0, 2.0, 3.0]]])  # two members share x
    assert naive.relu_backward(dy, x).tolist() == [[[0.0, 0.0, 7.0]], [[0.0, 0.0, 3.0]]]


def test_relu_gradient():
    x, dy = random(3, (2, 3, 4), (2, 3, 4))
    x += np.copysign(0.05, x)
    assert_is_gradient(naive.relu_backward(dy, x), lambda v: np.sum(dy * naive.relu_forward(v)), x)


def test_flatten_is_row_major_over_channel_height_width():
    (x,) = random(4, (2, 3, 4, 5, 6))
    y = naive.flatten_forward(x)
    assert np.array_equal(y, x.reshape(2, 60, 6))
    assert y[1, (2 * 4 + 3) * 5 + 1, 4] == x[1, 2, 3, 1, 4]
    assert np.array_equal(naive.flatten_backward(y, x.shape), x)


def test_flatten_gradient_of_a_shared_input_has_a_row_per_member():
    (dy,) = random(5, (3, 8, 2))
    assert np.array_equal(naive.flatten_backward(dy, (1, 2, 2, 2, 2)), dy.reshape(3, 2, 2, 2, 2))


# ---- convolution ----------------------------------------------------------------------------------------


def test_convolution_by_hand():
    x = np.arange(1.0, 7.0).reshape(1, 1, 2, 3, 1)  # 1 2 3 / 4 5 6
    w = np.array([[1.0, 10.0]]).reshape(1, 1, 1, 1, 2)
    y = naive.convolution_forward(x, w, np.array([[100.0]]))
    assert y.reshape(2, 2).tolist() == [[121.0, 132.0], [154.0, 165.0]]
    y = naive.convolution_forward(x, w, np.array([[0.0]]), stride=(1, 2), padding=(0, 1))
    assert y.reshape(2, 2).tolist() == [[10.0, 32.0], [40.0, 65.0]]


CONVOLUTIONS = [
    # height, width, kernel, stride, padding
    (4, 5, (3, 2), (1, 1), (0, 0)),
    (5, 4, (2, 3), (2, 1), (1, 0)),
    (5, 6, (3, 3), (2, 3), (1, 2)),
    (2, 2, (4, 3), (1, 2), (1, 1)),
    (3, 3, (1, 1), (2, 2), (0, 0)),
]


@pytest.mark.parametrize(("height", "width", "kernel", "stride", "padding"), CONVOLUTIONS)
def test_convolution_against_scipy(height, width, kernel, stride, padding):
    x, w, b = random(6, (2, 3, height, width, 2), (2, 4, 3, *kernel), (2, 4))
    y = naive.convolution_forward(x, w, b, stride, padding)
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    for p, o, n in np.ndindex(2, 4, 2):
        full = sum(signal.correlate(padded[p, c, :, :, n], w[p, o, c], mode="valid") for c in range(3))
        expected = b[p, o] + full[:: stride[0], :: stride[1]]
        np.testing.assert_allclose(y[p, o, :, :, n], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("height", "width", "kernel", "stride", "padding"), CONVOLUTIONS)
def test_convolution_gradient(height, width, kernel, stride, padding):
    x, w, b = random(7, (1, 1, height, width, 2), (2, 2, 1, *kernel), (2, 2))
    (dy,) = random(8, naive.convolution_forward(x, w, b, stride, padding).shape)

    def loss(x, w, b):
        return np.sum(dy * naive.convolution_forward(x, w, b, stride, padding))

    dx, dw, db = naive.convolution_backward(dy, x, w, stride, padding)
    assert_is_gradient(dx, lambda v: loss(v, w, b), x, shared_over=2)
    assert_is_gradient(dw, lambda v: loss(x, v, b), w)
    assert_is_gradient(db, lambda v: loss(x, w, v), b)


def test_kernel_that_does_not_fit():
    with pytest.raises(ValueError, match="does not fit"):
        naive.convolution_forward(np.ones((1, 1, 2, 2, 1)), np.ones((1, 1, 1, 3, 1)), np.ones((1, 1)))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "places"),
    [(28, 5, 1, 0, 24), (10, 4, 1, 0, 7), (49, 10, 2, 0, 20), (20, 10, 1, 0, 11), (32, 3, 1, 1, 32)],
)
def test_convolution_size_of_the_networks(size, kernel, stride, padding, places):
    assert naive.convolution_size(size, kernel, stride, padding) == places


# ---- pooling --------------------------------------------------------------------------------------------


def test_max_pool_by_hand_with_rest_and_ties():
    image = np.array([[1.0, 5.0, 9.0], [5.0, 2.0, 9.0], [9.0, 9.0, 9.0]])
    x = image.reshape(1, 1, 3, 3, 1)
    assert naive.max_pool_forward(x, (2, 2)).tolist() == [[[[[5.0]]]]]
    dx = naive.max_pool_backward(np.array([[[[[7.0]]]]]), x, (2, 2))
    assert dx.reshape(3, 3).tolist() == [[0, 7, 0], [0, 0, 0], [0, 0, 0]]  # the first of two equal fives


@pytest.mark.parametrize("window", [(1, 1), (2, 2), (1, 3), (3, 2), (4, 5)])
def test_max_pool_gradient(window):
    rng = np.random.default_rng(9)
    x = rng.permutation(2 * 2 * 4 * 5 * 2).reshape(2, 2, 4, 5, 2) / 10
    dy = rng.standard_normal(naive.max_pool_forward(x, window).shape)
    found = naive.max_pool_backward(dy, x, window)
    assert_is_gradient(found, lambda v: np.sum(dy * naive.max_pool_forward(v, window)), x)


@pytest.mark.parametrize("window", [(1, 1), (2, 2), (1, 3), (3, 2), (4, 5)])
def test_pooling_against_reshaping(window):
    (x,) = random(10, (2, 3, 4, 5, 2))
    rows, columns = 4 // window[0], 5 // window[1]
    kept = x[:, :, : rows * window[0], : columns * window[1]]
    blocks = kept.reshape(2, 3, rows, window[0], columns, window[1], 2)
    assert np.array_equal(naive.max_pool_forward(x, window), blocks.max(axis=(3, 5)))
    np.testing.assert_allclose(naive.average_pool_forward(x, window), blocks.mean(axis=(3, 5)), rtol=1e-12)


@pytest.mark.parametrize("window", [(1, 1), (2, 2), (3, 2)])
def test_average_pool_gradient(window):
    (x,) = random(11, (1, 2, 4, 5, 2))
    (dy,) = random(12, naive.average_pool_forward(x, window).shape)
    found = naive.average_pool_backward(dy, x.shape, window)
    assert_is_gradient(found, lambda v: np.sum(dy * naive.average_pool_forward(v, window)), x)


def test_pooling_of_a_shared_input_gives_a_gradient_per_member():
    x, dy = random(13, (1, 1, 2, 2, 1), (3, 1, 1, 1, 1))
    largest = np.unravel_index(np.argmax(x), x.shape)
    dx = naive.max_pool_backward(dy, x, (2, 2))
    assert dx.shape == (3, 1, 2, 2, 1)
    assert np.array_equal(dx[(slice(None), *largest[1:])], dy[:, 0, 0, 0, 0])
    assert np.array_equal(
        naive.average_pool_backward(dy, x.shape, (2, 2)), np.repeat(np.repeat(dy, 2, 2), 2, 3) / 4
    )


@pytest.mark.parametrize("pool", [naive.max_pool_forward, naive.average_pool_forward])
def test_window_that_does_not_fit(pool):
    with pytest.raises(ValueError, match="does not fit"):
        pool(np.ones((1, 1, 2, 2, 1)), (1, 3))
