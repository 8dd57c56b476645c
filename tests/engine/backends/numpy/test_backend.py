"""The NumPy backend: its shortcuts have the bits of the plain code, and places in a batch do not matter."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from wn import random
from wn.engine import backends
from wn.engine.backends.numpy import backend as numpy_backend
from wn.engine.backends.numpy.backend import ADAM_BLOCK, NumpyBackend
from wn.engine.backends.plain.base import SAMPLE_TILE, Backend, DrawKey, Draws
from wn.engine.layers import cross_entropy, relu
from wn.engine.layers.linear import FORMULA, LinearParams
from wn.random import Purpose
from wn.testing import assert_close, strategies

BE = backends.get("numpy")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """BLAS as jobs run it: a thread each."""
    with threadpool_limits(1, user_api="blas"):
        yield


DTYPES = [np.float32, np.float64]


class Plain(Backend):
    """The base class as it is."""

    name = "plain"
    xp = np


PLAIN = Plain()


def same_bits(first: Any, second: Any) -> bool:
    return first.dtype == second.dtype and first.tobytes() == second.tobytes()


# ---- Adam in blocks -------------------------------------------------------------------------------------


def adam_arrays(shape: tuple[int, ...], dtype: Any, seed: int) -> list[Any]:
    """Parameter, gradient, first and second moment."""
    z = np.random.default_rng(seed).standard_normal
    arrays = [z(shape).astype(dtype) for _ in range(4)]
    arrays[3] **= 2
    return arrays


def update(be: Backend, arrays: list[Any]) -> list[Any]:
    be.adam_update(*arrays, (0.01, 0.9, 0.999, 1.7, 1e-8))
    return arrays


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [
        (1,),
        (ADAM_BLOCK - 1,),
        (ADAM_BLOCK,),
        (1, ADAM_BLOCK + 1),
        (2, ADAM_BLOCK // 2, 3),
        (3, 5, 2 * ADAM_BLOCK // 15 + 1),
        (2, 0),
    ],
)
def test_adam_in_blocks_is_the_plain_adam(shape: tuple[int, ...], dtype: Any) -> None:
    found = update(BE, adam_arrays(shape, dtype, 1))
    expected = update(PLAIN, adam_arrays(shape, dtype, 1))
    for array, value in zip(found, expected, strict=True):
        assert same_bits(array, value)


@given(st.integers(1, 40), st.integers(1, 12), strategies.seeds())
def test_adam_with_any_block(size: int, block: int, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_backend, "ADAM_BLOCK", block)
        found = update(BE, adam_arrays((size,), np.float32, seed))
    for array, value in zip(found, update(PLAIN, adam_arrays((size,), np.float32, seed)), strict=True):
        assert same_bits(array, value)


@pytest.mark.parametrize("which", [0, 1, 2, 3], ids=["parameter", "gradient", "first", "second"])
def test_adam_updates_arrays_that_are_not_contiguous(which: int) -> None:
    """A copy made on the way would be updated in their place, and nothing would be learned."""
    expected = update(PLAIN, adam_arrays((2, 30, 40), np.float32, 3))
    arrays = adam_arrays((2, 30, 40), np.float32, 3)
    arrays[which] = arrays[which].transpose(0, 2, 1).copy().transpose(0, 2, 1)
    assert not arrays[which].flags.c_contiguous
    for array, value in zip(update(BE, arrays), expected, strict=True):
        assert same_bits(array, value)


def test_a_planted_bug_in_the_blocks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last, partial block is left out."""

    def forgets_the_rest(self: Any, *arguments: Any) -> None:
        arrays = [array[: len(array) // 8 * 8] for array in arguments[:4]]
        Backend.adam_update(self, *arrays, arguments[4])

    monkeypatch.setattr(NumpyBackend, "adam_update", forgets_the_rest)
    found, expected = (update(be, adam_arrays((13,), np.float32, 1)) for be in (BE, PLAIN))
    assert not same_bits(found[0], expected[0])


# ---- element-wise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_and_its_gradient_at_special_values(dtype: Any) -> None:
    x = np.array([-np.inf, -1.0, -0.0, 0.0, 1e-30, 2.0, np.inf, np.nan], dtype)
    y, cache = BE.forward(relu.FORMULA, (), x)
    np.testing.assert_array_equal(y, np.array([0, 0, 0, 0, 1e-30, 2, np.inf, np.nan], dtype))
    dx, _ = BE.backward(relu.FORMULA, np.full(8, 3.0, dtype), cache)
    np.testing.assert_array_equal(dx, np.array([0, 0, 0, 0, 3, 3, 3, 0], dtype))
    assert y.dtype == dx.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax_does_not_overflow(dtype: Any) -> None:
    logits = np.array([[[0.0, 1e4, -1e30], [np.log(3.0), 1e4, 1e30]]], dtype)
    _, (found, *_) = BE.forward(cross_entropy.FORMULA, (), logits, np.zeros(3, np.int64))
    expected = np.array([[[np.log(0.25), np.log(0.5), -2e30], [np.log(0.75), np.log(0.5), 0.0]]])
    np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps)
    assert found.dtype == dtype


# ---- draws ----------------------------------------------------------------------------------------------


@given(
    seeds=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
    features=st.integers(1, 9),
    batch=st.integers(1, 20),
    repetition=st.integers(0, 4095),
)
def test_normals_are_those_of_each_seed(seeds: list[int], features: int, batch: int, repetition: int) -> None:
    samples = np.arange(batch) * 5 + 3
    key = DrawKey(tuple(seeds), samples, 7, Purpose.EVAL_MUL, 11)
    expected = np.stack(
        [
            random.standard_draws(np, seed, samples, features, 7, Purpose.EVAL_MUL, 11, repetition)
            for seed in (seeds if len(set(seeds)) > 1 else seeds[:1])
        ]
    )
    for be in (BE, PLAIN):
        found = be.standard_draws(key, features, repetition)
        assert found.shape == expected.shape
        assert same_bits(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("add_first", [False, True])
@pytest.mark.parametrize("seeds", [(5,), (5, 5), (5, 9)])
@pytest.mark.parametrize("shared", [False, True])
def test_draws_are_applied_one_rounded_operation_after_the_other(
    seeds: tuple[int, ...], shared: bool, add_first: bool, dtype: Any
) -> None:
    samples = np.array([3, 0, 8, 8])
    x = np.random.default_rng(1).standard_normal((1 if shared else 2, 3, 2, 4)).astype(dtype)
    members = 1 if len(seeds) == 1 and shared else 2
    scale, shift = np.array([0.7, 1.3], dtype)[:members], np.array([0.1, -2.0], dtype)[:members]
    keys = [DrawKey(seeds, samples, 7, purpose, 2) for purpose in (Purpose.TRAIN_MUL, Purpose.TRAIN_ADD)]
    mul, add = Draws(keys[0], scale, shift), Draws(keys[1], shift * shift, scale)
    m, d = (
        BE.standard_draws(draws.key, 6).reshape(-1, 3, 2, 4).astype(dtype) * draws.scale[:, None, None, None]
        + draws.shift[:, None, None, None]
        for draws in (mul, add)
    )
    expected = [
        (None, None, x),
        (mul, None, x * m),
        (None, add, x + d),
        (mul, add, x * m + (d * m if add_first else d)),
    ]
    for one, other, wanted in expected:
        y, kept = BE.apply_draws(x, one, other, add_first, keep=True)
        assert same_bits(y, wanted)
        assert (kept is None) == (one is None)
        assert kept is None or same_bits(kept, m)
        assert BE.apply_draws(x, one, other, add_first, keep=False)[1] is None


# ---- products -------------------------------------------------------------------------------------------


def linear(w: Any, x: Any, b: Any, dy: Any) -> tuple[Any, ...]:
    """(y, dx, dw, db)."""
    y, cache = BE.forward(FORMULA, LinearParams(w, b), x)
    dx, grads = BE.backward(FORMULA, dy, cache)
    return y, dx, *grads


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    shape=strategies.linear_shapes(size=9),
    shared=st.sampled_from(["", "w", "x", "wx"]),
    batch=st.sampled_from([1, 7, SAMPLE_TILE - 1, SAMPLE_TILE, SAMPLE_TILE + 1, 3 * SAMPLE_TILE + 5]),
    seed=strategies.seeds(),
)
def test_products_equal_einsum_in_float64(dtype: Any, shape: Any, shared: str, batch: int, seed: int) -> None:
    z = np.random.default_rng(seed).standard_normal
    w, x = z(shape.w).astype(dtype), z((shape.population, shape.inputs, batch)).astype(dtype)
    w, x = (array[:1] if name in shared else array for name, array in (("w", w), ("x", x)))
    dy = z((max(len(w), len(x)), shape.outputs, batch)).astype(dtype)
    y, dx, dw, _ = linear(w, x, np.zeros((1, shape.outputs), dtype), dy)
    products = {
        "y": (y, "poi,pib->pob", (w, x), shape.inputs),
        "dw": (dw, "pob,pib->poi", (dy, x), batch),
        "dx": (dx, "poi,pob->pib", (w, dy), shape.outputs),
    }
    for name, (found, subscripts, factors, terms) in products.items():
        wide = [np.broadcast_to(f, (len(dy), *f.shape[1:])).astype(np.float64) for f in factors]
        size = float(np.prod([np.abs(f).max() for f in wide]))
        expected = np.einsum(subscripts, *wide)
        assert found.dtype == dtype
        assert_close(
            found, expected, dtype=dtype, reduction_length=terms, magnitude=size * terms**0.5, name=name
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("outputs", "inputs"), [(64, 784), (10, 64), (1, 3), (33, 100)])
def test_a_column_does_not_depend_on_the_batch(outputs: int, inputs: int, dtype: Any) -> None:
    """In batches of whole tiles a sample's product has the same bits in all of them."""
    z = np.random.default_rng(outputs).standard_normal
    w, x = z((2, outputs, inputs)).astype(dtype), z((1, inputs, 5 * SAMPLE_TILE)).astype(dtype)
    b = z((2, outputs)).astype(dtype)
    whole, _ = BE.forward(FORMULA, LinearParams(w, b), x)
    for tiles in (1, 2, 3, 4):
        size = tiles * SAMPLE_TILE
        for start in range(0, x.shape[2], size):
            part = np.ascontiguousarray(x[:, :, start : start + size])
            y, _ = BE.forward(FORMULA, LinearParams(w, b), part)
            assert same_bits(y, whole[:, :, start : start + size].copy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 37, 128, SAMPLE_TILE, 2 * SAMPLE_TILE])
def test_a_member_does_not_depend_on_the_population(batch: int, dtype: Any) -> None:
    z = np.random.default_rng(batch).standard_normal
    w, x = z((5, 64, 100)).astype(dtype), z((5, 100, batch)).astype(dtype)
    dy, b = z((5, 64, batch)).astype(dtype), z((5, 64)).astype(dtype)
    for p in range(5):
        one = slice(p, p + 1)
        for own, all_ in ((x[one], x), (x[:1], x[:1])):
            alone, together = linear(w[one], own, b[one], dy[one]), linear(w, all_, b, dy)
            assert all(same_bits(a, t[one]) for a, t in zip(alone, together, strict=True))
