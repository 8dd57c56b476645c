"""Compiled draws: the bits of `wn.random.standard_draws`.

Work is divided into tiles of up to LANES counters: some feature blocks of some samples. A tile goes through
short loops, one after another, while it stays in the cache: a processor overlaps the iterations of a short
loop, where one long loop would wait for its own chain of operations. Every operation is one of `wn.random`,
in its order, rounded on its own. docs/noise-streams.md says what was measured.
"""

from functools import lru_cache

import numba
import numpy as np

from wn import random
from wn.engine.backends.numba.kernels.compile import parallel, serial
from wn.engine.backends.numpy.draws import ids_for
from wn.engine.backends.plain.base import Array
from wn.random import Purpose

LANES = 1024  # counters in a tile
RUNS = 64  # runs of tiles, at most: each is one thread's work, with scratch memory of its own

# Epoch, stream word, the two words of the key, and the number of the distribution.
Stream = tuple[int, int, int, int, int]
# Where a tile stands in an array seen as flat: first value, distance of rows (features), rows, samples.
Place = tuple[int, int, int, int]

M0, M1 = (np.uint64(multiplier) for multiplier in random.MULTIPLIERS)
STEP0, STEP1 = (np.uint64(step) for step in random.KEY_STEPS)
ROUNDS, WORD, SHIFT, ONE_BIT = random.ROUNDS, np.uint64(random.WORD), np.uint64(32), np.uint32(1)
HALF, ONE, FRACTION = np.float32(0.5), np.float32(1), np.float32(2.0**-31)
EXPONENT_MASK, TOP_EXPONENT = np.uint32(random.EXPONENT_MASK), np.uint32(random.TOP_EXPONENT)
SCALE_EXPONENT, SIGN_BIT = np.uint32(random.SCALE_EXPONENT), np.uint32(random.SIGN_BIT)
L0, L1, L2, L3, L4, L5, L6 = (np.float32(c) for c in random.LOG_POLYNOMIAL)
C0, C1, C2, C3 = (np.float32(c) for c in random.COS_POLYNOMIAL)
UNIFORM_SCALE, LAPLACE_SCALE = np.float32(random.UNIFORM_SCALE), np.float32(random.LAPLACE_SCALE)
NORMAL, UNIFORM, LAPLACE = range(len(random.DISTRIBUTIONS))  # in their order
S0, S1, S2, S3, S4 = (np.float32(c) for c in random.SIN_POLYNOMIAL)


# ---- one tile of draws ------------------------------------------------------------------------------------


@serial()
def _draw_words(words: Array, block: int, blocks: int, ids: Array, stream: Stream) -> None:
    """Write words 0 … 3 of Philox4x32-10, each to its row of `words`, feature block after feature block.

    Words are held in 64 bits. Products that depend on no sample, those of the first rounds, are taken out of
    the loop by the compiler.
    """
    epoch, word, key0, key1, _ = stream
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
def _series(x: np.float32) -> np.float32:
    """The polynomial of the logarithm."""
    p = L6 * x + L5
    p = p * x + L4
    p = p * x + L3
    p = p * x + L2
    p = p * x + L1
    return p * x + L0


@serial()
def _logarithms(words: Array, shift: np.float32, f: Array, halvings: Array) -> None:
    """Write f and k·2^23 of u = (1 + f)·2^−k = (word + shift)·2^−32 for each word."""
    for n in range(len(words)):
        t = np.float32(np.int32(words[n])) + shift
        exponent = min(np.uint32(np.float32(t).view(np.uint32)), TOP_EXPONENT) & EXPONENT_MASK
        k = np.uint32(TOP_EXPONENT - exponent)
        x = t * np.uint32(k + SCALE_EXPONENT).view(np.float32)
        f[n] = x - np.ceil(x)
        halvings[n] = np.float32(np.int32(k))


