"""Stein's identity, and gradients under noise: unbiased with the draws of forward, biased with fresh ones."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.engine.twin import random_network
from tests.theory.pathwise import (
    BE,
    KINDS,
    OneImage,
    along,
    batch_gradients,
    draws_of,
    expected_loss,
    expected_slope,
    first_weights,
    image_losses,
    site_draws,
    small_case,
    z_score,
)
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.network import Network, Node
from wn.engine.noise import additive
from wn.engine.optim import arrays
from wn.engine.training import Population

Floats = NDArray[np.float64]
Z_LIMIT = 6.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_draws_the_expected_loss(kind: str) -> None:
    of = small_case(kind)
    values = np.concatenate([draws_of(of, 2000, epoch)[2] for epoch in range(50)])
    z = z_score(values, expected_loss(of, of.population.params))
    print(f"z = {z:.2f}, n = 50 × 2000, seed = 21")
    assert abs(z) < Z_LIMIT


@pytest.mark.parametrize("kind", KINDS)
def test_shared_draws_are_unbiased_and_fresh_ones_are_not(kind: str) -> None:
    """Against differences of the expected loss, along a random direction and along the first weights."""
    of, batches, count = small_case(kind), 100, 1000
    flat, rng = arrays(of.population.params), np.random.default_rng(3)
    anywhere = [rng.standard_normal(array.shape) for array in flat]
    gradients = [batch_gradients(of, batches, count, fresh) for fresh in (False, True)]
    for name, direction in (("random", anywhere), ("weights", first_weights(of))):
        slope = expected_slope(of, direction)
        shared, fresh = (z_score(along(g, direction), slope) for g in gradients)
        print(f"{name}: z {shared:.2f}, fresh draws {fresh:.1f}, n = {batches} × {count}, seeds 21, 3")
        assert abs(shared) < Z_LIMIT
        assert name == "random" or abs(fresh) > 2 * Z_LIMIT


@pytest.mark.parametrize("kind", KINDS)
def test_stein(kind: str) -> None:
    """E[z L] = s E[∂L/∂y] for y = x + s z, for each of two inputs: scores against gradients, in pairs."""
    of, differences = small_case(kind), []
    x, count = of.x.reshape(-1), 2000
    s = (of.noise.sigma_add + of.noise.sigma_mul * x)[:, None]  # with its sign: y = x + x σ z
    clean = image_losses(of, x[:, None])
    for epoch in range(100):
        z = site_draws(of, count, epoch)
        y = x[:, None] + s * z
        dlogits, cache, loss = draws_of(of, count, epoch)
        assert loss[0] == pytest.approx(image_losses(of, y).mean(), rel=1e-6)  # the engine's draws are z
        without_noise = cache._replace(noise=tuple(None for _ in cache.noise))
        dy, _ = of.network.backward(BE, dlogits * count, without_noise, need_dx=True)
        score = z * (image_losses(of, y) - clean)  # a loss less at every draw changes no mean
        differences.append((score - s * np.asarray(dy).reshape(2, count)).mean(axis=1))
    values = np.array(differences)
    for i in range(2):
        z_of = z_score(values[:, i], 0.0)
        print(f"input {i}: z = {z_of:.2f}, n = 100 × {count}, seed = 21")
        assert abs(z_of) < Z_LIMIT


def test_fresh_draws_at_a_linear_layer_lack_a_decay_of_weights() -> None:
    """L = cross-entropy of W(x + σz): E dW misses σ² E[S] W with fresh draws (Stein)."""
    network = Network(
        "linear", (Node("flatten", Flatten(), site=False), Node("logits", Linear(3))), (1, 1, 2)
    )
    params, states = random_network(network, 1, 2)
    x = np.array([0.3, 0.9]).reshape(1, 1, 1, 2, 1)
    of = OneImage(network, Population(params, states, (5,)), x, 0, 0, additive(0.8))
    shared, fresh = (batch_gradients(of, 100, 1000, fresh) for fresh in (False, True))
    missing = np.array([a[0] - b[0] for a, b in zip(shared, fresh, strict=True)])[:, 0]  # (100, 3, 2)
    curvatures = []
    for epoch in range(1000, 1020):
        dlogits, _, _ = draws_of(of, 1000, epoch)
        p = dlogits[0] * 1000 + np.eye(3)[:, [0]]
        curvatures.append(np.diag(p.mean(axis=1)) - p @ p.T / 1000)
    expected = 0.8**2 * np.mean(curvatures, axis=0) @ params[1].w[0]
    error = missing.std(axis=0, ddof=1) / np.sqrt(100)
    z = (missing.mean(axis=0) - expected) / np.hypot(error, 0.01 * np.abs(expected))
    print(f"max |z| = {np.abs(z).max():.2f}, n = 100 × 1000, seed = 5")
    assert np.abs(z).max() < Z_LIMIT
    assert np.abs(expected).max() > 20 * error.max()
