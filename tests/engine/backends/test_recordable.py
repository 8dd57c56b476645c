"""Recording is safe by default: what is not known to be primitives alone is done anew in each step.

The kind: a recording repeats calls of the backend's kernels, and whatever else a step does – an operator
between arrays in a layer, a loss, an optimiser or a backend of a user's own, a subclass of a layer of the
package, a counter, an if – would be done once, without a word.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.engine import own_layers
from tests.engine.backends.cuda import needs_compiler
from tests.engine.backends.cuda.fake_cupy import backend as cuda
from tests.engine.backends.numba.recording import Anew, Watched
from tests.engine.twin import same_bits
from tests.walking.small_walks import small_data
from wn.engine import backends, models, noise, optim, training
from wn.engine import loss as losses
from wn.engine.backends.numba import layers
from wn.engine.backends.numba.backend import NumbaBackend
from wn.engine.backends.numba.recorded_calls import RecordedStep
from wn.engine.backends.sealed import NotRecordable, Sealed
from wn.engine.layers import linear, relu
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.base import Formula
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.network import Network, Node
from wn.engine.optim import arrays
from wn.engine.training import Monitor, Population, TrainSettings, train
from wn.testing import check_recorded, check_recorded_step

NUMPY = backends.get("numpy")
DATA = small_data(48, 10)


class Losses(Monitor):
    """Keeps the mean loss of each epoch."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def epoch(self, epoch: int, loss: Any) -> None:
        """Keep it."""
        self.found.append(loss)


def network_of(layer: Any, image: bool = False) -> Network:
    first = [Node("conv", Convolution(3, (3, 3)))] if image else [Node("flatten", Flatten(), False)]
    behind = [Node("flatten", Flatten(), False)] if image else [Node("fc2", Linear(6))]
    before = [] if image else [Node("fc1", Linear(8))]
    return Network(
        "own", (*first, *before, Node("layer", layer), *behind, Node("logits", Linear(10))), DATA.image_shape
    )


def trained(be: Any, network: Network, operator: Any = None) -> tuple[list[Any], Population]:
    sites = {} if operator is None else {1: operator}
    monitor = Losses()
    with be.working(1):
        found = train(be, network, DATA, TrainSettings(3, 16, 1e-2), seeds=(3,), noise=sites, monitor=monitor)
    return monitor.found, found


def assert_same(one: Population, other: Population) -> None:
    for array, expected in zip(arrays(tuple(one)[:2]), arrays(tuple(other)[:2]), strict=True):
        assert same_bits(array, expected)


OWN = {
    "tanh": lambda: network_of(own_layers.Tanh()),
    "residual": lambda: network_of(own_layers.Residual(8)),
    "a tanh that lies": lambda: network_of(own_layers.TanhThatLies()),
    "a leaky subclass of ReLU": lambda: network_of(own_layers.Leaky()),
    "a binary subclass of linear": lambda: network_of(own_layers.Binary(7)),
    "a subclass of pooling": lambda: network_of(own_layers.MeanPooling((2, 2)), image=True),
}


@pytest.mark.parametrize("name", OWN)
def test_own_layers_train_on_numba_as_on_numpy(name: str) -> None:
    losses, found = trained(NumbaBackend(), OWN[name]())
    np.testing.assert_allclose(losses, trained(NUMPY, OWN[name]())[0], rtol=1e-4)
    assert_same(found, trained(Anew(), OWN[name]())[1])
    assert losses[-1] < 0.9 * losses[0]


@needs_compiler
@pytest.mark.parametrize("name", ["a leaky subclass of ReLU"])
def test_own_layers_train_on_a_gpu_as_on_numpy(name: str) -> None:
    losses, _ = trained(cuda(), OWN[name]())
    np.testing.assert_allclose(losses, trained(NUMPY, OWN[name]())[0], rtol=1e-4)


