"""Kernels of layers, loss, batches and optimiser against the NumPy backend; gradients against differences."""

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.backends.cuda import DTYPES, needs_compiler, on_host, same_bits
from tests.engine.backends.cuda.fake_device import DEVICE
from tests.engine.backends.formulas import ByFormulas
from tests.engine.layers import average_pooling, convolution, linear, max_pooling, norms, relu
from wn.basics.errors import WnError
from wn.engine.backends.cuda import layers as cuda_layers
from wn.engine.backends.plain.base import Backend
from wn.engine.layers.batch_norm import BatchNormParams
from wn.engine.layers.convolution import ConvolutionParams
from wn.engine.layers.linear import LinearParams
from wn.engine.layers.windows import Sliding
from wn.engine.training import count_correct
from wn.testing import assert_close, check_layer
from wn.testing import strategies as shapes

pytestmark = [needs_compiler, pytest.mark.usefixtures("order_of_threads")]
NUMPY, CUDA = ByFormulas(), on_host()
BATCHES = st.integers(1, 12) | st.sampled_from([31, 32, 33, 129, 257])
FEW = settings(max_examples=6)  # of each case, in two types and orders


def draw(seed: int, *sizes: tuple[int, ...], dtype: Any = np.float32) -> list[Any]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(size).astype(dtype) for size in sizes]


def check_close(found: Any, expected: Any, terms: int, magnitude: float | None = None) -> None:
    """Assert that both are equal to rounding, sums of so many terms; same dtype and shape."""
    for one, other in zip(_several(found), _several(expected), strict=True):
        assert one.dtype == other.dtype
        largest = float(np.abs(other).max()) if magnitude is None else magnitude
        assert_close(one, other, reduction_length=terms, magnitude=largest)


def _several(arrays: Any) -> tuple[Any, ...]:
    return arrays if isinstance(arrays, tuple) else (arrays,)


def both(name: str, *arguments: Any) -> tuple[Any, Any]:
    """Return what the primitive gives on the device and in NumPy."""
    return getattr(CUDA, name)(*arguments), getattr(NUMPY, name)(*arguments)


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
    check_close(*both("linear", w, x, b), i + 1, 9.0 * i)
    check_close(*both("linear_gradients", dy, x), batch, 9.0 * batch)
    check_close(*both("linear_input_gradient", w, dy), o, 9.0 * o)


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
    y = NUMPY.relu(x)
    assert same_bits(CUDA.relu(x), y)
    assert same_bits(CUDA.relu_backward(dy, y), NUMPY.relu_backward(dy, y))
    assert same_bits(CUDA.relu_backward(dy, y[:1]), NUMPY.relu_backward(dy, y[:1]))


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
    sliding, kernel = (shape.stride, shape.padding), shape.w[3:]
    terms, places = w[0, 0].size, dy[0, 0].size
    check_close(*both("convolution", x, w, b, *sliding), terms + 1, 9.0 * terms)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_layers, "SLICED_BLOCKS", slicing)
        check_close(*both("convolution_gradients", dy, x, kernel, *sliding), places, 9.0 * places)
    taps = w[0, :, 0].size
    check_close(*both("convolution_input_gradient", w, dy, shape.x[2:4], *sliding), taps, 9.0 * taps)


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
    terms, count = w[0, 0].size, dy[0, 0].size
    check_close(*both("convolution", x, w, b, stride, padding), terms, 9.0 * terms)
    check_close(*both("convolution_gradients", dy, x, kernel, stride, padding), count, 9.0 * count)
    taps = w[0, :, 0].size
    check_close(*both("convolution_input_gradient", w, dy, size, stride, padding), taps, 9.0 * taps)


