"""Convolution in groups, with gaps, any padding and no bias, against loops and differences."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive_layers
from tests.engine.backends.cuda import needs_compiler, on_host
from tests.engine.layers import FEW, Run
from tests.engine.layers.sliding.windows import of_reference, windows
from wn.basics.errors import WnError
from wn.engine import backends, fusion
from wn.engine.backends.plain.base import SAMPLE_TILE
from wn.engine.layers import convolution as usual
from wn.engine.layers.base import Weights
from wn.engine.layers.convolution import Convolution, ConvolutionParams
from wn.engine.layers.relu import Relu
from wn.engine.layers.sliding import convolution as grouped
from wn.testing import assert_close, check_layer, check_recorded
from wn.testing import strategies as shapes

BE: Any = backends.get("numpy")
GROUPED, WITHOUT_BIAS = Run(grouped.FORMULA), Run(usual.WITHOUT_BIAS)


@st.composite
def problems(draw: Any, smallest_population: int = 1, size: int = 5) -> Any:
    """(params, x, window, groups): with and without biases, x or the parameters shared by the members."""
    window, image = draw(windows(size))
    groups, rng = draw(st.integers(1, 3)), np.random.default_rng(draw(shapes.seeds()))
    population = draw(st.integers(smallest_population, 3))
    channels, outputs = (groups * draw(st.integers(1, 2)) for _ in range(2))
    shared = draw(st.sampled_from(["", "x", "params"])) if smallest_population == 1 else ""
    x = rng.standard_normal((1 if shared == "x" else population, channels, *image, draw(st.integers(1, 3))))
    members = 1 if shared == "params" else population
    w = rng.standard_normal((members, outputs, channels // groups, *window.size))
    b = rng.standard_normal((members, outputs))
    return ConvolutionParams(w, b) if draw(st.booleans()) else Weights(w), x, window, groups


def _assert_equals_loops(be: Any, params: Any, x: Any, window: Any, groups: int, seed: int) -> None:
    y, cache = GROUPED.forward(be, params, x, window, groups)
    known, b = of_reference(window, x.shape[2:4]), np.zeros(params.w.shape[:2])
    b = params.b if len(params) > 1 else b
    terms, size = (
        params.w[0, 0].size + 1,
        float(np.abs(x).max() * np.abs(params.w).max()) * params.w[0, 0].size,
    )
    assert_close(
        y,
        naive_layers.convolution_forward(x, params.w, b, known, groups),
        reduction_length=terms,
        magnitude=size,
    )
    dy = np.random.default_rng([seed, 1]).standard_normal(y.shape)
    dx, grads = GROUPED.backward(be, dy, cache)
    assert type(grads) is type(params)
    expected = naive_layers.convolution_backward(dy, x, params.w, known, groups)
    terms = dy[0].size * terms
    for found, wanted in zip((dx, *grads), expected, strict=False):
        assert_close(found, wanted, reduction_length=terms, magnitude=10.0 * terms)
    again, same = GROUPED.backward(be, dy, cache, need_dx=False)
    assert again is None
    np.testing.assert_array_equal(same.w, grads.w)


@given(problems(), shapes.seeds())
def test_equals_loops(problem, seed):
    _assert_equals_loops(BE, *problem, seed)


@needs_compiler
@FEW
@given(problems(), shapes.seeds())
def test_equals_loops_on_a_gpu(problem, seed):
    _assert_equals_loops(on_host(), *problem, seed)


@FEW
@given(problems(smallest_population=2, size=4))
def test_contract_and_gradient(problem):
    params, x, window, groups = problem
    check_layer(GROUPED, BE, params, x, static={"window": window, "groups": groups})


@FEW
@given(shapes.convolution_shapes(smallest_population=2, size=4), shapes.seeds())
def test_without_bias_is_with_a_bias_of_zero(shape, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal(shape.x), rng.standard_normal(shape.w)
    sliding = shape.stride, shape.padding
    for be in (BE, *([on_host()] if needs_compiler.args[0] is False else [])):
        with_bias = Run(usual.FORMULA).forward(be, ConvolutionParams(w, np.zeros(shape.b)), x, *sliding)
        y, cache = WITHOUT_BIAS.forward(be, Weights(w), x, *sliding)
        np.testing.assert_array_equal(y, with_bias[0])
        dy = rng.standard_normal(y.shape)
        dx, grads = WITHOUT_BIAS.backward(be, dy, cache)
        expected = Run(usual.FORMULA).backward(be, dy, with_bias[1])
        np.testing.assert_array_equal(dx, expected[0])
        assert grads._fields == ("w",)
        np.testing.assert_array_equal(grads.w, expected[1].w)
    check_layer(
        WITHOUT_BIAS, BE, Weights(w), x, static={"stride": sliding[0], "padding": sliding[1]}, seed=seed
    )


SETTINGS: list[dict[str, Any]] = [
    {"bias": False},
    {"groups": 2},
    {"groups": 4, "bias": False, "stride": 2, "padding": ((0, 1), (1, 0))},
    {"dilation": 2, "padding": 2},
    {"padding": "same", "stride": 2},
    {"padding": "same_lower", "dilation": (1, 2)},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_layer_in_a_network_is_recorded_and_may_be(settings):
    if BE.name == "numba":
        check_recorded(Convolution(4, 3, **settings), (4, 5, 6))


@needs_compiler
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_graphs_record_it(settings):
    if BE.name == "numpy":
        check_recorded(Convolution(4, 3, **settings), (4, 5, 6), be=on_host().be)


def test_the_settings_that_it_always_had_are_run_as_always():
    for layer in (
        Convolution(4, 3),
        Convolution(4, (3, 3), (2, 1), padding=1),
        Convolution(4, 3, padding="same"),
    ):
        assert (layer.run, layer.usual) == (usual.FORMULA, True)
    assert Convolution(4, 3, padding="same").static == ((1, 1), (1, 1))
    assert Convolution(4, 3, padding=((1, 1), (2, 2))).padding == (1, 2)
    for settings in SETTINGS:
        assert not Convolution(4, 3, **settings).usual
    layers, found = [Convolution(4, 3, bias=False), Relu()], fusion.CONVOLUTION_RELU
    assert [count for _, count in fusion.fused(layers, [True] * 2, [found])] == [1, 1]
    assert [count for _, count in fusion.fused([Convolution(4, 3), Relu()], [True] * 2, [found])] == [2]


def test_a_samples_bits_do_not_depend_on_the_batch():
    rng = np.random.default_rng(0)
    layer = Convolution(6, 3, padding=1, dilation=2, groups=2, bias=False)
    x, w = (rng.standard_normal(s).astype("f4") for s in ((2, 4, 6, 7, 2 * SAMPLE_TILE + 9), (2, 6, 2, 3, 3)))
    if BE.name == "formulas":
        return  # backends take tiles
    whole = layer.forward(BE, Weights(w), x, ())[0]
    part = layer.forward(BE, Weights(w), x[..., SAMPLE_TILE:], ())[0]
    np.testing.assert_array_equal(part, whole[..., SAMPLE_TILE:])
    alone = layer.forward(BE, Weights(w[1:]), x[1:], ())[0]
    np.testing.assert_array_equal(alone[0], whole[1])


def test_in_a_network():
    assert Convolution(8, 3, padding="same", stride=2).output_shape((4, 7, 8)) == (8, 4, 4)
    assert Convolution(8, 3, dilation=3).output_shape((4, 7, 8)) == (8, 1, 2)
    assert Convolution(8, 2, padding=((0, 1), (1, 2))).output_shape((4, 7, 8)) == (8, 7, 10)
    bounds = {}

    def draw(part, shape, bound):
        bounds[part] = shape, bound
        return np.zeros((2, *shape))

    params = Convolution(8, 3, groups=4, bias=False).initial_parameters(BE, (4, 9, 9), draw)
    assert isinstance(params, Weights)
    assert bounds == {0: ((8, 1, 3, 3), 1 / 3)}  # 1/√(C/G·KH·KW)
    with pytest.raises(WnError, match="in 4 groups can't divide 6 input channels"):
        Convolution(8, 3, groups=4).output_shape((6, 9, 9))
    with pytest.raises(
        WnError, match=r"kernel of 3×3, dilation \(4, 4\), with padding .* is larger than an image"
    ):
        Convolution(8, 3, dilation=4).output_shape((4, 7, 8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": 0}, "groups are 0"),
        ({"groups": 3}, "4 channels can't be divided into 3 groups"),
        ({"dilation": 0}, r"dilation of a convolution is \(0, 0\)"),
        ({"padding": "valid"}, "padding of a convolution is 'valid': as a word it is 'same' or 'same_lower'"),
        ({"padding": ((0, 1), (0, -1))}, r"padding of a convolution, \(before, after\), is \(0, -1\)"),
        ({"padding": ((0, 1), 1)}, "padding of a convolution is .* pair of integers"),
        ({"bias": 1}, "bias of a convolution is 1: it must be True or False"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(WnError, match=message):
        Convolution(4, 3, **settings)
