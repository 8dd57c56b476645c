"""Compiled noise has the bits of the plain code: draws, operators, and the gradient's product."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.engine.backends.numba import DTYPES, blank, check_threads, same_bits
from wn import random
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.backends.numba.kernels import draws, noise
from wn.engine.backends.numba.kernels.draws import LANES, RUNS
from wn.engine.backends.numba.kernels.noise import CHUNK
from wn.engine.backends.plain.base import DrawKey, Draws
from wn.random import Purpose

BE = backends.get("numpy")
WORDS = st.integers(0, 2**32 - 1)
SEEDS = st.integers(0, 2**64 - 1)
ADDRESSES = st.integers(0, 4095)
# Of each two shapes one has a batch beyond a tile, or as many features as several tiles hold.
FEATURES = st.integers(1, 70) | st.sampled_from([1024])
BATCHES = st.integers(1, 300) | st.sampled_from([LANES, LANES + 1, 3 * LANES + 5])


# ---- normals --------------------------------------------------------------------------------------------


def filled(features: int, samples: Any, seed: int = 1, epoch: int = 0, **address: Any) -> Any:
    out = blank((features, len(samples)), np.float32)
    draws.fill_draws(out, seed, samples, epoch, Purpose.TRAIN_ADD, **address)
    return out


DISTRIBUTIONS = st.sampled_from(random.DISTRIBUTIONS)
ADDRESS = (SEEDS, WORDS, WORDS, st.sampled_from(Purpose), ADDRESSES, ADDRESSES)


@given(FEATURES, BATCHES, *ADDRESS, DISTRIBUTIONS)
@example(1, 1, 0, 0, 0, Purpose.INIT, 0, 0, "laplace")
@example(2, 1, 2**64 - 1, 2**32 - 1, 2**32 - 1, Purpose.EVAL_MUL, 4095, 4095, "uniform")
@example(3, 7, 1, 2**32 - 3, 1, Purpose.TRAIN_MUL, 1, 2, "normal")
@example(5, 31, 2**32, 5, 1, Purpose.TRAIN_ADD, 0, 1, "laplace")
def test_normals_are_the_plain_ones(
    features: int,
    batch: int,
    seed: int,
    first: int,
    epoch: int,
    purpose: Purpose,
    site: int,
    repetition: int,
    distribution: str,
) -> None:
    samples = (first + 7 * np.arange(batch)) % 2**32
    out = blank((features, batch), np.float32)
    draws.fill_draws(out, seed, samples, epoch, purpose, site, repetition, distribution)
    expected = random.standard_draws(
        np, seed, samples, features, epoch, purpose, site, repetition, distribution
    )
    assert same_bits(out, expected)


@pytest.mark.parametrize("shape", [(4 * LANES * (RUNS + 1) + 3, 1), (11_000, 3), (1024, 1000), (3, 70_000)])
def test_normals_of_more_tiles_than_runs(shape: tuple[int, int]) -> None:
    features, batch = shape
    samples = np.random.default_rng(5).integers(0, 2**32, batch)
    expected = random.standard_draws(np, 1, samples, features, 0, Purpose.TRAIN_ADD)
    assert same_bits(filled(features, samples), expected)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_nothing_is_drawn_where_there_is_nothing(shape: tuple[int, int]) -> None:
    assert filled(shape[0], np.arange(shape[1])).shape == shape


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (257, 130), (70, 1025)])
def test_normals_do_not_depend_on_threads(shape: tuple[int, int]) -> None:
    check_threads(lambda: (filled(shape[0], np.arange(shape[1])),))


def test_a_planted_bug_is_noticed() -> None:
    """A draw that is one unit in the last place off, or has the other sign of zero, is another draw."""
    samples = np.arange(50)
    expected = random.standard_draws(np, 1, samples, 8, 0, Purpose.TRAIN_ADD)
    out = filled(8, samples)
    out[7, 49] = np.nextafter(out[7, 49], np.float32(0))
    assert not same_bits(out, expected)
    assert not same_bits(np.float32([0.0]), np.float32([-0.0]))


@pytest.mark.parametrize(
    "out",
    [
        np.empty((4, 3), np.float64),
        np.empty((4, 2), np.float32),
        np.empty(3, np.float32),
        np.empty((4, 6), np.float32)[:, ::2],
        np.empty((3, 4), np.float32).T,
    ],
    ids=["dtype", "batch", "dimensions", "strided", "transposed"],
)
def test_a_wrong_output_is_refused(out: Any) -> None:
    with pytest.raises(WnError, match=r"out must be a contiguous float32 array \(F, 3\)"):
        draws.fill_draws(out, 1, np.arange(3), 0, Purpose.TRAIN_ADD)


WRONG_ADDRESSES = [
    ("seed", -1),
    ("seed", 2**64),
    ("seed", 1.0),
    ("seed", True),
    ("epoch", 2**32),
    ("epoch", -1),
    ("purpose", 99),
    ("site", 4096),
    ("site", True),
    ("samples", np.array([0, -1])),
    ("samples", np.array([0.5, 1.0])),
    ("samples", np.array([[0], [1]])),
]


@pytest.mark.parametrize(("argument", "value"), [*WRONG_ADDRESSES, ("repetition", 4096)])
def test_a_wrong_address_is_refused_as_by_the_plain_code(argument: str, value: Any) -> None:
    address: dict[str, Any] = {
        "seed": 1,
        "samples": np.arange(2),
        "epoch": 0,
        "purpose": Purpose.TRAIN_ADD,
        "site": 1,
        "repetition": 0,
    }
    draws.fill_draws(np.empty((4, 2), np.float32), **address)
    address[argument] = value
    with pytest.raises(WnError) as expected:
        random.standard_draws(np, features=4, **address)
    with pytest.raises(WnError) as refused:
        draws.fill_draws(np.empty((4, 2), np.float32), **address)
    assert str(refused.value) == str(expected.value)


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


KINDS = [("additive", False), ("multiplicative", False), ("mixed", False), ("mixed", True)]


def applied(x: Any, population: int, parts: tuple[Draws | None, Draws | None], add_first: bool) -> Any:
    """(y,) or (y, M), with one M where all members share it."""
    y = blank((population, *x.shape[1:]), x.dtype)
    m = None if parts[0] is None else blank((noise.members(parts[0]), *x.shape[1:]), x.dtype)
    noise.apply(*noise.apply_arguments(x, y, m, *parts, add_first))
    return (y,) if m is None else (y, m)


def check_applied(x: Any, population: int, parts: tuple[Draws | None, Draws | None], add_first: bool) -> None:
    """Assert that y and M have the bits of the plain code, and y also where M is not asked for."""
    expected = [array for array in BE.apply_draws(x, *parts, add_first, keep=True) if array is not None]
    for result, plain in zip(applied(x, population, parts, add_first), expected, strict=True):
        assert same_bits(result, np.ascontiguousarray(np.broadcast_to(plain, result.shape)))
    y = blank((population, *x.shape[1:]), x.dtype)
    noise.apply(*noise.apply_arguments(x, y, None, *parts, add_first))
    assert same_bits(y, applied(x, population, parts, add_first)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "add_first"), KINDS)
@given(
    population=st.integers(1, 4),
    shared=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    features=st.integers(1, 70),
    batch=BATCHES,
    first=WORDS,
    distribution=DISTRIBUTIONS,
    data=st.data(),
)
def test_operators_are_the_plain_ones(
    kind: str,
    add_first: bool,
    dtype: Any,
    population: int,
    shared: tuple[bool, bool, bool],
    features: int,
    batch: int,
    first: int,
    distribution: str,
    data: st.DataObject,
) -> None:
    inputs, values, seeds = (1 if same else population for same in shared)
    drawn = data.draw(st.lists(st.sampled_from([0, 1, 2**64 - 1]), min_size=seeds, max_size=seeds))
    samples = (first + np.arange(batch, dtype=np.uint64)).astype(np.uint32)
    parts = operator(kind, tuple(drawn), samples, values, dtype, distribution)
    x = np.random.default_rng(batch).standard_normal((inputs, features, batch)).astype(dtype)
    population = max(inputs, values, *(noise.members(part) for part in parts))
    check_applied(x, population, parts, add_first)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "add_first"), KINDS)
def test_operators_at_no_ordinary_numbers(kind: str, add_first: bool, dtype: Any) -> None:
    """Signed zeros, infinities and numbers that underflow; σ = 0 leaves x as it is."""
    x = np.resize(np.array([0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40, 1e30], dtype), (1, 6, 9))
    parts = operator(kind, (3,), np.arange(9), 3, dtype)
    for part, mean in zip(parts, (1, 0), strict=True):
        if part is not None:
            part.scale[:], part.shift[:] = (0, 1e-38, 1e8), (mean, mean, -mean)
    with np.errstate(invalid="ignore"):
        check_applied(x, 3, parts, add_first)
        y = applied(x, 3, parts, add_first)[0]
    np.testing.assert_array_equal(y[0], x[0])


@pytest.mark.parametrize(("kind", "add_first"), KINDS)
def test_a_member_and_a_sample_do_not_depend_on_the_others(kind: str, add_first: bool) -> None:
    samples, population, seeds = np.arange(600), 3, (5, 6, 5)
    x = np.random.default_rng(0).standard_normal((population, 9, 600)).astype(np.float32)
    parts = operator(kind, seeds, samples, population, np.float32)
    together = applied(x, population, parts, add_first)
    some = np.array([599, 3, 77])
    for p in range(population):
        alone = tuple(
            part and Draws(part.key._replace(seeds=seeds[p : p + 1], samples=some), *_of(part, p))
            for part in parts
        )
        separate = applied(np.ascontiguousarray(x[p : p + 1, :, some]), 1, (alone[0], alone[1]), add_first)
        for result, expected in zip(separate, together, strict=True):
            assert same_bits(result[0], np.ascontiguousarray(expected[p][:, some]))


def _of(part: Draws, p: int) -> tuple[Any, Any]:
    return part.scale[p : p + 1], part.shift[p : p + 1]


@pytest.mark.parametrize("seeds", [(5,), (5, 6, 5)], ids=["shared", "own"])
@pytest.mark.parametrize(("kind", "add_first"), KINDS)
def test_operators_do_not_depend_on_threads(kind: str, add_first: bool, seeds: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((3, 130, 129)).astype(np.float32)
    parts = operator(kind, seeds, np.arange(129), 3, np.float32)
    check_threads(lambda: applied(x, 3, parts, add_first))


@pytest.mark.parametrize(
    ("seeds", "values", "expected"),
    [((1,), 1, 1), ((1, 1), 1, 1), ((1, 2), 1, 2), ((1,), 3, 3), ((1, 1), 2, 2)],
)
def test_members_with_draws_of_their_own(seeds: tuple[int, ...], values: int, expected: int) -> None:
    multiplier, _ = operator("multiplicative", seeds, np.arange(3), values, np.float32)
    assert noise.members(multiplier) == expected
    assert noise.members(None) == 1


@pytest.mark.parametrize(("argument", "value"), WRONG_ADDRESSES)
def test_an_operator_with_a_wrong_address_is_refused_as_by_the_plain_code(argument: str, value: Any) -> None:
    x = np.ones((1, 4, 2), np.float32)
    _, offset = operator("additive", (1,), np.arange(2), 1, np.float32)
    assert offset is not None
    applied(x, 1, (None, offset), False)
    changed = {"seeds": (value,)} if argument == "seed" else {argument: value}
    wrong = offset._replace(key=offset.key._replace(**changed))
    with pytest.raises(WnError) as expected:
        BE.apply_draws(x, None, wrong, False, False)
    with pytest.raises(WnError) as refused:
        applied(x, 1, (None, wrong), False)
    assert str(refused.value) == str(expected.value)


def test_parts_with_different_draws_are_refused() -> None:
    x = np.ones((1, 4, 2), np.float32)
    multiplier, offset = operator("mixed", (1,), np.arange(2), 1, np.float32)
    assert offset is not None
    for change in ({"seeds": (2,)}, {"epoch": 6}, {"samples": np.arange(1, 3)}):
        other = offset._replace(key=offset.key._replace(**change))
        with pytest.raises(WnError, match="the same seeds, samples and epoch"):
            applied(x, 1, (multiplier, other), False)
    other = offset._replace(distribution="laplace")
    with pytest.raises(WnError, match="the same distribution"):
        applied(x, 1, (multiplier, other), False)
    with pytest.raises(WnError, match="needs draws"):
        applied(x, 1, (None, None), False)


@pytest.mark.parametrize(
    ("x", "y", "m", "message"),
    [
        ((1, 4, 3), (2, 4, 3), (2, 4, 2), "activations must be"),
        ((1, 4, 3), (2, 5, 3), (2, 4, 3), "activations must be"),
        ((1, 4, 2), (2, 4, 2), (2, 4, 2), "activations must be"),
        ((4, 3), (2, 4, 3), (2, 4, 3), "activations must be"),
        ((3, 4, 3), (2, 4, 3), (2, 4, 3), "population of 2"),
        ((1, 4, 3), (2, 4, 3), (3, 4, 3), "multipliers of 2 members"),
        ((1, 4, 3), (2, 4, 3), (1, 4, 3), "multipliers of 2 members"),
        ((1, 4, 3), (1, 4, 3), (1, 4, 3), "population of 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    x: tuple[int, ...], y: tuple[int, ...], m: tuple[int, ...], message: str
) -> None:
    parts = operator("mixed", (1, 2), np.arange(3), 2, np.float32)
    arrays = [np.ones(shape, np.float32) for shape in (x, y, m)]
    with pytest.raises(WnError, match=message):
        noise.apply(*noise.apply_arguments(*arrays, *parts, False))


def test_other_dtypes_and_strides_are_refused() -> None:
    parts = operator("mixed", (1,), np.arange(3), 1, np.float32)
    x, y, m = np.ones((3, 1, 4, 3), np.float32)
    for wrong in ((x.astype(np.float64), y, m), (x, y[:, ::-1], m), (x, y, m.astype(np.float64))):
        with pytest.raises(WnError, match="C-contiguous and of one dtype"):
            noise.apply(*noise.apply_arguments(*wrong, *parts, False))


# ---- gradient -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", [1, 7, CHUNK, 3 * CHUNK + 13])
def test_multiply_is_the_plain_one(size: int, shared: bool, dtype: Any) -> None:
    generator = np.random.default_rng(size)
    dy, m = (generator.standard_normal((p, size)).astype(dtype) for p in (3, 1 if shared else 3))

    def product() -> tuple[Any, ...]:
        dx = blank(dy.shape, dtype)
        noise.multiply(dy, m, dx)
        return (dx,)

    assert same_bits(product()[0], BE.multiply(dy, m))
    check_threads(product)
