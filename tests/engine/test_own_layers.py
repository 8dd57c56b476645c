"""Layers of a user's own that don't keep to the contract: one line, on every backend.

The kind: arrays of another dtype or shape than compiled loops are called for, which read them as something
else (a NumPy number of float64 makes float64 of float32 activations: NaN on Numba, nothing on NumPy).
"""

from typing import Any, ClassVar

import numpy as np
import pytest

from tests.engine.backends.cuda import needs_compiler
from tests.engine.backends.cuda.fake_cupy import backend as cuda
from tests.engine.own_layers import Residual, Same
from tests.walking import small_walks
from tests.walking.small_walks import small_data
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.relu import Relu
from wn.engine.network import Network, Node
from wn.engine.training import TrainSettings, train
from wn.walking import places as walking

DATA = small_data(32, 10)


class Scaling(Same):
    """y = g·x with one parameter (P, 1), in which a mistake can be made."""

    learns: ClassVar[bool] = True

    def __init__(self, mistake: str) -> None:
        self.mistake = mistake

    def initial_parameters(self, be: Any, shape: Any, draw: Any) -> Any:
        return (draw(0, (1,), 1.0),)

    def forward(self, be: Any, params: Any, x: Any, state: Any) -> tuple[Any, Any, Any]:
        y = params[0][:, :, None] * x
        return y * np.float64(1) if self.mistake == "forward" else y, (params[0], x), state

    def backward(self, be: Any, dy: Any, cache: Any, need_dx: bool) -> tuple[Any, Any]:
        g, x = cache
        dx, dg = g[:, :, None] * dy, (x * dy).sum(axis=(1, 2))[:, None]
        if self.mistake == "backward":
            dx = dx * np.float64(1)
        grads = {"dtype": (dg.astype("f8"),), "shape": (dg[:, 0],), "count": (dg, dg), "none": ()}
        return dx, grads.get(self.mistake, (dg,))


LINES = {
    "forward": "layer 'own' of net: forward makes float64 of float32; it has to keep the dtype",
    "backward": "layer 'own' of net: backward makes float64 of float32; it has to keep the dtype",
    "dtype": r"gradient of parameter 2 has shape \(1, 1\) and dtype float64, the parameter \(1, 1\) and f",
    "shape": r"gradient of parameter 2 has shape \(1,\) and dtype float32, the parameter \(1, 1\)",
    "count": "there are 5 parameters and 6 gradients",
    "none": "there are 5 parameters and 4 gradients: a layer with parameters says learns = True",
}
BACKENDS = ["numpy", "numba", pytest.param("cupy", marks=needs_compiler)]


def trained(backend: str, mistake: str) -> Any:
    be = cuda() if backend == "cupy" else backends.get(backend)
    nodes = Node("fc", Linear(6)), Node("own", Scaling(mistake)), Node("logits", Linear(10))
    network = Network("net", (Node("flatten", Flatten(), False), *nodes), DATA.image_shape)
    with be.working():
        return train(be, network, DATA, TrainSettings(1, 16), seeds=(1,))


@pytest.mark.parametrize("mistake", LINES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mistake_is_one_line(backend: str, mistake: str) -> None:
    with pytest.raises(WnError, match=LINES[mistake]):
        trained(backend, mistake)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_mistake_it_trains(backend: str) -> None:
    found = trained(backend, "")
    assert len(found.params) == 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_within_a_layer_are_clamped_too(backend: str) -> None:
    """The kind: what training does to the weights of a network, to its outermost layers only."""
    be = cuda() if backend == "cupy" else backends.get(backend)
    nodes = Node("fc", Linear(6)), Node("block", Residual(6)), Node("logits", Linear(10))
    network = Network("net", (Node("flatten", Flatten(), False), *nodes), DATA.image_shape)
    largest = {}
    for clamp in (False, True):
        settings = TrainSettings(2, 8, learning_rate=0.5, clamp_weights=clamp)
        with be.working():
            found = train(be, network, DATA, settings, seeds=(1,))
        largest[clamp] = max(float(np.abs(be.to_numpy(part.w)).max()) for part in found.params[2])
    assert largest[True] <= 1 < largest[False]


class InPlace(Same):
    """y = −x, written over x."""

    def forward(self, be: Any, params: Any, x: Any, state: Any) -> tuple[Any, Any, Any]:
        x *= -1
        return x, None, state

    def backward(self, be: Any, dy: Any, cache: Any, need_dx: bool) -> tuple[Any, tuple[()]]:
        return -dy, ()


class Negative(InPlace):
    """The same, in an array of its own."""

    def forward(self, be: Any, params: Any, x: Any, state: Any) -> tuple[Any, Any, Any]:
        return -x, None, state


def test_a_layer_may_write_over_its_input() -> None:
    """A walk uses a clean activation for all σ, and a ReLU keeps its output for backward."""
    found = []
    for layer in InPlace(), Negative():
        first = (Node("flatten", Flatten(), False), Node("fc", Linear(8)), Node("relu", Relu()))
        network = Network("own", (*first, Node("layer", layer), Node("logits", Linear(10))), (1, 28, 28))
        places = walking.places(network, "each")
        found.append(small_walks.run(small_walks.walk_for(network=network, places=places)))
    assert found[0] == found[1]