def test_weights_of_each_member_and_a_bias_of_all() -> None:
    x, w, b = draw(4, (1, 2, 5, 5, 3), (3, 4, 2, 2, 2), (1, 4))
    check_close(*both("convolution", x, w, b, (1, 1), (0, 0)), 9, 70.0)


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
    assert same_bits(*both("average_pool", x, window))
    assert same_bits(*both("average_pool_backward", dy, (height, width), window))
    x += 0  # of 0 and -0 either may count as the larger
    x.flat[:: max(x.size // 3, 1)] = np.nan
    y = NUMPY.max_pool(x, window)
    assert same_bits(CUDA.max_pool(x, window), y)
    assert same_bits(CUDA.max_pool_backward(dy, x, y, window), NUMPY.max_pool_backward(dy, x, y, window))


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
    found, expected = both("batch_norm", rows + 3, gamma, beta, 1e-5)
    spread = 1 / np.sqrt(expected[3].min() + 1e-5)  # what small variances make of rounding
    check_close(found[0], expected[0], count, float(10 * (1 + spread)))
    check_close(found[1:4], expected[1:4], count, 20.0)
    check_close(found[4], expected[4], count, float(20 * spread**3))
    drows = drows[: len(expected[0])]
    found, expected = both(
        "batch_norm_backward", drows, rows, gamma, *NUMPY.moments(rows)[:2], np.ones_like(rows[..., 0])
    )
    check_close(found, expected, count, 30.0 * count)
    scale, shift = draw(seed + 1, (population, features), (1, features), dtype=dtype)
    check_close(*both("normalise", rows, gamma, scale, shift), 4, 50.0)
    check_close(*both("normaliser", gamma, shift, rows[..., 0], rows[..., 1], scale**2, 1e-5), 4, 1e4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_totals_have_the_same_bits_and_take_no_memory(dtype: Any) -> None:
    total, losses = draw(6, (500,), (500,), dtype=np.float64)
    losses = losses.astype(dtype)
    there, values = CUDA.be.asarray(total), CUDA.be.asarray(losses)
    before = DEVICE.allocations
    CUDA.be.accumulate(there, values, 33)
    assert DEVICE.allocations == before
    NUMPY.accumulate(total, losses, 33)
    assert same_bits(there.get(), total)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", [False, True])
def test_running_averages_have_the_same_bits(shared: bool, dtype: Any) -> None:
    old, new = draw(3, (3, 3, 7), (3, 1 if shared else 3, 7), dtype=dtype)
    found, expected = both("running_statistics", tuple(old), tuple(new), 0.1, 33 / 32)
    assert all(same_bits(*pair) for pair in zip(found, expected, strict=True))


# ---- loss -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(st.integers(1, 4), st.integers(1, 12), BATCHES, st.integers(0, 99), st.sampled_from([1, 1e4]))
def test_loss(dtype: Any, population: int, classes: int, batch: int, seed: int, size: float) -> None:
    generator = np.random.default_rng(seed)
    logits = draw(seed, (population, classes, batch), dtype=dtype)[0] * dtype(size)
    labels, shares = generator.integers(0, classes, batch), generator.uniform(0, 1, batch).astype(dtype)
    weights = tuple(generator.uniform(0.5, 2, classes))
    assert same_bits(*both("shares", labels, None, dtype))
    check_close(*both("shares", labels, weights, dtype), batch, 2.0)
    found, expected = both("cross_entropy", logits, labels, shares)
    check_close(found[0], expected[0], batch, 20.0 * size * batch)
    check_close(found[1], expected[1], classes, 20.0 * size)
    check_close(*both("cross_entropy_backward", expected[1], labels, shares), classes, 2.0)
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
    logits, labels, shares = np.zeros((2, 3, 40), dtype), np.zeros(40, np.int64), np.full(40, 1 / 40, dtype)
    labels[33] = label
    assert np.isnan(CUDA.cross_entropy(logits, labels, shares)[0]).all()
    assert CUDA.count_correct(logits, labels).tolist() == [-2, -2]
    with pytest.raises(WnError, match="a label is out of range: allowed are 0 to 2"):
        count_correct(CUDA, logits, labels)


# ---- optimiser ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 5, 64, 65, 130])
def test_adam_of_all_parameters_has_the_bits_of_one_by_one(count: int, dtype: Any) -> None:
    generator = np.random.default_rng(count)
    sizes = [(2, *generator.integers(1, 60, n % 3)) for n in range(count)]
    sizes[0] = (2, 3000)
    ours = [draw(k, *sizes, dtype=dtype) for k in range(4)]
    ours[3] = [np.abs(array) for array in ours[3]]
    theirs = [[array.copy() for array in arrays] for arrays in ours]
    for step in (1, 2):
        constants = (1e-3 / (1 - 0.9**step), 0.9, 0.999, (1 - 0.999**step) ** -0.5, 1e-8)
        before = len(CUDA.be._kept)
        CUDA.adam_updates(*ours, constants)
        assert len(CUDA.be._kept) == before
        for arrays in zip(*theirs, strict=True):
            Backend.adam_update(NUMPY, *arrays, constants)
    for pair in zip(chain(*ours), chain(*theirs), strict=True):
        assert same_bits(*pair)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_parameter_in_any_layout_and_clamping(dtype: Any) -> None:
    ours = draw(5, *4 * [(3, 4, 5)], dtype=dtype)
    ours[3] = np.abs(ours[3])
    theirs = [array.copy() for array in ours]
    constants = (1e-3, 0.9, 0.999, 2.0, 1e-8)
    on_device = [CUDA.be.asarray(array) for array in ours]
    CUDA.be.adam_update(*(array.transpose(1, 2, 0) for array in on_device), constants)
    CUDA.be.clip(on_device[0], 0.5)
    NUMPY.adam_update(*theirs, constants)
    NUMPY.clip(theirs[0], 0.5)
    for one, other in zip(on_device, theirs, strict=True):
        assert same_bits(one.get(), other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limit", [0.0, 0.3, np.inf])
@pytest.mark.parametrize("shape", [(0,), (5,), (3, 4, 5), (2, 40_000)])
def test_clamping_has_the_same_bits(shape: tuple[int, ...], limit: float, dtype: Any) -> None:
    (w,) = draw(2, shape, dtype=dtype)
    w.flat[::5], w.flat[1::7], w.flat[2::9], w.flat[3::11] = np.nan, -np.inf, -0.0, np.finfo(dtype).tiny / 4
    ours, theirs = w.copy(), w.copy()
    CUDA.clip(ours, limit)
    NUMPY.clip(theirs, limit)
    assert same_bits(ours, theirs)


# ---- batches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    BATCHES,
    st.integers(0, 99),
    st.booleans(),
)
@FEW
def test_batches_have_the_same_bits(
    kind: Any, dtype: Any, shape: tuple[int, ...], batch: int, seed: int, wide: bool
) -> None:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (20, *shape)).astype(kind)
    samples = generator.integers(0, 20, batch).astype(np.int64 if wide else np.uint32)
    channels = shape[0]
    mean, std = tuple(generator.uniform(0, 1, channels)), tuple(generator.uniform(0.1, 1, channels))
    assert same_bits(*both("gather", images, samples, 255.0, mean, std, dtype))


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