def test_a_subclass_of_relu_is_not_taken_for_one() -> None:
    """The layers around a ReLU do its work where they can; a leaky one has to do its own, both ways."""
    leaky = network_of(own_layers.Leaky())
    x = np.random.default_rng(1).standard_normal((1, *DATA.image_shape, 5))
    params = leaky.initial_parameters(NUMPY, (3,), np.float64)
    conditions = training.Conditions({}, (3,), np.arange(5, dtype=np.uint32), 0, training=True)
    y, cache, _ = leaky.forward(NUMPY, params, ((),) * 5, x, conditions)
    fc1, fc2, last = params[1], params[3], params[4]
    h = fc1.w[0] @ x.reshape(-1, 5) + fc1.b[0][:, None]
    out = fc2.w[0] @ np.maximum(h, np.float64(0.3) * h) + fc2.b[0][:, None]
    np.testing.assert_allclose(y[0], last.w[0] @ out + last.b[0][:, None])
    _, grads = leaky.backward(NUMPY, np.ones_like(y), cache)
    dh = np.where(h > 0, 1, 0.3) * (fc2.w[0].T @ (last.w[0].T @ np.ones((10, 5))))
    np.testing.assert_allclose(grads[1].w[0], dh @ x.reshape(-1, 5).T)


def limited(be: Any, params: Any, x: Any) -> Any:
    """min(relu(x), 0.5)."""
    y, cache = layers.relu_forward(be, params, x)
    return np.minimum(y, x.dtype.type(0.5)), cache


class Leaky6(NumbaBackend):
    """A backend of one's own: a pair in plain array code over the package's, nothing fused."""

    own: ClassVar[Mapping[Formula, Formula]] = {
        **layers.OWN,
        relu.FORMULA: layers.OWN[relu.FORMULA]._replace(forward=limited),
    }


class Leaky6Anew(Leaky6):
    """The same, recording nothing."""

    def recorded(self, step: Any) -> Any:
        """Return the step."""
        return step


def test_a_backend_of_ones_own_is_not_recorded_where_it_computes_itself() -> None:
    network = network_of(Relu())
    assert_same(trained(Leaky6(), network)[1], trained(Leaky6Anew(), network)[1])


def squared_error(be: Any, logits: Any, labels: Any, class_weights: Any = None) -> tuple[Any, Any]:
    """The mean squared distance from one-hot labels."""
    error = logits - np.eye(logits.shape[1], dtype=logits.dtype)[labels].T
    return (error * error).mean(axis=(1, 2)), error


def its_gradient(be: Any, error: Any) -> Any:
    """dlogits."""
    return 2 * error / error[0].size


def table_error(be: Any, logits: Any, labels: Any, class_weights: Any = None) -> tuple[Any, Any]:
    """A loss whose only plain array code is an index into a table of its own."""
    loss, cache = ORIGINAL(be, logits, labels, class_weights)
    return loss, cache._replace(a=np.linspace(0.1, 1.0, 10, dtype=np.float32)[labels])


ORIGINAL = losses.forward


def plain_descent(be: Any, params: Any, grads: Any, state: Any, constants: Any) -> None:
    """Gradient descent."""
    for parameter, gradient in zip(arrays(params), arrays(grads), strict=True):
        parameter -= np.float32(0.05) * gradient


def weight_decay(be: Any, params: Any, grads: Any, state: Any, constants: Any) -> None:
    """Adam, then weight decay."""
    be.adam_updates(*map(arrays, (params, grads, state.first, state.second)), constants)
    for parameter in arrays(params):
        parameter *= np.float32(0.98)


def half_the_step(be: Any, params: Any, grads: Any, state: Any, constants: Any) -> None:
    """Adam with half of the learning rate."""
    moments = map(arrays, (params, grads, state.first, state.second))
    be.adam_updates(*moments, [constants[0] / 2, *constants[1:]])


def by_size(be: Any, params: Any, grads: Any, state: Any, constants: Any) -> None:
    """Adam, unless the gradient is large."""
    if np.linalg.norm(np.asarray(arrays(grads)[-1])) < 0.3:
        be.adam_updates(*map(arrays, (params, grads, state.first, state.second)), constants)


def forgiving(be: Any, params: Any, grads: Any, state: Any, constants: Any) -> None:
    """Catches whatever happens in its plain array code."""
    try:
        small = bool((abs(arrays(grads)[0]) < 1e-2).all())
    except Exception:
        small = False
    if not small:
        be.adam_updates(*map(arrays, (params, grads, state.first, state.second)), constants)


