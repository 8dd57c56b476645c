"""Compiled noise: draws with the bits of `wn.random.standard_draws`, and the operators that use them.

Work is divided into tiles of up to LANES counters: some feature blocks of some samples. A tile goes through
short loops, one after another, while it stays in the cache: a processor overlaps the iterations of a short
loop, where one long loop would wait for its own chain of operations. Every operation is one of `wn.random`,
in its order, rounded on its own. docs/noise-streams.md says what was measured.
"""

from functools import lru_cache
from typing import Any

import numba
import numpy as np

from wn import random
from wn.engine.backends.numba.kernels.compile import parallel, serial
from wn.engine.backends.plain.base import Array, DrawKey, Draws
from wn.errors import WnError
from wn.random import Purpose

LANES = 1024  # counters in a tile
RUNS = 64  # runs of tiles, at most: each is one thread's work, with scratch memory of its own
CHUNK = 4096  # values of an element-wise product that are one thread's work

# Epoch, stream word, and the two words of the key.
Stream = tuple[int, int, int, int]
# Where a tile stands in an array seen as flat: first value, distance of rows (features), rows, samples.
Place = tuple[int, int, int, int]
# M or D of all members: stream word, scale (P|1,) and shift (P|1,); the word is −1 where there is none.
Part = tuple[int, Array, Array]
# M or D of one member: standard normals, scale and shift.
Affine = tuple[Array, float, float]

M0, M1 = (np.uint64(multiplier) for multiplier in random.MULTIPLIERS)
STEP0, STEP1 = (np.uint64(step) for step in random.KEY_STEPS)
ROUNDS, WORD, SHIFT, ONE_BIT = random.ROUNDS, np.uint64(random.WORD), np.uint64(32), np.uint32(1)
HALF, ONE, FRACTION = np.float32(0.5), np.float32(1), np.float32(2.0**-31)
EXPONENT_MASK, TOP_EXPONENT = np.uint32(random.EXPONENT_MASK), np.uint32(random.TOP_EXPONENT)
SCALE_EXPONENT, SIGN_BIT = np.uint32(random.SCALE_EXPONENT), np.uint32(random.SIGN_BIT)
L0, L1, L2, L3, L4, L5, L6 = (np.float32(c) for c in random.LOG_POLYNOMIAL)
C0, C1, C2, C3 = (np.float32(c) for c in random.COS_POLYNOMIAL)
S0, S1, S2, S3, S4 = (np.float32(c) for c in random.SIN_POLYNOMIAL)


# ---- one tile of standard normals -----------------------------------------------------------------------


@serial()
def _draw_words(words: Array, block: int, blocks: int, ids: Array, stream: Stream) -> None:
    """Write words 0 … 3 of Philox4x32-10, each to its row of `words`, feature block after feature block.

    Words are held in 64 bits. Products that depend on no sample, those of the first rounds, are taken out of
    the loop by the compiler.
    """
    epoch, word, key0, key1 = stream
    for j in range(blocks):
        part = slice(j * len(ids), (j + 1) * len(ids))
        w0, w1, w2, w3 = words[0, part], words[1, part], words[2, part], words[3, part]
        for n in range(len(ids)):
            x0, x1 = np.uint64(np.uint32(block + j)), np.uint64(ids[n])
            x2, x3 = np.uint64(np.uint32(epoch)), np.uint64(np.uint32(word))
            k0, k1 = np.uint64(np.uint32(key0)), np.uint64(np.uint32(key1))
            for _ in range(ROUNDS):
                product0, product1 = x0 * M0, x2 * M1
                x0, x2 = (product1 >> SHIFT) ^ x1 ^ k0, (product0 >> SHIFT) ^ x3 ^ k1
                x1, x3 = product1 & WORD, product0 & WORD
                k0, k1 = (k0 + STEP0) & WORD, (k1 + STEP1) & WORD
            w0[n], w1[n], w2[n], w3[n] = np.uint32(x0), np.uint32(x1), np.uint32(x2), np.uint32(x3)


@serial()
def _logarithms(words: Array, f: Array, halvings: Array) -> None:
    """Write f and k·2^23 of u = (1 + f)·2^−k for each word."""
    for n in range(len(words)):
        t = np.float32(np.int32(words[n])) + HALF
        exponent = min(np.uint32(np.float32(t).view(np.uint32)), TOP_EXPONENT) & EXPONENT_MASK
        k = np.uint32(TOP_EXPONENT - exponent)
        x = t * np.uint32(k + SCALE_EXPONENT).view(np.float32)
        f[n] = x - np.ceil(x)
        halvings[n] = np.float32(np.int32(k))


