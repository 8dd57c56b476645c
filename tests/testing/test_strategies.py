"""The strategies keep their promises: shapes fit, margins hold, extremes are reached."""

import runpy
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import wn.testing
from reference import naive
from wn.basics.errors import WnError
from wn.engine.noise import of_kind
from wn.engine.noise_spec import KINDS, ORDERS
from wn.testing import strategies

# For "is such a value drawn at all?": without shrinking, which nobody would read.
any_example = settings(phases=[Phase.generate], max_examples=500, derandomize=True)


@given(shape=strategies.convolution_shapes())
def test_convolutions_fit(shape):
    for axis, (size, out) in enumerate(zip(shape.x[2:4], shape.y[2:4], strict=True)):
        settings = shape.kernel[axis], shape.stride[axis], shape.padding[axis]
        assert out == naive.convolution_size(size, *settings) >= 1
    assert shape.w == (shape.population, shape.outputs, shape.channels, *shape.kernel)
    assert shape.b == shape.w[:2] == shape.y[:2]
    assert np.prod(shape.x) <= 3 * 2 * 6 * 6 * 3


@pytest.mark.parametrize(
    "wanted",
    [
        lambda shape: shape.kernel[0] != shape.kernel[1],
        lambda shape: shape.stride[0] != shape.stride[1],
        lambda shape: shape.padding[0] != shape.padding[1],
        lambda shape: shape.height != shape.width,
        lambda shape: shape.kernel[0] > shape.height,  # only the padding makes it fit
        lambda shape: (shape.height + 2 * shape.padding[0] - shape.kernel[0]) % shape.stride[0],  # a rest
        lambda shape: shape.population == shape.batch == shape.channels == shape.outputs == 1,
    ],
)
def test_every_kind_of_convolution_is_drawn(wanted):
    assert wanted(find(strategies.convolution_shapes(), wanted, settings=any_example))


@given(shape=strategies.linear_shapes(smallest_population=2))
def test_linear_shapes_agree(shape):
    assert shape.population >= 2
    y = naive.linear_forward(np.zeros(shape.x), np.zeros(shape.w), np.zeros(shape.b))
    assert y.shape == (*shape.b, shape.batch)


@given(shape=strategies.pooling_shapes())
def test_windows_fit(shape):
    assert len(shape.x) == 5
    assert shape.window[0] <= shape.x[2]
    assert shape.window[1] <= shape.x[3]


@given(shape=strategies.dense_shapes(smallest_population=2, smallest_batch=3, features=4, batch=5))
def test_dense_shapes_keep_their_bounds(shape):
    population, features, batch = shape
    assert 2 <= population <= 3
    assert 1 <= features <= 4
    assert 3 <= batch <= 5


@given(data=st.data(), dtype=st.sampled_from([np.float32, np.float64]))
def test_values_keep_their_distance(data, dtype):
    shape = data.draw(strategies.image_shapes())
    x = data.draw(strategies.away_from_zero(shape, dtype=dtype, margin=0.1))
    assert x.shape == shape
    assert x.dtype == dtype
    assert np.min(np.abs(x)) >= np.float32(0.0999)
    y = data.draw(strategies.distinct(shape, dtype=dtype, margin=0.1))
    assert y.dtype == dtype
    assert np.min(np.diff(np.sort(y.ravel())), initial=1.0) >= 0.0999


def test_values_have_both_signs_and_a_random_order():
    x = find(strategies.away_from_zero((100,)), lambda x: True)
    assert 20 < np.sum(x > 0) < 80
    y = find(strategies.distinct((100,)), lambda y: True)
    assert not np.array_equal(y, np.sort(y))
    assert abs(y.mean()) < 0.1


@pytest.mark.parametrize("strategy", [strategies.away_from_zero, strategies.distinct])
def test_margins_must_be_positive(strategy):
    with pytest.raises(WnError, match="margin is 0"):
        strategy((2, 2), margin=0)


def test_arrays_shrink_to_seed_zero():
    x = find(strategies.arrays((2, 3), scale=10.0), lambda x: True)
    assert np.array_equal(x, 10 * np.random.default_rng([0, 0]).standard_normal((2, 3)))


@pytest.mark.parametrize(
    "strategy", [strategies.arrays, strategies.away_from_zero, strategies.distinct, strategies.tied]
)
def test_arrays_of_an_example_differ(strategy):
    """The smallest counterexample has seed 0 everywhere: w, b and x must not be the same numbers."""
    found = find(st.tuples(strategy((4, 4)), strategy((4, 4)), strategy((4, 4))), lambda drawn: True)
    again = find(st.tuples(strategy((4, 4)), strategy((4, 4)), strategy((4, 4))), lambda drawn: True)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(found[i], found[j])
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_a_falsifying_example_shows_values(capsys):
    @settings(max_examples=5, database=None, print_blob=False)
    @given(x=strategies.arrays((2,)), data=st.data())
    def failing(x, data):
        drawn = data.draw(strategies.tied((2,)))
        assert drawn.sum() > 5

    with pytest.raises(AssertionError) as failure:
        failing()
    notes = "\n".join(failure.value.__notes__)
    x = np.random.default_rng([0, 0]).standard_normal(2)
    assert f"x={x!r}" in notes
    assert "Draw 1: array([" in notes
    assert "_generator" not in notes


def test_tied_values_are_tied():
    x = find(strategies.tied((4, 4), values=3), lambda x: True)
    assert set(np.unique(x)) == {0.0, 1.0, 2.0}


@given(batch=st.integers(1, 9), classes=st.integers(1, 12), data=st.data())
def test_labels_are_classes(batch, classes, data):
    labels = data.draw(strategies.labels(batch, classes))
    assert labels.shape == (batch,)
    assert labels.dtype == np.int64
    assert 0 <= labels.min() <= labels.max() < classes


@given(sigma=strategies.sigmas())
def test_sigmas_are_sane(sigma):
    assert sigma == 0 or 1e-3 * (1 - 1e-9) <= sigma <= 10 * (1 + 1e-9)


def test_extreme_sigmas_reach_those_of_the_study():
    assert find(strategies.sigmas(extreme=True), lambda sigma: sigma >= 9.9e9) == pytest.approx(1e10)
    assert find(strategies.sigmas(), lambda sigma: True) == 0


@given(specification=strategies.noise_specifications(extreme=True))
def test_noise_specifications_are_noise(specification):
    assert type(specification) is dict
    noise = of_kind(**specification)
    assert noise.kind == specification["kind"] in KINDS
    assert noise.repetitions == specification.get("repetitions", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_noise_kind_and_order_is_drawn(kind):
    for order in ORDERS if kind.startswith("mixed") else [None]:

        def wanted(specification, order=order):
            return (specification["kind"], specification.get("order")) == (kind, order)

        assert wanted(find(strategies.noise_specifications(), wanted, settings=any_example))


def test_strategies_say_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'walking-noise\[test\]'"):
        runpy.run_path(strategies.__file__)


def test_the_rest_of_the_toolkit_does_not_need_hypothesis():
    code = "import sys, wn.testing; assert not {'hypothesis', 'pytest'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_of_the_package():
    assert wn.testing.strategies is strategies
    assert all(hasattr(wn.testing, name) for name in wn.testing.__all__)
    with pytest.raises(AttributeError, match="'nonsense'"):
        _ = wn.testing.nonsense
