"""Train and evaluate a population: P networks side by side on the same batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wn.basics.errors import WnError
from wn.basics.groups import group_sizes
from wn.basics.numbers import check_switch, checked_whole, is_number
from wn.data.dataset import Dataset, Draw, Split, batch
from wn.data.recipes import Preprocessing
from wn.engine import loss as losses
from wn.engine import optim
from wn.engine.backends.plain.base import SAMPLE_TILE, Array, Backend, TrainingStep
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.layers.base import declares
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.network import INPUT_SITE, Conditions, Network, Watch
from wn.engine.noise import Noise, SiteNoise
from wn.engine.originals import PARTS_OF_A_STEP, Originals
from wn.engine.ranges import OutOfRange, check_finite, checked_dtype, out_of_range
from wn.random import Purpose, permutation

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class TrainSettings:
    """Epochs ≥ 1, batch size ≥ 1, initial learning rate > 0, clamping and class weights (K,) of a training.

    The learning rate follows cosine annealing to 0; the last partial batch is kept. Raises WnError for values
    out of range.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    clamp_weights: bool = False
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = checked_whole(name, getattr(self, name), at_least=1)
            object.__setattr__(self, name, value)  # the one way to set a field of a frozen dataclass
        _check_positive("learning_rate", self.learning_rate)
        check_switch("clamp_weights", self.clamp_weights)
        if not isinstance(self.class_weights, tuple | list | None):
            raise WnError(f"class_weights is {self.class_weights!r}: it must be a tuple of numbers")
        for weight in self.class_weights or ():
            _check_positive("a class weight", weight)


class Population(NamedTuple):
    """P trained networks: parameters and states (layer by layer), and the seed of each member."""

    params: tuple[Any, ...]
    states: tuple[Any, ...]
    seeds: tuple[int, ...]


class TrainingState(NamedTuple):
    """The state of a training after a step: all that later steps depend on.

    `batches` of `epoch` (from 0) are done, `steps` in all; `losses` (P,), float64, sum over its samples.
    """

    params: tuple[Any, ...]
    states: tuple[Any, ...]
    adam: optim.AdamState
    epoch: int
    batches: int
    steps: int
    losses: Array


class Monitor:
    """Callbacks after each step (a batch) and each epoch; an exception raised in one ends the work."""

    def step(self) -> None:
        """Take note that a step is done."""

    def trained(self, state: TrainingState) -> None:
        """Take note of a step of a training, before `step`; the arrays change in the next one."""

    def epoch(self, epoch: int, loss: NDArray[np.float64]) -> None:
        """Take note that an epoch (from 0) is done, with the mean training loss of each member (P,)."""

    def given_up(self, members: int, epoch: int) -> None:
        """Take note that members failed in an epoch (from 0): theirs from this one on will not be done."""


