"""How fast the GPU is: its own limits, the kernels against them, and a population of LeNet-5 against its peers."""

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tests.small_walks import small_data
from wn import models, optim
from wn.backends.base import Backend, DrawKey, Draws
from wn.data.dataset import Dataset
from wn.noise import additive
from wn.random import Purpose
from wn.training import Monitor, TrainSettings, train

BATCH, MEMBERS, SIGMA = 128, 256, 0.1
BATCHES = 40  # of an epoch


class Limits(NamedTuple):
    """What the GPU does in a float32 product, in floating-point operations, and in a copy, in bytes read and
    written: per second."""

    product: float
    copy: float


class Measured(NamedTuple):
    """A kernel: seconds, and its share of the limit that it is nearer to."""

    name: str
    seconds: float
    share: float
    limit: str


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
    times = [cuda.get_elapsed_time(*pair) / 1e3 for pair in events]
    return float(np.median(times))


def limits(be: Any, size: int = 8192, elements: int = 1 << 29) -> Limits:
    """Measure the limits."""
    a, b = (be.xp.random.standard_normal((1, size, size), dtype=np.float32) for _ in range(2))
    c = be.xp.empty_like(a)
    product = 2 * size**3 / seconds(be, lambda: be._product(a, b, c), 5)
    x = be.xp.zeros(elements, np.float32)
    y = be.xp.empty_like(x)
    copy = 8 * elements / seconds(be, lambda: y.__setitem__(..., x), 10)
    return Limits(product, copy)


# ---- kernels ----------------------------------------------------------------------------------------------


def kernels(be: Any, limit: Limits, members: int = MEMBERS) -> Iterator[Measured]:
    """Measure the kernels in the sizes of LeNet-5, and convolutions of VGG-11, against what they have to do."""
    xp, draw = be.xp, lambda *shape: be.xp.random.standard_normal(shape, dtype=np.float32)

    def measured(name: str, work: Callable[[], object], operations: float, values: float) -> Measured:
        took = seconds(be, work)
        shares = {"product": operations / limit.product / took, "copy": 4 * values / limit.copy / took}
        nearer = max(shares, key=lambda which: shares[which])
        return Measured(name, took, shares[nearer], nearer)

    x = draw(members, 6, 24, 24, BATCH)
    y, dy = xp.maximum(x, 0), draw(*x.shape)
    ids = be.asarray(np.arange(BATCH, dtype=np.uint32))
    for label, seeds in (("one seed", (1,) * members), ("own seeds", tuple(range(members)))):
        one = np.full(members, 0.1, np.float32)
        offset = Draws(DrawKey(seeds, ids, 1, Purpose.TRAIN_ADD, 1), one, 0 * one)
        multiplier = Draws(offset.key._replace(purpose=Purpose.TRAIN_MUL), one, one)
        work = lambda offset=offset: be.apply_draws(x, None, offset, False, False)  # noqa: E731
        yield measured(f"noise, additive, {label}", work, 0, 2 * x.size)
        work = lambda pair=(multiplier, offset): be.apply_draws(x, *pair, False, True)  # noqa: E731
        yield measured(f"noise, mixed, {label}", work, 0, 3 * x.size)
    yield measured("relu", lambda: be.relu(x), 0, 2 * x.size)
    yield measured("relu backward", lambda: be.relu_backward(dy, y), 0, 3 * x.size)
    yield measured("max pooling", lambda: be.max_pool(x, (2, 2)), 0, 1.25 * x.size)
    small, dsmall = be.max_pool(x, (2, 2)), draw(members, 6, 12, 12, BATCH)
    work = lambda: be.max_pool_backward(dsmall, x, small, (2, 2))  # noqa: E731
    yield measured("max pooling backward", work, 0, 2.5 * x.size)
    rows, gamma = x.reshape(members, 6, -1), draw(members, 6)
    yield measured("batch norm", lambda: be.batch_norm(rows, gamma, gamma, 1e-5), 0, 2 * x.size)
    del x, y, dy, small, dsmall, rows
    gc.collect()
    be.release()
    for name, count, channels, outputs, size, kernel, padding in (
        ("LeNet-5 conv1", members, 1, 6, 28, 5, 0),
        ("LeNet-5 conv2", members, 6, 16, 12, 5, 0),
        ("VGG-11 conv2", 4, 64, 128, 16, 3, 1),
        ("VGG-11 conv6", 4, 512, 512, 4, 3, 1),
    ):
        places = size + 2 * padding - kernel + 1
        x = draw(1 if name.endswith("conv1") else count, channels, size, size, BATCH)
        w, b, dy = draw(count, outputs, channels, kernel, kernel), draw(count, outputs), None
        dy = draw(count, outputs, places, places, BATCH)
        sliding = (1, 1), (padding, padding)
        operations = 2.0 * dy.size * channels * kernel**2
        values = x.size + dy.size
        ways: dict[str, Callable[[], object]] = {
            "forward": lambda: be.convolution(x, w, b, *sliding),
            "kernel's gradient": lambda: be.convolution_gradients(dy, x, (kernel, kernel), *sliding),
            "input's gradient": lambda: be.convolution_input_gradient(w, dy, (size, size), *sliding),
            "forward, by columns and cuBLAS": lambda: Backend.convolution(be, x, w, b, *sliding),
        }
        for way, work in ways.items():
            yield measured(f"{name}, {way}", work, operations, values)
        be.release()
    x, w, b = draw(members, 256, BATCH), draw(members, 120, 256), draw(members, 120)
    operations = 2.0 * w.size * BATCH
    yield measured(
        "LeNet-5 fc1", lambda: be.linear(w, x, b), operations, x.size + w.size + 2 * members * 120 * BATCH
    )
    params = [[draw(members, 61_706)] for _ in range(4)]
    params[3] = [abs(params[3][0])]
    constants = (
        optim.adam_constants(5, 1e-3) if hasattr(optim, "adam_constants") else (1e-3, 0.9, 0.999, 1.0, 1e-8)
    )
    work = lambda: be.adam_updates(*params, constants)  # noqa: E731
    yield measured("Adam", work, 0, 7 * params[0][0].size)