PATCHES: dict[str, tuple[tuple[Any, str, Callable[..., Any]], ...]] = {
    "a loss": ((losses, "forward", squared_error), (losses, "backward", its_gradient)),
    "a loss with a table": ((losses, "forward", table_error),),
    "an optimiser": ((optim, "adam_update", plain_descent),),
    "weight decay": ((optim, "adam_update", weight_decay),),
    "another learning rate": ((optim, "adam_update", half_the_step),),
    "a clipped gradient": ((optim, "adam_update", by_size),),
    "a caught error": ((optim, "adam_update", forgiving),),
}


@pytest.mark.parametrize("name", PATCHES)
def test_what_replaces_a_part_of_the_package_is_not_recorded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = models.build("mlp-8", DATA.image_shape, 10, "none")
    for where, attribute, function in PATCHES[name]:
        monkeypatch.setattr(where, attribute, function)
    be = Watched()
    found = trained(be, network)[1]
    assert be.last.recorded == {}
    assert be.last.reason
    assert_same(found, trained(Anew(), network)[1])


def test_noise_of_a_users_own_is_not_recorded() -> None:
    operators = [own_layers.Louder("additive", sigma_add=0.1) for _ in range(2)]
    network = models.build("mlp-8", DATA.image_shape, 10, "none")
    assert_same(trained(NumbaBackend(), network, operators[0])[1], trained(Anew(), network, operators[1])[1])


def test_every_layer_of_the_package_is_recorded_and_may_be() -> None:
    placed: list[tuple[Any, tuple[int, ...]]] = [
        (Relu(), (5,)),
        (Linear(4), (5,)),
        (Flatten(), (2, 3, 3)),
        (BatchNorm(), (2, 4, 4)),
        (BatchNorm(), (5,)),
        (Convolution(3, (3, 3), (2, 2), (1, 1)), (2, 6, 6)),
        (MaxPooling((2, 2)), (2, 4, 4)),
        (AveragePooling((2, 2)), (2, 4, 4)),
        (own_layers.Twice(), (5,)),
    ]
    for layer, shape in placed:
        assert training.declares(layer, "recordable")
        for operator in (None, noise.of_kind("mixed", 0.2)):
            check_recorded(layer, shape, noise=operator)


@pytest.mark.parametrize("model", ["mlp-8", "lenet5"])
def test_networks_of_the_package_are_recorded_and_may_be(model: str) -> None:
    network = models.build(model, DATA.image_shape, 10, "sites")
    plan = training.StepPlan(network, TrainSettings(1), {0: noise.additive(0.1)}, (1,), 1, np.dtype("f4"))
    assert training.is_recordable(plan, DATA)
    check_recorded(network, noise=noise.of_kind("mixed", 0.2), dtype=np.float64)


# ---- the checker ------------------------------------------------------------------------------------------


