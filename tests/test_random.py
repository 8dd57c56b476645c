"""The streams: known answers, addresses, independence of the batch, error of the normals."""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from reference import streams as reference
from wn import random
from wn.basics.errors import WnError
from wn.random import Purpose

WORD = st.integers(0, 2**32 - 1)
SEED = st.integers(0, 2**64 - 1)
P_LIMIT = 1e-9  # a distribution test with a smaller p-value fails
Z_LIMIT = 6.0
ONES = 2**32 - 1

# ---- Philox -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ONES,) * 4, (ONES, ONES), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers(counter: tuple[int, int, int, int], key: tuple[int, int], answer: str) -> None:
    for words in (random.philox4x32(np, counter, key), reference.philox4x32(counter, key)):
        assert " ".join(f"{int(word):08x}" for word in words) == answer


@given(st.lists(st.tuples(WORD, WORD, WORD, WORD), min_size=1, max_size=5), st.tuples(WORD, WORD))
def test_philox_equals_the_reference(counters: list[tuple[int, int, int, int]], key: tuple[int, int]) -> None:
    columns = np.array(counters, np.uint32).T
    words = random.philox4x32(np, (columns[0], columns[1], columns[2], columns[3]), key)
    assert all(word.dtype == np.uint32 for word in words)
    assert [tuple(row) for row in np.stack(words, axis=1).tolist()] == [
        reference.philox4x32(counter, key) for counter in counters
    ]


def test_philox_broadcasts_its_counter() -> None:
    words = random.philox4x32(np, (np.arange(3)[:, None], np.arange(5), 7, 8), (1, 2))
    assert [word.shape for word in words] == [(3, 5)] * 4
    assert [int(word[2, 4]) for word in words] == list(reference.philox4x32((2, 4, 7, 8), (1, 2)))


# ---- addresses --------------------------------------------------------------------------------------------


def test_purposes_keep_their_values() -> None:
    assert [(purpose.name, int(purpose)) for purpose in Purpose] == [
        ("INIT", 0),
        ("SHUFFLE", 1),
        ("AUGMENT", 2),
        ("SEED", 3),
        ("SUBSET", 4),
        ("TRAIN_ADD", 5),
        ("TRAIN_MUL", 6),
        ("EVAL_ADD", 7),
        ("EVAL_MUL", 8),
        ("DROPOUT", 9),
    ]


def test_stream_words_are_distinct_fields() -> None:
    assert random.stream_word(Purpose.EVAL_MUL, 0xABC, 0xDEF) == 0x08ABCDEF
    places = [(p, s, r) for p in Purpose for s in (0, 1, 4095) for r in (0, 1, 4095)]
    assert len({random.stream_word(*place) for place in places}) == len(places)


BAD_ADDRESSES: list[tuple[Callable[[], Any], str]] = [
    (lambda: random.stream_word(Purpose.INIT, site=4096), "site must be .* 2\\^12 - 1, got 4096"),
    (lambda: random.stream_word(Purpose.INIT, repetition=-1), "repetition must be .* got -1"),
    (lambda: random.stream_word(cast(Any, 99)), "unknown purpose 99; known: INIT, SHUFFLE"),
    (lambda: random.seed_key(-1), "seed must be an integer from 0 to 2\\^64 - 1, got -1"),
    (lambda: random.seed_key(2**64), "seed must be"),
    (lambda: random.seed_key(True), "seed must be .* got True"),
    (lambda: random.standard_draws(np, cast(Any, "1"), [0], 1, 0, Purpose.INIT), "seed must be .* got '1'"),
    (lambda: random.standard_draws(np, cast(Any, 1.0), [0], 1, 0, Purpose.INIT), "seed must be .* got 1.0"),
    (lambda: random.standard_draws(np, 1, [0], 1, 2**32, Purpose.INIT), "epoch must be .* 2\\^32 - 1"),
    (lambda: random.standard_draws(np, 1, [0], -1, 0, Purpose.INIT), "features must be"),
    (
        lambda: random.standard_draws(np, 1, [2**32], 1, 0, Purpose.INIT),
        "sample ids must be from 0 to 2\\^32 - 1",
    ),
    (lambda: random.standard_draws(np, 1, [-1], 1, 0, Purpose.INIT), "sample ids must be .* got -1 to -1"),
    (
        lambda: random.standard_draws(np, 1, [0.0], 1, 0, Purpose.INIT),
        "sample ids must be integers in one dimension",
    ),
    (
        lambda: random.standard_draws(np, 1, [[0]], 1, 0, Purpose.INIT),
        "sample ids must be integers in one dimension",
    ),
    (lambda: random.sample_words(np, 1, [0], -1, Purpose.AUGMENT), "epoch must be"),
    (lambda: random.uniforms(np, 1, -1, Purpose.INIT), "count must be"),
    (lambda: random.permutation(1, -1, 0), "n must be"),
    (lambda: random.member_seed(1, -1), "repeat must be"),
    (lambda: random.member_seed(-1, 1), "seed must be"),
]


