"""Does a recorded training step do what it was recorded from? Both are done side by side, bit by bit."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from wn.basics.errors import WnError
from wn.data.dataset import Dataset, Split
from wn.data.recipes import Preprocessing, Recipe
from wn.engine import backends, optim
from wn.engine.backends.plain.base import Backend, TrainingStep
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.network import Network, Node
from wn.engine.noise import Noise, everywhere
from wn.engine.ranges import checked_dtype
from wn.engine.training import StepPlan, TrainSettings, first_state, training_step

CLASSES = 3
EPOCHS = 4  # CUDA graphs repeat from the third step with a batch size on
BATCHES = (8, 8, 5)  # of an epoch: a recording is for one batch size

# Returns a step that has not been done yet, and the arrays that it changes: a structure of tuples.
MakeStep = Callable[[Backend], tuple[TrainingStep, Any]]


def check_recorded(
    part: Any,
    shape: Sequence[int] | None = None,
    *,
    be: Backend | None = None,
    noise: Noise | None = None,
    preprocessing: Preprocessing | None = None,
    members: int = 2,
    dtype: DTypeLike = np.float32,
    seed: int = 0,
) -> None:
    """Check that a layer, or a network, may say `recordable = True`: AssertionError if not.

    Twelve training steps with two batch sizes are done in two copies of the network, in one of them anew each
    time, in the other one as a recording that is repeated. After each step all parameters, moments, states
    and the loss must be the same bits. Whether the part says that it is recordable plays no role.

    part: a `Network`, or a layer for samples of `shape` (features,) or (channels, height, width), which is
    put between layers that learn; be: by default Numba's backend, a GPU's records CUDA graphs; noise: an
    operator at every site; preprocessing: of random images (by default they go in as they are); members:
    networks side by side; seed: of parameters, images and labels.
    Raises WnError for a backend that records nothing, and where the part does not fit.
    """
    network = part if isinstance(part, Network) else _around(part, shape)
    sites = {} if noise is None else everywhere(len(network.site_names), noise)
    dataset = _random_data(network, preprocessing or Preprocessing(scale=1.0), seed)
    seeds = tuple(range(seed, seed + members))

    def make(be: Backend) -> tuple[TrainingStep, Any]:
        own = deepcopy((network, sites, dataset))  # what a layer counts or keeps is each copy's own
        settings = TrainSettings(EPOCHS, max(BATCHES), clamp_weights=True)
        plan = StepPlan(own[0], settings, own[1], seeds, seed, checked_dtype(dtype))
        state = first_state(be, plan.network, seeds, plan.dtype)
        return training_step(be, plan, own[2], state), state

    check_recorded_step(make, be=be)


def check_recorded_step(make: MakeStep, *, be: Backend | None = None) -> None:
    """Check that a step of your own may be given to `Backend.recorded`: AssertionError if not.

    `make(be)` returns a step(samples, epoch, constants) and the arrays that it changes, in tuples. It is
    called twice, and the two must not share what they change. The steps are given sample ids 0 … 20, in
    batches of 8, 8 and 5 in an order that changes, epochs 0 … 3, and Adam's constants of a learning rate
    that falls. Raises WnError for a backend that records nothing.
    """
    be = backends.get("numba") if be is None else be
    (anew, expected), (step, found) = make(be), make(be)
    repeated: Any = be.recorded(step)
    if repeated is step:
        raise WnError(f"backend {be.name} records no steps: take numba or cupy")
    with be.working(), np.errstate(over="ignore", invalid="ignore"):
        for number, (samples, epoch, constants) in enumerate(_schedule(be), 1):
            anew(samples, epoch, constants)
            repeated(samples, epoch, constants)
            _compare(be, found, expected, number)
    if not repeated.repeats:
        raise AssertionError(
            f"the step can't be recorded on {be.name}: {repeated.reason}. It is done anew each time, to the "
            "right result; it must not say that it is recordable"
        )


def _schedule(be: Backend) -> Iterator[tuple[Any, int, tuple[float, ...]]]:
    """Yield samples, epoch and Adam's constants of each step."""
    rng, number = np.random.default_rng(0), 0
    for epoch in range(EPOCHS):
        order = rng.permutation(sum(BATCHES)).astype(np.uint32)
        for samples in np.split(order, np.cumsum(BATCHES)[:-1]):
            number += 1
            rate = optim.cosine_annealing(1e-2, epoch, EPOCHS)
            yield be.asarray(samples), epoch, optim.adam_constants(number, rate)


def _compare(be: Backend, found: Any, expected: Any, number: int) -> None:
    pairs = zip(_arrays(be, found), _arrays(be, expected), strict=True)
    for index, (one, other) in enumerate(pairs):
        if one.tobytes() != other.tobytes():
            different = np.count_nonzero((one != other) & ~((one != one) & (other != other)))
            raise AssertionError(
                f"step {number}: a recording that was repeated gives other results than the step done anew: "
                f"{different} of {one.size} values of array {index} of the state, of shape {one.shape}. "
                "Something in the step is not computed by primitives of the backend from its arguments: an "
                "operator between arrays, a counter, a random number, an if"
            )


def _arrays(be: Backend, state: Any) -> list[Any]:
    found = optim.arrays(state)
    return [np.asarray(be.to_numpy(array)) for array in found if hasattr(array, "shape")]


# ---- a network and data around a layer --------------------------------------------------------------------


def _around(layer: Any, shape: Sequence[int] | None) -> Network:
    """Return a network of the layer between two that learn: its dx has to be right, too."""
    if shape is None or len(shape) not in (1, 3):
        raise WnError(
            f"shape is {shape}: a layer needs that of a sample, (features,) or (channels, height, width)"
        )
    images = len(shape) == 3
    before: list[Node] = (
        [Node("before", Convolution(shape[0], (1, 1)))]
        if images
        else [Node("flatten", Flatten(), False), Node("before", Linear(shape[0]))]
    )
    behind = [Node("flatten behind", Flatten(), False)] if len(layer.output_shape(tuple(shape))) == 3 else []
    nodes = (*before, Node("layer", layer), *behind, Node("logits", Linear(CLASSES)))
    return Network(type(layer).__name__, nodes, tuple(shape) if images else (1, 2, 3))


def _random_data(network: Network, preprocessing: Preprocessing, seed: int) -> Dataset:
    rng, count = np.random.default_rng([seed, 0x5EED]), sum(BATCHES)
    images = rng.standard_normal((count, *network.input_shape)).astype(np.float32)
    labels = rng.integers(0, network.classes, count)
    recipe = Recipe(1, 1, max(BATCHES), 1e-2, preprocessing)
    split, classes = Split(images, labels), tuple(map(str, range(network.classes)))
    return Dataset("random", classes, split, split, recipe)
