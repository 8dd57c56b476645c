"""Errors of the normal draws against the same mapping in float64: the table of docs/noise-streams.md.

    python -m tests.bench.normal_errors [--every 101]

Prints, for each set of words, the number of pairs and the largest |δz| / (1e-6·(1 + |z|)).
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from reference.streams import normal_pairs
from wn.random import normals_from_words

Words = NDArray[np.uint32]

WORD = 2**32
CHUNK = 2_000_000  # pairs at once
RADIUS = 2**19  # words around 2³¹, where the error is largest
SEED = 99


def largest_error(w0: Words, w1: Words) -> float:
    """The largest |δz| in units of the allowance 1e-6·(1 + |z|), over both normals of every pair."""
    errors = [
        np.abs(found.astype(np.float64) - exact) / (1e-6 * (1 + np.abs(exact)))
        for found, exact in zip(normals_from_words(np, w0, w1), normal_pairs(w0, w1), strict=True)
    ]
    return float(max(error.max() for error in errors))


def chunks(words: range) -> Iterator[Words]:
    """The words of a range, some at a time."""
    for first in range(0, len(words), CHUNK):
        part = words[first : first + CHUNK]
        yield np.arange(part.start, part.stop, part.step, dtype=np.int64).astype(np.uint32)


def sets(every: int) -> dict[str, tuple[range, Callable[[Words], tuple[Words, Words]]]]:
    """What the rows of the table go through: a range of words, and the pairs made of some of them."""
    rng = np.random.default_rng(SEED)
    spread, worst = range(0, WORD, every), range(WORD // 2 - RADIUS, WORD // 2 + RADIUS)

    def with_random(w0: Words) -> tuple[Words, Words]:
        return w0, rng.integers(0, WORD, w0.size, dtype=np.uint32)

    step = f"every {every}st" if every % 10 == 1 else f"every {every}th"
    return {
        f"{step} w0, w1 = 0": (spread, lambda w: (w, np.zeros_like(w))),
        f"{step} w0, w1 = 2³⁰": (spread, lambda w: (w, np.full_like(w, 2**30))),
        f"w0 = 0, {step} w1": (spread, lambda w: (np.zeros_like(w), w)),
        f"{step} w0, random w1 (seed {SEED})": (spread, with_random),
        "w0 within 2¹⁹ of 2³¹, random w1": (worst, with_random),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.normal_errors")
    parser.add_argument("--every", type=int, default=101, help="step between the words that are tried")
    for name, (words, pairs) in sets(parser.parse_args().every).items():
        largest = max(largest_error(*pairs(part)) for part in chunks(words))
        print(f"| {name} | {len(words) / 1e6:.3g} million | {largest:.2f} |", flush=True)


if __name__ == "__main__":
    main()
