"""Standard draws in NumPy, computed in tiles that stay in the cache: the bits of `wn.random.standard_draws`.

Plain array code writes every intermediate result to memory and reads it back. Here each tile of the output
goes through all operations before the next one starts, in scratch memory that is allocated once per thread.
docs/noise-streams.md says what was measured and what did not pay.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wn import random
from wn.basics.errors import WnError
from wn.random import WORD, Purpose

TILE = 8192  # counters per tile: the scratch memory below is 448 KiB, a second-level cache

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Transform = Callable[[Floats, Words], None]  # from the words of a tile to its draws (4, i, b)

HIGH = 1 if sys.byteorder == "little" else 0  # where a 64-bit integer keeps its upper 32 bits


def _constant(value: float, dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.array(value, dtype=dtype)  # a 0-d array: ufuncs take it without a conversion per call


M0, M1 = (_constant(m, np.uint64) for m in random.MULTIPLIERS)
SHIFT = _constant(32, np.uint64)
HALF, ONE = _constant(0.5, np.float32), _constant(1.0, np.float32)
FRACTION = _constant(2.0**-31, np.float32)
UNIFORM_SCALE = _constant(random.UNIFORM_SCALE, np.float32)
LAPLACE_SCALE = _constant(random.LAPLACE_SCALE, np.float32)
EXPONENT_MASK = _constant(random.EXPONENT_MASK, np.uint32)
TOP_EXPONENT = _constant(random.TOP_EXPONENT, np.uint32)
SCALE_EXPONENT = _constant(random.SCALE_EXPONENT, np.uint32)
SIGN_BIT = _constant(random.SIGN_BIT, np.uint32)
LOG, COS, SIN = (
    [_constant(c, np.float32) for c in polynomial]
    for polynomial in (random.LOG_POLYNOMIAL, random.COS_POLYNOMIAL, random.SIN_POLYNOMIAL)
)


class _Scratch(threading.local):
    """Memory of one tile, for each thread its own: two words of every counter make two lanes."""

    def __init__(self) -> None:
        self.state = np.empty(2 * TILE, np.uint64)
        self.product = np.empty(2 * TILE, np.uint64)
        self.floats = np.empty((2, 2 * TILE), np.float32)
        # NumPy's minimum is several times faster between two arrays than between an array and a constant.
        self.top_exponents = np.full(2 * TILE, random.TOP_EXPONENT, np.uint32)


_scratch = _Scratch()


class _Stream(NamedTuple):
    """What the tiles of one call share: rounds 0 to 2 as far as they depend on a row or a column alone."""

    keys: list[tuple[Words, Words]]  # of rounds 3 … 9, in the upper halves
    hi_rows: Words  # (I,) for each feature block
    a_rows: Words  # (I,)
    b_rows: Words  # (I,)
    hi_columns: Words  # (B,) for each sample
    b_columns: Words  # (B,)


def _stream(seed: int, blocks: int, ids: npt.NDArray[np.uint32], epoch: int, word: int) -> _Stream:
    """Philox's rounds 0 and 1, and what round 2 needs of them.

    The words start as (feature block, sample, epoch, stream word), so that up to round 2 every product
    depends on the feature block alone or on the sample alone: 15 products per counter remain of 20.
    """
    (k0, k1), (l0, l1), (m0, m1), *rest = random.key_schedule(random.seed_key(seed))
    product0, product1 = np.arange(blocks, dtype=np.uint64) * M0, random.MULTIPLIERS[1] * epoch
    x0 = ids ^ np.uint64(product1 >> 32 ^ k0)  # (B,) after round 0
    x1 = product1 & WORD
    x2 = product0 >> SHIFT ^ np.uint64(word ^ k1)  # (I,)
    x3 = product0 & np.uint64(WORD)  # (I,)
    product0, product1 = x0 * M0, x2 * M1  # (B,), (I,)
    x0 = product1 >> SHIFT ^ np.uint64(x1 ^ l0)  # (I,) after round 1
    return _Stream(
        keys=[(_constant(a << 32, np.uint64), _constant(b << 32, np.uint64)) for a, b in rest],
        hi_rows=x3 ^ np.uint64(l1),
        a_rows=product1 << SHIFT ^ np.uint64(m0 << 32),
        b_rows=x0 * M0 ^ np.uint64(m1 << 32),
        hi_columns=product0 >> SHIFT,
        b_columns=product0 << SHIFT,
    )


def fill_draws(
    out: Floats,
    seed: int,
    samples: npt.ArrayLike,
    epoch: int,
    purpose: Purpose,
    site: int = 0,
    repetition: int = 0,
    distribution: str = "normal",
) -> None:
    """Fill `out` (F, B) with draws of mean 0 and variance 1: the bits of `wn.random.standard_draws`.

    `out` is float32 and C-contiguous; `samples` (B,) holds sample ids. Several threads may call at once.
    A wrong `out`, and whatever `normals` refuses, raises WnError.
    """
    ids = ids_for(out, samples)
    features, batch = out.shape
    blocks, whole = (features + 3) // 4, features // 4
    epoch = random.checked_integer("epoch", epoch, 32)
    stream = _stream(seed, blocks, ids, epoch, random.stream_word(purpose, site, repetition))
    transform = _TRANSFORMS[random.of_distribution(distribution)]
    _fill_blocks(out[: 4 * whole].reshape(whole, 4, batch), stream, 0, transform)
    if blocks > whole:  # the last block has fewer than four features
        last = np.empty((1, 4, batch), np.float32)
        _fill_blocks(last, stream, whole, transform)
        out[4 * whole :] = last[0, : features - 4 * whole]


def ids_for(out: Floats, samples: npt.ArrayLike) -> npt.NDArray[np.uint32]:
    """The sample ids (B,), uint32, that `out` (F, B) is filled for; WnError for what does not fit."""
    ids: npt.NDArray[np.uint32] = random.checked_samples(np, samples)
    if out.dtype != np.float32 or out.ndim != 2 or out.shape[1] != len(ids) or not out.flags.c_contiguous:
        raise WnError(
            f"out must be a contiguous float32 array (F, {len(ids)}), got {out.dtype} of shape {out.shape}"
        )
    return ids


def _fill_blocks(out: Floats, stream: _Stream, first: int, transform: Transform) -> None:
    """Fill `out` (I, 4, B) with feature blocks `first`, `first` + 1, …, tile by tile."""
    blocks, _, batch = out.shape
    if not out.size:
        return
    chunks = -(-batch // TILE)
    width = -(-batch // chunks)  # samples per tile
    height = TILE // width  # feature blocks per tile
    for column in range(0, batch, width):
        columns = slice(column, min(column + width, batch))
        for row in range(0, blocks, height):
            rows = slice(first + row, first + min(row + height, blocks))
            tile = out[row : row + height, :, columns].transpose(1, 0, 2)  # (4, i, b)
            transform(tile, _philox(stream, rows, columns))


def _philox(stream: _Stream, rows: slice, columns: slice) -> Words:
    """Random words of one tile: (2·i·b,) with words 0, 1, then 2, 3 in upper and lower halves.

    The state of a counter is a = (x0, x1) and b = (x2, x3) with x0, x2 in the upper halves; then a round is
    a, b ← M1·hi(b) ⊕ (a ⊕ k0) << 32, M0·hi(a) ⊕ (b ⊕ k1) << 32.
    """
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    n = shape[0] * shape[1]
    state, product = _scratch.state[: 2 * n], _scratch.product[: 2 * n]
    a, b, product_a, product_b = state[:n], state[n:], product[:n], product[n:]
    grid_a, grid_b = a.reshape(shape), b.reshape(shape)
    np.bitwise_xor(stream.hi_rows[rows, None], stream.hi_columns[columns], out=grid_a)  # round 2
    np.multiply(a, M1, out=a)
    np.bitwise_xor(grid_a, stream.a_rows[rows, None], out=grid_a)
    np.bitwise_xor(stream.b_rows[rows, None], stream.b_columns[columns], out=grid_b)
    for k0, k1 in stream.keys:
        np.right_shift(state, SHIFT, out=product)
        np.multiply(product_a, M0, out=product_a)
        np.multiply(product_b, M1, out=product_b)
        np.left_shift(state, SHIFT, out=state)
        np.bitwise_xor(a, product_b, out=a)
        np.bitwise_xor(b, product_a, out=b)
        np.bitwise_xor(a, k0, out=a)
        np.bitwise_xor(b, k1, out=b)
    return state


def _box_muller(out: Floats, words: Words) -> None:
    """Turn the words of a tile into `out` (4, i, b): the operations of `wn.random.normals_from_words`."""
    lanes = len(words)
    v, signs = _scratch.floats[0, :lanes], _scratch.floats[1, :lanes].view(np.uint32)
    radius, p = _scratch.product.view(np.float32)[: 2 * lanes].reshape(2, lanes)
    np.copyto(v, words.view(np.int32)[HIGH::2], casting="unsafe")
    np.copyto(signs, words, casting="unsafe")  # the lower halves
    _logarithm(radius, v, p, HALF)
    np.sqrt(radius, out=radius)
    h = words.view(np.float32)[:lanes]  # the words are used up
    np.add(signs, signs, out=h.view(np.uint32))
    np.copyto(v, h.view(np.int32), casting="unsafe")
    np.multiply(v, FRACTION, out=v)
    np.bitwise_and(signs, SIGN_BIT, out=signs)
    np.bitwise_xor(radius.view(np.uint32), signs, out=radius.view(np.uint32))
    np.multiply(v, v, out=h)
    _polynomial(p, SIN, h)
    np.multiply(p, v, out=p)
    shape = (2, *out.shape[1:])
    np.multiply(radius.reshape(shape), p.reshape(shape), out=out[1::2])
    _polynomial(p, COS, h)
    np.subtract(ONE, h, out=h)
    np.multiply(p, h, out=p)
    np.multiply(radius.reshape(shape), p.reshape(shape), out=out[0::2])


def _uniform(out: Floats, words: Words) -> None:
    """The operations of `wn.random.uniform_from_word`, for the words of a tile."""
    halves = words.view(np.int32)
    t = _scratch.floats[0, : len(words)]
    for row, place in enumerate((HIGH, 1 - HIGH)):
        np.copyto(t, halves[place::2], casting="unsafe")
        np.add(t, HALF, out=t)
        np.multiply(t.reshape(2, *out.shape[1:]), UNIFORM_SCALE, out=out[row::2])


def _laplace(out: Floats, words: Words) -> None:
    """The operations of `wn.random.laplace_from_word`, for the words of a tile."""
    lanes = len(words)
    halves = words.view(np.uint32)
    t, signs = _scratch.floats[0, :lanes], _scratch.floats[1, :lanes].view(np.uint32)
    z, p = _scratch.product.view(np.float32)[: 2 * lanes].reshape(2, lanes)
    for row, place in enumerate((HIGH, 1 - HIGH)):
        np.copyto(signs, halves[place::2])
        np.add(signs, signs, out=p.view(np.uint32))
        np.copyto(t, p.view(np.int32), casting="unsafe")
        _logarithm(z, t, p, ONE)
        np.multiply(z, LAPLACE_SCALE, out=z)
        np.bitwise_and(signs, SIGN_BIT, out=signs)
        np.bitwise_xor(z.view(np.uint32), signs, out=z.view(np.uint32))
        out[row::2] = z.reshape(2, *out.shape[1:])


_TRANSFORMS = (_box_muller, _uniform, _laplace)  # in the order of `wn.random.DISTRIBUTIONS`


def _logarithm(out: Floats, t: Floats, p: Floats, shift: npt.NDArray[Any]) -> None:
    """−2 ln u as `wn.random` has it, from the words as signed numbers `t`; uses `t` and `p` up."""
    halvings = out.view(np.uint32)
    np.add(t, shift, out=t)
    np.minimum(t.view(np.uint32), _scratch.top_exponents[: len(t)], out=halvings)
    np.bitwise_and(halvings, EXPONENT_MASK, out=halvings)
    np.subtract(TOP_EXPONENT, halvings, out=halvings)
    np.add(halvings, SCALE_EXPONENT, out=p.view(np.uint32))
    np.multiply(t, p, out=t)
    np.ceil(t, out=p)
    np.subtract(t, p, out=t)  # f
    _polynomial(p, LOG, t)
    np.multiply(p, t, out=p)
    np.copyto(t, halvings.view(np.int32), casting="unsafe")
    np.add(t, p, out=out)


def _polynomial(out: Floats, coefficients: list[Floats], x: Floats) -> None:
    """Horner's rule, in the order of `wn.random`."""
    np.multiply(x, coefficients[-1], out=out)
    np.add(out, coefficients[-2], out=out)
    for coefficient in coefficients[-3::-1]:
        np.multiply(out, x, out=out)
        np.add(out, coefficient, out=out)
