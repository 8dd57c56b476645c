"""A function in the place of one of the package may count: primitives alone do not make a step repeatable.

The kind: a loss, a gradient, an optimiser or a method of a layer that a user puts in the package's place, and
that decides in Python what it does in this step.
"""

from typing import Any

import pytest

from tests.engine import own_layers
from tests.engine.backends.numba.recording import Anew, Watched
from tests.engine.backends.test_recordable import DATA, assert_same, network_of, trained
from tests.walking.small_walks import small_data
from wn.engine import loss as losses
from wn.engine import models, optim, training
from wn.engine.layers import relu
from wn.engine.layers.base import OfFormula
from wn.engine.layers.batch_norm import BatchNormTraining
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.training import TrainSettings, train
from wn.testing import check_recorded


class Every:
    """In every second call another function: primitives alone, but what decides is a counter."""

    def __init__(self, one: Any, other: Any) -> None:
        self.functions, self.calls = (one, other), 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        return self.functions[self.calls % 2](*arguments, **named)


def heavy_loss(be: Any, logits: Any, labels: Any, class_weights: Any = None) -> Any:
    """The cross-entropy with class weights."""
    return ORIGINAL(be, logits, labels, tuple(range(1, 11)))


def quiet_pass(
    be: Any, network: Any, params: Any, states: Any, x: Any, labels: Any, run: Any, *more: Any
) -> Any:
    """The gradients without noise, of ReLUs of the input."""
    return GRADIENTS(
        be, network, params, states, be.forward(relu.FORMULA, (), x)[0], labels, run._replace(noise={}), *more
    )


ORIGINAL, GRADIENTS, ADAM = losses.forward, training.loss_and_gradients, optim.adam_update
COUNTING: dict[str, tuple[Any, str, Any, Any]] = {
    "a loss": (losses, "forward", ORIGINAL, heavy_loss),
    "the gradients": (training, "loss_and_gradients", GRADIENTS, quiet_pass),
    "an optimiser": (optim, "adam_update", ADAM, lambda *_: None),
}


@pytest.mark.parametrize("name", COUNTING)
def test_what_counts_in_place_of_a_part_of_the_package_is_not_recorded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, attribute, one, other = COUNTING[name]
    network = models.build("mlp-8", DATA.image_shape, 10, "none")
    found = []
    for be in (watched := Watched()), Anew():
        monkeypatch.setattr(where, attribute, Every(one, other))  # counts from 0
        found.append(trained(be, network)[1])
    assert watched.last.recorded == {}
    assert f"{where.__name__}.{attribute}" in watched.last.reason
    assert_same(*found)


@pytest.mark.parametrize("layer", [Relu, BatchNormTraining, MaxPooling, OfFormula])
def test_a_method_of_a_layer_of_the_package_that_was_replaced_is_found(
    layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own, or one in the place of an inherited one."""
    assert training.ORIGINALS.replaced() == ""
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda *arguments, **named: forward(*arguments, **named))
    assert training.ORIGINALS.replaced() == f"{layer.__name__}.forward"
    with pytest.raises(AssertionError, match=rf"another {layer.__name__}\.forward than the package's"):
        check_recorded(Linear(3), (4,))


class LastBatch(own_layers.Twice):
    """Plain array code for batches of less than 16: those of 16 have been recorded by then."""

    recordable = True

    def forward(self, be: Any, params: Any, x: Any, state: Any) -> tuple[Any, Any, Any]:
        return super().forward(be, params, x if x.shape[-1] == 16 else x * x.dtype.type(2), state)


def test_a_recording_ends_with_that_of_another_batch_size() -> None:
    """All recordings use the same memory: one that ends gives it back, so no other may be repeated."""
    data, found = small_data(40, 10), []
    for be in (watched := Watched()), Anew():
        with be.working(1):
            found.append(train(be, network_of(LastBatch()), data, TrainSettings(3, 16, 1e-2), seeds=(3,)))
    assert watched.last.reason
    assert watched.last.recorded == {}
    assert_same(*found)