class Drawing(own_layers.Twice):
    """Dropout drawn by NumPy."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(1)

    def forward(self, be: Any, params: Any, x: Any, *_: Any, **__: Any) -> tuple[Any, Any, Any]:
        """Half of the features."""
        mask = be.asarray(self.rng.integers(0, 2, (1, *x.shape[1:])).astype(x.dtype))
        return be.multiply(x, mask), mask, ()

    def backward(self, be: Any, dy: Any, cache: Any, *_: Any, **__: Any) -> tuple[Any, tuple[()]]:
        """The same half."""
        return be.multiply(dy, cache), ()


LIES = {
    "an operator": (own_layers.TanhThatLies, "NumPy's tanh of an array"),
    "a counter": (own_layers.Counting, "step 2: .* gives other results"),
    "a random number": (Drawing, "step 2: .* gives other results"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_layer_that_lies_is_found(name: str) -> None:
    layer, message = LIES[name]
    with pytest.raises(AssertionError, match=message):
        check_recorded(layer(), (5,))


@needs_compiler
def test_layers_that_lie_are_found_on_a_gpu_too() -> None:
    """CUDA records operators between arrays as well; what the host decides it does not."""
    be = cuda()
    check_recorded(own_layers.Leaky(), (5,), be=be)
    check_recorded(models.build("mlp-8", (1, 2, 3), 10, "sites"), be=be, noise=noise.of_kind("mixed", 0.2))
    with pytest.raises(AssertionError, match=r"step 5: .* gives other results"):
        check_recorded(own_layers.Counting(), (5,), be=be)
    with pytest.raises(AssertionError, match=r"step \d: .* gives other results"):
        check_recorded(Drawing(), (5,), be=be)


def own_step(decay: bool) -> Callable[[Any], Any]:
    """A step of one's own: w ← w − w xᵀ…, by primitives, or with an operator between arrays."""

    def make(be: Any) -> Any:
        x = np.random.default_rng(1).standard_normal((1, 4, 21)).astype(np.float32)
        w, b, total = np.ones((1, 3, 4), np.float32), np.zeros((1, 3), np.float32), np.zeros(1)

        def step(samples: Any, epoch: int, constants: Any) -> None:
            batch = be.gather(x.transpose(2, 1, 0)[..., None], samples, 1.0, (0.0,), (1.0,), np.float32)
            y, _ = be.forward(linear.FORMULA, linear.LinearParams(w, b), batch.reshape(1, 4, -1))
            loss, _ = losses.forward(be, y, be.take(LABELS, samples))
            if decay:
                total[...] += loss
            else:
                be.accumulate(total, loss, 1)

        return step, (total,)

    return make


LABELS = np.arange(21) % 3


def test_a_step_of_ones_own_is_checked() -> None:
    check_recorded_step(own_step(decay=False))
    with pytest.raises(AssertionError, match="can't be recorded on numba"):
        check_recorded_step(own_step(decay=True))


# ---- the seal ---------------------------------------------------------------------------------------------

USES: dict[str, Callable[[Any], Any]] = {
    "operator": lambda a: a + 1,
    "operator of a plain array": lambda a: np.ones((2, 3)) * a,
    "in place": lambda a: a.__iadd__(1),
    "in place, plain": lambda a: np.add(np.ones((2, 3)), 1, out=a),
    "function": np.sum,
    "method": lambda a: a.sum(),
    "as an array": np.asarray,
    "as an index": lambda a: np.eye(9)[a],
    "element": lambda a: a[0, 0],
    "picked": lambda a: a[[0, 1]],
    "written": lambda a: a.__setitem__(0, 1),
    "written to a plain array": lambda a: np.ones((2, 3)).__setitem__(..., a),
    "truth": bool,
    "comparison": lambda a: a == 1,
    "membership": lambda a: 1 in a,
    "iteration": list,
    "number": float,
    "copy": lambda a: a.T.reshape(6),
}


@pytest.mark.parametrize("name", USES)
def test_a_sealed_array_shows_its_shape_alone(name: str) -> None:
    def refuse(what: str) -> None:
        raise NotRecordable(what)

    array = Sealed(np.arange(6).reshape(2, 3), refuse)
    assert (array.shape, array.ndim, array.size, len(array), array.T.shape) == ((2, 3), 2, 6, 2, (3, 2))
    assert (array.reshape(3, -1).shape, array[0].shape, array.dtype) == ((3, 2), (3,), np.dtype(np.int64))
    with pytest.raises(NotRecordable):
        USES[name](array)


def test_nothing_has_been_changed_where_a_recording_ends() -> None:
    """What changes arrays for good comes last: a step that can't be repeated is done once, not twice."""
    be, total = NumbaBackend(), np.zeros(1)

    def step(samples: Any, epoch: int, constants: Any) -> None:
        be.accumulate(total, np.ones(1, np.float32), 1)
        be.forward(relu.FORMULA, (), np.ones(3, np.float32))  # after the change

    recorded = RecordedStep(be.recording, step)
    recorded(np.arange(3, dtype=np.uint32), 0, (0.0,) * 5)
    assert total == 1
    assert "changed" in recorded.reason


def test_the_layer_of_the_page_runs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "backends.md").read_text(encoding="utf-8")
    (code,) = (
        code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "check_recorded" in code
    )
    exec(compile(code, "backends.md", "exec"), {"__name__": "page"})
