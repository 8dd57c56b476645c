"""Noise streams once more, written for reading only: integers of any size and float64, one value at a time.

`philox4x32` uses Python's integers; `normal_pair` uses the library's log, cos and sin in float64: neither
shares an operation with `wn.random`. `normal_polynomials` recomputes the coefficients that `wn.random` lists.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

WORD = 2**32


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox4x32-10 after Salmon et al. 2011: ten rounds, the key raised by two constants between rounds."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * x0, WORD)
        high1, low1 = divmod(0xCD9E8D57 * x2, WORD)
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0 = (k0 + 0x9E3779B9) % WORD  # golden ratio
        k1 = (k1 + 0xBB67AE85) % WORD  # sqrt(3) − 1
    return x0, x1, x2, x3


def normal_pair(w0: int, w1: int) -> tuple[float, float]:
    """Two standard normals of two 32-bit words: radius from w0, direction from w1 (docs/noise-streams.md)."""
    radius = math.sqrt(-2.0 * math.log((w0 + 0.5) / WORD))
    half_turns, fraction = divmod(w1, 2**31)  # top bit, other 31 bits
    if fraction >= 2**30:  # the 31 bits are a signed number
        fraction -= 2**31
    angle = math.pi / 2 * (fraction / 2**30) + math.pi * half_turns
    return radius * math.cos(angle), radius * math.sin(angle)


def normal_pairs(
    w0: NDArray[np.uint32], w1: NDArray[np.uint32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`normal_pair` for arrays of words."""
    radius = np.sqrt(-2.0 * np.log((w0.astype(np.float64) + 0.5) / WORD))
    half_turns, fraction = np.divmod(w1.astype(np.int64), 2**31)
    fraction = np.where(fraction >= 2**30, fraction - 2**31, fraction)
    angle = np.pi / 2 * (fraction / 2**30) + np.pi * half_turns
    return radius * np.cos(angle), radius * np.sin(angle)


def uniform(word: int) -> float:
    """A uniform draw on (−√3, √3): √3·(2u − 1) with 2u − 1 the word as a signed fraction."""
    signed = word - WORD if word >= WORD // 2 else word
    return math.sqrt(3.0) * (signed + 0.5) / 2**31


def laplace(word: int) -> float:
    """A Laplace draw of variance 1: the top bit is its sign, the others its rank from the tail inwards."""
    negative, rank = divmod(word, 2**31)
    size = -math.log((rank + 0.5) / 2**31) if rank < 2**30 else -math.log1p(-(2**31 - rank - 0.5) / 2**31)
    return (-size if negative else size) / math.sqrt(2.0)


def normal(seed: int, sample: int, feature: int, epoch: int, word: int) -> float:
    """The draw of one feature of one sample; `word` is purpose · 2^24 + site · 2^12 + repetition."""
    words = philox4x32((feature // 4, sample, epoch, word), (seed % WORD, seed // WORD))
    first = feature % 4 // 2 * 2
    return normal_pair(words[first], words[first + 1])[feature % 2]


def draw(seed: int, sample: int, feature: int, epoch: int, word: int, distribution: str) -> float:
    """The draw of one feature of one sample, of mean 0 and variance 1."""
    if distribution == "normal":
        return normal(seed, sample, feature, epoch, word)
    words = philox4x32((feature // 4, sample, epoch, word), (seed % WORD, seed // WORD))
    return (uniform if distribution == "uniform" else laplace)(words[feature % 4])


def chebyshev_fit(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], low: float, high: float, degree: int
) -> NDArray[np.float64]:
    """The polynomial, lowest power first, through `function` at the Chebyshev nodes of [low, high]."""
    k = np.arange(degree + 1)
    nodes = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (k + 0.5) / (degree + 1))
    return np.asarray(np.linalg.solve(np.vander(nodes, increasing=True), function(nodes)), np.float64)


def normal_polynomials() -> dict[str, NDArray[np.float64]]:
    """The three polynomials of docs/noise-streams.md before they are rounded to float32."""
    unit = math.log(4.0) * 2.0**-23  # of the squared radius
    root = math.sqrt(unit)
    return {
        "log": chebyshev_fit(lambda f: -2.0 * np.log1p(f) / f, -0.5, 0.0, 6) / unit,
        "cos": chebyshev_fit(lambda h: np.cos(np.pi / 2 * np.sqrt(h)) / (1 - h), 0.0, 1.0, 3) * root,
        "sin": chebyshev_fit(lambda h: np.sin(np.pi / 2 * np.sqrt(h)) / np.sqrt(h), 0.0, 1.0, 4) * root,
    }
