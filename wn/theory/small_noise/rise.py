"""The rise of the expected loss under little noise at a site: Gauss–Newton trace and kinks.

    E L(h + σ D^½ ε) − L(h) = σ²/2 · tr(D Jᵀ S J) + Σ_kinks + …,    S = diag(p) − p pᵀ

with the Jacobian J of the logits and their softmax p (Bishop, Neural Computation 7:108, 1995, for additive
noise; Murray and Edwards, IEEE Transactions on Neural Networks 5:792, 1994, for multiplicative noise of
weights). The kinks are what these leave out for ReLUs. Derived in docs/theory/identities.md.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from wn.basics.errors import WnError
from wn.engine.layers.cross_entropy import check_labels
from wn.engine.network import Network
from wn.engine.training import Population
from wn.theory.small_noise.behind import Behind, Kind, behind, members_of
from wn.theory.small_noise.kinks import Kinks, kinks_of

Floats = NDArray[np.float64]

BLOCK = 64  # images at a time


class SmallNoise(NamedTuple):
    """What little noise does to the loss of each image.

    trace: (P, B), tr(D Jᵀ S J); kinks: for each member those of blocks of images, layer by layer.
    """

    trace: Floats
    kinks: tuple[tuple[list[Kinks], ...], ...]

    def smooth(self, sigma: float) -> Floats:
        """The part of the softmax's curvature: σ²/2 · trace, (P, B)."""
        return sigma**2 / 2 * self.trace

    def kinked(self, sigma: float) -> Floats:
        """The part of the kinks, (P, B); for normal noise."""
        if sigma < 0:
            raise WnError(f"sigma is {sigma}: it must not be negative")
        rises = [
            [sum((kink.rise(sigma) for kink in block), np.zeros(1)) for block in member]
            for member in self.kinks
        ]
        batch = self.trace.shape[1]
        return np.array([np.concatenate(of) if any(self.kinks[0]) else np.zeros(batch) for of in rises])

    def rise(self, sigma: float) -> Floats:
        """E L(h + σ D^½ ε) − L(h) for small σ, both parts: (P, B). R repetitions: σ/√R."""
        return self.smooth(sigma) + self.kinked(sigma)


def gauss_newton_trace(
    network: Network, population: Population, x: ArrayLike, site: int, kind: Kind = "additive"
) -> Floats:
    """tr(D Jᵀ S J) of each image, twice the rise of its loss per σ² but for kinks: (P, B).

    = Σ_k p_k ‖D^½ Jᵀ(e_k − p)‖², by K gradients from the logits back to the site, at inference, in float64.
    x: (P|1, C, H, W, B), as the network takes it; D, the noise's covariance per σ²: 1 for "additive" noise,
    h² for "multiplicative" noise of the activation h, Σ_i w_oi² x_i² for multiplicative noise of the
    "weights" of the linear layer whose output the site is. Raises WnError for a site, kind, population or
    images that do not fit, and for layers that are not the package's own. Derived in
    docs/theory/identities.md.
    """
    network.check_sites([site])
    return np.array(
        [
            np.concatenate([_trace(behind(network, member, part, site, kind)) for part in _blocks(images)])
            for member, images in members_of(network, population, x)
        ]
    )


def small_noise(
    network: Network,
    population: Population,
    x: ArrayLike,
    labels: ArrayLike,
    site: int,
    kind: Kind = "additive",
) -> SmallNoise:
    """What little noise at a site does to each image's cross-entropy, at inference, for any small σ.

    Arguments as `gauss_newton_trace`; labels: (B,). Besides the K gradients of the trace it takes one for
    each unit of a ReLU, and for each pixel before a max pooling, behind the site: what that costs is in
    docs/theory/identities.md. Kinks are counted one at a time, so the rest is of order σ³ on average over
    images. Raises WnError as `gauss_newton_trace`, and for labels that are no classes.
    """
    network.check_sites([site])
    given = np.asarray(labels)
    check_labels(given, network.classes)
    traces, kinks = [], []
    for member, images in members_of(network, population, x):
        if len(given) != images.shape[-1]:
            raise WnError(f"there are {len(given)} labels for {images.shape[-1]} images")
        runs = [behind(network, member, part, site, kind) for part in _blocks(images)]
        traces.append(np.concatenate([_trace(run) for run in runs]))
        parts = [given[start : start + BLOCK] for start in range(0, len(given), BLOCK)]
        kinks.append(
            tuple(kinks_of(run, _loss_gradient(run, part)) for run, part in zip(runs, parts, strict=True))
        )
    return SmallNoise(np.array(traces), tuple(kinks))


def _blocks(images: Floats) -> list[Floats]:
    return [images[..., start : start + BLOCK] for start in range(0, images.shape[-1], BLOCK)]


def _trace(run: Behind) -> Floats:
    p = softmax(run.logits, axis=0)  # (K, B)
    rows = np.eye(len(p))[:, :, None] - p  # (K, K, B): e_k − p
    return np.asarray((p * (run.to_site(rows) ** 2).sum(axis=1)).sum(axis=0))


def _loss_gradient(run: Behind, labels: NDArray[np.integer]) -> Floats:
    """∂L/∂logits = p − e_y of each image's own loss: (K, B)."""
    p = softmax(run.logits, axis=0)
    p[labels, np.arange(len(labels))] -= 1
    return np.asarray(p)
