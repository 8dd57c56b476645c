"""Activations against loops, against differences, over the whole range of their dtype, and at their kinks."""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from reference import naive_layers
from tests.engine.backends.cuda import needs_compiler, on_host
from tests.engine.backends.cuda.fake_device import call
from tests.engine.layers import FEW, Run
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.layers.activations.clip import Clip, Relu6
from wn.engine.layers.activations.gelu import Gelu
from wn.engine.layers.activations.leaky_relu import LeakyRelu
from wn.engine.layers.activations.sigmoid import Sigmoid
from wn.engine.layers.activations.silu import Silu
from wn.engine.layers.activations.softplus import Softplus
from wn.engine.layers.activations.tanh import Tanh
from wn.testing import check_layer, check_recorded
from wn.testing import strategies as shapes

BE: Any = backends.get("numpy")


@dataclass(frozen=True)
class Case:
    """A layer, the name of its loops, their settings, and its kinks."""

    layer: Any
    name: str
    settings: tuple[Any, ...] = ()
    kinks: tuple[float, ...] = ()

    @property
    def run(self) -> Run:
        """The layer as a backend runs it."""
        return Run(self.layer.run)

    def expected(self, x: Any) -> tuple[Any, Any]:
        """y and ∂y/∂x by loops, in float64."""
        pairs = [naive_layers.activation(self.name, value, *self.settings) for value in x.reshape(-1)]
        y, slope = zip(*pairs, strict=True)
        return np.reshape(y, x.shape), np.reshape(slope, x.shape)


CASES = [
    Case(Sigmoid(), "sigmoid"),
    Case(Tanh(), "tanh"),
    Case(Silu(), "silu"),
    Case(Gelu(), "gelu"),
    Case(Gelu("tanh"), "gelu_tanh"),
    Case(Softplus(), "softplus", (1.0, 20.0), (20.0,)),
    Case(Softplus(0.5, 1.0), "softplus", (0.5, 1.0), (2.0,)),
    Case(Softplus(30, 0), "softplus", (30.0, 0.0), (0.0,)),
    Case(LeakyRelu(), "leaky_relu", (0.01,), (0.0,)),
    Case(LeakyRelu(-2), "leaky_relu", (-2.0,), (0.0,)),
    Case(Clip(-0.5, 1.5), "clip", (-0.5, 1.5), (-0.5, 1.5)),
    Case(Clip(low=0.1), "clip", (0.1, None), (0.1,)),
    Case(Clip(high=0), "clip", (None, 0.0), (0.0,)),
    Case(Clip(), "clip", (None, None)),
    Case(Relu6(), "relu6", (), (0.0, 6.0)),
]
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.layer))


