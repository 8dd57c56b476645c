"""How far the GPU and NumPy are apart, for every network and noise kind, in float64 and float32.

Both get the same parameters, images and noise. A row has the largest relative difference max|a − b| / max|b| of the losses and of
the gradients of all parameters of one training step. In float64 it is that to NumPy's float64.
In float32 it is the error, against NumPy's float64 with the same float32 input: of the GPU, and of NumPy, which says
what float32 makes of this network.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tests.small_walks import NOISES
from wn import backends, models, optim
from wn.backends.base import Backend, DrawKey
from wn.network import Network, Pass
from wn.random import Purpose
from wn.training import loss_and_gradients

BATCH = 4
SEEDS = (7, 8)
SIGMA = np.array([0.1, 0.4])
LIMIT = 1e-9  # in float64
FACTOR, FLOOR = 20.0, 1e-5  # in float32: as many times NumPy's own error, and never below


class Row(NamedTuple):
    """A network and noise kind: the difference in float64, the errors in float32 of GPU and NumPy, and whether
    all draws have the same bits."""

    network: str
    noise: str
    float64: float
    gpu32: float
    numpy32: float
    same_bits: bool

    @property
    def good(self) -> bool:
        """Whether the row is within its limits."""
        return self.same_bits and self.float64 <= LIMIT and self.gpu32 <= max(FACTOR * self.numpy32, FLOOR)


def step(be: Backend, network: Network, kind: str, dtype: Any) -> list[Any]:
    """Return the losses (P,) and the gradients of all parameters of a step, on the host."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, *network.input_shape, BATCH)).astype(np.float32).astype(dtype)
    labels, samples = (
        rng.integers(0, network.classes, BATCH),
        rng.integers(0, 1 << 32, BATCH).astype(np.uint32),
    )
    sites = {site: NOISES[kind](SIGMA) for site in range(len(network.site_names))}
    numpy = backends.get("numpy")
    params = network.initial_parameters(numpy, SEEDS, np.float32)
    there = optim.rebuilt(params, (be.asarray(array, dtype) for array in optim.arrays(params)))
    states = network.initial_states(be, len(SEEDS), dtype)
    run = Pass(sites if kind != "none" else {}, SEEDS, be.asarray(samples), 5, training=True)
    loss, gradients, _ = loss_and_gradients(
        be, network, there, states, be.asarray(x), be.asarray(labels), run
    )
    return [be.to_numpy(array) for array in (loss, *optim.arrays(gradients))]


def difference(found: list[Any], wanted: list[Any]) -> float:
    """Return the largest relative difference; a gradient that is next to nothing is measured on the others."""
    scale = max(float(np.abs(array).max()) for array in wanted[1:])
    return max(
        float(np.abs(one - other).max()) / max(float(np.abs(other).max()), 1e-3 * scale)
        for one, other in zip(found, wanted, strict=True)
    )


def same_bits(gpu: Backend, network: Network) -> bool:
    """Return whether the draws at every site have the bits of NumPy's."""
    numpy, ids = backends.get("numpy"), np.arange(5, 5 + BATCH, dtype=np.uint32)
    for site, shape in enumerate(network.site_shapes()):
        key = DrawKey(SEEDS, ids, 9, Purpose.TRAIN_MUL, site)
        there = gpu.to_numpy(gpu.normals(key._replace(samples=gpu.asarray(ids)), int(np.prod(shape))))
        if there.tobytes() != numpy.normals(key, int(np.prod(shape))).tobytes():
            return False
    return True


def rows(gpu: Backend, names: tuple[str, ...] = models.names()) -> Iterator[Row]:
    """Yield the rows, over networks without batch norm and with it: the larger difference counts."""
    numpy = backends.get("numpy")
    for name in names:
        for kind in NOISES:
            worst = [0.0, 0.0, 0.0]
            bits = True
            for batch_norm in ("none", "sites"):
                network = models.build(name, *models.default_input(name), batch_norm)
                wide = step(numpy, network, kind, np.float64)
                found = (
                    difference(step(gpu, network, kind, np.float64), wide),
                    difference(step(gpu, network, kind, np.float32), wide),
                    difference(step(numpy, network, kind, np.float32), wide),
                )
                worst = [max(pair) for pair in zip(worst, found, strict=True)]
                bits = bits and same_bits(gpu, network)
            yield Row(name, kind, *worst, bits)
