"""Small populations of random numbers, and how to compare them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine import backends, models
from wn.engine.backends.numpy.backend import NumpyBackend
from wn.engine.backends.numpy.linear import PAIR
from wn.engine.layers import linear
from wn.engine.layers.base import Formula
from wn.engine.network import Network
from wn.engine.optim import arrays
from wn.engine.training import Population

BE = backends.get("numpy")
CLASSES = 3


def shape_for(model: str) -> tuple[int, int, int]:
    """The smallest input, or nearly so, that fits a network."""
    if model.startswith("mlp"):
        return (1, 2, 3)
    return {"lenet5": (2, 16, 16), "vgg11": (1, 32, 32), "vgg11-28": (1, 16, 16)}.get(model, (1, 7, 29))


def random_population(network: Network, members: int, dtype: Any, seed: int) -> Population:
    """Return a population of random finite bit patterns, from tiny to huge numbers; variances are ≥ 0."""
    rng, kind = np.random.default_rng(seed), np.dtype(dtype)
    seeds = tuple(int(value) for value in rng.integers(0, 2**64, members, np.uint64))

    def refill(array: NDArray[Any], name: str) -> NDArray[Any]:
        bits = rng.integers(0, 2 ** (8 * kind.itemsize), array.shape, f"u{kind.itemsize}")
        bits &= ~bits.dtype.type(1 << np.finfo(kind).nmant)  # even exponents: neither infinity nor NaN
        values: NDArray[Any] = bits.view(kind)
        return np.abs(values) if name == "variance" else values

    def tree(trees: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            type(t)(*(refill(array, name) for name, array in zip(t._fields, t, strict=True))) if t else ()
            for t in trees
        )

    fresh = network.initial_parameters(BE, seeds[:1] * members, np.float32)
    return Population(tree(fresh), tree(network.initial_states(BE, members, np.float32)), seeds)


def example(
    model: str = "mlp-8",
    batch_norm: str = "sites",
    members: int = 2,
    dtype: Any = np.float32,
    seed: int = 0,
) -> tuple[Network, Population]:
    """Return a network with a random population."""
    network = models.build(model, shape_for(model), CLASSES, batch_norm)
    return network, random_population(network, members, dtype, seed)


def assert_same(found: Population, wanted: Population) -> None:
    """The same structure, types, shapes and bits."""
    assert found.seeds == wanted.seeds
    for part, other in ((found.params, wanted.params), (found.states, wanted.states)):
        assert [type(tree) for tree in part] == [type(tree) for tree in other]
        for array, expected in zip(arrays(part), arrays(other), strict=True):
            assert array.dtype == expected.dtype
            assert array.shape == expected.shape
            assert array.tobytes() == expected.tobytes()


def check_error(act: Callable[[], Any], *parts: str) -> str:
    """Check that `act` raises a WnError of one line which has all the parts; return it."""
    with pytest.raises(WnError) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


def with_linear_of_numpy(patch: pytest.MonkeyPatch, forward: Callable[..., Any]) -> None:
    """Let the NumPy backend run another forward(be, params, x) of the linear layer."""
    own = {**NumpyBackend.own, linear.FORMULA: Formula(forward, PAIR.backward)}
    patch.setattr(NumpyBackend, "own", own)
