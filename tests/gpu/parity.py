"""How far a backend and NumPy are apart, for every network and noise kind, in float64 and float32.

Both get the same parameters, images and noise. What is compared is one training step: the losses and the
gradients of all parameters, by the largest relative difference max|a − b| / max|b|. In float64 it is that to
NumPy's float64. In float32 it is the error against NumPy's float64 with the same input: the backend's own,
and NumPy's, which says what float32 makes of this network.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from tests.walking.small_walks import NOISES
from wn.engine import backends, models, optim
from wn.engine.backends.plain.base import Backend, DrawKey
from wn.engine.network import Conditions, Network
from wn.engine.training import loss_and_gradients
from wn.random import Purpose

NUMPY = backends.get("numpy")
BATCH = 4
SEEDS = (7, 8)
SEEDS_OF_INPUTS = (3, 4, 5)
SIGMA = np.array([0.1, 0.4])
LIMIT = 1e-9  # in float64
FACTOR, FLOOR = 20.0, 1e-5  # in float32: as many times NumPy's own error, and never below


class Row(NamedTuple):
    """A network and noise kind: the differences, and whether all draws have the same bits."""

    network: str
    noise: str
    float64: float
    float32: float
    numpy32: float
    same_bits: bool

    @property
    def good(self) -> bool:
        """Whether the row is within its limits."""
        return self.same_bits and self.float64 <= LIMIT and self.float32 <= max(FACTOR * self.numpy32, FLOOR)


@lru_cache(maxsize=2)
def parameters(network: Network) -> tuple[Any, ...]:
    """Return the parameters that a step begins with, on the host."""
    return network.initial_parameters(NUMPY, SEEDS, np.float32)


def step(be: Backend, network: Network, kind: str, dtype: Any, seed: int = 3) -> list[Any]:
    """Return the losses (P,) and the gradients of all parameters of a step, on the host."""
    rng = np.random.default_rng(seed)  # of images, labels and sample ids
    x = rng.standard_normal((1, *network.input_shape, BATCH)).astype(np.float32).astype(dtype)
    labels = rng.integers(0, network.classes, BATCH)
    samples = rng.integers(0, 1 << 32, BATCH).astype(np.uint32)
    noise = dict.fromkeys(range(len(network.site_names)), NOISES[kind](SIGMA))
    params = parameters(network)
    there = optim.with_arrays(params, (be.asarray(array, dtype) for array in optim.arrays(params)))
    states = network.initial_states(be, len(SEEDS), dtype)
    conditions = Conditions(noise, SEEDS, be.asarray(samples), 5, training=True)
    loss, gradients, _ = loss_and_gradients(
        be, network, there, states, be.asarray(x), be.asarray(labels), conditions
    )
    return [be.to_numpy(array) for array in (loss, *optim.arrays(gradients))]


def difference(found: list[Any], wanted: list[Any]) -> float:
    """Return the largest relative difference; a gradient next to nothing is measured on the others."""
    scale = max(float(np.abs(array).max()) for array in wanted[1:])
    return max(
        float(np.abs(one - other).max()) / max(float(np.abs(other).max()), 1e-3 * scale)
        for one, other in zip(found, wanted, strict=True)
    )


def same_bits(be: Backend, network: Network) -> bool:
    """Whether the draws at every site have the bits of NumPy's."""
    ids = np.arange(5, 5 + BATCH, dtype=np.uint32)
    for site, shape in enumerate(network.site_shapes()):
        key, features = DrawKey(SEEDS, ids, 9, Purpose.TRAIN_MUL, site), int(np.prod(shape))
        there = be.to_numpy(be.standard_draws(key._replace(samples=be.asarray(ids)), features))
        if there.tobytes() != NUMPY.standard_draws(key, features).tobytes():
            return False
    return True


def row(be: Backend, name: str, kind: str) -> Row:
    """Return a row; in float32 the median of three inputs counts if the first is not within the limits.

    Where rounding puts a value on the other side of a ReLU, or another one first in a window, an error is
    large by chance: rarely, and not for two inputs of three.
    """
    found = [row_of(be, name, kind, SEEDS_OF_INPUTS[0])]
    if not found[0].good:
        found += [row_of(be, name, kind, seed) for seed in SEEDS_OF_INPUTS[1:]]
    return Row(
        *(name, kind, max(one.float64 for one in found)),
        *(median(one.float32 for one in found), median(one.numpy32 for one in found)),
        same_bits=all(one.same_bits for one in found),
    )


def row_of(be: Backend, name: str, kind: str, seed: int) -> Row:
    """Return the row of an input, without batch norm and with it: the larger differences count."""
    found = []
    for batch_norm in ("none", "sites"):
        network = models.build(name, *models.default_input(name), batch_norm)
        wide = step(NUMPY, network, kind, np.float64, seed)
        runs = ((be, np.float64), (be, np.float32), (NUMPY, np.float32))
        differences = [difference(step(one, network, kind, dtype, seed), wide) for one, dtype in runs]
        found.append((*differences, same_bits(be, network)))
    *worst, bits = zip(*found, strict=True)
    return Row(name, kind, *map(max, worst), same_bits=all(bits))


def rows(
    be: Backend, names: Iterable[str] = models.OF_THE_STUDY, kinds: Iterable[str] = NOISES
) -> Iterator[Row]:
    """Yield the rows of all networks and noise kinds."""
    for name in names:
        for kind in kinds:
            yield row(be, name, kind)
