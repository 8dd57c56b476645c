"""Counter-based random streams: every draw is a pure function of seed, sample, feature, epoch and purpose.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns an address of four
32-bit words into four random words. docs/noise-streams.md defines the address and derives the normals.
`xp` is NumPy or CuPy; the results have the same bits on both.
"""

import math
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from wn.basics.errors import WnError
from wn.basics.numbers import is_integer

WORD = 0xFFFFFFFF  # the largest 32-bit word

# Philox4x32: the two multipliers, and what is added to the two key words after each round.
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

# The address word: purpose in bits 24–31, site in bits 12–23, repetition in bits 0–11.
PURPOSE_SHIFT, SITE_SHIFT = 24, 12
SITE_BITS = REPETITION_BITS = 12

# Polynomials of the normals, lowest power first, each exact in float32 (derived in docs/noise-streams.md).
LOG_POLYNOMIAL = (-12102213.0, 6049134.0, -4095530.2, 2322458.2, -6118023.5, -7343536.5, -11733525.0)
COS_POLYNOMIAL = (0.00040652073, -9.500171e-05, 8.105644e-06, -3.440411e-07)
SIN_POLYNOMIAL = (0.0006385614, -0.00026259772, 3.239561e-05, -1.9001367e-06, 6.16577e-08)
EXPONENT_MASK = 0x7F800000  # the exponent bits of a float32
TOP_EXPONENT = 0x4F000000  # the bits of 2^31
SCALE_EXPONENT = 0x2F800000  # the bits of 2^−32
SIGN_BIT = 0x80000000

# What a word, as a signed number, and a logarithm, in its unit, are multiplied by for a variance of 1.
UNIFORM_SCALE = 3**0.5 * 2.0**-31
LAPLACE_SCALE = math.log(2) * 2.0**-23 / 2**0.5
DISTRIBUTIONS = ("normal", "uniform", "laplace")


class Purpose(IntEnum):
    """Purposes of draws. The values are part of every result ever computed: never change one, only add."""

    INIT = 0  # initial weights and biases
    SHUFFLE = 1  # order of the training samples
    AUGMENT = 2  # crops and flips
    SEED = 3  # seeds of repeats
    SUBSET = 4  # choice of a subset of a data set
    TRAIN_ADD = 5  # additive noise in training
    TRAIN_MUL = 6  # multiplicative noise in training
    EVAL_ADD = 7  # additive noise in inference
    EVAL_MUL = 8  # multiplicative noise in inference
    DROPOUT = 9  # masks of dropout in training


# ---- addresses --------------------------------------------------------------------------------------------


def checked_integer(name: str, value: Any, bits: int) -> int:
    """Return `value` as a Python int; WnError unless it is an integer in 0 … 2^bits − 1."""
    allowed = f"{name} must be an integer from 0 to 2^{bits} - 1, got {value!r}"
    if not is_integer(value) or not 0 <= value < 1 << bits:
        raise WnError(allowed)
    return int(value)


def checked_samples(xp: Any, samples: Any) -> Any:
    """Return sample ids (B,) as uint32; WnError unless they are integers in 0 … 2^32 − 1 in one dimension."""
    ids = xp.asarray(samples)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise WnError(f"sample ids must be integers in one dimension, got {ids.dtype} of shape {ids.shape}")
    if ids.dtype != xp.uint32 and ids.size and not 0 <= int(ids.min()) <= int(ids.max()) <= WORD:
        raise WnError(f"sample ids must be from 0 to 2^32 - 1, got {int(ids.min())} to {int(ids.max())}")
    return ids.astype(xp.uint32, copy=False)


def stream_word(purpose: Purpose, site: int = 0, repetition: int = 0) -> int:
    """Return the fourth counter word: purpose · 2^24 + site · 2^12 + repetition.

    Sites and repetitions are 0 … 4095; anything else, and an unknown purpose, raises WnError.
    """
    try:
        known = Purpose(purpose)
    except ValueError:
        raise WnError(f"unknown purpose {purpose!r}; known: {', '.join(Purpose.__members__)}") from None
    site = checked_integer("site", site, SITE_BITS)
    repetition = checked_integer("repetition", repetition, REPETITION_BITS)
    return known << PURPOSE_SHIFT | site << SITE_SHIFT | repetition


def seed_key(seed: int) -> tuple[int, int]:
    """Return the Philox key (low word, high word) of a 64-bit seed; WnError unless 0 ≤ seed < 2^64."""
    checked = checked_integer("seed", seed, 64)
    return checked & WORD, checked >> 32


# ---- Philox4x32-10 ----------------------------------------------------------------------------------------


