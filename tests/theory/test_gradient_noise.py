"""Signal and noise of gradients: vectors with known parts, a network with known gradients, batches."""

import numpy as np
import pytest

from tests.engine.twin import DENSE, random_network
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.noise import additive, none
from wn.engine.training import Population
from wn.theory.gradient_noise import GradientNoise, GradientPairs, gradient_noise

BE = backends.get("numpy")
Z_LIMIT, SEED, SEEDS = 6.0, 4, 25


def test_known_parts_are_found() -> None:
    """g = c + a·u + b·v: images u shared by a pair, draws v not; ‖c‖² = 5, traces 9·4 and 6·4/4."""
    rng, found = np.random.default_rng(SEED), []
    c = [np.array([[1.0, 2.0]]), np.zeros((1, 2, 2))]
    for _ in range(400):
        pairs = GradientPairs()
        for _ in range(10):
            shared = [3 * rng.standard_normal(a.shape) for a in c]
            first, second = (
                [a + s + 0.5 * rng.standard_normal(a.shape) for a, s in zip(c, shared, strict=True)]
                for _ in range(2)
            )
            pairs.add(first, second)
        found.append([float(part[0]) for part in pairs.result()])
    values = np.array(found)
    z = (values.mean(axis=0) - [5, 9 * 6, 0.25 * 6]) / (values.std(axis=0, ddof=1) / np.sqrt(400))
    print(f"z = {z}, n = 400 × 10 pairs, seed = {SEED}")
    assert np.abs(z).max() < Z_LIMIT


def measured(batch_size: int, seeds: int, sigma: float) -> np.ndarray:
    """(seeds, 3, P) of a small network under noise at the input."""
    params, states = random_network(DENSE, 2, 0)
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((1, 1, 2, 3, 40)), rng.integers(0, 3, 40)
    noise = {0: additive(sigma)}
    return np.array(
        [
            gradient_noise(
                BE,
                DENSE,
                Population(params, states, (10 * seed, 10 * seed + 1)),
                x,
                labels,
                noise,
                batch_size=batch_size,
                pairs=10,
                seed=seed,
            )
            for seed in range(seeds)
        ]
    )


def test_both_parts_fall_with_the_batch_and_the_signal_stays() -> None:
    small, large = measured(4, SEEDS, 0.5), measured(16, SEEDS, 0.5)
    large[:, 1:] *= 4
    error = np.sqrt((small.var(axis=0, ddof=1) + large.var(axis=0, ddof=1)) / SEEDS)
    z = (small.mean(axis=0) - large.mean(axis=0)) / error
    print(f"max |z| = {np.abs(z).max():.2f}, n = {SEEDS} × 10 pairs")
    assert np.abs(z).max() < Z_LIMIT
    assert (small.mean(axis=0)[2] > 10 * error[2]).all()  # there is noise of the draws


def test_without_noise_only_images_vary() -> None:
    params, states = random_network(DENSE, 1, 0)
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((1, 1, 2, 3, 8)), rng.integers(0, 3, 8)
    population = Population(params, states, (1,))
    found = gradient_noise(BE, DENSE, population, x, labels, {0: none()}, batch_size=3, pairs=200)
    assert found.draws == 0
    each = [
        gradient_noise(BE, DENSE, population, x[..., [n]], labels[[n]], {}, batch_size=1, pairs=2).signal[0]
        for n in range(8)
    ]
    # one image has no variance: its signal is ‖g_n‖², and their mean is signal + batch size · images
    total = found.signal[0] + 3 * found.images[0]
    assert total == pytest.approx(np.mean(each), rel=0.1)
    assert GradientNoise(np.ones(1), np.zeros(1), np.zeros(1)).ratio == np.inf


def test_what_does_not_fit_is_refused() -> None:
    params, states = random_network(DENSE, 1, 0)
    population, x, labels = Population(params, states, (1,)), np.zeros((1, 1, 2, 3, 4)), np.zeros(4, np.int64)
    for options, noise, message in [
        ({"pairs": 1}, {}, "number of pairs"),
        ({"batch_size": 0}, {}, "batch size"),
        ({}, {9: none()}, "has no site 9"),
        ({}, {0: additive([1.0, 2.0])}, "values for 2 members"),
    ]:
        with pytest.raises(WnError, match=message):
            gradient_noise(BE, DENSE, population, x, labels, noise, **options)
    with pytest.raises(WnError, match="at least 2"):
        GradientPairs().result()
