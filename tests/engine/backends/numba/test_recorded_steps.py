"""Recorded steps: the same bits as steps done anew, and no recording of what can't be repeated."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike

from tests.engine.backends.numba.recording import Anew, Watched
from tests.engine.twin import same_bits
from tests.walking.small_walks import small_data
from wn.basics.errors import WnError
from wn.engine import models
from wn.engine import noise as noises
from wn.engine.backends.numba.backend import NumbaBackend
from wn.engine.backends.numba.work_arrays import SMALL, WorkArrays
from wn.engine.optim import arrays
from wn.engine.training import Monitor, Population, TrainSettings, train

DATA = small_data(160, 10)
BATCH = 64  # the last batch has 32: recorded on its own
WEIGHTS = tuple(range(1, 11))


def trained(
    be: NumbaBackend,
    model: str,
    batch_norm: str,
    operator: Any,
    data: Any = DATA,
    dtype: DTypeLike = np.float32,
) -> Population:
    network = models.build(model, data.image_shape, 10, batch_norm)
    noise = {} if operator is None else noises.everywhere(len(network.site_names), operator)
    settings = TrainSettings(3, BATCH, 1e-2, clamp_weights=True, class_weights=WEIGHTS)
    with be.working(2):
        return train(be, network, data, settings, seeds=(3, 4), noise=noise, dtype=dtype)


def assert_same(one: Population, other: Population) -> None:
    for array, expected in zip(arrays(tuple(one)[:2]), arrays(tuple(other)[:2]), strict=True):
        assert same_bits(array, expected)


@pytest.mark.parametrize("kind", ["none", "additive", "multiplicative", "mixed"])
@pytest.mark.parametrize("batch_norm", ["none", "sites"])
@pytest.mark.parametrize("model", ["mlp-64", "lenet5"])
def test_recorded_steps_have_the_bits_of_steps_done_anew(model: str, batch_norm: str, kind: str) -> None:
    operator = None if kind == "none" else noises.of_kind(kind, 0.2)
    be = Watched()
    assert_same(trained(be, model, batch_norm, operator), trained(Anew(), model, batch_norm, operator))
    assert sorted(be.last.recorded) == [DATA.train.labels.size % BATCH, BATCH]


def test_columns_and_blas_are_recorded_too() -> None:
    be = Watched()
    here = trained(be, "cnn-s", "sites", noises.of_kind("mixed", 0.2), small_data(16, 10))
    assert_same(here, trained(Anew(), "cnn-s", "sites", noises.of_kind("mixed", 0.2), small_data(16, 10)))
    assert sorted(be.last.recorded) == [16]


def test_steps_in_float64_are_recorded() -> None:
    be, operator = Watched(), noises.of_kind("mixed", 0.2)
    here = trained(be, "lenet5", "sites", operator, dtype=np.float64)
    assert_same(here, trained(Anew(), "lenet5", "sites", operator, dtype=np.float64))
    assert sorted(be.last.recorded) == [32, 64]


def test_what_cannot_be_repeated_is_done_anew() -> None:
    operator = noises.of_kind("mixed", 0.2, repetitions=2, execution="each")  # averages in plain array code
    be = Watched()
    assert_same(trained(be, "mlp-8", "sites", operator), trained(Anew(), "mlp-8", "sites", operator))
    assert be.last.recorded == {}
    assert not be.last._work.blocks  # what the attempt took is given back


def test_random_crops_are_not_recorded() -> None:
    data = small_data(160, 10, flip=True)
    be = Watched()
    assert_same(trained(be, "mlp-8", "none", None, data), trained(Anew(), "mlp-8", "none", None, data))
    assert be.last.recorded == {}


def test_an_infinite_activation_is_found_in_a_repeated_step() -> None:
    operator = noises.additive(0.1)
    offset = operator.scales(np.float32, int(np.prod(DATA.image_shape))).offset
    assert offset is not None

    class Louder(Monitor):
        """After the first step, raises the σ that recorded calls find."""

        def step(self) -> None:
            offset.scale[:] = 3e38

    network = models.build("mlp-8", DATA.image_shape, 10, "sites")
    settings = TrainSettings(1, 32)
    with pytest.raises(WnError, match="batch norm: an activation is not finite in float32"):
        train(NumbaBackend(), network, DATA, settings, seeds=(1,), noise={0: operator}, monitor=Louder())


def test_an_unowned_array_does_not_keep_its_block() -> None:
    work = WorkArrays()
    array = work.empty((SMALL,), np.uint8)
    array[:] = 7
    part = work.unowned(array[10:20])
    np.testing.assert_array_equal(part, np.full(10, 7))
    del array
    again = work.empty((SMALL,), np.uint8)
    again[:] = 8
    assert (part == 8).all()  # the same memory
    small = np.zeros(3)
    assert work.unowned(small) is small
    assert work.unowned("text") == "text"