@serial()
def _radii(f: Array, radii: Array) -> None:
    """Turn the k·2^23 in `radii` into √(−2 ln u), in the unit of `wn.random`."""
    for n in range(len(f)):
        radii[n] = np.sqrt(radii[n] + f[n] * _series(f[n]))


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
def _uniforms(words: Array, z: Array, place: Place, k: int) -> None:
    """Write uniform draws to rows k, k + 4, …"""
    start, stride, rows, batch = place
    for row in range(k, rows, 4):
        given, first = words[row // 4 * batch : (row // 4 + 1) * batch], start + row * stride
        out = z[first : first + batch]
        for n in range(batch):
            out[n] = (np.float32(np.int32(given[n])) + HALF) * UNIFORM_SCALE


@serial()
def _laplaces(words: Array, f: Array, halvings: Array, z: Array, place: Place, k: int) -> None:
    """Write Laplace draws to rows k, k + 4, … of the logarithms of the words' lower 31 bits."""
    start, stride, rows, batch = place
    for row in range(k, rows, 4):
        lanes, first = slice(row // 4 * batch, (row // 4 + 1) * batch), start + row * stride
        given, x, whole, out = words[lanes], f[lanes], halvings[lanes], z[first : first + batch]
        for n in range(batch):
            size = (whole[n] + x[n] * _series(x[n])) * LAPLACE_SCALE
            sign = np.uint32(given[n] & SIGN_BIT)
            out[n] = np.uint32(np.uint32(np.float32(size).view(np.uint32)) ^ sign).view(np.float32)


@serial()
def _doubled(words: Array, out: Array) -> None:
    for n in range(len(words)):
        out[n] = np.uint32(words[n] << ONE_BIT)


@serial()
def draw(z: Array, place: Place, words: Array, work: Array, block: int, ids: Array, stream: Stream) -> None:
    """Draw a tile from feature block `block` on; `words` (4, LANES), `work` (3, LANES): scratch memory."""
    blocks = (place[2] + 3) // 4
    lanes = blocks * len(ids)
    _draw_words(words, block, blocks, ids, stream)
    f, radii = work[0, :lanes], work[1, :lanes]
    if stream[4] == NORMAL:
        for k in range(0, 4, 2):
            _logarithms(words[k, :lanes], HALF, f, radii)
            _radii(f, radii)
            _directions(words[k + 1, :lanes], radii, z, place, k, work[2])
    elif stream[4] == UNIFORM:
        for k in range(4):
            _uniforms(words[k], z, place, k)
    else:
        doubled = work[2].view(np.uint32)[:lanes]
        for k in range(4):
            _doubled(words[k, :lanes], doubled)
            _logarithms(doubled, ONE, f, radii)
            _laplaces(words[k], f, radii, z, place, k)


@serial()
def tiling(features: int, batch: int) -> tuple[int, int, int, int]:
    """Return features and samples of a tile, and how many tiles stand side by side and in all."""
    width = -(-batch // -(-batch // LANES))  # as even as possible
    height, columns = LANES // width * 4, -(-batch // width)
    return height, width, columns, -(-features // height) * columns


@parallel()
def fill(out: Array, ids: Array, epoch: int, word: int, key0: int, key1: int, distribution: int) -> None:
    """Write draws of mean 0 and variance 1 to out (F, B), float32, for sample ids (B,), uint32."""
    features, batch = out.shape
    z = out.reshape(-1)
    height, width, columns, tiles = tiling(features, batch)
    share = -(-tiles // RUNS)
    for run in numba.prange(-(-tiles // share)):
        words, work = np.empty((4, LANES), np.uint32), np.empty((3, LANES), np.float32)
        for tile in range(run * share, min((run + 1) * share, tiles)):
            first, column = tile // columns * height, tile % columns * width
            some = ids[column : column + width]
            place = first * batch + column, batch, min(height, features - first), len(some)
            draw(z, place, words, work, first // 4, some, (epoch, word, key0, key1, distribution))


stream_word = lru_cache(1 << 12, typed=True)(random.stream_word)


def fill_draws(
    out: Array,
    seed: int,
    samples: Array,
    epoch: int,
    purpose: Purpose,
    site: int = 0,
    repetition: int = 0,
    distribution: str = "normal",
) -> None:
    """Fill `out` (F, B) with draws of mean 0 and variance 1: the bits of `wn.random.standard_draws`.

    `out` is float32 and C-contiguous; `samples` (B,) holds sample ids, best as uint32: others are checked and
    converted. A wrong `out`, and whatever `normals` refuses, raises WnError.
    """
    ids = ids_for(out, samples)
    key0, key1 = random.seed_key(seed)
    number = random.of_distribution(distribution)
    epoch, word = random.checked_integer("epoch", epoch, 32), stream_word(purpose, site, repetition)
    if out.size:
        fill(out, ids, epoch, word, key0, key1, number)
