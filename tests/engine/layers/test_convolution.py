"""Convolution against loops and differences; in blocks, shared, the same bits wherever a sample stands."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import naive
from tests.engine.layers import FEW, convolution
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.backends.numpy import convolution as columns
from wn.engine.backends.plain.base import SAMPLE_TILE
from wn.engine.layers.convolution import Convolution, ConvolutionParams
from wn.testing import assert_close, check_layer
from wn.testing import strategies as shapes

BE = backends.get("numpy")


@contextmanager
def blocks_of(values):
    """Limit the number of values in a block of columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "COLUMNS", values)
        yield


def problem(shape, seed=0, dtype=np.float64):
    """Return x and parameters of a `ConvolutionShape`."""
    z = np.random.default_rng(seed).standard_normal
    params = ConvolutionParams(z(shape.w).astype(dtype), z(shape.b).astype(dtype))
    return z(shape.x).astype(dtype), params


def one_pass(be, params, x, stride=(1, 1), padding=(0, 0), seed=1):
    """Return (y, dx, dw, db) with a random dy that is the same for a member or sample wherever it stands."""
    y, cache = convolution.forward(be, params, x, stride, padding)
    dy = np.random.default_rng(seed).standard_normal(y.shape[1:]).astype(y.dtype)
    dx, grads = convolution.backward(be, np.broadcast_to(dy, y.shape), cache)
    return y, dx, *grads


SMALL = shapes.convolution_shapes(size=5)


@given(SMALL, st.sampled_from([1, 20, 150, 1 << 21]), st.booleans(), st.booleans(), shapes.seeds())
def test_equals_loops(shape, limit, shared_x, shared_params, seed):
    x, params = problem(shape, seed)
    x = x[:1] if shared_x else x
    params = ConvolutionParams(params.w[:1], params.b[:1]) if shared_params else params
    sliding = (shape.stride, shape.padding)
    with blocks_of(limit):
        y, cache = convolution.forward(BE, params, x, *sliding)
        dy = np.random.default_rng(seed).standard_normal(y.shape)
        dx, grads = convolution.backward(BE, dy, cache)
    terms, sizes = shape.channels * shape.kernel[0] * shape.kernel[1], map(np.abs, (x, *params))
    assert_close(
        y,
        naive.convolution_forward(x, *params, *sliding),
        reduction_length=terms,
        magnitude=naive.convolution_forward(*sizes, *sliding),
        name="y",
    )
    expected = naive.convolution_backward(dy, x, params.w, *sliding)
    terms = max(dy[0].size, terms * shape.outputs)
    sizes = naive.convolution_backward(*map(np.abs, (dy, x, params.w)), *sliding)  # of terms that may cancel
    for name, actual, reference, size in zip(("dx", "dw", "db"), (dx, *grads), expected, sizes, strict=True):
        assert_close(actual, reference, reduction_length=terms, magnitude=size, name=name)


@FEW
@given(shapes.convolution_shapes(smallest_population=2, size=4), shapes.seeds())
def test_contract_and_gradient(shape, seed):
    x, params = problem(shape, seed)
    static = {"stride": shape.stride, "padding": shape.padding}
    check_layer(convolution, BE, params, x, static=static, seed=seed)


LENET_LIKE = shapes.ConvolutionShape(3, 2, 12, 11, 40, 5, (5, 4), (1, 2), (2, 1))


@pytest.mark.parametrize("limit", [1, 10_000, 40_000, 1 << 21])
def test_a_members_bits_do_not_depend_on_the_population(limit, monkeypatch):
    monkeypatch.setattr(columns, "COLUMNS", limit)
    x, params = problem(LENET_LIKE, dtype=np.float32)
    be, sliding = BE, LENET_LIKE[7:]
    for shared in (False, True):
        x = x[:1] if shared else x
        stacked = one_pass(be, params, x, *sliding)
        for p in range(3):
            alone = ConvolutionParams(params.w[p : p + 1], params.b[p : p + 1])
            single = one_pass(be, alone, x if shared else x[p : p + 1], *sliding)
            for whole, part in zip(stacked, single, strict=True):
                np.testing.assert_array_equal(whole[p], part[0])