# ---- a population -----------------------------------------------------------------------------------------


class _Epochs(Monitor):
    """Takes the time at the end of each epoch, when all of it is done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def epoch(self, epoch: int, loss: Any) -> None:
        """Take the time."""
        self.times.append(time.perf_counter())


def training(be: Any, members: int, graphs: bool, data: Dataset | None = None) -> float:
    """Return the network-images per second of a population of LeNet-5 under additive noise at every site."""
    data = small_data(BATCHES * BATCH, 10) if data is None else data
    network = models.build("lenet5", data.image_shape, 10)
    noise = dict.fromkeys(range(len(network.site_names)), additive(np.full(members, SIGMA)))
    monitor, before = _Epochs(), be.graphs
    be.graphs = graphs
    try:
        with be.working():
            train(
                *(be, network, data, TrainSettings(4, BATCH, 1e-3)),
                seeds=tuple(range(members)),
                noise=noise,
                monitor=monitor,
            )
    finally:
        be.graphs = before
    took = np.diff(monitor.times)  # of the second to the fourth epoch
    return float(members * len(data.train) / np.median(took))


def populations(be: Any) -> Iterator[Speed]:
    """Yield our speed and that of the peers on the same GPU."""
    for members in (1, 16, 64, MEMBERS):
        for graphs in (False, True):
            name = f"wn, {members} networks{', CUDA graph' if graphs else ''}"
            yield Speed(name, training(be, members, graphs))
            gc.collect()
            be.release()
    try:
        from tests.gpu import peers
    except ImportError:
        return
    for name, peer in peers.PEERS.items():
        yield Speed(f"{name}, one network", BATCH / peer(BATCH, SIGMA))
    took = peers.population(BATCH, SIGMA, MEMBERS)
    yield Speed(f"torch.func.vmap, {MEMBERS} networks", MEMBERS * BATCH / took)