def key_schedule(key: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the two key words of each of the ten rounds: key + round · step, modulo 2^32."""
    return [((key[0] + r * KEY_STEPS[0]) & WORD, (key[1] + r * KEY_STEPS[1]) & WORD) for r in range(ROUNDS)]


def philox4x32(xp: Any, counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, ...]:
    """Return the four random words (uint32) of each counter under one key, by Philox4x32-10.

    Each round: (x0, x1, x2, x3) ← (hi(M1·x2) ⊕ x1 ⊕ k0, lo(M1·x2), hi(M0·x0) ⊕ x3 ⊕ k1, lo(M0·x0)).
    The counter words are integers or arrays that broadcast, taken modulo 2^32.
    Source: Salmon et al. 2011, section 5.3; known answers of the authors' Random123 in tests/test_random.py.
    """
    x0, x1, x2, x3 = (xp.asarray(word).astype(xp.uint32).astype(xp.uint64) for word in counter)
    for k0, k1 in key_schedule(key):
        product0 = x0 * xp.uint64(MULTIPLIERS[0])  # both factors are below 2^32: exact in 64 bits
        product1 = x2 * xp.uint64(MULTIPLIERS[1])
        x0 = (product1 >> xp.uint64(32)) ^ x1 ^ xp.uint64(k0)
        x1 = product1 & xp.uint64(WORD)
        x2 = (product0 >> xp.uint64(32)) ^ x3 ^ xp.uint64(k1)
        x3 = product0 & xp.uint64(WORD)
    return tuple(word.astype(xp.uint32) for word in xp.broadcast_arrays(x0, x1, x2, x3))


def sample_words(xp: Any, seed: int, samples: Any, epoch: int, purpose: Purpose, site: int = 0) -> Any:
    """Return four random words (4, B) uint32 per sample, for integer draws such as crop offsets.

    Counter (0, sample id, epoch, stream word). Bad seeds, sample ids (B,) or epochs raise WnError.
    """
    counter = (
        0,
        checked_samples(xp, samples),
        checked_integer("epoch", epoch, 32),
        stream_word(purpose, site),
    )
    return xp.stack(philox4x32(xp, counter, seed_key(seed)))


def _block_words(
    xp: Any, seed: int, blocks: int, purpose: Purpose, site: int, epoch: int, repetition: int = 0
) -> Any:
    """Words (4·blocks,) of the counters (0 … blocks − 1, 0, epoch, stream word), block after block."""
    counter = (
        xp.arange(blocks, dtype=xp.uint32),
        0,
        checked_integer("epoch", epoch, 32),
        stream_word(purpose, site, repetition),
    )
    return xp.stack(philox4x32(xp, counter, seed_key(seed)), axis=1).reshape(-1)


# ---- standard normals -------------------------------------------------------------------------------------


def normals_from_words(xp: Any, w0: Any, w1: Any) -> tuple[Any, Any]:
    """Return two standard normals (float32) per pair of 32-bit words, by a polynomial Box–Muller transform.

    u = (w0 + ½)·2^−32, r = √(−2 ln u), θ = (π/2)·v + π·b with b the top bit of w1 and v ∈ [−1, 1) its other
    31 bits as a signed fraction; the pair is (r cos θ, r sin θ), within 1e-6·(1 + |z|) of exact arithmetic.
    Every line is one float32 or 32-bit integer operation: the order defines the result, bit by bit.
    Derived in docs/noise-streams.md.
    """
    w0, w1 = xp.asarray(w0, dtype=xp.uint32), xp.asarray(w1, dtype=xp.uint32)
    radius = xp.sqrt(_logarithm(xp, w0, 0.5))
    v = (w1 << xp.uint32(1)).view(xp.int32).astype(xp.float32)
    v = v * xp.float32(2.0**-31)
    h = v * v
    sign = w1 & xp.uint32(SIGN_BIT)
    radius = (radius.view(xp.uint32) ^ sign).view(xp.float32)
    cosine = (xp.float32(1) - h) * _polynomial(xp, COS_POLYNOMIAL, h)
    sine = v * _polynomial(xp, SIN_POLYNOMIAL, h)
    return radius * cosine, radius * sine


def uniform_from_word(xp: Any, word: Any) -> Any:
    """A draw of mean 0 and variance 1, uniform on (−√3, √3): √3·(s + ½)·2^−31 of the word as a signed s."""
    t = word.view(xp.int32).astype(xp.float32) + xp.float32(0.5)
    return t * xp.float32(UNIFORM_SCALE)


def laplace_from_word(xp: Any, word: Any) -> Any:
    """A Laplace draw of mean 0 and variance 1: ∓(ln u)/√2 with the top bit as sign, u = (m + ½)·2^−31.

    m are the other 31 bits. Within 1e-6·(1 + |z|) of exact arithmetic. Derived in docs/noise-streams.md.
    """
    z = _logarithm(xp, word << xp.uint32(1), 1.0) * xp.float32(LAPLACE_SCALE)
    return (z.view(xp.uint32) ^ (word & xp.uint32(SIGN_BIT))).view(xp.float32)


def _logarithm(xp: Any, word: Any, shift: float) -> Any:
    """−2 ln u in units of ln 4 · 2^−23 for u = (word + shift)·2^−32, shift ½ or 1."""
    t = word.view(xp.int32).astype(xp.float32)
    t = t + xp.float32(shift)  # u·2^32 where u < ½, else (u − 1)·2^32: precise at both ends
    exponent = xp.minimum(t.view(xp.uint32), xp.uint32(TOP_EXPONENT)) & xp.uint32(EXPONENT_MASK)
    halvings = xp.uint32(TOP_EXPONENT) - exponent  # 2^23 · number of halvings; 0 where t < 0
    x = t * (halvings + xp.uint32(SCALE_EXPONENT)).view(xp.float32)
    f = x - xp.ceil(x)  # u = (1 + f)·2^−halvings with −½ ≤ f < 0
    return halvings.astype(xp.float32) + f * _polynomial(xp, LOG_POLYNOMIAL, f)


def _polynomial(xp: Any, coefficients: tuple[float, ...], x: Any) -> Any:
    """Horner's rule, each product and each sum rounded to float32."""
    value = xp.float32(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + xp.float32(coefficient)
    return value


def standard_draws(
    xp: Any,
    seed: int,
    samples: Any,
    features: int,
    epoch: int,
    purpose: Purpose,
    site: int = 0,
    repetition: int = 0,
    distribution: str = "normal",
) -> Any:
    """Return draws (F, B) float32 of mean 0 and variance 1 that belong to a feature and a sample id.

    Counter (feature // 4, sample id, epoch or evaluation id, stream word) → words 0 … 3 → features 4i … 4i+3.
    `samples` (B,) holds sample ids in any order; a draw depends on nothing else that is in the batch.
    Bad seeds, sample ids, epochs, sites, repetitions or distributions raise WnError.
    """
    of_distribution(distribution)
    blocks = (checked_integer("features", features, 32) + 3) // 4
    ids = checked_samples(xp, samples)
    counter = (
        xp.arange(blocks, dtype=xp.uint32)[:, None],
        ids[None, :],
        checked_integer("epoch", epoch, 32),
        stream_word(purpose, site, repetition),
    )
    words = philox4x32(xp, counter, seed_key(seed))  # (⌈F/4⌉, B) each
    if distribution == "normal":
        drawn = [*normals_from_words(xp, *words[:2]), *normals_from_words(xp, *words[2:])]
    else:
        from_word = {"uniform": uniform_from_word, "laplace": laplace_from_word}[distribution]
        drawn = [from_word(xp, word) for word in words]
    z = xp.stack(drawn, axis=1)  # (⌈F/4⌉, 4, B)
    return z.reshape(4 * blocks, len(ids))[:features]  # (F, B)


def of_distribution(distribution: str) -> int:
    """Return the number of a distribution, by which kernels know it; WnError for an unknown one."""
    if distribution not in DISTRIBUTIONS:
        known = ", ".join(DISTRIBUTIONS)
        raise WnError(f"unknown distribution {distribution!r}: allowed are {known}")
    return DISTRIBUTIONS.index(distribution)


def uniform_below(xp: Any, words: Any, bound: int) -> Any:
    """Integers uniform on 0 … bound − 1 (int64) from 32-bit words: ⌊word · bound / 2³²⌋.

    The probabilities differ from 1 / bound by less than 2⁻³².
    """
    return ((words.astype(xp.uint64) * xp.uint64(bound)) >> xp.uint64(32)).astype(xp.int64)


# ---- uniforms, permutations, seeds ------------------------------------------------------------------------


def uniforms(
    xp: Any, seed: int, count: int, purpose: Purpose, site: int = 0, epoch: int = 0, repetition: int = 0
) -> Any:
    """Return `count` uniform draws (float32, multiples of 2^−24 in [0, 1)), for initial parameters.

    Element e is word e mod 4 of the counter (e // 4, 0, epoch, stream word), its top 24 bits times 2^−24.
    """
    blocks = (checked_integer("count", count, 34) + 3) // 4
    words = _block_words(xp, seed, blocks, purpose, site, epoch, repetition)[:count]
    return (words >> xp.uint32(8)).astype(xp.float32) * xp.float32(2.0**-24)


def permutation(seed: int, n: int, epoch: int, purpose: Purpose = Purpose.SHUFFLE) -> npt.NDArray[np.int64]:
    """Return a random order of 0 … n − 1 (int64): the stable argsort of n random 64-bit keys.

    Key e is words 2(e mod 2), 2(e mod 2) + 1 (low, high) of the counter (e // 2, 0, epoch, stream word).
    Always computed by NumPy, so that every backend sees the samples in the same order.
    """
    blocks = (checked_integer("n", n, 32) + 1) // 2
    words = _block_words(np, seed, blocks, purpose, 0, epoch).astype(np.uint64)
    keys = words[0::2] | words[1::2] << np.uint64(32)
    keys = keys[:n]
    order = np.argsort(keys)  # twice as fast as a stable one, and the same unless two keys are equal
    if (np.diff(keys[order]) == 0).any():
        order = np.argsort(keys, kind="stable")
    return order.astype(np.int64)


def member_seed(seed: int, repeat: int) -> int:
    """Return the 64-bit seed of repeat `repeat` of a base seed; other base seeds give unrelated repeats.

    Words 0 and 1 (low, high) of the counter (repeat, 0, 0, stream word of SEED) under the base seed.
    """
    counter = (checked_integer("repeat", repeat, 32), 0, 0, stream_word(Purpose.SEED))
    low, high, _, _ = philox4x32(np, counter, seed_key(seed))
    return int(low) | int(high) << 32
