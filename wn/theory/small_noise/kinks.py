"""The kinks of ReLUs and max poolings behind a noisy site, and what they add to the expected loss.

Derived in docs/theory/identities.md.
"""

from collections.abc import Iterator
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from wn.basics.errors import WnError
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.layers.windows import tiles
from wn.theory.small_noise.behind import Behind

Floats = NDArray[np.float64]

ROWS = 1 << 22  # numbers in the gradients that are taken back at once: 32 MiB
POINTS = 256  # quasi-random points, and as many opposite ones, of the expected largest of a window
DENSITY_OF_0 = (2 * np.pi) ** -0.5


class ReluKinks(NamedTuple):
    """U kinks of a ReLU layer for B images, (U, B): its units y = max(z, 0).

    bend: ∂L/∂y; z: the clean pre-activation; rate: standard deviation of z per σ, to first order.
    """

    bend: Floats
    z: Floats
    rate: Floats

    def rise(self, sigma: float) -> Floats:
        """Σ_i ∂L/∂y_i · E[max(z_i + s_i ε, 0) − max(z_i, 0)] with s = σ·rate, normal ε: (B,)."""
        return np.asarray((self.bend * half_wave(self.z, sigma * self.rate)).sum(axis=0))


class PoolingKinks(NamedTuple):
    """U windows of a max pooling for B images: y = max(z_1, …, z_J), and 0 too behind a ReLU.

    bend: (U, B), ∂L/∂y; z: (J, U, B); root: (J, J, U, B), a root A of their covariance A·Aᵀ per σ². With a
    ReLU before the pooling z are what the ReLU sees, and a last z with root 0 is its 0.
    """

    bend: Floats
    z: Floats
    root: Floats

    def rise(self, sigma: float) -> Floats:
        """Σ_i ∂L/∂y_i · E[max_j(z_ij + σ (A ε)_ij) − max_j z_ij]: (B,), by quasi-random points."""
        total, first = np.zeros_like(self.bend), self.z.argmax(axis=0)[None]
        clean = np.take_along_axis(self.z, first, 0)
        for point in normal_points(len(self.z)):
            change = sigma * np.einsum("jkub,k->jub", self.root, point)
            linear = clean + np.take_along_axis(change, first, 0)  # opposite points make its change 0
            total += (self.z + change).max(axis=0) - linear[0]
        return np.asarray((self.bend * total / (2 * POINTS)).sum(axis=0))


Kinks = ReluKinks | PoolingKinks


def half_wave(z: ArrayLike, s: ArrayLike) -> Floats:
    """E[max(z + s ε, 0)] − max(z, 0) = s [φ(α) − α Φ(−α)], α = |z|/s, for normal ε; 0 where s is 0.

    z and s ≥ 0: arrays that broadcast. Over z its integral is s²/2, whatever the distribution of ε.
    Derived in docs/theory/identities.md.
    """
    distance, spread = np.broadcast_arrays(np.abs(np.asarray(z, np.float64)), np.asarray(s, np.float64))
    alpha = distance / np.where(spread > 0, spread, 1)
    return np.asarray(spread * (DENSITY_OF_0 * np.exp(-(alpha**2) / 2) - alpha * ndtr(-alpha)))


def kinks_of(run: Behind, dlogits: Floats) -> list[Kinks]:
    """The kinks of every ReLU and max pooling behind a site; dlogits: (K, B), of each image's own loss.

    A ReLU right before a max pooling is taken with it: the largest of a window and 0 is one kink of several
    sides. Every row is a gradient that goes back to the site: as many as there are units.
    """
    found, gradients = list[Kinks](), run.gradients(dlogits)
    layers = [type(step.layer) for step in run.steps]
    for depth, layer in enumerate(layers):
        relu_before = depth > 0 and layers[depth - 1] is Relu
        if layer is MaxPooling:
            found.append(_of_pooling(run, depth, relu_before, gradients[depth]))
        elif layer is Relu and MaxPooling not in layers[depth + 1 : depth + 2]:
            found.append(_of_relu(run, depth, gradients[depth]))
    return found


def _of_relu(run: Behind, depth: int, dy: Floats) -> ReluKinks:
    z = run.steps[depth].x[0]  # (…, B)
    rates = []
    for units in _in_parts(z.shape, 1, run):
        rows = np.zeros((len(units[0]), *z.shape))
        rows[np.arange(len(rows)), *units] = 1  # each row is ∂z_i/∂z
        rates.append(np.sqrt((run.to_site(rows, depth) ** 2).sum(axis=1)))
    batch = z.shape[-1]
    return ReluKinks(dy.reshape(-1, batch), z.reshape(-1, batch), np.concatenate(rates))


def _of_pooling(run: Behind, depth: int, relu_before: bool, dy: Floats) -> PoolingKinks:
    layer = run.steps[depth].layer
    assert isinstance(layer, MaxPooling)
    if not layer.usual:
        raise WnError(f"the kinks of {layer} are not known: only of windows that tile the image")
    window, before = layer.sliding.size, depth - relu_before
    z = run.steps[before].x
    places, roots = prod(window), list[Floats]()
    for units in _in_parts(dy.shape[1:], places, run):
        rows = np.zeros((places, len(units[0]), *z.shape[1:]))
        for place, rows_of_place in enumerate(rows):
            tile = list(tiles(rows_of_place, window))[place]  # (units, C, H', W', B): pixels at this place
            tile[np.arange(len(tile)), *units] = 1
        back = run.to_site(rows.reshape(-1, *z.shape[1:]), before)
        back = back.reshape(places, -1, *back.shape[1:])  # (J, units, N, B)
        roots.append(_root(np.einsum("junb,kunb->ubjk", back, back)))
    values = np.stack([tile[0].reshape(-1, z.shape[-1]) for tile in tiles(z, window)])  # (J, U, B)
    root = np.concatenate(roots, axis=2)  # (J, J, U, B)
    if relu_before:
        values, root = (
            np.pad(values, ((0, 1), (0, 0), (0, 0))),
            np.pad(root, ((0, 1), (0, 1), (0, 0), (0, 0))),
        )
    return PoolingKinks(dy.reshape(-1, dy.shape[-1]), values, root)


def _root(covariance: Floats) -> Floats:
    """A with A·Aᵀ = covariance (U, B, J, J), which may be singular: (J, J, U, B)."""
    values, vectors = np.linalg.eigh(covariance)
    return np.moveaxis(vectors * np.sqrt(np.maximum(values, 0))[..., None, :], (2, 3), (0, 1))


def _in_parts(shape: tuple[int, ...], rows_each: int, run: Behind) -> Iterator[tuple[NDArray[np.intp], ...]]:
    """Yield the places of the units of (…, B), in parts whose gradients fit in memory."""
    largest = max(run.at.size, *(step.x.size for step in run.steps))
    count = max(1, ROWS // (rows_each * largest))
    for start in range(0, prod(shape[:-1]), count):
        units = np.arange(start, min(start + count, prod(shape[:-1])))
        yield np.unravel_index(units, shape[:-1])


@cache
def normal_points(dimensions: int) -> Floats:
    """2·POINTS points that are spread as standard normals, each with its opposite: (2·POINTS, dimensions)."""
    uniform = qmc.Sobol(dimensions, seed=0).random(POINTS)
    half = ndtri(uniform)
    return np.concatenate([half, -half])
