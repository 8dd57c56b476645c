"""Convolution kernels, as sums of slices and by columns: against loops, and the same bits everywhere."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive
from tests.engine.backends.numba import DTYPES, blank, check_threads, same_bits
from tests.engine.layers import convolution as plain
from wn.engine import backends
from wn.engine.backends.numba.kernels import convolution, convolution_columns, products
from wn.engine.layers.convolution import ConvolutionParams
from wn.testing import assert_close, strategies
from wn.testing.strategies import ConvolutionShape

BE = backends.get("numpy")
GEMM = {np.dtype(kind): products.gemm_address(kind) for kind in ("float32", "float64")}
WAYS = ["direct", "columns"]


class Results(NamedTuple):
    """y, dw, db and dx."""

    y: Any
    dw: Any
    db: Any
    dx: Any


class Problem(NamedTuple):
    """Arrays of a convolution, and how its kernels slide."""

    x: Any
    w: Any
    b: Any
    dy: Any
    stride: tuple[int, int]
    padding: tuple[int, int]


def problem(shape: ConvolutionShape, seed: int = 0, dtype: Any = np.float32, shared: str = "") -> Problem:
    """Return normal values; the arrays whose names are in `shared` have a leading 1."""
    z = np.random.default_rng(seed).standard_normal
    x, w, b, dy = (z(size).astype(dtype) for size in (shape.x, shape.w, shape.b, shape.y))
    x, w, b = (array[:1] if name in shared else array for name, array in (("x", x), ("w", w), ("b", b)))
    return Problem(x, w, b, dy, shape.stride, shape.padding)


def forward(way: str, given: Problem) -> Any:
    x, w, b, dy, *sliding = given
    y = blank(dy.shape, x.dtype)
    if way == "direct":
        convolution.convolution(x, w, b, y, *sliding, False)
    else:
        convolution_columns.convolution(GEMM[x.dtype], x, w, b, y, *sliding)
    return y


def compute(way: str, given: Problem) -> Results:
    x, w, _, dy, *sliding = given
    dw, db = blank((len(dy), *w.shape[1:]), x.dtype), blank(dy.shape[:2], x.dtype)
    dx = blank((len(dy), *x.shape[1:]), x.dtype)
    if way == "direct":
        convolution.convolution_gradients(dy, x, dw, db, *sliding)
        convolution.convolution_input_gradient(w, dy, dx, *sliding)
    else:
        convolution_columns.convolution_gradients(GEMM[x.dtype], dy, x, dw, db, *sliding)
        convolution_columns.convolution_input_gradient(GEMM[x.dtype], w, dy, dx, *sliding)
    return Results(forward(way, given), dw, db, dx)


def check_close(found: Results, expected: Results, given: Problem) -> None:
    """Assert that all four agree; the terms of a sum are as large as the largest of their factors."""
    x, w, b, dy = (float(np.abs(array).max()) for array in given[:4])
    kernel, places = given.w[0, 0].size, given.dy[0, 0].size
    taps = given.w[0, :, 0].size  # O·KH·KW
    sums = {
        "y": (x * w + b, kernel + 1),
        "dw": (x * dy, places),
        "db": (dy, places),
        "dx": (w * dy, taps),
    }
    for name, (size, terms) in sums.items():
        array = getattr(found, name)
        assert array.dtype == given.x.dtype
        assert_close(
            array,
            getattr(expected, name),
            dtype=array.dtype,
            reduction_length=terms,
            magnitude=size * terms**0.5,
            name=name,
        )


# ---- values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@given(
    shape=strategies.convolution_shapes(size=5),
    dtype=st.sampled_from(DTYPES),
    shared=st.sampled_from(["", "x", "wb", "xwb"]),
    seed=strategies.seeds(),
)
def test_equals_loops(way: str, shape: ConvolutionShape, dtype: Any, shared: str, seed: int) -> None:
    given = problem(shape, seed, dtype, shared)
    sliding = given.stride, given.padding
    dx, dw, db = naive.convolution_backward(given.dy, given.x, given.w, *sliding)
    y = naive.convolution_forward(given.x, given.w, given.b, *sliding)
    if y.shape != given.dy.shape:  # everything is shared: one result, repeated
        y = np.broadcast_to(y, given.dy.shape)
    check_close(compute(way, given), Results(y, dw, db, dx), given)


# Shapes at which loops are cut, or which have few or no whole kernels.
SPECIAL = {
    "taps beyond a table": ConvolutionShape(1, 25, 6, 7, 4, 9, (5, 5), (1, 1), (0, 0)),
    "rows beyond a block": ConvolutionShape(2, 2, 5, 9, 300, 3, (3, 3), (1, 1), (1, 1)),
    "many rows of kernels": ConvolutionShape(2, 40, 3, 4, 3, 4, (3, 3), (1, 1), (1, 1)),
    "keyword spotting": ConvolutionShape(2, 1, 10, 49, 3, 6, (4, 10), (1, 2), (0, 0)),
    "wide kernel": ConvolutionShape(2, 2, 7, 20, 5, 3, (4, 10), (1, 1), (0, 0)),
    "kernel of the image's size": ConvolutionShape(2, 3, 4, 5, 6, 5, (4, 5), (1, 1), (0, 0)),
    "kernel beyond the image": ConvolutionShape(2, 3, 2, 2, 6, 4, (5, 6), (1, 1), (2, 3)),
    "padding beyond the kernel": ConvolutionShape(2, 2, 3, 4, 5, 3, (2, 2), (1, 1), (5, 4)),
    "steps beyond the kernel": ConvolutionShape(2, 2, 9, 10, 4, 3, (2, 1), (3, 4), (0, 0)),
    "one tap": ConvolutionShape(2, 7, 5, 6, 8, 4, (1, 1), (1, 1), (0, 0)),
    "one column": ConvolutionShape(2, 2, 6, 1, 9, 3, (3, 1), (1, 1), (1, 0)),
    "one sample": ConvolutionShape(2, 6, 12, 12, 1, 16, (5, 5), (1, 1), (0, 0)),
    "one output and channel": ConvolutionShape(2, 1, 8, 8, 20, 1, (5, 5), (1, 1), (2, 2)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SPECIAL.values(), ids=SPECIAL.keys())
def test_equals_the_numpy_backend(shape: ConvolutionShape, dtype: Any, way: str) -> None:
    given = problem(shape, 1, dtype)
    x, w, b, dy = (array.astype(np.float64) for array in given[:4])
    sliding = given.stride, given.padding
    y, cache = plain.forward(BE, ConvolutionParams(w, b), x, *sliding)
    dx, grads = plain.backward(BE, dy, cache)
    check_close(compute(way, given), Results(y, *grads, dx), given)


@pytest.mark.parametrize("way", WAYS)
def test_pixels_without_a_window_get_no_gradient(way: str) -> None:
    given = problem(SPECIAL["steps beyond the kernel"])
    dx = compute(way, given).dx
    covered = np.zeros(dx.shape, bool)
    covered[:, :, [0, 1, 3, 4, 6, 7], :, :] = True
    covered[:, :, :, [1, 2, 3, 5, 6, 7, 9], :] = False
    assert np.all(dx[~covered] == 0)
    assert np.all(dx[covered] != 0)


@pytest.mark.parametrize("way", WAYS)
def test_a_nan_stays_where_it_is_seen(way: str) -> None:
    given = problem(ConvolutionShape(2, 2, 6, 7, 5, 3, (3, 2), (1, 1), (1, 1)))
    given.x[1, 0, 2, 3, 4] = np.nan
    expected = np.zeros(given.dy.shape, bool)
    expected[1, :, 1:4, 3:5, 4] = True  # rows 2 + 1 − i, columns 3 + 1 − j
    np.testing.assert_array_equal(np.isnan(forward(way, given)), expected)


# ---- bits -----------------------------------------------------------------------------------------------

BATCHES = {
    "LeNet-like": ConvolutionShape(3, 3, 11, 12, 37, 5, (5, 4), (1, 1), (0, 0)),
    "padded": ConvolutionShape(3, 6, 6, 5, 130, 4, (3, 3), (1, 1), (1, 1)),
    "in steps": ConvolutionShape(3, 2, 9, 12, 16, 7, (4, 5), (1, 2), (2, 1)),
}
CASES = pytest.mark.parametrize("shape", BATCHES.values(), ids=BATCHES.keys())


@CASES
@pytest.mark.parametrize("way", WAYS)
def test_threads_do_not_matter(way: str, shape: ConvolutionShape) -> None:
    given = problem(shape)
    check_threads(lambda: compute(way, given))


@CASES
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shared", ["", "x", "wb"])
def test_a_member_does_not_depend_on_the_population(way: str, shape: ConvolutionShape, shared: str) -> None:
    given = problem(shape, shared=shared)
    whole = compute(way, given)
    for p in range(shape.population):
        own = [array if len(array) == 1 else array[p : p + 1] for array in given[:4]]
        alone = compute(way, Problem(*own, given.stride, given.padding))
        assert all(same_bits(one, many[p : p + 1]) for one, many in zip(alone, whole, strict=True))


def of_samples(given: Problem, samples: slice) -> Problem:
    """Return the problem with some of its samples."""
    return given._replace(
        x=given.x[..., samples].copy(),
        dy=given.dy[..., samples].copy(),
    )


@CASES
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sample_does_not_depend_on_the_batch(shape: ConvolutionShape, dtype: Any) -> None:
    given = problem(shape, dtype=dtype)
    whole = forward("direct", given)
    for samples in (slice(0, 1), slice(7, 8), slice(3, 11), slice(5, 16)):
        part = forward("direct", of_samples(given, samples))
        assert same_bits(part, whole[..., samples].copy())


def test_by_columns_a_sample_does_not_depend_on_the_other_tiles() -> None:
    tile = convolution_columns.TILE
    given = problem(ConvolutionShape(2, 3, 6, 5, 3 * tile, 5, (3, 3), (1, 1), (1, 1)))
    whole = forward("columns", given)
    for samples in (slice(0, 2 * tile), slice(tile, 3 * tile)):
        part = forward("columns", of_samples(given, samples))
        assert same_bits(part, whole[..., samples].copy())


# ---- which way ------------------------------------------------------------------------------------------


def test_many_outputs_and_steps_are_for_columns() -> None:
    assert convolution.prefers_direct(64, 1)
    assert not convolution.prefers_direct(65, 1)
    assert not convolution.prefers_direct(6, 2)


@pytest.mark.parametrize(
    ("outputs", "stride_w", "kernel_w", "columns", "direct"),
    [
        (16, 1, 5, 8, True),  # LeNet-5's second convolution
        (48, 1, 10, 11, False),  # keyword spotting: two whole kernels
        (48, 1, 10, 14, True),
        (48, 1, 10, 13, False),
        (64, 1, 3, 32, True),
        (128, 1, 3, 16, False),
        (16, 2, 5, 8, False),
    ],
)
def test_input_gradients_with_few_whole_kernels_are_for_columns(
    outputs: int, stride_w: int, kernel_w: int, columns: int, direct: bool
) -> None:
    found = convolution.prefers_direct_input_gradient(outputs, stride_w, kernel_w, columns)
    assert found == direct