@serial()
def _radii(f: Array, radii: Array) -> None:
    """Turn the k·2^23 in `radii` into √(−2 ln u), in the unit of `wn.random`."""
    for n in range(len(f)):
        x = f[n]
        p = L6 * x + L5
        p = p * x + L4
        p = p * x + L3
        p = p * x + L2
        p = p * x + L1
        p = p * x + L0
        radii[n] = np.sqrt(radii[n] + x * p)


@serial()
def _directions(words: Array, radii: Array, z: Array, place: Place, k: int, spare: Array) -> None:
    """Write r·cos θ to rows k, k + 4, … and r·sin θ to the rows after them, θ being the angle of a word."""
    start, stride, rows, batch = place
    for row in range(k, rows, 4):
        lanes, first = slice(row // 4 * batch, (row // 4 + 1) * batch), start + row * stride
        angles, lengths, cosines = words[lanes], radii[lanes], z[first : first + batch]
        sines = z[first + stride : first + stride + batch] if row + 1 < rows else spare[:batch]
        for n in range(batch):
            v = np.float32(np.int32(np.uint32(angles[n] << ONE_BIT))) * FRACTION
            h = v * v
            sign = np.uint32(angles[n] & SIGN_BIT)
            r = np.uint32(np.uint32(np.float32(lengths[n]).view(np.uint32)) ^ sign).view(np.float32)
            c = C3 * h + C2
            c = c * h + C1
            c = c * h + C0
            s = S4 * h + S3
            s = s * h + S2
            s = s * h + S1
            s = s * h + S0
            cosines[n] = r * ((ONE - h) * c)
            sines[n] = r * (v * s)


@serial()
def _draw(z: Array, place: Place, words: Array, work: Array, block: int, ids: Array, stream: Stream) -> None:
    """Draw a tile from feature block `block` on; `words` (4, LANES), `work` (3, LANES): scratch memory."""
    blocks = (place[2] + 3) // 4
    lanes = blocks * len(ids)
    _draw_words(words, block, blocks, ids, stream)
    f, radii = work[0, :lanes], work[1, :lanes]
    for k in range(0, 4, 2):
        _logarithms(words[k, :lanes], f, radii)
        _radii(f, radii)
        _directions(words[k + 1, :lanes], radii, z, place, k, work[2])


@serial()
def _tiling(features: int, batch: int) -> tuple[int, int, int, int]:
    """Return features and samples of a tile, and how many tiles stand side by side and in all."""
    width = -(-batch // -(-batch // LANES))  # as even as possible
    height, columns = LANES // width * 4, -(-batch // width)
    return height, width, columns, -(-features // height) * columns


# ---- kernels --------------------------------------------------------------------------------------------


@parallel()
def draws(out: Array, ids: Array, epoch: int, word: int, key0: int, key1: int) -> None:
    """Write standard normal draws to out (F, B), float32, for sample ids (B,), uint32."""
    features, batch = out.shape
    z = out.reshape(-1)
    height, width, columns, tiles = _tiling(features, batch)
    share = -(-tiles // RUNS)
    for run in numba.prange(-(-tiles // share)):
        words, work = np.empty((4, LANES), np.uint32), np.empty((3, LANES), np.float32)
        for tile in range(run * share, min((run + 1) * share, tiles)):
            first, column = tile // columns * height, tile % columns * width
            some = ids[column : column + width]
            place = first * batch + column, batch, min(height, features - first), len(some)
            _draw(z, place, words, work, first // 4, some, (epoch, word, key0, key1))


@parallel()
def apply(
    x: Array,
    y: Array,
    m: Array,
    keys: Array,
    key_of: Array,
    ids: Array,
    epoch: Array,
    mul: Part,
    add: Part,
    add_first: bool,
) -> None:
    """Write y = x·M + D, or x·M + D·M if `add_first`, and M to m; M = z·scale + shift, D likewise.

    x: (P|1, F, B); y: (P, F, B); m: (P|1, F, B), or (0, F, B) if M is not wanted; ids: (B,), uint32;
    keys: (S, 2), int64, and key_of (P|1,), which says whose is which; epoch: (1,), int64.
    """
    population, features, batch = y.shape
    height, width, columns, tiles = _tiling(features, batch)
    items = len(keys) * tiles
    share = -(-items // RUNS)
    for run in numba.prange(-(-items // share)):
        words, work = np.empty((4, LANES), np.uint32), np.empty((3, LANES), np.float32)
        z, spare = np.empty((2, 4 * LANES), np.float32), np.empty(4 * LANES, y.dtype)
        for item in range(run * share, min((run + 1) * share, items)):
            key, tile = item // tiles, item % tiles
            first, column = tile // columns * height, tile % columns * width
            some = ids[column : column + width]
            rows = min(height, features - first)
            key0, key1 = keys[key]
            for part, word in enumerate((mul[0], add[0])):
                if word >= 0:
                    place = 0, len(some), rows, len(some)
                    _draw(z[part], place, words, work, first // 4, some, (epoch[0], word, key0, key1))
            for p in range(population):
                if key_of[p % len(key_of)] == key:
                    place = first * batch + column, batch, rows, len(some)
                    _apply_tile(x, y, m, p, place, z, mul, add, add_first, spare)


@serial()
def _apply_tile(
    x: Array,
    y: Array,
    m: Array,
    p: int,
    place: Place,
    z: Array,
    mul: Part,
    add: Part,
    add_first: bool,
    spare: Array,
) -> None:
    """Apply the draws of a tile, z[0] for M and z[1] for D, to member p."""
    start, stride, rows, batch = place
    size = rows * batch if batch == stride else batch  # so many values stand side by side
    xs, ys = x[p % len(x)].reshape(-1), y[p].reshape(-1)
    for i in range(0, rows * batch, size):
        here = slice(start + i // batch * stride, start + i // batch * stride + size)
        m_draws = z[0, i : i + size], mul[1][p % len(mul[1])], mul[2][p % len(mul[2])]
        d_draws = z[1, i : i + size], add[1][p % len(add[1])], add[2][p % len(add[2])]
        kept = m[p % len(m)].reshape(-1)[here] if len(m) > 0 else spare[:size]
        if mul[0] < 0:
            _add(xs[here], d_draws, ys[here])
        elif add[0] < 0:
            _multiply(xs[here], m_draws, kept, ys[here])
        elif add_first:
            _add_multiply(xs[here], m_draws, d_draws, kept, ys[here])
        else:
            _multiply_add(xs[here], m_draws, d_draws, kept, ys[here])


@serial()
def _add(x: Array, d_draws: Affine, y: Array) -> None:
    z, scale, shift = d_draws
    for n in range(len(x)):
        y[n] = x[n] + (z[n] * scale + shift)


@serial()
def _multiply(x: Array, m_draws: Affine, m: Array, y: Array) -> None:
    z, scale, shift = m_draws
    for n in range(len(x)):
        factor = z[n] * scale + shift
        m[n], y[n] = factor, x[n] * factor


@serial()
def _multiply_add(x: Array, m_draws: Affine, d_draws: Affine, m: Array, y: Array) -> None:
    (z, scale, shift), (z_d, scale_d, shift_d) = m_draws, d_draws
    for n in range(len(x)):
        factor = z[n] * scale + shift
        m[n], y[n] = factor, x[n] * factor + (z_d[n] * scale_d + shift_d)


@serial()
def _add_multiply(x: Array, m_draws: Affine, d_draws: Affine, m: Array, y: Array) -> None:
    (z, scale, shift), (z_d, scale_d, shift_d) = m_draws, d_draws
    for n in range(len(x)):
        factor = z[n] * scale + shift
        m[n], y[n] = factor, x[n] * factor + (z_d[n] * scale_d + shift_d) * factor


@parallel()
def multiply(dy: Array, m: Array, dx: Array) -> None:
    """Write dx = dy·m. dy, dx: (P, N); m: (P|1, N)."""
    members, size = dy.shape
    parts = -(-size // CHUNK)
    for item in numba.prange(members * parts):
        p, first = item // parts, item % parts * CHUNK
        _products(
            dy[p, first : first + CHUNK], m[p % len(m), first : first + CHUNK], dx[p, first : first + CHUNK]
        )


@serial()
def _products(dy: Array, m: Array, dx: Array) -> None:
    for n in range(len(dy)):
        dx[n] = dy[n] * m[n]


# ---- from addresses to what kernels take ----------------------------------------------------------------


def fill_draws(
    out: Array,
    seed: int,
    samples: Array,
    epoch: int,
    purpose: Purpose,
    site: int = 0,
    repetition: int = 0,
) -> None:
    """Fill `out` (F, B) with standard normal draws: the same bits as `wn.random.standard_draws`.

    `out` is float32 and C-contiguous; `samples` (B,) holds sample ids, best as uint32: others are checked and
    converted. A wrong `out`, and whatever `normals` refuses, raises WnError.
    """
    ids = random.checked_samples(np, samples)
    if out.dtype != np.float32 or out.ndim != 2 or out.shape[1] != len(ids) or not out.flags.c_contiguous:
        raise WnError(
            f"out must be a contiguous float32 array (F, {len(ids)}), got {out.dtype} of shape {out.shape}"
        )
    key0, key1 = random.seed_key(seed)
    epoch, word = random.checked_integer("epoch", epoch, 32), _stream_word(purpose, site, repetition)
    if out.size:
        draws(out, ids, epoch, word, key0, key1)


def apply_arguments(
    x: Array,
    y: Array,
    m: Array | None,
    multiplier: Draws | None,
    offset: Draws | None,
    add_first: bool,
    epoch: Array | None = None,
) -> tuple[Any, ...]:
    """Return the arguments with which `apply` does what `Backend.apply_draws` does.

    x: (P|1, F, B); y: (P, F, B); m: (P, F, B), or (1, F, B) where all members have the same M, or None where
    there is no M or it is not wanted; C-contiguous, of one dtype. Both parts have the same seeds, samples and
    epoch. `epoch` (1,), int64, is where the kernel shall find the epoch, an array of its own by default.
    Arrays that do not fit, and whatever `wn.random.standard_draws` refuses, raise WnError.
    """
    key = _common_key(multiplier, offset)
    ids = random.checked_samples(np, key.samples)
    keys, key_of = _keys(key.seeds, tuple(map(type, key.seeds)))
    number, mul, add = random.checked_integer("epoch", key.epoch, 32), _part(multiplier, y), _part(offset, y)
    _check_arrays(x, y, m, len(ids), len(key_of), members(multiplier), (*mul[1:], *add[1:]))
    epoch = np.array([number], np.int64) if epoch is None else epoch
    return x, y, y[:0] if m is None else m, keys, key_of, ids, epoch, mul, add, add_first


def members(draws: Draws | None) -> int:
    """Return for how many members the draws are different: 1 if all share them."""
    if draws is None:
        return 1
    seeds = draws.key.seeds
    return max(len(draws.scale), len(draws.shift), len(seeds) if len(set(seeds)) > 1 else 1)


def _common_key(multiplier: Draws | None, offset: Draws | None) -> DrawKey:
    """Return seeds, samples and epoch of both parts."""
    if multiplier is None or offset is None:
        only = multiplier or offset
        if only is None:
            raise WnError("a noise operator needs draws of M or of D")
        return only.key
    first, second = multiplier.key, offset.key
    same_samples = first.samples is second.samples or np.array_equal(first.samples, second.samples)
    if first.seeds != second.seeds or first.epoch != second.epoch or not same_samples:
        raise WnError("both parts of a noise operator must have the same seeds, samples and epoch")
    return first


_stream_word = lru_cache(1 << 12, typed=True)(random.stream_word)


@lru_cache(1 << 8)
def _keys(seeds: tuple[int, ...], types: tuple[type, ...]) -> tuple[Array, Array]:
    """Return the keys (S, 2) of the different seeds, and which of them each member has: (P,), or (1,)."""
    different = list(dict.fromkeys(seeds))
    keys = [random.seed_key(seed) for seed in different]
    key_of = [different.index(seed) for seed in seeds] if len(different) > 1 else [0]
    return np.array(keys, np.int64), np.array(key_of, np.int64)


def _part(draws: Draws | None, y: Array) -> Part:
    """Return stream word, scale and shift as the kernel takes them."""
    if draws is None:
        none = np.zeros(1, y.dtype)
        return -1, none, none
    return _stream_word(draws.key.purpose, draws.key.site, 0), draws.scale, draws.shift


def _check_arrays(
    x: Array, y: Array, m: Array | None, batch: int, seeds: int, different: int, values: tuple[Array, ...]
) -> None:
    """Raise WnError for arrays that the kernel, which does not look at bounds, cannot take."""
    population, dtype, shape = len(y), y.dtype, y.shape[1:]
    arrays = (x, y) if m is None else (x, y, m)
    for array in (*arrays, *values):
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise WnError("activations and noise values must be C-contiguous and of one dtype")
    for array in arrays:
        if array.shape[1:] != shape or len(shape) != 2 or shape[1] != batch:
            raise WnError(f"activations must be (P, F, {batch}), got {[array.shape for array in arrays]}")
    for count in (seeds, different, len(x), *map(len, values)):
        if count not in (1, population):
            raise WnError(f"noise of a population of {population} is given for {count} members")
    if m is not None and len(m) not in (different, population):
        raise WnError(f"the multipliers of {different} members have room for {len(m)}")
