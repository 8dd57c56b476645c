"""check_layer takes layers as networks have them, and finds what is wrong with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest

from wn import layers
from wn.basics.errors import WnError
from wn.engine import backends
from wn.testing import batch_first, check_layer
from wn.testing.adapters.placed import Placed

RNG = np.random.default_rng(3)
VECTORS, IMAGES = RNG.standard_normal((3, 6, 5)), RNG.standard_normal((3, 4, 6, 6, 5))
OWN_PAGE = Path(__file__).parents[2] / "docs" / "own-layers.md"


class Factor(NamedTuple):
    a: Any


@dataclass(frozen=True)
class Scaled(layers.Stateless):
    """y = a x, a for each feature; what is wrong with it is said by its settings."""

    learns: ClassVar[bool] = True
    doubled: bool = False
    flat: bool = False
    dx_only: bool = False

    def output_shape(self, shape):
        return (*shape, 1) if self.flat else shape

    def initial_parameters(self, be, shape, draw):
        return Factor(draw(0, (shape[0],), 0.0) + 2)

    def forward(self, be, params, x, state):
        a = params.a.reshape(*params.a.shape, *(1,) * (x.ndim - 2))
        return a * x, (x, a), state

    def backward(self, be, dy, cache, need_dx):
        x, a = cache
        da = (dy * x).sum(axis=tuple(range(2, x.ndim)))
        return dy * a * (1 + self.doubled), Factor(da * (1 if need_dx or not self.dx_only else 2))


class Forgetful(Scaled):
    learns: ClassVar[bool] = False


class Running(NamedTuple):
    mean: Any


class Centred(layers.Stateless):
    """y = x − running mean, which one that is `wrong` changes in place."""

    wrong = False

    def output_shape(self, shape):
        return shape

    def initial_state(self, be, shape, population, dtype):
        return Running(be.xp.zeros((population, shape[0]), dtype) + be.xp.asarray(0.5, dtype))

    def forward(self, be, params, x, state):
        mean = state.mean.reshape(*state.mean.shape, *(1,) * (x.ndim - 2))
        y = x - mean
        if self.wrong:
            state.mean[...] *= 0.5
        return y, None, Running(state.mean * 0.9)

    def backward(self, be, dy, cache, need_dx):
        return dy.copy(), ()


class Changed(Centred):
    wrong = True


class Pair(layers.Stateless):
    def output_shape(self, shape):
        return shape

    def forward(self, be, params, x, state):
        return x * 1, None

    def backward(self, be, dy, cache, need_dx):
        return dy, ()


class OtherAtInference(Scaled):
    """Right in training; at inference it runs another layer."""

    def for_phase(self, training):
        return self if training else Scaled(doubled=True)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (layers.Linear(3), VECTORS),
        (layers.Convolution(4, 3, groups=2, bias=False), IMAGES),
        (layers.BatchNorm(), IMAGES),
        (layers.BatchNorm(affine=False), VECTORS),
        (layers.MaxPooling(2), IMAGES),
        (layers.Flatten(), IMAGES),
        (layers.Dropout(0.3), VECTORS),
        (layers.Gelu(), VECTORS),
        (Scaled(), IMAGES),
        (Centred(), VECTORS),
    ],
    ids=lambda value: f"{value.ndim} axes" if isinstance(value, np.ndarray) else type(value).__name__,
)
def test_right_layers_pass(layer, x, backend):
    check_layer(layer, backends.get(backend), x=x)


def test_an_input_that_members_share_parameters_and_states_that_are_given():
    check_layer(Scaled(), x=VECTORS[:1])
    check_layer(Scaled(), None, Factor(RNG.standard_normal((3, 6))), VECTORS[:1])
    check_layer(Scaled(), x=VECTORS.astype(np.float32))
    check_layer(Centred(), x=VECTORS, state=Running(RNG.standard_normal((3, 6))))
    bn = layers.BatchNorm()
    state = bn.initial_state(backends.get("numpy"), (6,), 3, np.float64)
    check_layer(bn, x=VECTORS, state=state._replace(mean=RNG.standard_normal((3, 6))))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Scaled(doubled=True), "the gradient is wrong: x"),
        (OtherAtInference(), "the gradient is wrong: x"),
        (Scaled(flat=True), r"output_shape says \(6, 1\)"),
        (Scaled(dx_only=True), "other gradients where need_dx is False"),
        (Forgetful(), "Forgetful has parameters, and its class does not say learns = True"),
        (Changed(), r"state\.mean|forward twice"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_wrong_layers_are_found(layer, message):
    with pytest.raises(AssertionError, match=message):
        check_layer(layer, x=VECTORS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_layer(Scaled()), "needs an input"),
        (lambda: check_layer(Scaled, x=VECTORS), r"is the class Scaled: an object is needed"),
        (lambda: check_layer(Scaled(), x=VECTORS[0]), "x must be a floating NumPy array"),
        (lambda: check_layer(Scaled(), x=VECTORS, static={"a": 1}), "takes no static arguments"),
        (lambda: check_layer(Pair(), x=VECTORS), r"not \(y, cache, new state\)"),
        (
            lambda: check_layer(
                batch_first(lambda p, x: (x, 0), lambda dy, c: (dy, ())), x=VECTORS, state=()
            ),
            "state is that of a layer of a network",
        ),
    ],
)
def test_what_can_not_be_checked_is_one_line(call, message):
    with pytest.raises(WnError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_layer_is_asked_in_both_phases_where_they_are_two(monkeypatch):
    asked = set()
    forward = Placed.forward

    def noted(self, *given, **states):
        asked.add(self.training)
        return forward(self, *given, **states)

    monkeypatch.setattr(Placed, "forward", noted)
    check_layer(Scaled(), x=VECTORS)
    assert asked == {True}
    check_layer(layers.BatchNorm(), x=VECTORS)
    assert asked == {True, False}


def test_the_page_s_layer_passes_its_check_and_its_network_has_the_sites_that_it_prints(capsys):
    page = OWN_PAGE.read_text("utf-8")
    (code,) = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    exec(code, {"__name__": "example"})
    assert capsys.readouterr().out == "('input', 'conv1', 'prelu1', 'logits')\n"
    assert code.count("x > 0, 1, a") == 1
    with pytest.raises(AssertionError, match="the gradient is wrong"):
        exec(code.replace("x > 0, 1, a", "x > 0, a, 1"), {"__name__": "example"})
