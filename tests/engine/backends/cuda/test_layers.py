"""Kernels of layers and loss against the NumPy backend; gradients against differences."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.backends.cuda import DTYPES, needs_compiler, on_host, same_bits
from tests.engine.layers import (
    Run,
    average_pooling,
    batch_norm_inference,
    batch_norm_training,
    convolution,
    linear,
    max_pooling,
    norms,
    relu,
)
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.backends.cuda import layers as cuda_layers
from wn.engine.layers import cross_entropy
from wn.engine.layers.average_pooling import AveragePoolingCache
from wn.engine.layers.batch_norm import BatchNormParams, BatchStatistics, RunningStatistics
from wn.engine.layers.convolution import ConvolutionCache, ConvolutionParams
from wn.engine.layers.linear import LinearCache, LinearParams
from wn.engine.layers.max_pooling import MaxPoolingCache
from wn.engine.layers.relu import ReluCache
from wn.engine.layers.windows import Sliding
from wn.engine.training import count_correct
from wn.testing import assert_close, check_layer
from wn.testing import strategies as shapes

pytestmark = [needs_compiler, pytest.mark.usefixtures("order_of_threads")]
NUMPY, CUDA = backends.get("numpy"), on_host()
LOSS = Run(cross_entropy.FORMULA)
BATCHES = st.integers(1, 12) | st.sampled_from([31, 32, 33, 129, 257])
FEW = settings(max_examples=6)  # of each case, in two types and orders


def draw(seed: int, *sizes: tuple[int, ...], dtype: Any = np.float32) -> list[Any]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(size).astype(dtype) for size in sizes]


def check_close(found: Any, expected: Any, terms: int, magnitude: float | None = None) -> None:
    """Assert that both are equal to the rounding of sums of `terms`; same dtype and shape."""
    for one, other in zip(_several(found), _several(expected), strict=True):
        assert one.dtype == other.dtype
        largest = float(np.abs(other).max()) if magnitude is None else magnitude
        assert_close(one, other, reduction_length=terms, magnitude=largest)


def _several(arrays: Any) -> tuple[Any, ...]:
    return arrays if isinstance(arrays, tuple) else (arrays,)


def both(name: str, *arguments: Any) -> tuple[Any, Any]:
    """The results of a method on the device and in NumPy."""
    return getattr(CUDA, name)(*arguments), getattr(NUMPY, name)(*arguments)


def forwards(layer: Run, *given: Any, **static: Any) -> tuple[Any, Any]:
    """Return y on the device and in NumPy."""
    ours, theirs = (layer.forward(be, *given, **static)[0] for be in (CUDA, NUMPY))
    return ours, theirs


def backwards(layer: Run, dy: Any, cache: Any) -> list[tuple[Any, Any]]:
    """Return (dx, dx) on the device and in NumPy, and the same for each gradient."""
    ours, theirs = ((dx, *grads) for dx, grads in (layer.backward(be, dy, cache) for be in (CUDA, NUMPY)))
    return list(zip(ours, theirs, strict=True))


# ---- linear ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", ["", "x", "wb", "xwb"])
@FEW
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), BATCHES, st.integers(0, 99))
def test_linear(dtype: Any, shared: str, population: int, o: int, i: int, batch: int, seed: int) -> None:
    sizes = {"x": (i, batch), "w": (o, i), "b": (o,), "dy": (o, batch)}
    x, w, b, dy = draw(
        seed, *((1 if name in shared else population, *size) for name, size in sizes.items()), dtype=dtype
    )
    dy = draw(seed, (max(len(x), len(w)), o, batch), dtype=dtype)[0]
    check_close(*forwards(linear, LinearParams(w, b), x), i + 1, 9.0 * i)
    for pair, terms in zip(backwards(linear, dy, LinearCache(x, w)), (o, batch, batch), strict=True):
        check_close(*pair, terms, 9.0 * terms)


def test_tf32_is_another_backend_that_asks_cublas_for_it() -> None:
    other = on_host(tf32=True)
    assert (CUDA.name, other.name) == ("cupy on the host", "cupy-tf32 on the host")
    single, double = (be.be._types[np.dtype(np.float32)][1] for be in (CUDA, other))
    assert (single, double) == (68, 77)  # CUBLAS_COMPUTE_32F, …_FAST_TF32
    assert CUDA.be._types[np.dtype(np.float64)] == other.be._types[np.dtype(np.float64)]


# ---- element-wise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5, 7), (2, 3, 4, 5, 6), (2, 40_000)])
def test_relu_and_its_gradient_have_the_same_bits(shape: tuple[int, ...], dtype: Any) -> None:
    x, dy = draw(1, shape, shape, dtype=dtype)
    x.flat[0] = np.nan
    x.flat[-1] = 0
    ours, y = forwards(relu, (), x)
    assert same_bits(ours, y)
    for some in (y, y[:1]):
        assert same_bits(*backwards(relu, dy, ReluCache(some))[0])


# ---- convolution ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(
    shapes.convolution_shapes(size=7),
    st.sampled_from(["", "x", "wb"]),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_convolution(dtype: Any, shape: Any, shared: str, slicing: int, seed: int) -> None:
    x, w, b, dy = draw(seed, shape.x, shape.w, shape.b, shape.y, dtype=dtype)
    x, w, b = (array[:1] if name in shared else array for name, array in (("x", x), ("w", w), ("b", b)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_layers, "SLICED_BLOCKS", slicing)
        check_convolution(x, ConvolutionParams(w, b), dy, shape.stride, shape.padding)


def check_convolution(x: Any, params: ConvolutionParams, dy: Any, stride: Any, padding: Any) -> None:
    terms, places, taps = params.w[0, 0].size, dy[0, 0].size, params.w[0, :, 0].size
    check_close(*forwards(convolution, params, x, stride, padding), terms + 1, 9.0 * terms)
    cache = ConvolutionCache(x, params.w, stride, padding)
    for pair, count in zip(backwards(convolution, dy, cache), (taps, places, places), strict=True):
        check_close(*pair, count, 9.0 * count)


@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "stride", "batch"),
    [(3, 17, (5, 5), (1, 1), 33), (20, 3, (3, 3), (2, 3), 5), (1, 9, (4, 10), (1, 2), 130)],
    ids=["tiles of outputs", "stages of the kernel", "parts of the batch"],
)
def test_convolution_of_more_than_one_tile(
    channels: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int], batch: int
) -> None:
    size, padding = (11, 14), (1, 2)
    places = Sliding(kernel, stride, padding).places(*size)
    x, w, b, dy = draw(
        3,
        (2, channels, *size, batch),
        (2, outputs, channels, *kernel),
        (2, outputs),
        (2, outputs, *places, batch),
    )
    check_convolution(x, ConvolutionParams(w, b), dy, stride, padding)


def test_weights_of_each_member_and_a_bias_of_all() -> None:
    x, w, b = draw(4, (1, 2, 5, 5, 3), (3, 4, 2, 2, 2), (1, 4))
    check_close(*forwards(convolution, ConvolutionParams(w, b), x), 9, 70.0)


# ---- pooling --------------------------------------------------------------------------------------------

IMAGES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), BATCHES)


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(IMAGES, st.tuples(st.integers(1, 3), st.integers(1, 3)), st.booleans(), st.integers(0, 99))
def test_pooling_has_the_same_bits(
    dtype: Any, shape: tuple[int, ...], window: tuple[int, int], shared: bool, seed: int
) -> None:
    members, channels, height, width, batch = shape
    height, width = max(height, window[0]), max(width, window[1])
    x = draw(seed, (1 if shared else members, channels, height, width, batch), dtype=dtype)[0]
    x = x.round(1)  # ties
    (dy,) = draw(seed, (members, channels, height // window[0], width // window[1], batch), dtype=dtype)
    assert same_bits(*forwards(average_pooling, (), x, window))
    assert same_bits(*backwards(average_pooling, dy, AveragePoolingCache((height, width), window))[0])
    x += 0  # of 0 and -0 either may count as the larger
    x.flat[:: max(x.size // 3, 1)] = np.nan
    ours, y = forwards(max_pooling, (), x, window)
    assert same_bits(ours, y)
    assert same_bits(*backwards(max_pooling, dy, MaxPoolingCache(x, y, window))[0])


# ---- batch norm -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", ["", "x", "gamma"])
@FEW
@given(st.integers(1, 3), st.integers(1, 5), BATCHES | st.sampled_from([1000]), st.integers(0, 99))
def test_batch_norm(dtype: Any, shared: str, population: int, features: int, count: int, seed: int) -> None:
    count = max(count, 2)
    members = {name: 1 if name == shared else population for name in ("x", "gamma")}
    rows, gamma, beta, drows = draw(
        seed,
        *(
            (members["x"], features, count),
            *2 * [(members["gamma"], features)],
            (population, features, count),
        ),
        dtype=dtype,
    )
    params = BatchNormParams(gamma, beta)
    (y, found), (plain, expected) = (
        batch_norm_training.forward(be, params, rows + 3) for be in (CUDA, NUMPY)
    )
    spread = 1 / np.sqrt(expected.variance.min() + 1e-5)  # what small variances make of rounding
    check_close(y, plain, count, float(10 * (1 + spread)))
    check_close(found[2:5], expected[2:5], count, 20.0)
    check_close(found.inverse, expected.inverse, count, float(20 * spread**3))
    cache = batch_norm_training.forward(NUMPY, params, rows)[1]._replace(inverse=np.ones_like(rows[..., 0]))
    for pair in backwards(batch_norm_training, drows[: len(plain)], cache):
        check_close(*pair, count, 30.0 * count)
    mean, variance, residual = draw(seed + 1, *3 * [(population, features)], dtype=dtype)
    running = RunningStatistics(mean, 0.1 + variance**2, residual / 100)
    check_close(*forwards(batch_norm_inference, params, rows, running), 4, 1e3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", [False, True])
def test_running_averages_have_the_same_bits(shared: bool, dtype: Any) -> None:
    old, new = draw(3, (3, 3, 7), (3, 1 if shared else 3, 7), dtype=dtype)
    found, expected = both("update_running", RunningStatistics(*old), BatchStatistics(*new[:2], 33, new[2]))
    assert all(same_bits(*pair) for pair in zip(found, expected, strict=True))


# ---- loss -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(st.integers(1, 4), st.integers(1, 12), BATCHES, st.integers(0, 99), st.sampled_from([1, 1e4]))
def test_loss(dtype: Any, population: int, classes: int, batch: int, seed: int, size: float) -> None:
    generator = np.random.default_rng(seed)
    logits = draw(seed, (population, classes, batch), dtype=dtype)[0] * dtype(size)
    labels, weights = generator.integers(0, classes, batch), tuple(generator.uniform(0.5, 2, classes))
    for some in (None, weights):
        loss, found = LOSS.forward(CUDA, (), logits, labels, some)
        plain, expected = LOSS.forward(NUMPY, (), logits, labels, some)
        assert some or same_bits(found.a, expected.a)
        check_close(found.a, expected.a, batch, 2.0)
        check_close(loss, plain, batch, 20.0 * size * batch)
        check_close(found.log_q, expected.log_q, classes, 20.0 * size)
        check_close(*backwards(LOSS, None, expected)[0], classes, 2.0)
    logits = logits.round(0)  # ties
    some = labels[: max(batch // 2, 1)]
    assert same_bits(*both("count_correct", logits, some))
    assert same_bits(*both("count_correct", logits, some, 64))
    logits[-1, 0, 0] = np.nan
    assert same_bits(*both("count_correct", logits, some, 64))
    assert same_bits(*both("count_correct", logits, some))
    assert CUDA.count_correct(logits, some)[-1] == -1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label", [-1, 3, 2**40, -(2**40)])
def test_labels_out_of_range_never_index_memory(dtype: Any, label: int) -> None:
    """A device is not waited for: the loss is NaN, which training reports, and counting says it."""
    logits, labels = np.zeros((2, 3, 40), dtype), np.zeros(40, np.int64)
    labels[33] = label
    assert np.isnan(LOSS.forward(CUDA, (), logits, labels)[0]).all()
    assert CUDA.count_correct(logits, labels).tolist() == [-2, -2]
    with pytest.raises(WnError, match="a label is out of range: allowed are 0 to 2"):
        count_correct(CUDA, logits, labels)


# ---- gradients ------------------------------------------------------------------------------------------


def random(*sizes: tuple[int, ...]) -> list[Any]:
    return draw(7, *sizes, dtype=np.float64)


def test_gradients_of_linear() -> None:
    x, w, b = random((2, 3, 5), (2, 4, 3), (2, 4))
    check_layer(linear, CUDA, LinearParams(w, b), x, seed=1)


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 3)])
def test_gradients_of_convolution(stride: tuple[int, int]) -> None:
    x, w, b = random((2, 2, 5, 6, 3), (2, 3, 2, 3, 2), (2, 3))
    check_layer(
        convolution, CUDA, ConvolutionParams(w, b), x, static={"stride": stride, "padding": (1, 2)}, seed=1
    )


@pytest.mark.parametrize("layer", [max_pooling, average_pooling])
def test_gradients_of_pooling(layer: Any) -> None:
    (x,) = random((2, 2, 5, 6, 3))
    check_layer(layer, CUDA, (), x, static={"window": (2, 3)}, seed=1)


def test_gradients_of_relu() -> None:
    (x,) = random((2, 3, 5))
    check_layer(relu, CUDA, (), x, seed=1)


def test_gradients_of_batch_norm() -> None:
    x, gamma, beta = random((2, 3, 5), (2, 3), (2, 3))
    params = BatchNormParams(gamma, beta)
    y, cache, _ = norms.forward_training(CUDA, params, x)
    plain, plain_cache, _ = norms.forward_training(NUMPY, params, x)
    check_close(y, plain, 20)
    (dy,) = draw(8, (2, 3, 5), dtype=np.float64)
    dx, grads = norms.backward_training(CUDA, dy, cache)
    expected, expected_grads = norms.backward_training(NUMPY, dy, plain_cache)
    check_close((dx, *grads), (expected, *expected_grads), 20)


# ---- sums of squares --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 3, 5, 4, 33), (3, 7, 256), (2, 1, 9)])
def test_square_sums(shape: tuple[int, ...], dtype: Any) -> None:
    """On the device itself; a member's has the same bits without the others."""
    (x,) = draw(3, shape, dtype=dtype)
    found, expected = both("square_sums", x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    np.testing.assert_array_equal(CUDA.square_sums(x[-1:]), found[-1:])
