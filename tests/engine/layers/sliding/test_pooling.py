"""Poolings with overlapping windows, gaps, padding, and of whole channels, against loops and differences."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reference import naive_layers
from tests.engine.backends.cuda import needs_compiler, on_host
from tests.engine.layers import FEW, Run
from tests.engine.layers.sliding.windows import of_reference, windows
from wn.basics.errors import WnError
from wn.engine import backends, fusion
from wn.engine.layers import average_pooling as tiling_average
from wn.engine.layers import max_pooling as tiling_max
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.layers.sliding import average_pooling, global_pooling, max_pooling
from wn.engine.layers.sliding.global_pooling import GlobalAveragePooling, GlobalMaxPooling
from wn.testing import assert_close, check_layer, check_recorded
from wn.testing import strategies as shapes

BE: Any = backends.get("numpy")
MAXIMUM, AVERAGE = Run(max_pooling.FORMULA), Run(average_pooling.FORMULA)
OF_CHANNELS = {"mean": Run(global_pooling.AVERAGE), "max": Run(global_pooling.MAXIMUM)}


@st.composite
def problems(draw: Any, values: Any, smallest_population: int = 1, size: int = 6) -> Any:
    """x and a window of which every place sees a pixel."""
    window, image = draw(windows(size, ceil_mode=True))
    try:
        window.check_sees("a pooling", image)
    except WnError:
        assume(False)  # a window that sees padding alone is an error, which has a test of its own
    shape = (
        draw(st.integers(smallest_population, 3)),
        draw(st.integers(1, 2)),
        *image,
        draw(st.integers(1, 3)),
    )
    return draw(values(shape)), window


def _backends() -> list[Any]:
    return [BE, *([] if needs_compiler.args[0] else [on_host()])]


@settings(max_examples=50)
@given(problems(shapes.tied) | problems(shapes.arrays), shapes.seeds(), st.booleans())
def test_max_pooling_equals_loops(problem, seed, shared):
    x, window = problem
    x = x[:1] if shared else x
    dy_shape = (2 if shared else len(x), *MAXIMUM.forward(BE, (), x, window)[0].shape[1:])
    dy = np.random.default_rng(seed).standard_normal(dy_shape)
    expected = naive_layers.max_pooling(dy, x, of_reference(window, x.shape[2:4]))
    for be in _backends():
        y, cache = MAXIMUM.forward(be, (), x, window)
        np.testing.assert_array_equal(y, expected[0])
        dx, grads = MAXIMUM.backward(be, dy, cache)
        assert_close(dx, expected[1], reduction_length=9, magnitude=10.0)
        assert grads == ()


@settings(max_examples=50)
@given(problems(shapes.arrays), st.booleans(), shapes.seeds())
def test_average_pooling_equals_loops(problem, count_include_pad, seed):
    x, window = problem
    places = window.places(x.shape[2:4])
    dy = np.random.default_rng(seed).standard_normal((*x.shape[:2], *places, x.shape[4]))
    known = of_reference(window, x.shape[2:4])
    expected = naive_layers.average_pooling(dy, x, known, count_include_pad)
    for be in _backends():
        y, cache = AVERAGE.forward(be, (), x, window, count_include_pad)
        dx, grads = AVERAGE.backward(be, dy, cache)
        assert_close(y, expected[0], reduction_length=9, magnitude=float(np.abs(x).max()))
        assert_close(dx, expected[1], reduction_length=9, magnitude=10.0)
        assert grads == ()


@FEW
@given(problems(shapes.distinct, smallest_population=2, size=4), st.booleans())
def test_contract_and_gradient(problem, count_include_pad):
    x, window = problem
    check_layer(MAXIMUM, BE, (), x, static={"window": window})
    check_layer(AVERAGE, BE, (), x, static={"window": window, "count_include_pad": count_include_pad})


@FEW
@given(shapes.image_shapes(smallest_population=2, size=4).flatmap(shapes.distinct), shapes.seeds())
def test_of_whole_channels(x, seed):
    window = naive_layers.Window(x.shape[2:4], (1, 1), ((0, 0), (0, 0)))
    dy = np.random.default_rng(seed).standard_normal((*x.shape[:2], 1, 1, x.shape[4]))
    for name, run in OF_CHANNELS.items():
        loops = naive_layers.max_pooling(dy, x, window)
        expected = loops if name == "max" else naive_layers.average_pooling(dy, x, window, True)
        for be in _backends():
            y, cache = run.forward(be, (), x)
            assert_close(y, expected[0], reduction_length=16, magnitude=float(np.abs(x).max()))
            np.testing.assert_allclose(run.backward(be, dy, cache)[0], expected[1], rtol=1e-12)
        check_layer(run, BE, (), x, seed=seed)


def test_of_whole_channels_the_first_of_equal_values_and_of_nans_gets_the_gradient():
    x = np.array([[1.0, 5, 5, 0], [np.nan, 5, np.nan, 0]]).reshape(1, 2, 2, 2, 1)
    for be in _backends():
        y, cache = OF_CHANNELS["max"].forward(be, (), x)
        np.testing.assert_array_equal(y.ravel(), [5, np.nan])
        dx, _ = OF_CHANNELS["max"].backward(be, np.full((1, 2, 1, 1, 1), 3.0), cache)
        np.testing.assert_array_equal(dx.reshape(2, 4), [[0, 3, 0, 0], [3, 0, 0, 0]])


def test_padding_is_never_the_largest_and_pixels_of_minus_infinity_keep_their_gradient():
    x = np.full((1, 1, 3, 3, 1), -np.inf)
    for be in _backends():
        y, cache = MAXIMUM.forward(be, (), x, MaxPooling(3, 2, 1).sliding)
        np.testing.assert_array_equal(y, -np.inf)
        dx, _ = MAXIMUM.backward(be, np.ones(y.shape), cache)
        np.testing.assert_array_equal(dx[0, 0, :, :, 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


def test_gradient_of_a_nan_goes_to_the_nan():
    x = np.ones((1, 1, 3, 3, 1))
    x[0, 0, 1, 1] = np.nan
    y, cache = MAXIMUM.forward(BE, (), x, MaxPooling(2, 1).sliding)
    assert np.isnan(y).all()
    dx, _ = MAXIMUM.backward(BE, np.ones(y.shape), cache)
    assert (dx[0, 0, 1, 1, 0], dx.sum()) == (4, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mean_is_found_where_the_sum_is_out_of_range(dtype):
    x = np.full((1, 2, 5, 5, 3), np.finfo(dtype).max, dtype)
    for be in _backends():
        for y in (
            AVERAGE.forward(be, (), x, AveragePooling(3, 2).sliding)[0],
            OF_CHANNELS["mean"].forward(be, (), x)[0],
        ):
            np.testing.assert_allclose(y, x.max(), rtol=4 * np.finfo(dtype).eps)


POOLINGS: list[Any] = [
    MaxPooling(3, 2, 1),
    MaxPooling(2, 1, ((0, 1), (1, 0)), 2, True),
    AveragePooling(3, 2, 1),
    AveragePooling(2, 2, 0, ceil_mode=True),
    AveragePooling(3, 1, "same", count_include_pad=False),
    GlobalAveragePooling(),
    GlobalMaxPooling(),
]


@pytest.mark.parametrize("layer", POOLINGS, ids=str)
def test_it_is_recorded_and_may_be(layer):
    if BE.name == "numba":
        check_recorded(layer, (2, 5, 5))


@needs_compiler
@pytest.mark.parametrize("layer", POOLINGS, ids=str)
def test_graphs_record_it(layer):
    if BE.name == "numpy":
        check_recorded(layer, (2, 5, 5), be=on_host().be)


def test_windows_that_tile_the_image_are_run_as_always():
    tiling = {MaxPooling(2): tiling_max.FORMULA, AveragePooling((2, 3)): tiling_average.FORMULA}
    for layer, formula in tiling.items():
        assert (layer.run, layer.usual) == (formula, True)
        assert layer.static == (layer.sliding.size,)
    assert MaxPooling(2) == MaxPooling((2, 2), 2, 0)
    layers, found = [Relu(), MaxPooling(3, 2, 1)], fusion.CONVOLUTION_RELU_POOLING
    assert not any(layer.usual for layer in (layers[1], MaxPooling(2, ceil_mode=True), AveragePooling(2, 1)))
    assert len(fusion.fused(layers, [True] * 2, [found])) == 2


def test_in_a_network():
    assert MaxPooling(3, 2, 1).output_shape((4, 112, 111)) == (4, 56, 56)
    assert MaxPooling(2, ceil_mode=True).output_shape((4, 5, 6)) == (4, 3, 3)
    # a last window that would begin in the padding is left out
    assert AveragePooling(1, 2, ceil_mode=True).output_shape((4, 5, 6)) == (4, 3, 3)
    assert AveragePooling(3, 2, "same").output_shape((4, 5, 6)) == (4, 3, 3)
    assert GlobalMaxPooling().output_shape((4, 5, 6)) == (4, 1, 1)
    with pytest.raises(WnError, match=r"some windows of 2×2 with padding .* see only padding of an image"):
        MaxPooling(2, 1, 2).output_shape((4, 4, 4))
    with pytest.raises(WnError, match=r"window of a max pooling of 5×5 with padding .* is larger"):
        MaxPooling(5, 1, 1).output_shape((4, 2, 9))
    for layer in POOLINGS:
        with pytest.raises(WnError, match=r"pooling takes \(channels, height, width\), got \(9,\)"):
            layer.output_shape((9,))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: MaxPooling(2, 0), r"stride of a max pooling is \(0, 0\): both must be at least 1"),
        (lambda: MaxPooling(2, dilation=0), r"dilation of a max pooling is \(0, 0\)"),
        (lambda: MaxPooling(2, padding=-1), r"padding of a max pooling is \(-1, -1\)"),
        (lambda: MaxPooling(2, ceil_mode=1), "ceil_mode of a max pooling is 1: it must be True or False"),
        (lambda: AveragePooling(2, count_include_pad=0), "count_include_pad of an average pooling is 0"),
    ],
)
def test_settings_out_of_range(made, message):
    with pytest.raises(WnError, match=message):
        made()
