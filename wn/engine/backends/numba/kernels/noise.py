"""Compiled noise operators: draws go to a scratch tile that stays in the cache, from there to all members.

Tiles are those of `draws`. Every product and every sum is rounded on its own, as in the plain code.
"""

from functools import lru_cache
from typing import Any

import numba
import numpy as np

from wn import random
from wn.basics.errors import WnError
from wn.engine.backends.numba.kernels.compile import parallel, serial
from wn.engine.backends.numba.kernels.draws import LANES, RUNS, Place, draw, stream_word, tiling
from wn.engine.backends.plain.base import Array, DrawKey, Draws
from wn.engine.layers.noise import members

CHUNK = 4096  # values of an element-wise product that are one thread's work

# M or D of all members: stream word, scale (P|1,) and shift (P|1,); the word is −1 where there is none.
Part = tuple[int, Array, Array]
# M or D of one member: standard draws, scale and shift.
Affine = tuple[Array, float, float]


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
    distribution: int,
) -> None:
    """Write y = x·M + D, or x·M + D·M if `add_first`, and M to m; M = z·scale + shift, D likewise.

    x: (P|1, F, B); y: (P, F, B); m: (P|1, F, B), or (0, F, B) if M is not wanted; ids: (B,), uint32;
    keys: (S, 2), int64, and key_of (P|1,), which says whose is which; epoch: (1,), int64.
    """
    population, features, batch = y.shape
    height, width, columns, tiles = tiling(features, batch)
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
                    stream = epoch[0], word, key0, key1, distribution
                    draw(z[part], place, words, work, first // 4, some, stream)
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
    key, distribution = _in_common(multiplier, offset)
    ids = random.checked_samples(np, key.samples)
    keys, key_of = _keys(key.seeds, tuple(map(type, key.seeds)))
    number, mul, add = random.checked_integer("epoch", key.epoch, 32), _part(multiplier, y), _part(offset, y)
    _check_arrays(x, y, m, len(ids), len(key_of), members(multiplier), (*mul[1:], *add[1:]))
    epoch = np.array([number], np.int64) if epoch is None else epoch
    return x, y, y[:0] if m is None else m, keys, key_of, ids, epoch, mul, add, add_first, distribution


def _in_common(multiplier: Draws | None, offset: Draws | None) -> tuple[DrawKey, int]:
    """Seeds, samples and epoch of both parts, and the number of their distribution."""
    if multiplier is None or offset is None:
        only = multiplier or offset
        if only is None:
            raise WnError("a noise operator needs draws of M or of D")
        return only.key, random.of_distribution(only.distribution)
    first, second = multiplier.key, offset.key
    same_samples = first.samples is second.samples or np.array_equal(first.samples, second.samples)
    if first.seeds != second.seeds or first.epoch != second.epoch or not same_samples:
        raise WnError("both parts of a noise operator must have the same seeds, samples and epoch")
    if multiplier.distribution != offset.distribution:
        raise WnError("both parts of a noise operator must have the same distribution")
    return first, random.of_distribution(multiplier.distribution)


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
    return stream_word(draws.key.purpose, draws.key.site, 0), draws.scale, draws.shift


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