def train(
    be: Backend,
    network: Network,
    dataset: Dataset,
    settings: TrainSettings,
    *,
    seeds: tuple[int, ...],
    noise: SiteNoise | None = None,
    data_seed: int | None = None,
    dtype: DTypeLike = np.float32,
    monitor: Monitor | None = None,
    start: TrainingState | None = None,
) -> Population:
    """Train one network per seed, side by side, with Adam on the mean cross-entropy.

    All members see the same batches in the same order, drawn from `data_seed` (by default the first member's
    seed); initial parameters and noise come from each member's own seed. A member's result does not depend
    on which others are trained with it, only on its seed, its noise and `data_seed`.
    With `start`, a state that a monitor of the same training saw, the training goes on from there and ends in
    the same bits; the state's arrays are changed in place.
    Raises WnError for bad sites and noise values, a `dtype` other than float32 and float64, a last batch that
    is too small for batch norm, and OutOfRange when a member's loss or gradients leave the range of `dtype`.
    """
    dtype = checked_dtype(dtype)
    noise = {} if noise is None else noise
    monitor = Monitor() if monitor is None else monitor
    if not seeds:
        raise WnError("seeds is empty: a population needs a seed for each member")
    dataset.check_trainable()
    check_data(network, dataset)
    check_noise(network, noise, len(seeds))
    weights = settings.class_weights
    if weights is not None and len(weights) != network.classes:
        raise WnError(f"there are {len(weights)} class weights: {network.name} has {network.classes} classes")
    check_last_batch(network, len(dataset.train), settings.batch_size)
    data_seed = seeds[0] if data_seed is None else data_seed
    at = first_state(be, network, seeds, dtype) if start is None else start
    plan = StepPlan(network, settings, noise, seeds, data_seed, dtype)
    # A loss that is not finite is reported below.
    with single_threaded_blas(), np.errstate(over="ignore", invalid="ignore"):
        step = training_step(be, plan, dataset, at)
        if is_recordable(plan, dataset):
            step = be.recorded(step)
        for epoch in range(at.epoch, settings.epochs):
            rate = optim.cosine_annealing(settings.learning_rate, epoch, settings.epochs)
            order = permutation(data_seed, len(dataset.train), epoch, Purpose.SHUFFLE).astype(np.uint32)
            left = be.asarray(order[at.batches * settings.batch_size :])
            for samples in _batches(left, settings.batch_size):
                with be.step():
                    step(samples, epoch, optim.adam_constants(at.steps + 1, rate))
                at = at._replace(epoch=epoch, batches=at.batches + 1, steps=at.steps + 1)
                monitor.trained(at)
                monitor.step()
            loss_of_epoch = np.asarray(be.to_numpy(at.losses)) / len(dataset.train)
            check_finite("loss", loss_of_epoch, epoch, dtype)
            # Where g² overflows, Adam's step is 0 from then on: the loss stays finite, nothing is learned.
            squares = np.sum([_sums(be, array) for array in optim.arrays(at.adam.second)], axis=0)
            check_finite("sum of squared gradients", squares, epoch, dtype)
            monitor.epoch(epoch, loss_of_epoch)
            at = at._replace(epoch=epoch + 1, batches=0)
            at.losses[...] = 0
    return Population(at.params, at.states, seeds)


class StepPlan(NamedTuple):
    """The constants of all steps of a training."""

    network: Network
    settings: TrainSettings
    noise: SiteNoise
    seeds: tuple[int, ...]
    data_seed: int
    dtype: np.dtype[Any]


def training_step(be: Backend, plan: StepPlan, dataset: Dataset, state: TrainingState) -> TrainingStep:
    """Return the step of a training: it changes the arrays of its state in place."""
    split, checked = dataset.train.on(be), set()  # batch sizes: all steps with one have the same shapes
    replaced = ORIGINALS.replaced()

    def step(samples: Array, epoch: int, constants: Sequence[float]) -> None:
        if replaced:
            be.not_repeatable(f"another {replaced} than the package's")
        at, draw = be.enclosed(state), Draw(plan.data_seed, epoch)
        x = batch(be, split, samples, dataset.recipe.preprocessing, plan.dtype, draw)
        labels = be.take(split.labels, samples)
        conditions = Conditions(plan.noise, plan.seeds, samples, epoch, training=True)
        loss, grads, states = loss_and_gradients(
            be, plan.network, at.params, at.states, x, labels, conditions, plan.settings.class_weights
        )
        if len(samples) not in checked:
            optim.check_gradients(at.params, grads)
            checked.add(len(samples))
        optim.adam_update(be, at.params, grads, at.adam, constants)
        if plan.settings.clamp_weights:
            optim.clamp_weights(be, plan.network.clampable(at.params))
        for array, new in zip(optim.arrays(at.states), optim.arrays(states), strict=True):
            be.assign(array, new)
        be.accumulate(at.losses, loss, len(samples))

    return step


def is_recordable(plan: StepPlan, dataset: Dataset) -> bool:
    """Whether all parts of a training step declare themselves `recordable`, see `Backend.recorded`."""
    layers = (node.layer for node in plan.network.nodes)
    parts = (plan.network, *layers, *plan.noise.values(), dataset.recipe.preprocessing)
    return all(declares(part, "recordable") for part in parts)


