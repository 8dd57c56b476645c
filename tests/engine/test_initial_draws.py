"""Every parameter of a network has draws of its own.

The kind: addresses of random streams that two parameters shared – the fifth one of a layer and the first
one of the next, and those of layers within a layer, which all count from 0. What networks of the package
start from stays the same to the bit.
"""

from itertools import combinations, pairwise
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.engine.backends.cuda import needs_compiler
from tests.engine.backends.cuda.fake_cupy import backend as cuda
from tests.engine.own_layers import Residual, Same
from tests.walking.small_walks import small_data
from wn import random
from wn.basics.errors import WnError
from wn.engine import backends, models
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.network import Network, Node
from wn.engine.optim import arrays
from wn.engine.training import TrainSettings, evaluate, train
from wn.random import Purpose

BE = backends.get("numpy")
SEEDS = (5, 6, 5)
SIZE = 16  # values of a parameter: two that share their draws share most of them


class Many(Same):
    """A layer with many parameters, numbered as given."""

    learns: ClassVar[bool] = True

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def initial_parameters(self, be: Any, shape: Any, draw: Any) -> Any:
        return tuple(draw(part, (SIZE,), 1.0) for part in self.parts)


class Block(Same):
    """A layer made of linear layers, each of which counts its parameters from 0."""

    def initial_parameters(self, be: Any, shape: Any, draw: Any) -> Any:
        return tuple(Linear(shape[0]).initial_parameters(be, shape, draw) for _ in range(3))


def parameters(*layers: Any, be: Any = BE) -> list[Any]:
    network = Network("own", tuple(Node(f"{i}", layer) for i, layer in enumerate(layers)), (SIZE,))
    return [be.to_numpy(array) for array in arrays(network.initial_parameters(be, SEEDS, np.float32))]


def assert_distinct(found: list[Any]) -> None:
    rows = [array[0].ravel() / np.abs(array[0]).max() for array in found]  # whatever their bounds
    for one, other in combinations(rows, 2):
        first, second = one[:SIZE], other[:SIZE]
        assert np.count_nonzero(first[:, None] == second) <= 1  # 2^-24 each by chance, and the largest one


CASES = {
    "more than four": (Many(*range(9)), Many(*range(9)), Linear(SIZE)),
    "the same one twice": (Many(0, 0, 0, 1, 1), Linear(SIZE)),
    "the last ones": (Many(0, 0, 0, 2**14 - 1, 2**14 - 2, 2**14 - 3), Many(2**14 - 1, 0, 0, 0)),
    "layers within a layer": (Block(), Block(), Linear(SIZE)),
    "a residual block": (Residual(SIZE), Linear(SIZE)),
}


@pytest.mark.parametrize("name", CASES)
def test_no_two_parameters_have_the_same_draws(name: str) -> None:
    found = parameters(*CASES[name])
    assert_distinct(found)
    for array in found:
        np.testing.assert_array_equal(array[0], array[2])  # equal seeds
        assert not np.any(array[0] == array[1])


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_draws_the_same(name: str) -> None:
    for one, other in zip(parameters(*CASES[name], be=cuda()), parameters(*CASES[name]), strict=True):
        assert one.tobytes() == other.tobytes()


def test_the_first_four_parameters_of_a_layer_are_where_they_always_were() -> None:
    for index, part in ((0, 0), (0, 3), (2, 1), (1023, 3)):
        word = random.stream_word(Purpose.INIT, 4 * index + part)
        words = random.philox4x32(np, (np.arange(4), 0, 0, word), random.seed_key(5))
        uniforms = (np.stack(words, axis=1).ravel() >> 8) * 2.0**-24
        layers = [Many() for _ in range(index)] + [Many(part)]
        np.testing.assert_array_equal(parameters(*layers)[0][0], (2 * uniforms - 1).astype(np.float32))


def test_streams_do_not_meet() -> None:
    """Over layers, parts and repeats no two calls ask for the same address."""
    asked: list[tuple[int, int]] = []

    class Asking(type(BE)):  # type: ignore[misc]  # a class that is found at run time
        def uniforms(self, seeds: Any, count: int, purpose: Any, site: int = 0, repetition: int = 0) -> Any:
            asked.append((site, repetition))
            return super().uniforms(seeds, count, purpose, site, repetition)

    parameters(*(Many(*range(50), *range(50), 3, 3) for _ in range(20)), be=Asking())
    assert len(set(asked)) == len(asked) == 20 * 102


@pytest.mark.parametrize("part", [-1, 2**14, 1.0, True, "w", None])
def test_a_part_is_a_number(part: Any) -> None:
    with pytest.raises(WnError, match=r"part of a layer .* must be an integer from 0 to 2\^14 - 1"):
        parameters(Many(part))


def test_there_are_streams_for_1024_layers_of_16384_parameters() -> None:
    with pytest.raises(WnError, match="1024 layers of 16384 parameters"):
        parameters(*(Many() for _ in range(1024)), Many(0))
    with pytest.raises(WnError, match="1024 layers of 16384 parameters"):
        parameters(Many(*(0 for _ in range(2**14 + 1))))


def test_a_network_of_composites_trains_and_is_evaluated() -> None:
    data = small_data(32, 20)
    nodes = (Node("flatten", Flatten(), False), Node("fc", Linear(6)), Node("block", Residual(6)))
    network = Network("own", (*nodes, Node("logits", Linear(10))), data.image_shape)
    numbers = (network.shapes()[1][0] + 1) * 6, 2 * 7 * 6, 7 * 10
    assert models.parameter_count(network) == sum(numbers)
    found = train(BE, network, data, TrainSettings(1, 16), seeds=(1, 2))
    assert evaluate(BE, network, found, data).shape == (2,)
    assert all(not np.any(a == b) for a, b in pairwise([found.params[2][0].w[0], found.params[2][1].w[0]]))
