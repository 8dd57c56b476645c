"""The distributions of draws, tested at the 1e-9 level, and the tests with planted bugs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from reference import streams as reference
from wn import random
from wn.basics.errors import WnError
from wn.engine.backends.numpy.draws import fill_draws
from wn.random import Purpose

P_LIMIT = 1e-9  # a distribution test with a smaller p-value fails
Z_LIMIT = 6.0
WORD = st.integers(0, 2**32 - 1)
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


OTHERS: dict[str, Any] = {
    "uniform": stats.uniform(-(3**0.5), 2 * 3**0.5),
    "laplace": stats.laplace(0, 0.5**0.5),
}
MOMENTS = {"uniform": (1, 9 / 5, 27 / 7, 9), "laplace": (1, 6, 90, 2520)}  # E z², E z⁴, E z⁶, E z⁸


def is_distributed(z: Any, name: str) -> bool:
    """Whether neither equally likely bins nor the first four moments reject a distribution of variance 1."""
    x, law = z.astype(np.float64).ravel(), OTHERS[name]
    counts = np.bincount((law.cdf(x) * 2048).astype(np.int64).clip(0, 2047), minlength=2048)
    p = float(stats.chisquare(counts).pvalue)
    second, fourth, sixth, eighth = MOMENTS[name]
    spreads = (second, fourth - second**2, sixth, eighth - fourth**2)
    scores = [
        float(((x**k).mean() - mean) * math.sqrt(x.size / spread))
        for k, mean, spread in zip((1, 2, 3, 4), (0, second, 0, fourth), spreads, strict=True)
    ]
    print(f"{name}: n {x.size}, p {p:.3g}, z of the first four moments {np.round(scores, 2)}")
    return p > P_LIMIT and max(map(abs, scores)) < Z_LIMIT


@pytest.mark.parametrize("name", OTHERS)
def test_other_draws_have_their_distribution(name: str) -> None:
    assert is_distributed(drawn(distribution=name), name)


@pytest.mark.parametrize("bug", ["shifted", "skewed", "clipped", "normal"])
@pytest.mark.parametrize("name", OTHERS)
def test_planted_bugs_in_other_draws_are_noticed(name: str, bug: str) -> None:
    bugs = BUGS | {"clipped": lambda z: np.clip(z, -1.7, 1.7), "normal": lambda z: drawn(z.shape)}
    assert not is_distributed(bugs[bug](drawn(distribution=name)), name)


def test_the_far_tail_of_laplace_draws() -> None:
    """Given the top 17 bits 0 of 31, exp(−√2·z)·2^17 is uniform on (0, 1): all draws beyond 8.33."""
    words = random.sample_words(np, 5, np.arange(200_000), 0, Purpose.SUBSET)[0] >> np.uint32(18)
    z = random.laplace_from_word(np, words).astype(np.float64)
    p = stats.kstest(np.exp(-math.sqrt(2) * z) * 2**17, "uniform").pvalue
    print(f"n {z.size}, seed 5, from {z.min()} to {z.max()}, p {p}")
    assert z.min() > 8.33
    assert z.max() > 13
    assert p > P_LIMIT


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


# ---- other distributions ----------------------------------------------------------------------------------

FROM_WORD = {"uniform": random.uniform_from_word, "laplace": random.laplace_from_word}
EDGE_WORDS = sorted(
    {
        (k * 2**30 + s * 2**e + d) % 2**32
        for k in range(4)
        for s in (1, -1)
        for e in range(30)
        for d in (-1, 0, 1)
    }
)


@pytest.mark.parametrize("name", FROM_WORD)
def test_other_draws_are_near_the_reference(name: str) -> None:
    """|δz| < 1e-6·(1 + |z|), at edges of all magnitudes and at random words."""
    words = np.array(EDGE_WORDS + np.random.default_rng(13).integers(0, 2**32, 50_000).tolist(), np.uint32)
    z = FROM_WORD[name](np, words)
    exact = np.array([getattr(reference, name)(word) for word in words.tolist()])
    error = float((np.abs(z - exact) / (1 + np.abs(exact))).max())
    print(f"{name}: largest error {error * 1e6:.3f}e-6·(1 + |z|), {words.size} words, seed 13")
    assert z.dtype == np.float32
    assert error < 1e-6
    assert np.array_equal(np.sign(z), np.where(words >= 2**31, -1, 1))


def test_how_far_other_draws_reach() -> None:
    """√3 for uniform ones; 32·ln 2/√2 = 15.68 for Laplace's, whose smallest is 2⁻³²/√2."""
    words = np.array([0, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)
    uniform, laplace = (FROM_WORD[name](np, words).astype(float) for name in ("uniform", "laplace"))
    assert np.abs(uniform).max() == float(np.float32(3**0.5))
    assert uniform[[0, 3]].tolist() == pytest.approx([3**0.5 * 2.0**-32, -(3**0.5) * 2.0**-32], rel=1e-6)
    reach, least = 32 * math.log(2) / 2**0.5, 2.0**-32 / 2**0.5
    assert laplace.tolist() == pytest.approx([reach, least, -reach, -least], rel=2e-6)


def test_a_dropped_term_of_the_logarithm_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "LOG_POLYNOMIAL", random.LOG_POLYNOMIAL[:-1])
    with pytest.raises(AssertionError):
        test_other_draws_are_near_the_reference("laplace")


@given(seed=st.integers(0, 2**64 - 1), sample=WORD, feature=st.integers(0, 9), epoch=WORD)
def test_a_draw_has_the_address_of_the_reference(seed: int, sample: int, feature: int, epoch: int) -> None:
    word = random.stream_word(Purpose.EVAL_ADD, 3, 9)
    for name in random.DISTRIBUTIONS:
        place = (np, seed, np.array([sample]), feature + 1, epoch, Purpose.EVAL_ADD, 3, 9)
        z = float(random.standard_draws(*place, distribution=name)[feature, 0])
        exact = reference.draw(seed, sample, feature, epoch, word, name)
        assert abs(z - exact) < 1e-6 * (1 + abs(exact))


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(
        WnError, match=r"unknown distribution 'cauchy': allowed are normal, uniform, laplace$"
    ):
        random.standard_draws(np, 1, [0], 1, 0, Purpose.INIT, distribution="cauchy")


def test_streams_of_other_distributions_never_change() -> None:
    pinned = {
        "uniform": "3fc81553 be851096 be856bb3 beb74a4f bf97776d "
        "3e5c4d32 bf0c4f22 3f9080cc 3eeddc91 3fafd69b",
        "laplace": "3d9495a4 bdeb6f87 bdec1ea0 be27a623 bf5013ca "
        "3fbcc888 be89bb6a 3e9af726 3f6e3605 3e27d203",
    }
    for name, bits in pinned.items():
        z = random.standard_draws(np, 1, np.array([0, 59_999]), 5, 7, Purpose.TRAIN_ADD, 3, 2, name)
        assert " ".join(f"{b:08x}" for b in z.view(np.uint32).ravel().tolist()) == bits