def first_state(be: Backend, network: Network, seeds: tuple[int, ...], dtype: Any) -> TrainingState:
    """Return the state of a training before its first step."""
    params = network.initial_parameters(be, seeds, dtype)
    states = network.initial_states(be, len(seeds), dtype)
    return TrainingState(params, states, optim.adam_start(be, params), 0, 0, 0, be.xp.zeros(len(seeds)))


def loss_and_gradients(
    be: Backend,
    network: Network,
    params: tuple[Any, ...],
    states: tuple[Any, ...],
    x: Array,
    labels: Array,
    conditions: Conditions,
    class_weights: tuple[float, ...] | None = None,
) -> tuple[Array, tuple[Any, ...], tuple[Any, ...]]:
    """Return (loss (P,), gradients of all parameters, new states) of one batch x (P|1, C, H, W, B)."""
    logits, cache, states = network.forward(be, params, states, x, conditions)
    loss, loss_cache = losses.forward(be, logits, labels, class_weights)
    _, grads = network.backward(be, losses.backward(be, loss_cache), cache)
    return loss, grads, states


@np.errstate(over="ignore", invalid="ignore")  # logits that are not finite are reported
def evaluate(
    be: Backend,
    network: Network,
    population: Population,
    dataset: Dataset,
    *,
    noise: SiteNoise | None = None,
    evaluation: int = 0,
    batch_size: int = EVALUATION_BATCH,
    dtype: DTypeLike = np.float32,
    monitor: Monitor | None = None,
    by_group: bool = False,
    watch: Callable[[int], Watch] | None = None,
) -> NDArray[np.int64]:
    """The number of correctly classified test images of each member (P,), under noise at inference.

    The draws of each image depend on the member's seed and on `evaluation`, not on `batch_size`. One network
    may be evaluated under the noise of P members at once: the result is (P,) then. With `by_group` the images
    of each group are counted apart: (P, G), see `wn.basics.groups`.
    `monitor` is told after each batch. `watch(samples)` is called before each: its result sees the activation
    at each noisy site before the noise, as in `Conditions`. Raises WnError for bad sites and noise values, a
    population of another network, a `dtype` other than float32 and float64, and OutOfRange when a logit
    leaves that of `dtype`.
    """
    dtype = checked_dtype(dtype)
    check_data(network, dataset)
    dataset.check_alike()
    check_population(be, network, population)
    noise = {} if noise is None else noise
    monitor = Monitor() if monitor is None else monitor
    members = [len(population.seeds), *(operator.members() for operator in noise.values())]
    check_noise(network, noise, max(members) if members[0] == 1 else members[0])
    groups = len(group_sizes(len(dataset.test))) if by_group else None
    correct: NDArray[np.int64] | int = 0
    params, states, seeds = population
    batches = evaluation_batches(be, dataset, seeds, noise, evaluation, batch_size, dtype)
    for x, conditions, labels in batches:
        if watch is not None:
            conditions = conditions._replace(watch=watch(len(labels)))
        logits = network.forward_from_site(be, params, states, x, conditions, INPUT_SITE)
        correct = correct + count_correct(be, logits, labels, groups)
        monitor.step()
    return np.asarray(correct)


def evaluation_batches(
    be: Backend,
    dataset: Dataset,
    seeds: tuple[int, ...],
    noise: SiteNoise,
    evaluation: int,
    batch_size: int,
    dtype: DTypeLike,
) -> Iterator[tuple[Array, Conditions, NDArray[np.int64]]]:
    """Yield (x, conditions, labels) over the test images.

    The batch size is rounded up to whole tiles of SAMPLE_TILE samples, and the last x is padded to one, so
    that a sample's logits are the same bit for bit whatever the batch size; `labels` are not padded.
    """
    batch_size = checked_whole("the evaluation batch size", batch_size, at_least=1)
    batch_size += -batch_size % SAMPLE_TILE
    split: Split = dataset.test.on(be)
    preprocessing: Preprocessing = dataset.recipe.preprocessing
    with single_threaded_blas():
        for samples in _batches(np.arange(len(split), dtype=np.uint32), batch_size):
            padding = -len(samples) % SAMPLE_TILE
            padded = np.pad(samples, (0, padding), mode="edge")
            x = batch(be, split, padded, preprocessing, dtype)
            conditions = Conditions(noise, seeds, be.asarray(padded), evaluation, training=False)
            yield x, conditions, split.labels[samples]


