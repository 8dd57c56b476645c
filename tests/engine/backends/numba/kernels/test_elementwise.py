"""Element-wise kernels have the bits of the plain code, also beyond one thread's chunk."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.backends.numba import DTYPES, blank, check_threads, same_bits
from tests.engine.layers import Formulas
from tests.engine.layers import relu as plain
from wn.engine.backends.numba.kernels import elementwise
from wn.engine.backends.numba.kernels.elementwise import ALONE, CHUNK, PIXELS, SAMPLES
from wn.engine.layers.relu import ReluCache

BE = Formulas()
SIZES = [0, 1, 7, CHUNK + 1, ALONE, ALONE + 1, 5 * CHUNK, 7 * CHUNK + 13]
ADAM = np.array([0.01, 0.9, 0.999, 1.7, 1e-8])


def normals(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# ---- ReLU -----------------------------------------------------------------------------------------------


def relu(x: Any) -> Any:
    y = blank(x.shape, x.dtype)
    elementwise.relu(x, y)
    return y


def relu_backward(dy: Any, y: Any) -> Any:
    dx = blank(dy.shape, dy.dtype)
    elementwise.relu_backward(dy, y, dx)
    return dx


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_relu_is_the_plain_one(size: int, dtype: Any) -> None:
    x = normals((size,), dtype)
    assert same_bits(relu(x), plain.forward(BE, (), x)[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_of_what_is_no_ordinary_number(dtype: Any) -> None:
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, -1e-40, 1e-40] * 5, dtype)
    y = relu(x)
    np.testing.assert_array_equal(y, plain.forward(BE, (), x)[0])
    assert not np.signbit(y[~np.isnan(y)]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_gradient_of_relu_is_the_plain_one(size: int, shared: bool, dtype: Any) -> None:
    dy, x = normals((3, size), dtype, 1), normals((1 if shared else 3, size), dtype, 2)
    y = plain.forward(BE, (), x)[0]
    np.testing.assert_array_equal(relu_backward(dy, y), plain.backward(BE, dy, ReluCache(y))[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_relu_is_0_wherever_y_is(dtype: Any) -> None:
    dy = np.array([[np.inf, np.nan, -1.0, np.inf, 2.0, 3.0]], dtype)
    y = np.array([[0.0, 0.0, 0.0, 1.0, 1e-40, np.nan]], dtype)
    dx = relu_backward(dy, y)
    assert same_bits(dx, np.array([[0.0, 0.0, 0.0, np.inf, 2.0, 0.0]], dtype))


# ---- optimiser ------------------------------------------------------------------------------------------


def adam_arrays(size: int, dtype: Any) -> list[Any]:
    """Parameter, gradient, first and second moment."""
    arrays = [normals((size,), dtype, seed) for seed in range(4)]
    arrays[3] **= 2
    return arrays


def adam(*parameters: list[Any]) -> None:
    """Update parameters, each with its gradient and its moments."""
    addresses = np.array([[array.ctypes.data for array in arrays] for arrays in parameters], np.int64)
    sizes = np.array([arrays[0].size for arrays in parameters])
    elementwise.adam(addresses, sizes, parameters[0][0], ADAM)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_adam_is_the_plain_one(size: int, dtype: Any) -> None:
    found, expected = adam_arrays(size, dtype), adam_arrays(size, dtype)
    for _ in range(3):
        adam(found)
        BE.adam_update(*expected, ADAM.tolist())
    assert all(same_bits(array, value) for array, value in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_of_many_parameters_is_that_of_each(dtype: Any) -> None:
    sizes = [3, elementwise.CHUNK, 1, 2 * elementwise.CHUNK + 5, elementwise.CHUNK - 1]
    found, expected = ([adam_arrays(size, dtype) for size in sizes] for _ in "ab")
    adam(*found)
    for arrays, values in zip(found, expected, strict=True):
        adam(values)
        assert all(same_bits(array, value) for array, value in zip(arrays, values, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_beyond_the_range(dtype: Any) -> None:
    gradient = np.array([np.nan, np.inf, -np.inf, np.finfo(dtype).max, 0.0, -0.0], dtype)
    found, expected = ([np.ones(6, dtype), gradient, np.zeros(6, dtype), np.zeros(6, dtype)] for _ in "ab")
    adam(found)
    with np.errstate(over="ignore", invalid="ignore"):
        BE.adam_update(*expected, ADAM.tolist())
    for array, value in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limit", [0.0, 0.3, 1.0, np.inf])
def test_clip_is_the_plain_one(limit: float, dtype: Any) -> None:
    for size in SIZES:
        w = normals((size,), dtype)
        w[::5] = np.nan
        w[1::5] = -np.inf
        expected = np.clip(w, -limit, limit)
        elementwise.clip(w, limit)
        np.testing.assert_array_equal(w, expected)


# ---- batches --------------------------------------------------------------------------------------------


def gather(images: Any, samples: Any, scale: float, mean: Any, std: Any, dtype: Any) -> Any:
    count, *shape = images.shape
    x = blank((shape[0], shape[1] * shape[2], len(samples)), dtype)
    flat = images.reshape(count, shape[0], -1)
    elementwise.gather(flat, samples, scale, np.asarray(mean, dtype), np.asarray(std, dtype), x)
    return x.reshape(1, *shape, len(samples))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stored", [np.uint8, np.float32])
@given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 9), st.integers(1, PIXELS // 4)),
    st.sampled_from([1, 2, 5, SAMPLES, SAMPLES + 1, 2 * SAMPLES + 3]),
    st.booleans(),
    st.integers(0, 99),
)
def test_gathered_batches_are_the_plain_ones(
    stored: Any,
    dtype: Any,
    channels: int,
    size: tuple[int, int],
    batch: int,
    one_mean: bool,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    images = (256 * generator.random((7, channels, *size))).astype(stored)
    samples = generator.integers(0, len(images), batch)
    mean, std = generator.random((2, 1 if one_mean else channels)) + 0.1
    standard = (255.0, tuple(mean), tuple(std), dtype)
    assert same_bits(gather(images, samples, *standard), BE.gather(images, samples, *standard))


def test_features_go_in_as_they_are() -> None:
    images = normals((5, 1, 10, 49), np.float32)
    samples = np.array([4, 0, 0, 3])
    x = gather(images, samples, 1.0, [0.0], [1.0], np.float32)
    assert same_bits(x[0], np.moveaxis(images[samples], 0, -1).copy())


# ---- threads --------------------------------------------------------------------------------------------


def test_threads_do_not_matter() -> None:
    x, dy = normals((7 * CHUNK + 13,), np.float32), normals((3, 2 * ALONE + 1), np.float32)
    images, samples = normals((9, 2, 8, 31), np.float32), np.arange(300) % 9

    def compute() -> tuple[Any, ...]:
        arrays, w = adam_arrays(len(x), np.float32), x.copy()
        adam(arrays)
        elementwise.clip(w, 0.5)
        batch = gather(images, samples, 3.0, [0.1, 0.2], [0.3, 0.4], np.float32)
        return relu(x), relu_backward(dy, dy[:1]), *arrays, w, batch

    check_threads(compute)
