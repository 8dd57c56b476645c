"""Noise on the device has the bits of the plain code: draws, operators, and the gradient's product."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.engine.backends.cuda import DTYPES, needs_compiler, on_host, same_bits
from wn import random
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.backends.cuda import backend as cupy_backend
from wn.engine.backends.plain.base import DrawKey, Draws
from wn.random import Purpose

pytestmark = [needs_compiler, pytest.mark.usefixtures("order_of_threads")]
NUMPY, CUDA = backends.get("numpy"), on_host()
WORDS = st.integers(0, 2**32 - 1)
SEEDS = st.integers(0, 2**64 - 1)
ADDRESSES = st.integers(0, 4095)
FEATURES = st.integers(1, 40)
BATCHES = st.integers(1, 40) | st.sampled_from([127, 128, 129, 300])
DISTRIBUTIONS = st.sampled_from(random.DISTRIBUTIONS)
FEW = settings(max_examples=15)  # of each case, in two types and orders
KINDS = [("additive", False), ("multiplicative", False), ("mixed", False), ("mixed", True)]


@FEW
@given(
    *(FEATURES, BATCHES, st.lists(SEEDS, min_size=1, max_size=3), WORDS, WORDS, ADDRESSES, ADDRESSES),
    DISTRIBUTIONS,
)
@example(1, 1, [0], 0, 0, 0, 0, "laplace")
@example(2, 1, [2**64 - 1], 2**32 - 1, 2**32 - 1, 4095, 4095, "uniform")
@example(5, 31, [2**32, 5], 5, 1, 0, 1, "normal")
@example(70, 300, [5], 5, 1, 0, 1, "laplace")
def test_normals_are_the_plain_ones(
    features: int,
    batch: int,
    seeds: list[int],
    first: int,
    epoch: int,
    site: int,
    repetition: int,
    distribution: str,
) -> None:
    samples = ((first + 7 * np.arange(batch)) % 2**32).astype(np.uint32)
    key = DrawKey(tuple(seeds), samples, epoch, Purpose.TRAIN_ADD, site)
    assert same_bits(
        CUDA.standard_draws(key, features, repetition, distribution),
        NUMPY.standard_draws(key, features, repetition, distribution),
    )


@FEW
@given(st.integers(1, 5000), st.lists(SEEDS, min_size=1, max_size=3), ADDRESSES)
@example(1, [2**64 - 1, 0, 2**64 - 1], 4095)
def test_uniforms_are_the_plain_ones(count: int, seeds: list[int], site: int) -> None:
    found, expected = (be.uniforms(seeds, count, Purpose.INIT, site) for be in (CUDA, NUMPY))
    assert expected.shape == (len(seeds), count)
    assert same_bits(found, expected)


@pytest.mark.parametrize("purpose", Purpose)
def test_normals_of_every_purpose_and_of_large_counts(purpose: Purpose) -> None:
    key = DrawKey((3,), np.arange(5, 1005, dtype=np.uint32), 2, purpose, 1)
    assert same_bits(CUDA.standard_draws(key, 150), NUMPY.standard_draws(key, 150))


def test_sample_ids_of_other_types_are_checked() -> None:
    key = DrawKey((3,), np.arange(5), 2, Purpose.TRAIN_ADD, 1)
    assert same_bits(CUDA.standard_draws(key, 7), NUMPY.standard_draws(key, 7))
    with pytest.raises(WnError, match="sample ids must be"):
        CUDA.standard_draws(key._replace(samples=np.array([-1])), 7)


@pytest.mark.parametrize(
    ("field", "value"),
    [("seeds", (-1,)), ("seeds", (2**64,)), ("epoch", -1), ("epoch", 2**32), ("site", 4096), ("purpose", 99)],
)
def test_a_wrong_address_is_refused_as_by_the_plain_code(field: str, value: Any) -> None:
    key = DrawKey((3,), np.arange(5, dtype=np.uint32), 2, Purpose.TRAIN_ADD, 1)._replace(**{field: value})
    with pytest.raises(WnError) as expected:
        NUMPY.standard_draws(key, 7)
    with pytest.raises(WnError) as refused:
        CUDA.standard_draws(key, 7)
    assert str(refused.value) == str(expected.value)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_nothing_is_drawn_where_there_is_nothing(shape: tuple[int, int]) -> None:
    key = DrawKey((3,), np.arange(shape[1], dtype=np.uint32), 2, Purpose.TRAIN_ADD, 1)
    assert CUDA.standard_draws(key, shape[0]).shape == (1, *shape)


# ---- operators ------------------------------------------------------------------------------------------


def operator(
    kind: str, seeds: tuple[int, ...], samples: Any, values: int, dtype: Any, distribution: str = "normal"
) -> tuple[Draws | None, Draws | None]:
    """Draws of M and D with `values` standard deviations and means, or None for what the kind has not."""
    generator = np.random.default_rng(values)

    def part(purpose: Purpose) -> Draws:
        scale, shift = generator.standard_normal((2, values)).astype(dtype)
        return Draws(DrawKey(seeds, samples, 5, purpose, 2), np.abs(scale), shift, distribution)

    multiplier = part(Purpose.TRAIN_MUL) if kind != "additive" else None
    return multiplier, part(Purpose.TRAIN_ADD) if kind != "multiplicative" else None


def check_applied(x: Any, parts: tuple[Draws | None, Draws | None], add_first: bool) -> None:
    """Assert that y and M have the bits of the plain code, and y also where M is not asked for."""
    with np.errstate(invalid="ignore"):
        y, m = NUMPY.apply_draws(x, *parts, add_first, keep=True)
    found, multipliers = CUDA.apply_draws(x, *parts, add_first, keep=True)
    assert same_bits(found, y)
    assert (m is None) == (multipliers is None)
    assert m is None or same_bits(multipliers, m)
    found, multipliers = CUDA.apply_draws(x, *parts, add_first, keep=False)
    assert multipliers is None
    assert same_bits(found, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "add_first"), KINDS)
@FEW
@given(
    population=st.integers(1, 5),
    shared=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    shape=st.one_of(st.tuples(FEATURES), st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5))),
    batch=BATCHES,
    first=WORDS,
    members=st.integers(1, 6),
    distribution=DISTRIBUTIONS,
    data=st.data(),
)
def test_operators_are_the_plain_ones(
    kind: str,
    add_first: bool,
    dtype: Any,
    population: int,
    shared: tuple[bool, bool, bool],
    shape: tuple[int, ...],
    batch: int,
    first: int,
    members: int,
    distribution: str,
    data: st.DataObject,
) -> None:
    inputs, values, seeds = (1 if same else population for same in shared)
    drawn = data.draw(st.lists(st.sampled_from([0, 1, 2**64 - 1]), min_size=seeds, max_size=seeds))
    samples = (first + np.arange(batch, dtype=np.uint64)).astype(np.uint32)
    parts = operator(kind, tuple(drawn), samples, values, dtype, distribution)
    x = np.random.default_rng(batch).standard_normal((inputs, *shape, batch)).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:  # a thread has that many members
        patch.setattr(cupy_backend, "SHARING", members)
        patch.setattr(cupy_backend, "ENOUGH_BLOCKS", 1)
        check_applied(x, parts, add_first)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "add_first"), KINDS)
def test_operators_at_no_ordinary_numbers(kind: str, add_first: bool, dtype: Any) -> None:
    """Signed zeros, infinities and numbers that underflow; σ = 0 leaves x as it is."""
    x = np.resize(np.array([0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40, 1e30], dtype), (1, 6, 9))
    parts = operator(kind, (3,), np.arange(9, dtype=np.uint32), 3, dtype)
    for part, mean in zip(parts, (1, 0), strict=True):
        if part is not None:
            part.scale[:], part.shift[:] = (0, 1e-38, 1e8), (mean, mean, -mean)
    check_applied(x, parts, add_first)
    np.testing.assert_array_equal(CUDA.apply_draws(x, *parts, add_first, False)[0][0], x[0])


def test_no_parts_leave_x() -> None:
    x = np.ones((2, 3, 4), np.float32)
    y, m = CUDA.apply_draws(x, None, None, False, True)
    assert same_bits(y, x)
    assert m is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_of_a_repetition_are_the_plain_ones(dtype: Any) -> None:
    x = np.ones((1, 2, 3, 3, 7), dtype)
    _, offset = operator("additive", (1, 2), np.arange(7, dtype=np.uint32), 2, dtype)
    assert offset is not None
    for repetition in (0, 3):
        assert same_bits(CUDA.draw(offset, x, repetition), NUMPY.draw(offset, x, repetition))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", [1, 7, 3000])
def test_multiply_is_the_plain_one(size: int, shared: bool, dtype: Any) -> None:
    generator = np.random.default_rng(size)
    dy, m = (generator.standard_normal((p, size, 2)).astype(dtype) for p in (3, 1 if shared else 3))
    assert same_bits(CUDA.multiply(dy, m), NUMPY.multiply(dy, m))