def count_correct(be: Backend, logits: Array, labels: Array, groups: int | None = None) -> NDArray[np.int64]:
    """The number of samples whose label (B,) has the largest of logits (P, K, ≥B): (P,).

    With `groups` G, by group of samples, n mod G: (P, G). A tie goes to the smaller class. Raises OutOfRange
    if a logit is not finite, as no class is the largest then, and WnError for labels that are no classes.
    """
    hits: NDArray[np.int64] = be.to_numpy(be.count_correct(logits, labels, groups))
    if (hits < -1).any():
        raise WnError(f"a label is out of range: allowed are 0 to {logits.shape[1] - 1}")
    wrong = np.flatnonzero((hits < 0).reshape(len(hits), -1).any(axis=1)).tolist()
    if wrong:
        text = out_of_range(logits.dtype)
        raise OutOfRange(f"{text} under this noise", dict.fromkeys(wrong, text))
    return hits


def check_data(network: Network, dataset: Dataset) -> None:
    """Raise WnError unless the network takes the images of the data set and has a logit per class."""
    if tuple(network.input_shape) != dataset.image_shape:
        raise WnError(
            f"{network.name} takes images of shape {tuple(network.input_shape)}, "
            f"{dataset.name} has {dataset.image_shape}"
        )
    if network.classes != len(dataset.classes):
        raise WnError(
            f"{network.name} has {network.classes} logits, {dataset.name} has {len(dataset.classes)} classes"
        )


def check_noise(network: Network, noise: Mapping[int, Noise], population: int) -> None:
    """Raise WnError unless all sites exist and noise values are single or one per member."""
    network.check_sites(list(noise))
    for site, operator in noise.items():
        if operator.members() not in (1, population):
            allowed = " or ".join(str(count) for count in sorted({1, population}))
            raise WnError(
                f"noise at site {site} has values for {operator.members()} members: allowed are {allowed}"
            )


def check_population(be: Backend, network: Network, population: Population) -> None:
    """Raise WnError unless all parameters and states have the shapes that this network needs."""
    count = len(network.nodes)
    if (len(population.params), len(population.states)) != (count, count):
        raise WnError(f"the population has {len(population.params)} layers: {network.name} has {count}")

    for name, needed, there in zip(
        (node.name for node in network.nodes),
        zip(*network.template(be), strict=True),
        zip(*population[:2], strict=True),
        strict=True,
    ):
        shapes, found = ([array.shape[1:] for array in optim.arrays(trees)] for trees in (needed, there))
        if found != shapes:
            raise WnError(
                f"the population is not of {network.name}: layer {name!r} needs arrays of shapes "
                f"{shapes} per member, got {found}"
            )


def check_last_batch(network: Network, samples: int, batch_size: int) -> None:
    """Raise WnError if the last batch leaves a batch norm with one value per feature: it has no variance."""
    last = samples % batch_size or batch_size
    for place in network.placed:
        if isinstance(place.layer, BatchNorm) and last * prod(place.input_shape[1:]) == 1:
            raise WnError(
                f"layer {place.name!r} of {network.name} needs at least 2 values per feature, and the last "
                f"batch has 1 sample ({samples} training samples in batches of {batch_size}): use another "
                "batch size or sample limit"
            )


def _check_positive(what: str, value: Any) -> None:
    if not is_number(value) or not 0 < value < np.inf:
        raise WnError(f"{what} is {value!r}: it must be above 0 and finite")


def _batches(order: Array, size: int) -> Iterator[Array]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _sums(be: Backend, array: Array) -> NDArray[np.float64]:
    """Return the sum of each member's values (P,), in float64."""
    sums = array.reshape(len(array), -1).sum(axis=1, dtype=np.float64)
    return np.asarray(be.to_numpy(sums))


ORIGINALS = Originals(PARTS_OF_A_STEP)