@pytest.fixture(autouse=True)
def special_functions_of_the_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cupyx.scipy.special` for arrays of the stand-in: SciPy's own erfc."""
    fake: Any = ModuleType("cupyx.scipy.special")
    fake.erfc = lambda x: call(scipy.special.erfc, (x,), {})
    for name, module in (("cupyx", SimpleNamespace()), ("cupyx.scipy", SimpleNamespace(special=fake))):
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]  # no module
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", fake)


def _backends() -> list[Any]:
    return [BE, *([] if needs_compiler.args[0] else [on_host()])]


def _away(x: Any, kinks: tuple[float, ...]) -> Any:
    """The values, moved away from kinks by 0.1."""
    for kink in kinks:
        x = np.where(np.abs(x - kink) < 0.1, x + np.copysign(0.2, x - kink), x)
    return x


@EVERY
@FEW
@given(shape=st.one_of(shapes.dense_shapes(), shapes.image_shapes()), seed=shapes.seeds())
def test_equals_loops(case, shape, seed):
    x, dy = np.random.default_rng(seed).standard_normal((2, *shape)) * 3
    y, slope = case.expected(x)
    for be in _backends():
        found, cache = case.run.forward(be, (), x, *case.layer.static)
        np.testing.assert_allclose(found, y, rtol=1e-12, atol=1e-13)
        dx, grads = case.run.backward(be, dy, cache)
        np.testing.assert_allclose(dx, dy * slope, rtol=1e-11, atol=1e-12)
        assert grads == ()


@EVERY
@FEW
@given(shape=shapes.dense_shapes(smallest_population=2), seed=shapes.seeds())
def test_contract_and_gradient(case, shape, seed):
    x = _away(np.random.default_rng(seed).standard_normal(shape), case.kinks)
    names = {"softplus": ("beta", "threshold"), "leaky_relu": ("slope",), "clip": ("low", "high")}
    static = dict(zip(names.get(case.name, ()), case.layer.static, strict=True))
    if case.name == "clip":  # differences of a constant that is not 0 decide nothing; loops do
        x = 0.3 + 0.05 * np.tanh(x) if case.settings[0] is not None else x
    check_layer(case.run, BE, (), x, static=static, seed=seed)


@EVERY
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_whole_range_of_a_dtype_keeps_its_digits(case, dtype):
    """Also where exponentials, squares and cubes leave the range: no digits lost but by rounding x."""
    limits = np.finfo(dtype)
    sizes = np.concatenate([np.geomspace(limits.tiny, limits.max / 4, 400), np.linspace(0.01, 60, 600)])
    x = np.concatenate([-sizes, [0.0], sizes]).astype(dtype).reshape(1, 1, -1)
    x[np.isin(x, case.kinks)] = 0.3  # where loops may decide otherwise by a rounding
    y, slope = case.expected(x)
    far = np.minimum(np.square(x, dtype=np.float64, where=np.abs(x) < 100, out=np.full(x.shape, 1e4)), 1e4)
    for be in _backends():
        found, cache = case.run.forward(be, (), x, *case.layer.static)
        dx, _ = case.run.backward(be, np.ones_like(x), cache)
        assert found.dtype == dx.dtype == dtype
        allowed = 8 * limits.eps * (1 + far)  # rounding x is multiplied by x² in exponentials of squares
        assert np.all(np.abs(found - y) <= allowed * np.abs(y) + 8 * limits.tiny)
        if "softplus" not in case.name:  # its threshold is compared in the dtype
            size = np.abs(slope) + np.exp(-far / 2)
            assert np.all(np.abs(dx - slope) <= allowed * size + 8 * limits.tiny)


@EVERY
def test_at_a_kink_it_does_as_pytorch(case):
    x = np.array([*case.kinks, 0.0]).reshape(1, 1, -1)
    y, slope = case.expected(x)
    for be in _backends():
        found, cache = case.run.forward(be, (), x, *case.layer.static)
        np.testing.assert_allclose(found, y, rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(case.run.backward(be, np.ones_like(x), cache)[0], slope, rtol=1e-14)


@EVERY
def test_nan_is_not_hidden_and_nothing_is_changed(case):
    x = np.array([[[np.nan, 0.5]]])
    y, _ = case.run.forward(BE, (), x, *case.layer.static)
    assert np.isnan(y[0, 0, 0])
    y[...] = 7.0
    np.testing.assert_array_equal(x, [[[np.nan, 0.5]]])


@EVERY
def test_in_a_network_it_is_recorded_and_may_be(case):
    layer = case.layer
    assert layer.output_shape((3, 4, 5)) == (3, 4, 5)
    assert not layer.learns
    if BE.name == "numba":
        check_recorded(layer, (5,))
    if BE.name == "numpy" and not needs_compiler.args[0]:
        check_recorded(layer, (5,), be=on_host().be)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Softplus(0), "beta of a softplus is 0: it must be a finite number above 0"),
        (lambda: Softplus(1, -1), "threshold of a softplus is -1: it must be at least 0"),
        (lambda: Softplus(1, np.inf), "threshold of a softplus is inf: it must be a finite number"),
        (lambda: LeakyRelu("0.1"), "slope of a leaky ReLU is '0.1': it must be a finite number"),
        (lambda: Clip(2, 1), "a clip from 2 to 1: low must be at most high"),
        (lambda: Clip(np.nan), "low of a clip is nan: it must be a finite number"),
        (lambda: Gelu("erf"), "approximate of a GELU is 'erf': it must be 'none' or 'tanh'"),
    ],
)
def test_settings_out_of_range(made, message):
    with pytest.raises(WnError, match=message):
        made()


def test_a_steep_function_is_checked_without_overflow():
    """The share of an element in a difference may be the smallest number that there is."""
    x = _away(np.random.default_rng(29376303).standard_normal((2, 1, 2)), (0.0,))
    run, static = Run(Softplus(1e3, 0).run), {"beta": 1e3, "threshold": 0.0}
    check_layer(run, BE, (), x, static=static, seed=29376303)
