"""What probes find that elements have in common, against matrices written out and against draws."""

from typing import Any

import numpy as np
import pytest

from tests.theory.test_linearised import BE, NOTHING, draws, images, network_of
from wn.engine import noise as noises
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.theory.curves.chain import chain_of
from wn.theory.curves.common import in_common
from wn.theory.curves.linearised import PAIRS, Common, linearise

SIGMA = np.array([0.3, 1.0])
SEEDS = 40


def over_seeds(network: Any, population: Any, x: Any, noise: Any) -> list[Common]:
    chain = chain_of(network, population, BE)
    a = network.clean_activations(BE, *population[:2], x)[min(noise)]
    return [in_common(chain, noise, a, seed) for seed in range(SEEDS)]


def agree(found: Any, wanted: Any) -> None:
    """The mean over seeds is the closed form: |z| < 6."""
    z = (found.mean(axis=0) - wanted) / (found.std(axis=0, ddof=1) / np.sqrt(len(found)) + 1e-6)
    print(f"n={len(found)} seeds 0…: |z| {np.abs(z).max():.2f}")
    assert np.abs(z).max() < 6


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_factors_are_those_of_whole_covariances(kind: str) -> None:
    """Two linear layers one behind the other: variances of Σ over independent elements, and the true ones."""
    network, population = network_of(Flatten(), Linear(5), Linear(4), Linear(3))
    x, noise = images(6), {0: noises.of_kind(kind, SIGMA)}
    found = over_seeds(network, population, x, noise)
    w = [population.params[i].w[0].astype(np.float64) for i in (1, 2, 3)]
    fresh = np.ones((6, 6)) if kind == "additive" else x.reshape(6, 6).astype(np.float64) ** 2  # (F, B)
    c = np.einsum("of,fb,if->oib", w[0], fresh, w[0])
    true = np.einsum("of,fib,oi->ob", w[1], c, w[1])
    alone = w[1] ** 2 @ np.einsum("oob->ob", c)
    assert sorted(found[0].variances) == [2, 3]  # not behind the first: its input is independent
    factors = np.array([one.variances[2][..., 0] for one in found])  # (seeds, P, F)
    agree(factors, np.broadcast_to(true.sum(1) / alone.sum(1), (2, 4)))


def test_pixels_of_a_window_are_as_correlated_as_kernels_overlap() -> None:
    network, population = network_of(
        Convolution(2, (3, 3)), MaxPooling((2, 2)), Flatten(), Linear(3), shape=(1, 8, 8)
    )
    found = over_seeds(network, population, images(8, (1, 8, 8)), {0: noises.additive(SIGMA)})
    w = population.params[0].w[0, :, 0].astype(np.float64)  # (O, KH, KW)
    pixels = ((0, 0), (0, 1), (1, 0), (1, 1))
    patches = np.zeros((4, 2, 4, 4))
    for n, (i, j) in enumerate(pixels):
        patches[n, :, i : i + 3, j : j + 3] = w
    c = np.einsum("acij,bcij->cab", patches, patches)
    wanted = np.array([[c[k, a, b] / c[k, 0, 0] for a, b in PAIRS] for k in range(2)])
    correlations = np.array([one.windows[1] for one in found])  # (seeds, P, C, 6)
    assert np.abs(correlations.mean(axis=0) - wanted).max() < 0.05


def test_what_lines_leave_adds_up_where_units_are_the_same() -> None:
    """A unit that is there twice leaves twice the same; a single one, as much as it has."""
    network, population = network_of(Flatten(), Linear(2), Relu(), Linear(3))
    params = list(population.params)
    for twice in (True, False):
        w = params[1].w.copy()
        w[0, 1] = w[0, 0] if twice else 0
        b = np.full_like(params[1].b, 0.1)
        params[1] = params[1]._replace(w=w, b=b)
        last = params[3].w.copy()
        last[0, :, 1] = last[0, :, 0]
        params[3] = params[3]._replace(w=last)
        population = population._replace(params=tuple(params))
        found = over_seeds(network, population, images(8), {0: noises.additive(SIGMA)})
        agree(np.array([one.left[2] for one in found]), np.full(2, 2.0 if twice else 1.0))


def test_nothing_is_in_common_where_all_is_independent() -> None:
    network, population = network_of(Flatten(), Linear(5), Relu(), Linear(3))
    found = over_seeds(network, population, images(4), {1: noises.multiplicative(SIGMA)})
    assert found[0] == NOTHING


def test_means_behind_poolings_are_nearer_to_draws() -> None:
    """Kernels that add up what neighbours have in common: without it logits are off by half their spread."""
    network, population = network_of(
        *(Convolution(3, (3, 3)), Relu(), MaxPooling((2, 2))),
        *(Convolution(4, (3, 3)), Relu(), MaxPooling((2, 2)), Flatten(), Linear(3)),
        shape=(1, 14, 14),
    )
    params = [p._replace(w=np.abs(p.w)) if p and p.w.ndim == 5 else p for p in population.params]
    population = population._replace(params=tuple(params))
    x, noise = images(8, (1, 14, 14)), {0: noises.additive(np.array([1.0]))}
    chain = chain_of(network, population, BE)
    drawn = draws(network, population, x, noise, 2000)
    mean, spread = drawn.mean(axis=-1), drawn.std(axis=-1)
    apart, ratio = [], []
    for common in (NOTHING, in_common(chain, noise, x, 0)):
        found = linearise(chain, noise, x, common)
        apart.append(np.sqrt(np.mean(((found.mean - mean) / spread) ** 2)))
        ratio.append((np.einsum("pkkb->pkb", found.covariance) / spread**2).mean())
    print(f"n=2000 seed=3: means off by {apart}, ratio of variances {ratio}")
    assert apart[1] < 0.5 * apart[0]
    assert abs(ratio[1] - 1) < 0.1
