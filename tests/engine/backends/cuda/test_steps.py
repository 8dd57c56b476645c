"""Kernels of batches and of the optimiser have the bits of the NumPy backend."""

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.backends.cuda import DTYPES, needs_compiler, same_bits
from tests.engine.backends.cuda.fake_device import DEVICE
from tests.engine.backends.cuda.test_layers import BATCHES, CUDA, FEW, NUMPY, both, draw
from wn.engine.backends.plain.base import Backend

pytestmark = [needs_compiler, pytest.mark.usefixtures("order_of_threads")]

# ---- optimiser ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 5, 64, 65, 130])
def test_adam_of_all_parameters_has_the_bits_of_one_by_one(count: int, dtype: Any) -> None:
    generator = np.random.default_rng(count)
    sizes = [(2, *generator.integers(1, 60, n % 3)) for n in range(count)]
    sizes[0] = (2, 3000)
    ours = [draw(k, *sizes, dtype=dtype) for k in range(4)]
    ours[3] = [np.abs(array) for array in ours[3]]
    theirs = [[array.copy() for array in arrays] for arrays in ours]
    for step in (1, 2):
        constants = (1e-3 / (1 - 0.9**step), 0.9, 0.999, (1 - 0.999**step) ** -0.5, 1e-8)
        before = len(CUDA.be._own.kept)
        CUDA.adam_updates(*ours, constants)
        assert len(CUDA.be._own.kept) == before
        for arrays in zip(*theirs, strict=True):
            Backend.adam_update(NUMPY, *arrays, constants)
    for pair in zip(chain(*ours), chain(*theirs), strict=True):
        assert same_bits(*pair)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_parameter_in_any_layout_and_clamping(dtype: Any) -> None:
    ours = draw(5, *4 * [(3, 4, 5)], dtype=dtype)
    ours[3] = np.abs(ours[3])
    theirs = [array.copy() for array in ours]
    constants = (1e-3, 0.9, 0.999, 2.0, 1e-8)
    on_device = [CUDA.be.asarray(array) for array in ours]
    CUDA.be.adam_update(*(array.transpose(1, 2, 0) for array in on_device), constants)
    CUDA.be.clip(on_device[0], 0.5)
    NUMPY.adam_update(*theirs, constants)
    NUMPY.clip(theirs[0], 0.5)
    for one, other in zip(on_device, theirs, strict=True):
        assert same_bits(one.get(), other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limit", [0.0, 0.3, np.inf])
@pytest.mark.parametrize("shape", [(0,), (5,), (3, 4, 5), (2, 40_000)])
def test_clamping_has_the_same_bits(shape: tuple[int, ...], limit: float, dtype: Any) -> None:
    (w,) = draw(2, shape, dtype=dtype)
    w.flat[::5], w.flat[1::7], w.flat[2::9], w.flat[3::11] = np.nan, -np.inf, -0.0, np.finfo(dtype).tiny / 4
    ours, theirs = w.copy(), w.copy()
    CUDA.clip(ours, limit)
    NUMPY.clip(theirs, limit)
    assert same_bits(ours, theirs)


# ---- batches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    BATCHES,
    st.integers(0, 99),
    st.booleans(),
)
@FEW
def test_batches_have_the_same_bits(
    kind: Any, dtype: Any, shape: tuple[int, ...], batch: int, seed: int, wide: bool
) -> None:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (20, *shape)).astype(kind)
    samples = generator.integers(0, 20, batch).astype(np.int64 if wide else np.uint32)
    channels = shape[0]
    mean, std = tuple(generator.uniform(0, 1, channels)), tuple(generator.uniform(0.1, 1, channels))
    assert same_bits(*both("gather", images, samples, 255.0, mean, std, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_totals_have_the_same_bits_and_take_no_memory(dtype: Any) -> None:
    total, losses = draw(6, (500,), (500,), dtype=np.float64)
    losses = losses.astype(dtype)
    there, values = CUDA.be.asarray(total), CUDA.be.asarray(losses)
    before = DEVICE.allocations
    CUDA.be.accumulate(there, values, 33)
    assert DEVICE.allocations == before
    NUMPY.accumulate(total, losses, 33)
    assert same_bits(there.get(), total)
