"""The distribution of the normal draws, tested at the 1e-9 level, and the tests with planted bugs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from wn import random
from wn.engine.backends.numpy.noise import fill_draws
from wn.random import Purpose

P_LIMIT = 1e-9  # a distribution test with a smaller p-value fails
Z_LIMIT = 6.0
SHAPE = (1024, 4096)  # 4.2 million draws


def drawn(shape: tuple[int, int] = SHAPE, seed: int = 21, first: int = 0, **address: Any) -> Any:
    out = np.empty(shape, np.float32)
    place = {"epoch": 0, "purpose": Purpose.TRAIN_ADD, **address}
    fill_draws(out, seed, np.arange(first, first + shape[1]), **place)
    return out


def chi_square_p(z: Any, bins: int = 2048) -> float:
    """p-value of the counts in equally likely bins of the standard normal distribution."""
    counts = np.bincount((special.ndtr(z.ravel()) * bins).astype(np.int64), minlength=bins)
    return float(stats.chisquare(counts).pvalue)


def tail_p(z: Any, limit: float) -> float:
    """Two-sided binomial p-value of the number of draws beyond ±limit."""
    count, chance = int(np.count_nonzero(np.abs(z) > limit)), math.erfc(limit / math.sqrt(2))
    beyond = stats.binom(z.size, chance)
    return min(1.0, 2 * min(float(beyond.cdf(count)), float(beyond.sf(count - 1))))


def moment_scores(z: Any) -> dict[str, float]:
    """z-scores of the mean, the variance, the third and the fourth moment."""
    x = z.astype(np.float64).ravel()
    square, n = x * x, x.size
    return {
        "mean": float(x.mean() * math.sqrt(n)),
        "variance": float((square.mean() - 1) * math.sqrt(n / 2)),
        "third": float((square * x).mean() * math.sqrt(n / 15)),
        "fourth": float(((square * square).mean() - 3) * math.sqrt(n / 96)),
    }


def is_normal(z: Any, label: str) -> bool:
    """Whether no check of the distribution rejects; prints every figure with n."""
    p_values = {"chi-square": chi_square_p(z), **{f"beyond {k}": tail_p(z, k) for k in (3.0, 4.0, 5.0)}}
    scores = moment_scores(z)
    print(label, f"n {z.size}", "p:", p_values, "z:", scores)
    return min(p_values.values()) > P_LIMIT and max(map(abs, scores.values())) < Z_LIMIT


def test_draws_are_normal() -> None:
    assert is_normal(drawn(), "seed 21")


BUGS: dict[str, Callable[[Any], Any]] = {
    "scaled": lambda z: z * np.float32(1.003),
    "shifted": lambda z: z + np.float32(0.004),
    "no tails": lambda z: np.clip(z, -4, 4),
    "coarse": lambda z: np.round(z * 64) / 64,
    "skewed": lambda z: z + np.float32(0.003) * (z * z - 1),
}


@pytest.mark.parametrize("name", BUGS)
def test_the_checks_of_the_distribution_notice_planted_bugs(name: str) -> None:
    assert not is_normal(BUGS[name](drawn()), name)


def test_far_tail_of_the_radius() -> None:
    """Given w0 < 2^14, exp(−r²/2)·2^18 is uniform on (0, 1): all radii beyond 4.99."""
    words = random.sample_words(np, 5, np.arange(200_000), 0, Purpose.SUBSET)[0] >> np.uint32(18)
    radius = random.normals_from_words(np, words, np.zeros_like(words))[0].astype(np.float64)
    p = stats.kstest(np.exp(-(radius**2) / 2) * 2**18, "uniform").pvalue
    print(f"n {radius.size}, seed 5, radii from {radius.min()} to {radius.max()}, p {p}")
    assert radius.min() > 4.99
    assert radius.max() > 6
    assert p > P_LIMIT


def correlation_scores(x: Any, y: Any) -> tuple[float, float]:
    """z-scores of the correlation of x and y, and of their squares, for independent standard normals."""
    a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    scale = math.sqrt(a.size)
    return float((a * b).mean() * scale), float(((a * a - 1) * (b * b - 1)).mean() / 2 * scale)


def pairs_to_compare() -> dict[str, tuple[Any, Any]]:
    z = drawn((256, 4096))
    others = {
        "site": drawn((256, 4096), site=1),
        "repetition": drawn((256, 4096), repetition=1),
        "epoch": drawn((256, 4096), epoch=1),
        "purpose": drawn((256, 4096), purpose=Purpose.TRAIN_MUL),
        "seed": drawn((256, 4096), seed=22),
        "high word of the seed": drawn((256, 4096), seed=21 + 2**32),
        "sample shifted by a batch": drawn((256, 4096), first=4096),
    }
    features = {f"feature lag {lag}": (z[:-lag], z[lag:]) for lag in (1, 2, 3, 4, 5, 8)}
    samples = {f"sample lag {lag}": (z[:, :-lag], z[:, lag:]) for lag in (1, 2, 16)}
    return features | samples | {name: (z, other) for name, other in others.items()}


def test_no_correlation_across_any_part_of_the_address() -> None:
    for name, (x, y) in pairs_to_compare().items():
        scores = correlation_scores(x, y)
        print(f"{name}: n {x.size}, seed 21, z {scores}")
        assert max(map(abs, scores)) < Z_LIMIT, name


def test_the_correlation_check_notices_planted_bugs() -> None:
    z, other = drawn((256, 4096)), drawn((256, 4096), site=1)
    mixed = np.float32(0.01) * z + np.float32(math.sqrt(1 - 1e-4)) * other
    same_radius = np.abs(z) * np.sign(other)
    assert abs(correlation_scores(z, mixed)[0]) > Z_LIMIT
    assert abs(correlation_scores(z, same_radius)[1]) > Z_LIMIT