@pytest.mark.parametrize(("call", "message"), BAD_ADDRESSES)
def test_bad_addresses_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(WnError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# ---- a draw belongs to a sample and a feature -------------------------------------------------------------


@given(seed=SEED, sample=WORD, feature=st.integers(0, 40), epoch=WORD, site=st.integers(0, 4095))
@example(2**64 - 1, 2**32 - 1, 3, 2**32 - 1, 4095)
def test_normals_equal_the_scalar_reference(
    seed: int, sample: int, feature: int, epoch: int, site: int
) -> None:
    z = random.standard_draws(np, seed, np.array([sample]), feature + 1, epoch, Purpose.EVAL_ADD, site, 9)
    word = random.stream_word(Purpose.EVAL_ADD, site, 9)
    expected = reference.normal(seed, sample, feature, epoch, word)
    assert z.shape == (feature + 1, 1)
    assert z.dtype == np.float32
    assert abs(float(z[feature, 0]) - expected) < 1e-6 * (1 + abs(expected))


@given(
    samples=st.lists(WORD, min_size=1, max_size=30),
    features=st.integers(1, 13),
    more=st.integers(0, 9),
    order=st.randoms(use_true_random=False),
    cut=st.integers(0, 30),
)
def test_the_batch_does_not_matter(
    samples: list[int], features: int, more: int, order: Any, cut: int
) -> None:
    """The same draws in another order, in two parts, one by one, and with more features asked for."""

    def draw(ids: list[int], count: int) -> Any:
        return random.standard_draws(np, 3, np.array(ids, np.int64), count, 2, Purpose.TRAIN_MUL, 1, 4)

    whole = draw(samples, features)
    places = list(range(len(samples)))
    order.shuffle(places)
    np.testing.assert_array_equal(draw([samples[i] for i in places], features), whole[:, places])
    parts = [draw(samples[:cut], features), draw(samples[cut:], features)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    np.testing.assert_array_equal(draw(samples[-1:], features)[:, 0], whole[:, -1])
    np.testing.assert_array_equal(draw(samples, features + more)[:features], whole)


def test_every_part_of_the_address_changes_the_draws() -> None:
    def draw(seed: int = 1, epoch: int = 0, purpose: Purpose = Purpose.TRAIN_ADD, *place: int) -> bytes:
        return bytes(random.standard_draws(np, seed, np.arange(8), 4, epoch, purpose, *place).tobytes())

    draws = [
        draw(),
        draw(2),
        draw(1 + 2**32),
        draw(1, 1),
        draw(1, 0, Purpose.EVAL_ADD),
        draw(1, 0, Purpose.TRAIN_ADD, 1),
        draw(1, 0, Purpose.TRAIN_ADD, 0, 1),
    ]
    assert len(set(draws)) == len(draws)


# ---- error of the transform -------------------------------------------------------------------------------


def edge_words() -> Any:
    """0, the powers of two, the borders of quadrants and selections, each with its neighbours."""
    centres = {
        0,
        *(2**k for k in range(32)),
        *(k * 2**29 for k in range(8)),
        *(ONES - 2**k for k in range(32)),
    }
    words = sorted({(centre + step) % 2**32 for centre in centres for step in (-2, -1, 0, 1, 2)})
    return np.array(words, np.uint32)


def random_pairs(n: int, seed: int) -> tuple[Any, Any]:
    """Pairs of words of all magnitudes: a third as they come, a third shifted down, a third near 2^32."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**32, (2, n), dtype=np.uint32)
    small = words >> rng.integers(0, 32, (2, n), dtype=np.uint32)
    pick = rng.integers(0, 3, (2, n))
    w0, w1 = np.select([pick == 0, pick == 1], [words, small], ~small)
    return w0, w1


def largest_error(w0: Any, w1: Any) -> float:
    """Largest |z − exact| / (1e-6·(1 + |exact|)); infinite if any z is not finite."""
    worst = 0.0
    for z, exact in zip(random.normals_from_words(np, w0, w1), reference.normal_pairs(w0, w1), strict=True):
        if not np.isfinite(z).all():
            return math.inf
        worst = max(worst, float(np.max(np.abs(z - exact) / (1e-6 * (1 + np.abs(exact))))))
    return worst


def all_edges() -> tuple[Any, Any]:
    edges = edge_words()
    return np.repeat(edges, len(edges)), np.tile(edges, len(edges))


def test_vector_reference_equals_scalar_reference() -> None:
    edges = edge_words()
    pairs = reference.normal_pairs(edges, edges[::-1])
    expected = [reference.normal_pair(int(a), int(b)) for a, b in zip(edges, edges[::-1], strict=True)]
    np.testing.assert_allclose(np.stack(pairs, axis=1), expected, rtol=1e-14, atol=1e-15)


def test_error_is_below_the_bound_everywhere() -> None:
    edges, drawn = largest_error(*all_edges()), largest_error(*random_pairs(2_000_000, seed=11))
    print(f"largest error: {edges:.3f}e-6 (1 + |z|) at edges, {drawn:.3f}e-6 (1 + |z|) in 2e6 pairs, seed 11")
    assert edges < 1
    assert drawn < 1


@pytest.mark.parametrize("name", ["LOG_POLYNOMIAL", "COS_POLYNOMIAL", "SIN_POLYNOMIAL"])
def test_a_dropped_polynomial_term_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(random, name, getattr(random, name)[:-1])
    assert largest_error(*random_pairs(100_000, seed=12)) > 1


def test_coefficients_are_the_chebyshev_fits() -> None:
    for name, fit in reference.normal_polynomials().items():
        shipped = getattr(random, f"{name.upper()}_POLYNOMIAL")
        assert [float(np.float32(c)) for c in shipped] == pytest.approx(fit.tolist(), rel=2e-7)


def test_tails_reach_beyond_six_and_a_half_sigma() -> None:
    word = np.zeros(1, np.uint32)
    for w1, of_pair in ((0, 0), (2**30, 1), (2**31, 0), (3 * 2**30, 1)):
        z = random.normals_from_words(np, word, word + np.uint32(w1))[of_pair]
        assert abs(abs(float(z[0])) - math.sqrt(2 * math.log(2**33))) < 2e-6
        assert abs(float(z[0])) > 6.5


def test_radius_falls_with_the_first_word() -> None:
    """All upper halves of the word: the radius never rises by more than four units in the last place."""
    words = np.arange(2**16, dtype=np.uint32) << np.uint32(16)
    radius = random.normals_from_words(np, words, np.zeros_like(words))[0]
    assert np.all(np.diff(radius) <= 4 * np.spacing(radius[1:]))
    assert np.all(radius > 0)
    assert radius[0] > 6.7
    assert radius[-1] < 0.006


# ---- uniforms, integers, permutations, seeds --------------------------------------------------------------


@given(seed=SEED, count=st.integers(0, 40), site=st.integers(0, 4095), epoch=WORD)
def test_uniforms_are_the_top_bits_of_the_words(seed: int, count: int, site: int, epoch: int) -> None:
    u = random.uniforms(np, seed, count, Purpose.INIT, site, epoch)
    word = random.stream_word(Purpose.INIT, site)
    key = (seed % 2**32, seed // 2**32)
    expected = [
        reference.philox4x32((e // 4, 0, epoch, word), key)[e % 4] // 256 / 2**24 for e in range(count)
    ]
    assert u.dtype == np.float32
    assert u.tolist() == expected


def test_uniforms_are_uniform() -> None:
    u = random.uniforms(np, 31, 1_000_000, Purpose.INIT)
    p = stats.chisquare(np.bincount((u * 1024).astype(np.int64), minlength=1024)).pvalue
    print(f"n {u.size}, seed 31, p {p}")
    assert 0 <= u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert p > P_LIMIT


@given(seed=SEED, samples=st.lists(WORD, max_size=5), epoch=WORD, site=st.integers(0, 4095))
def test_sample_words_equal_the_reference(seed: int, samples: list[int], epoch: int, site: int) -> None:
    words = random.sample_words(np, seed, np.array(samples, np.int64), epoch, Purpose.AUGMENT, site)
    word = random.stream_word(Purpose.AUGMENT, site)
    key = (seed % 2**32, seed // 2**32)
    assert words.shape == (4, len(samples))
    assert words.dtype == np.uint32
    assert words.T.tolist() == [list(reference.philox4x32((0, s, epoch, word), key)) for s in samples]


@given(seed=SEED, n=st.integers(0, 30), epoch=WORD)
def test_permutation_sorts_the_keys_of_the_reference(seed: int, n: int, epoch: int) -> None:
    order = random.permutation(seed, n, epoch)
    word = random.stream_word(Purpose.SHUFFLE)
    key = (seed % 2**32, seed // 2**32)
    blocks = [reference.philox4x32((e // 2, 0, epoch, word), key) for e in range(n)]
    keys = [words[e % 2 * 2] + 2**32 * words[e % 2 * 2 + 1] for e, words in enumerate(blocks)]
    assert order.dtype == np.int64
    assert order.tolist() == sorted(range(n), key=keys.__getitem__)


def test_equal_keys_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.tile(np.array([5, 0, 3, 0], np.uint32), 50)  # keys 5, 3, 5, 3, …
    monkeypatch.setattr(random, "_block_words", lambda *_: words)
    np.testing.assert_array_equal(random.permutation(0, 100, 0), [*range(1, 100, 2), *range(0, 100, 2)])


def test_permutations_are_uniform() -> None:
    """All 24 orders of four, and each of ten items at each of ten places, equally often."""
    orders = np.array([random.permutation(41, 4, epoch) for epoch in range(2400)])
    p = stats.chisquare(np.unique(orders @ 4 ** np.arange(4), return_counts=True)[1]).pvalue
    longer = np.array([random.permutation(41, 10, epoch) for epoch in range(1000)])
    counts = np.array([np.bincount(place, minlength=10) for place in longer.T])
    scores = (counts - 100) / math.sqrt(1000 * 0.1 * 0.9)
    print(f"n 2400 and 1000, seed 41, p {p}, largest |z| {np.abs(scores).max()}")
    assert len(np.unique(orders, axis=0)) == 24
    assert p > P_LIMIT
    assert np.abs(scores).max() < Z_LIMIT


def test_permutations_differ_by_epoch_seed_and_purpose() -> None:
    orders = [
        random.permutation(1, 50, 0),
        random.permutation(1, 50, 1),
        random.permutation(2, 50, 0),
        random.permutation(1, 50, 0, Purpose.SUBSET),
    ]
    assert len({tuple(order) for order in orders}) == 4


def test_member_seeds_are_distinct_across_base_seeds() -> None:
    bases = [*range(200), *(2**32 + k for k in range(50)), 2**64 - 1]
    seeds = {random.member_seed(base, repeat) for base in bases for repeat in range(10)}
    assert len(seeds) == 10 * len(bases)
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert max(seeds) > 2**63


@given(seed=SEED, repeat=WORD)
def test_member_seed_equals_the_reference(seed: int, repeat: int) -> None:
    word = random.stream_word(Purpose.SEED)
    words = reference.philox4x32((repeat, 0, 0, word), (seed % 2**32, seed // 2**32))
    assert random.member_seed(seed, repeat) == words[0] + 2**32 * words[1]


def test_streams_never_change() -> None:
    """Pinned values: if one of them changes, every result computed before can no longer be repeated."""
    z = random.standard_draws(np, 1, np.array([0, 59_999]), 5, 7, Purpose.TRAIN_ADD, 3, 2)
    u = random.uniforms(np, 1, 3, Purpose.INIT, 2)
    assert " ".join(f"{bits:08x}" for bits in z.view(np.uint32).ravel().tolist()) == (
        "bf8fc62c bea10ed2 3f130696 3e74873c beff3b8a 3f8a8151 3f44332c c0060c78 bffdbb39 be1243ce"
    )
    assert (u * 2**24).tolist() == [9811059, 13740236, 9474683]
    assert random.permutation(1, 8, 0).tolist() == [3, 7, 2, 5, 0, 4, 6, 1]
    assert random.member_seed(1, 2) == 0xE1E5EA623C3D0AB5
