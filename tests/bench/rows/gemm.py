"""The distance to the machine's limit: a training step of LeNet-5, against its operations at BLAS's rate.

Peers here are what one step's multiplications would take at the rate of a matrix product, so the ratio is the
share of that rate which training reaches.
"""

from collections.abc import Callable, Collection
from math import prod
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import blas
from threadpoolctl import ThreadpoolController

from tests.bench import data
from tests.bench.data import CLASSES, SHAPE
from tests.bench.rows.training import epoch
from tests.bench.settings import BATCH, Contest, Row, Settings
from tests.bench.timing import Side
from wn.engine import models
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.linear import Linear
from wn.engine.network import Network

SQUARE, LARGEST, ALL = "sgemm 512", "sgemm largest", "sgemm own shapes"
FLOPS_OF_A_RUN = 2e10  # a fraction of a second, so that a clock and waking threads do not matter


class Product(NamedTuple):
    """A matrix product (m, k) · (k, n) of a training step, and which factor is transposed in memory."""

    name: str
    m: int
    k: int
    n: int
    transposed: str = ""  # "left", "right" or ""

    @property
    def flops(self) -> int:
        """A multiplication and an addition for each of m·k·n."""
        return 2 * self.m * self.k * self.n


def products(network: Network, batch: int) -> list[Product]:
    """Return the products of a training step: y = w x, dw = dy xᵀ, dx = wᵀ dy of each layer that has weights.

    A convolution is one product with its windows as columns. The first layer needs no dx.
    """
    found: list[Product] = []
    shapes = network.shapes()
    for node, before, after in zip(network.nodes, shapes, shapes[1:], strict=False):
        match node.layer:
            case Linear():
                outputs, inputs, places = after[0], before[0], batch
            case Convolution(kernel=kernel):
                outputs, inputs, places = after[0], before[0] * prod(kernel), prod(after[1:]) * batch
            case _:
                continue
        first = not found
        found.append(Product(f"{node.name} y", outputs, inputs, places))
        found.append(Product(f"{node.name} dw", outputs, places, inputs, "right"))
        if not first:
            found.append(Product(f"{node.name} dx", inputs, outputs, places, "left"))
    return found


def multiplier(be_name: str, product: Product) -> Callable[[], object]:
    """Return a function that takes the product, with the BLAS that the backend calls."""
    rng = np.random.default_rng(0)
    left, right = (
        rng.standard_normal(shape[::-1] if transposed else shape, np.float32)
        for shape, transposed in (
            ((product.m, product.k), product.transposed == "left"),
            ((product.k, product.n), product.transposed == "right"),
        )
    )
    a = left.T if product.transposed == "left" else left
    b = right.T if product.transposed == "right" else right
    y = np.zeros((product.m, product.n), np.float32)
    if be_name != "numba":
        return lambda: np.matmul(a, b, out=y)
    # SciPy's BLAS stores columns: it sees every matrix transposed, and yᵀ = bᵀ aᵀ.
    options: dict[str, Any] = {"beta": 0.0, "c": y.T, "overwrite_c": True}
    options |= {"trans_a": product.transposed == "right", "trans_b": product.transposed == "left"}
    return lambda: blas.sgemm(1.0, right.T, left.T, **options)


def side(settings: Settings, name: str, parts: list[Product], flops: int) -> Side:
    """Return a side that takes all `parts` in turn, over and over; scaled to `flops` operations."""
    runs = [multiplier(settings.be.name, part) for part in parts]
    flops_of_parts = sum(part.flops for part in parts)
    rounds = max(1, round(min(FLOPS_OF_A_RUN, settings.conv_steps * flops) / flops_of_parts))
    controller = ThreadpoolController()

    def run() -> None:
        with controller.limit(limits=settings.threads, user_api="blas"):
            for _ in range(rounds):
                for one in runs:
                    one()

    return Side(name, run, flops / (rounds * flops_of_parts))


def build(settings: Settings, wanted: Collection[str]) -> Contest:
    """Make LeNet-5 ready, and the products."""
    steps = settings.conv_steps
    split = data.images(settings.data_dir, "train", steps * BATCH)
    network = models.build("lenet5", SHAPE, CLASSES)
    ours = Side("wn", epoch(settings, network, data.dataset(split, split), {}), 1 / steps)
    parts = products(network, BATCH)
    flops = sum(part.flops for part in parts)
    largest = max(parts, key=lambda part: part.flops)
    choices = {SQUARE: [Product(SQUARE, 512, 512, 512)], LARGEST: [largest], ALL: parts}
    sides = [side(settings, name, choices[name], flops) for name in wanted]
    facts = {
        "timed_steps": steps,
        "batch": BATCH,
        "flops": flops,
        "products": [f"{part.name}: {part.m} × {part.k} · {part.k} × {part.n}" for part in parts],
        "largest": largest.name,
    }
    return Contest(ours, sides, facts, flops)


ROW = Row("gemm", "a training step of LeNet-5 without noise", (SQUARE, LARGEST, ALL), build)
