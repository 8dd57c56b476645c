"""How fast the GPU is: its own limits, the kernels against them, and a population of LeNet-5."""

import gc
import time
from collections.abc import Callable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tests.walking.small_walks import small_data
from wn.engine import models, optim
from wn.engine.backends.numpy import convolution as by_columns
from wn.engine.backends.plain.base import DrawKey, Draws
from wn.engine.layers import batch_norm, convolution, linear, max_pooling, relu
from wn.engine.layers.base import Formula
from wn.engine.noise import additive
from wn.engine.training import Monitor, TrainSettings, train
from wn.random import Purpose

BATCH, MEMBERS, SIGMA = 128, 256, 0.1
POPULATIONS = (1, 16, 64, MEMBERS)
BATCHES = 40  # of an epoch
COLUMNS = 1 << 28  # values of im2col at once: few launches, where a CPU has as many as its cache holds


class Limits(NamedTuple):
    """What the GPU reaches per second: operations of a float32 product, bytes read and written by a copy."""

    product: float
    copy: float


class Measured(NamedTuple):
    """A kernel: seconds, and its share of the limit that it is nearer to, `product` or `copy`."""

    name: str
    seconds: float
    share: float
    limit: str


class Work(NamedTuple):
    """What is timed: how many operations it has to do, and how many float32 values to read and write."""

    name: str
    run: Callable[[], object]
    operations: float
    values: float


class Convolved(NamedTuple):
    """A convolution: population, channels of x and y, rows and columns of x, kernel and padding."""

    name: str
    members: int
    inputs: int
    outputs: int
    size: int
    kernel: int
    padding: int
    shared: bool = False  # whether all members see the same x


CONVOLUTIONS = (
    Convolved("LeNet-5 conv1", MEMBERS, 1, 6, 28, 5, 0, shared=True),
    Convolved("LeNet-5 conv2", MEMBERS, 6, 16, 12, 5, 0),
    Convolved("VGG-11 conv2", 4, 64, 128, 16, 3, 1),
    Convolved("VGG-11 conv6", 4, 512, 512, 4, 3, 1),
)


class Speed(NamedTuple):
    """A training: network-images per second."""

    name: str
    images: float


def seconds(be: Any, work: Callable[[], object], repeats: int = 20) -> float:
    """Return the median time of a piece of work on the device."""
    cuda = be.xp.cuda
    work()
    events = [(cuda.Event(), cuda.Event()) for _ in range(repeats)]
    for started, ended in events:
        started.record()
        work()
        ended.record()
    cuda.get_current_stream().synchronize()
    return float(np.median([cuda.get_elapsed_time(*pair) / 1e3 for pair in events]))


def drawn(be: Any, *shape: int) -> Any:
    """Return standard normal values, float32, on the device."""
    ids = be.asarray(np.arange(shape[-1], dtype=np.uint32))
    return be.standard_draws(DrawKey((1,), ids, 0, Purpose.TRAIN_ADD, 0), prod(shape[:-1])).reshape(shape)


def limits(be: Any, size: int = 8192, elements: int = 1 << 29) -> Limits:
    """Measure the limits: a product of square matrices, and a copy."""
    a, b = (drawn(be, 1, size, size) for _ in range(2))
    c = be.xp.empty_like(a)
    product = 2 * size**3 / seconds(be, lambda: be.product(a, b, c), 5)
    x = be.xp.zeros(elements, np.float32)
    y = be.xp.empty_like(x)
    copy = 8 * elements / seconds(be, lambda: y.__setitem__(..., x), 10)
    return Limits(product, copy)


# ---- kernels ----------------------------------------------------------------------------------------------


def kernels(
    be: Any,
    limit: Limits,
    members: int = MEMBERS,
    batch: int = BATCH,
    convolutions: tuple[Convolved, ...] = CONVOLUTIONS,
    repeats: int = 20,
) -> Iterator[Measured]:
    """Measure kernels against what they have to do: in the sizes of LeNet-5, and some of VGG-11."""
    groups = [lambda: _noise(be, members, batch), lambda: _activations(be, members, batch)]
    groups += [lambda one=one: _convolution(be, one, batch) for one in convolutions]
    groups += [lambda: _linear_and_adam(be, members, batch)]
    for group in groups:
        for work in group():
            yield _measured(be, limit, work, repeats)
        gc.collect()
        be.release()


def _measured(be: Any, limit: Limits, work: Work, repeats: int) -> Measured:
    took = seconds(be, work.run, repeats)
    shares = {"product": work.operations / limit.product / took, "copy": 4 * work.values / limit.copy / took}
    nearer = max(shares, key=lambda which: shares[which])
    return Measured(work.name, took, shares[nearer], nearer)


def _noise(be: Any, members: int, batch: int) -> list[Work]:
    x = drawn(be, members, 6, 24, 24, batch)
    ids = be.asarray(np.arange(batch, dtype=np.uint32))
    one = np.full(members, 0.1, np.float32)
    found = []
    for label, seeds in (("one seed", (1,) * members), ("own seeds", tuple(range(members)))):
        offset = Draws(DrawKey(seeds, ids, 1, Purpose.TRAIN_ADD, 1), one, 0 * one)
        multiplier = Draws(offset.key._replace(purpose=Purpose.TRAIN_MUL), one, one)

        def add(offset: Draws = offset) -> None:
            be.apply_draws(x, None, offset, False, False)

        def mix(multiplier: Draws = multiplier, offset: Draws = offset) -> None:
            be.apply_draws(x, multiplier, offset, False, True)

        found.append(Work(f"noise, additive, {label}", add, 0, 2 * x.size))
        found.append(Work(f"noise, mixed, {label}", mix, 0, (3 if len(set(seeds)) > 1 else 2) * x.size))
    return found


