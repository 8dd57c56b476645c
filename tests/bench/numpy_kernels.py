"""Times of the NumPy backend: the tables of docs/noise-streams.md and docs/layers/convolution.md.

    python -m tests.bench.numpy_kernels [--runs 21]

One thread of NumPy and of BLAS, thread CPU time, float32; medians (least–most) of runs in turns.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from tests.bench.timing import Side, Timing, alternate
from wn.engine import backends, models
from wn.engine import loss as losses
from wn.engine.backends.numpy.convolution import input_gradient
from wn.engine.backends.plain.base import DrawKey
from wn.engine.layers import convolution
from wn.engine.layers.convolution import ConvolutionParams
from wn.engine.network import Conditions
from wn.random import Purpose, standard_draws

BE = backends.get("numpy")
NORMALS = ((1024, 1000), (784, 128), (64, 1024), (64, 128))  # features, samples
BATCH = 128
RNG = np.random.default_rng(0)
CONVOLUTIONS = {
    "conv1: 1×28×28 → 6×24×24, kernel 5×5, shared x": ((1, 28, 28), 6, True),
    "conv2: 6×12×12 → 16×8×8, kernel 5×5": ((6, 12, 12), 16, False),
}


def normal_sides(features: int, batch: int) -> list[Side]:
    """The kernel, the plain code with the same bits, and NumPy's generator, in nanoseconds per normal."""
    samples, scale = np.arange(batch), 1e9 / (features * batch)
    key = DrawKey((0,), samples, 0, Purpose.TRAIN_ADD, 0)
    out, generator = np.empty((features, batch), np.float32), np.random.default_rng(0)
    return [
        Side("kernel", lambda: BE.standard_draws(key, features), scale),
        Side("plain code", lambda: standard_draws(np, 0, samples, features, 0, Purpose.TRAIN_ADD), scale),
        Side("Generator", lambda: generator.standard_normal(dtype=np.float32, out=out), scale),
    ]


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, dtype=np.float32)


def convolution_sides(shape: tuple[int, int, int], outputs: int, shared: bool, members: int) -> list[Side]:
    """Forward, gradient of the kernels, gradient of the input (not needed in a first layer), in ms."""
    x = random(1 if shared else members, *shape, BATCH)
    params = ConvolutionParams(random(members, outputs, shape[0], 5, 5), random(members, outputs))
    y, cache = BE.forward(convolution.FORMULA, params, x)
    dy = random(*y.shape)
    sides = [
        Side("forward", lambda: BE.forward(convolution.FORMULA, params, x), 1e3),
        Side("dw", lambda: BE.backward(convolution.FORMULA, dy, cache, need_dx=False), 1e3),
    ]
    if not shared:
        sides.append(Side("dx", lambda: input_gradient(np, dy, *cache), 1e3))
    return sides


def lenet_sides(members: int) -> list[Side]:
    """LeNet-5 as a whole, forward, and forward and backward, in ms."""
    network, seeds = models.build("lenet5", (1, 28, 28), 10, "none"), range(members)
    params = network.initial_parameters(BE, seeds, np.float32)
    states = network.initial_states(BE, members, np.float32)
    conditions = Conditions({}, tuple(seeds), np.arange(BATCH), 0, training=True)
    x, labels = random(1, 1, 28, 28, BATCH), RNG.integers(0, 10, BATCH)

    def both() -> None:
        logits, cache, _ = network.forward(BE, params, states, x, conditions)
        _, loss_cache = losses.forward(BE, logits, labels)
        network.backward(BE, losses.backward(BE, loss_cache), cache)

    return [
        Side("forward", lambda: network.forward(BE, params, states, x, conditions), 1e3),
        Side("forward and backward", both, 1e3),
    ]


def row(name: str, sides: list[Side], timings: list[Timing]) -> str:
    shown = (
        f"{side.name} {timing.seconds:.3g} ({timing.least:.3g}–{timing.most:.3g})"
        for side, timing in zip(sides, timings, strict=True)
    )
    return f"| {name} | {' | '.join(shown)} |"


def main() -> None:
    """Print a line per row of the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.numpy_kernels")
    parser.add_argument("--runs", type=int, default=21, help="runs of each, in turns")
    runs = parser.parse_args().runs
    rows: dict[str, Callable[[], list[Side]]] = {
        f"{features} × {batch} normals, ns": lambda f=features, b=batch: normal_sides(f, b)
        for features, batch in NORMALS
    }
    for members in (1, 4):
        for name, layer in CONVOLUTIONS.items():
            rows[f"{name}, P = {members}, ms"] = lambda n=members, c=layer: convolution_sides(*c, n)
        rows[f"the whole of LeNet-5, P = {members}, ms"] = lambda n=members: lenet_sides(n)
    with threadpool_limits(1):
        for name, sides_of in rows.items():
            sides = sides_of()
            print(row(name, sides, alternate(sides, runs, clock=time.thread_time)), flush=True)


if __name__ == "__main__":
    main()
