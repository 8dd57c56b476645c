"""Compiled loops of linearised moments against the plain versions."""

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from wn.theory.curves.linearised import PAIRS
from wn.theory.kernels import lines, windows
from wn.theory.maximum import maximum_independent, pair_maximum
from wn.theory.rectified import relu_moments


def test_relu_loop_is_the_plain_version() -> None:
    rng = np.random.default_rng(0)
    m = rng.normal(size=(2, 50, 7)) * 10.0 ** rng.uniform(-3, 2, (2, 50, 7))
    v = 10.0 ** rng.uniform(-6, 2, m.shape)
    m, v = m.astype(np.float32), v.astype(np.float32)
    mean, variance, gate, rest = (np.empty_like(m) for _ in range(4))
    lines.relu(m, v, mean, variance, gate, rest)
    plain, s = relu_moments(m, v), np.sqrt(v)
    assert np.abs(mean - plain.mean).max() < 1e-5 * np.abs(m).max()
    assert np.abs((mean - plain.mean) / (s + np.abs(m))).max() < 1e-6
    assert np.abs((variance - plain.variance) / v).max() < 1e-5
    assert np.abs(gate - plain.gate).max() < 1e-6
    assert np.abs((rest - (plain.variance - plain.gate**2 * v)) / v).max() < 1e-5


def test_relu_loop_without_variance_is_the_relu() -> None:
    m = np.array([[[-2.0, 0.0, 3.0]]], np.float32)
    mean, variance, gate, rest = (np.empty_like(m) for _ in range(4))
    lines.relu(m, np.zeros_like(m), mean, variance, gate, rest)
    assert np.abs(mean - [0, 0, 3]).max() < 1e-12
    assert (variance == 0).all()
    assert (rest == 0).all()
    assert np.abs(gate[0, 0, [0, 2]] - [0, 1]).max() < 1e-12


@pytest.mark.parametrize("cut", [False, True])
def test_pool_loop_is_the_larger_of_a_pair(cut: bool) -> None:
    """Two pixels that can win: the exact moments, by an integral; odd rows and columns get no gate."""
    m = np.full((1, 1, 3, 3, 4), -1e3, np.float32)
    v = np.full_like(m, 1e-4)
    m[0, 0, 0, 0], m[0, 0, 0, 1] = [0.5, -0.5, 0, 2], [0, 0.3, 0, 1]
    v[0, 0, 0, 0], v[0, 0, 0, 1] = [1, 2, 0.5, 0.3], [0.5, 1, 0.5, 2]
    shape = (1, 1, 1, 1, 4)
    mean, variance, rest = (np.empty(shape, np.float32) for _ in range(3))
    gates = np.empty_like(m)
    independent = np.zeros((1, 1, 6), np.float32)
    lines.pool(m, v, independent, cut, mean, variance, gates, rest)
    t = np.linspace(-12, 12, 40_001)[:, None]
    both = ndtr((t - m[0, 0, 0, 0]) / np.sqrt(v[0, 0, 0, 0])) * ndtr(
        (t - m[0, 0, 0, 1]) / np.sqrt(v[0, 0, 0, 1])
    )
    density, y = np.diff(both, axis=0), (t[1:] + t[:-1]) / 2
    y = np.maximum(y, 0) if cut else y
    first = (y * density).sum(axis=0)
    second = ((y - first) ** 2 * density).sum(axis=0)
    tolerance = 0.03 if cut else 1e-5  # what is cut is taken for Gaussian
    assert np.abs(mean.ravel() - first).max() < tolerance
    assert np.abs(variance.ravel() - second).max() < 2 * tolerance
    assert (gates[:, :, 2] == 0).all()
    assert (gates[:, :, :, 2] == 0).all()
    if not cut:
        assert np.abs(gates[0, 0, 0, 0] + gates[0, 0, 0, 1] - 1).max() < 1e-6


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_loop_of_independent_windows_is_the_integral(kind: str, cut: bool) -> None:
    """Ten nodes against the integral to 1e-6, in units of the largest spread, for little to much noise."""
    rng = np.random.default_rng(0)
    shape = (3, 20, 4, 4, 7)
    m = rng.normal(-0.3, 1, shape)
    m = m if cut else np.maximum(m, 0)
    sigma = np.array([0.3, 2, 10]).reshape(3, 1, 1, 1, 1)
    v = np.broadcast_to(sigma**2, shape) if kind == "additive" else sigma**2 * m**2
    mean, variance, rest = (np.empty((3, 20, 2, 2, 7), np.float32) for _ in range(3))
    gates = np.empty(shape, np.float32)
    windows.independent(m.astype(np.float32), v.astype(np.float32), cut, mean, variance, gates, rest)

    def window(x: Any) -> Any:
        return np.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])

    wanted = maximum_independent(window(m), window(v), 0.0 if cut else None)
    scale = np.sqrt(window(v).max(axis=0)) + 1e-6
    assert np.sqrt(np.mean(((mean - wanted.mean) / scale) ** 2)) < 0.003
    assert abs(np.mean((mean - wanted.mean) / scale)) < 0.001
    assert np.sqrt(np.mean(((variance - wanted.variance) / scale**2) ** 2)) < 0.01
    carried = ((window(gates) - wanted.gates) ** 2 * window(v)).sum(axis=0) / scale**2
    assert np.sqrt(carried.mean()) < 0.06
    assert (gates >= 0).all()