@pytest.mark.parametrize("limit", [60_000, 1 << 21])
def test_a_samples_bits_do_not_depend_on_the_batch(limit, monkeypatch):
    monkeypatch.setattr(columns, "COLUMNS", limit)
    shape = shapes.ConvolutionShape(1, 2, 6, 7, 3 * SAMPLE_TILE, 3, (3, 2), (1, 1), (1, 0))
    x, params = problem(shape, dtype=np.float32)
    whole, _ = convolution.forward(BE, params, x, (1, 1), (1, 0))
    for start in (0, SAMPLE_TILE):
        part, _ = convolution.forward(BE, params, x[..., start:], (1, 1), (1, 0))
        np.testing.assert_array_equal(part, whole[..., start:])


def test_shared_input_equals_repeated_input():
    x, params = problem(LENET_LIKE, dtype=np.float32)
    shared = one_pass(BE, params, x[:1], *LENET_LIKE[7:])
    repeated = one_pass(BE, params, x[:1].repeat(3, axis=0), *LENET_LIKE[7:])
    for a, b in zip(shared, repeated, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_kernel_of_one_pixel_is_a_linear_map_of_the_channels():
    z = np.random.default_rng(0).standard_normal
    x, w, b = z((2, 3, 4, 5, 6)), z((2, 7, 3, 1, 1)), z((2, 7))
    y, _ = convolution.forward(BE, ConvolutionParams(w, b), x)
    expected = np.einsum("poc,pchwn->pohwn", w[..., 0, 0], x) + b[:, :, None, None, None]
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_a_kernel_moves_over_the_image_unflipped():
    x = np.zeros((1, 1, 4, 4, 1))
    x[0, 0, 1, 2, 0] = 1.0
    w = np.arange(9.0).reshape(1, 1, 1, 3, 3)
    y, _ = convolution.forward(BE, ConvolutionParams(w, np.zeros((1, 1))), x)
    # y[u, v] = w[1 − u, 2 − v]: cross-correlation, as in PyTorch
    np.testing.assert_array_equal(y[0, 0, :, :, 0], [[5, 4], [2, 1]])


def test_backward_skips_dx_when_it_is_not_needed():
    x, params = problem(LENET_LIKE)
    y, cache = convolution.forward(BE, params, x, *LENET_LIKE[7:])
    dx, grads = convolution.backward(BE, y, cache, need_dx=False)
    assert dx is None
    assert grads.w.shape == LENET_LIKE.w


def test_in_a_network():
    layer = Convolution(28, (4, 10), stride=(1, 2))
    assert layer.learns
    assert layer.output_shape((1, 10, 49)) == (28, 7, 20)
    assert Convolution(5, (3, 3), padding=(1, 1)).output_shape((2, 1, 6)) == (5, 1, 6)
    bounds = {}

    def draw(part, shape, bound):
        bounds[part] = bound
        return np.zeros((2, *shape))

    params = Convolution(6, (2, 4)).initial_parameters(BE, (2, 9, 9), draw)
    assert params.w.shape == (2, 6, 2, 2, 4)
    assert params.b.shape == (2, 6)
    assert bounds == {0: 0.25, 1: 0.25}  # 1/√(2·2·4)
    with pytest.raises(WnError, match=r"kernel of 4×10 with padding .* is larger than an image of 10×9"):
        layer.output_shape((1, 10, 9))
    with pytest.raises(WnError, match=r"takes \(channels, height, width\), got \(490,\)"):
        layer.output_shape((490,))


def test_settings_may_be_integers_of_numpy():
    one, two = np.uint8(1), np.uint8(200)
    layer = Convolution(two, (two, two), (one, one), (two, two))
    assert layer == Convolution(200, (200, 200), padding=(200, 200))
    assert layer.output_shape((1, 28, 28)) == (200, 229, 229)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 0}, "channels are 0"),
        ({"channels": 2.0}, "channels are 2.0"),
        ({"kernel": (0, 3)}, r"kernel of a convolution is \(0, 3\): both must be at least 1"),
        ({"kernel": (3,)}, r"kernel of a convolution is \(3,\): it must be an integer or a pair"),
        ({"stride": (1, 0)}, r"stride of a convolution is \(1, 0\)"),
        ({"padding": (-1, 0)}, r"padding of a convolution is \(-1, 0\): both must be at least 0"),
        ({"padding": (1, True)}, "padding of a convolution is .* pair of integers"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(WnError, match=message):
        Convolution(**{"channels": 2, "kernel": (3, 3), **settings})