def _activations(be: Any, members: int, batch: int) -> list[Work]:
    x = drawn(be, members, 6, 24, 24, batch)
    params = batch_norm.BatchNormParams(drawn(be, members, 6), drawn(be, members, 6))
    return [
        *_both(be, "ReLU", relu.FORMULA, ((), x), (2 * x.size, 3 * x.size)),
        *_both(be, "max pooling", max_pooling.FORMULA, ((), x, (2, 2)), (1.25 * x.size, 2.5 * x.size)),
        *_both(be, "batch norm", batch_norm.TRAINING, (params, x), (2 * x.size, 3 * x.size)),
    ]


def _both(
    be: Any, name: str, formula: Formula, given: tuple[Any, ...], values: tuple[float, float]
) -> list[Work]:
    """Forward and backward of a layer, with the number of values read and written."""
    y, cache = be.forward(formula, *given)
    dy = drawn(be, *y.shape)
    return [
        Work(name, lambda: be.forward(formula, *given), 0, values[0]),
        Work(f"{name}, backward", lambda: be.backward(formula, dy, cache), 0, values[1]),
    ]


def _convolution(be: Any, one: Convolved, batch: int) -> list[Work]:
    places = one.size + 2 * one.padding - one.kernel + 1
    x = drawn(be, 1 if one.shared else one.members, one.inputs, one.size, one.size, batch)
    w = drawn(be, one.members, one.outputs, one.inputs, one.kernel, one.kernel)
    b, dy = drawn(be, one.members, one.outputs), drawn(be, one.members, one.outputs, places, places, batch)
    params, how = convolution.ConvolutionParams(w, b), ((1, 1), (one.padding,) * 2)
    cache = convolution.ConvolutionCache(x, w, *how)

    def columns() -> object:
        before, by_columns.COLUMNS = by_columns.COLUMNS, COLUMNS
        try:
            return by_columns.forward(be, params, x, *how)
        finally:
            by_columns.COLUMNS = before

    ways: dict[str, tuple[Callable[[], object], int]] = {
        "forward": (lambda: be.forward(convolution.FORMULA, params, x, *how), 1),
        "forward by columns and cuBLAS": (columns, 1),
        "gradients of kernel and bias": (
            lambda: be.backward(convolution.FORMULA, dy, cache, need_dx=False),
            1,
        ),
        "all gradients": (lambda: be.backward(convolution.FORMULA, dy, cache), 2),
    }
    once = 2.0 * dy.size * one.inputs * one.kernel**2
    return [
        Work(f"{one.name}, {way}", run, times * once, times * (x.size + dy.size))
        for way, (run, times) in ways.items()
    ]


def _linear_and_adam(be: Any, members: int, batch: int) -> list[Work]:
    x, w, b = drawn(be, members, 256, batch), drawn(be, members, 120, 256), drawn(be, members, 120)
    dy = drawn(be, members, 120, batch)
    arrays = [[drawn(be, members, 61_706)] for _ in range(4)]  # as many parameters as LeNet-5 has
    arrays[3][0] *= arrays[3][0]
    constants = optim.adam_constants(5, 1e-3)
    operations, values = 2.0 * w.size * batch, x.size + w.size + dy.size
    params, cache, twice = linear.LinearParams(w, b), linear.LinearCache(x, w), (2 * operations, 2.0 * values)
    return [
        Work("LeNet-5 fc1, forward", lambda: be.forward(linear.FORMULA, params, x), operations, values),
        Work("LeNet-5 fc1, gradients", lambda: be.backward(linear.FORMULA, dy, cache), *twice),
        Work("Adam", lambda: be.adam_updates(*arrays, constants), 0, 7 * arrays[0][0].size),
    ]


# ---- a population -----------------------------------------------------------------------------------------


class _Epochs(Monitor):
    """Takes the time at the end of each epoch, when all of it is done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def epoch(self, epoch: int, loss: Any) -> None:
        """Take the time."""
        self.times.append(time.perf_counter())


def training(be: Any, members: int, graphs: bool, batch: int = BATCH, batches: int = BATCHES) -> float:
    """Return the network-images per second of a population of LeNet-5 under additive noise at every site."""
    data = small_data(batches * batch, 10)
    network = models.build("lenet5", data.image_shape, 10)
    noise = dict.fromkeys(range(len(network.site_names)), additive(np.full(members, SIGMA)))
    monitor, before = _Epochs(), be.graphs
    be.graphs = graphs
    try:
        with be.working():
            train(
                *(be, network, data, TrainSettings(4, batch, 1e-3)),
                seeds=tuple(range(members)),
                noise=noise,
                monitor=monitor,
            )
    finally:
        be.graphs = before
    took = np.diff(monitor.times)  # of the second to the fourth epoch
    return float(members * len(data.train) / np.median(took))


def populations(
    be: Any, sizes: tuple[int, ...] = POPULATIONS, batch: int = BATCH, batches: int = BATCHES
) -> Iterator[Speed]:
    """Yield the speeds of populations, with recorded steps and without."""
    for members in sizes:
        for graphs in (False, True):
            before = be.not_recorded
            speed = training(be, members, graphs, batch, batches)
            how = "CUDA graph" if graphs else "launch by launch"
            failed = ", which could not be recorded" if be.not_recorded > before else ""
            yield Speed(f"wn, {members} networks, {how}{failed}", speed)
            gc.collect()
            be.release()