@pytest.mark.parametrize("cut", [False, True])
def test_pool_loop_of_correlated_pixels_is_clarks(cut: bool) -> None:
    """The window in two pairs, each by the plain formula of a pair of any covariance."""
    rng = np.random.default_rng(0)
    shape = (2, 3, 4, 2, 7)
    m, v = rng.normal(size=shape), rng.uniform(0.1, 2, shape)
    mixed = rng.normal(size=(2, 3, 4, 5))  # four pixels with five causes
    r = np.einsum("pcik,pcjk->pcij", mixed, mixed)
    spread = np.sqrt(np.einsum("pcii->pci", r))
    r = r / spread[..., None] / spread[..., None, :]
    mean, variance, rest = (np.empty((2, 3, 2, 1, 7), np.float32) for _ in range(3))
    gates = np.empty(shape, np.float32)
    within = np.stack([r[:, :, a, b] for a, b in PAIRS], axis=-1)
    given = (a.astype(np.float32) for a in (m, v, within))
    lines.pool(*given, cut, mean, variance, gates, rest)

    def window(x: Any) -> list[Any]:
        return [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]

    ms, vs = window(m), window(v)
    c = [[r[:, :, i, j, None, None, None] * np.sqrt(vs[i] * vs[j]) for j in range(4)] for i in range(4)]
    one, other = (pair_maximum(ms[i], vs[i], ms[i + 1], vs[i + 1], c[i][i + 1]) for i in (0, 2))
    pa, pb = one.gate, other.gate
    g = [pa, 1 - pa, pb, 1 - pb]
    between = sum(g[i] * g[j] * c[i][j] for i in (0, 1) for j in (2, 3))
    whole = pair_maximum(one.mean, one.variance, other.mean, other.variance, between)
    g = [whole.gate * g[0], whole.gate * g[1], (1 - whole.gate) * g[2], (1 - whole.gate) * g[3]]
    if cut:
        above = relu_moments(whole.mean, whole.variance)
        g = [above.gate * one for one in g]
        whole = above
    carried = sum(g[i] * g[j] * c[i][j] for i in range(4) for j in range(4))
    assert np.abs(mean - whole.mean).max() < 1e-5
    assert np.abs(variance - whole.variance).max() < 1e-5
    assert np.abs(rest - np.maximum(whole.variance - carried, 0)).max() < 1e-5
    for found, wanted in zip(window(gates), g, strict=True):
        assert np.abs(found - wanted).max() < 1e-5
