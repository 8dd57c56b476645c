"""Exact accuracy of a noisy argmax: what an evaluation with normal noise at the logits must find."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from wn.basics.errors import WnError

Floats = NDArray[np.float64]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
SPLITS = np.array([-9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0])  # beyond ±9 lies 2e-19 of a normal
CHUNK = 2_000_000  # evaluations of Φ held in memory at once


class Count(NamedTuple):
    """Mean and variance of the number of correct answers among B samples with independent noise."""

    mean: float
    variance: float


def two_class_accuracy(margin: ArrayLike, sigma: ArrayLike) -> Floats:
    """Probability that the label of two classes wins with N(0, σ²) noise on both logits.

    P = Φ(Δ/(σ√2)) with margin Δ = logit of the label − the other logit; σ → 0: 1, ½ or 0 by the sign of Δ.
    margin, sigma ≥ 0: any shapes that broadcast. Raises WnError if σ is negative or not finite.
    Derived in docs/noise.md.
    """
    delta, s = np.broadcast_arrays(np.asarray(margin, np.float64), np.asarray(sigma, np.float64))
    if not (np.isfinite(s) & (s >= 0)).all():
        raise WnError("sigma must be finite and not negative")
    return _phi(delta, s * math.sqrt(2))


def argmax_probability(mean: ArrayLike, std: ArrayLike, labels: ArrayLike) -> Floats:
    """Probability, per sample, that the label has the largest of K independent Gaussian logits.

    P = ∫ φ(u) Π_{j≠y} Φ((m_y + s_y·u − m_j)/s_j) du,  logit_j ~ N(m_j, s_j²).
    mean: (K, B); std: ≥ 0, broadcast to (K, B) (one σ, or one per logit; 0 means exact); labels: (B,) whole
    numbers in [0, K); returns (B,), absolute error below 1e-11. Ties, which have probability 0 unless both
    logits are exact, count ½ per rival. Raises WnError on shapes or values that do not fit.
    Derived in docs/noise.md.
    """
    m, s, y = _checked(mean, std, labels)
    classes, batch = m.shape
    result = np.empty(batch)
    size = max(1, CHUNK // (SPLITS.size * (classes + 1) * NODES.size))
    for start in range(0, batch, size):
        part = slice(start, start + size)
        result[part] = _argmax_chunk(m[:, part], s[:, part], y[part])
    return result


def correct_count(mean: ArrayLike, std: ArrayLike, labels: ArrayLike) -> Count:
    """Mean ΣP and variance ΣP(1 − P) of the number of correct answers; arguments of `argmax_probability`.

    Expected accuracy is mean/B. Raises WnError as `argmax_probability` does. Derived in docs/noise.md.
    """
    p = argmax_probability(mean, std, labels)
    return Count(float(p.sum()), float((p * (1 - p)).sum()))


def _checked(mean: ArrayLike, std: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats, NDArray[np.intp]]:
    m, y = np.asarray(mean, np.float64), np.asarray(labels)
    if m.ndim != 2 or m.shape[0] < 2 or y.shape != m.shape[1:] or y.dtype.kind not in "iu":
        raise WnError(
            f"mean must be (K ≥ 2, B) and labels (B,) integers, not {m.shape} and {y.shape} {y.dtype}"
        )
    if y.size and not 0 <= y.min() <= y.max() < m.shape[0]:
        raise WnError(f"labels must lie in [0, {m.shape[0]}), not {y.min()}…{y.max()}")
    try:
        s = np.broadcast_to(np.asarray(std, np.float64), m.shape)
    except ValueError:
        raise WnError(f"std {np.shape(std)} does not broadcast to the shape of mean {m.shape}") from None
    if not (np.isfinite(s) & (s >= 0)).all() or not np.isfinite(m).all():
        raise WnError("mean must be finite and std finite and not negative")
    return m, s, y.astype(np.intp)


def _phi(distance: Floats, std: Floats) -> Floats:
    """Φ(distance/std), with its limit 0, ½ or 1 at std = 0; the quotient may overflow to ±inf."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value: Floats = ndtr(distance / std)
    return np.where(std > 0, value, 0.5 + 0.5 * np.sign(distance))


def _argmax_chunk(m: Floats, s: Floats, y: NDArray[np.intp]) -> Floats:
    """The integral, panel by panel; (K, B) and (B,) to (B,)."""
    classes, batch = m.shape
    own = np.arange(batch)
    rival = np.arange(classes)[:, None] != y  # (K, B)
    m_y, s_y = m[y, own], s[y, own]  # (B,)
    edges = _panel_edges(m_y, s_y, m, s)  # (E, B)
    half = np.diff(edges, axis=0) / 2  # (E-1, B)
    u = (edges[:-1] + half)[..., None] + half[..., None] * NODES  # (E-1, B, nodes)
    product = np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
    for j in range(classes):
        distance = (m_y - m[j])[:, None] + s_y[:, None] * u
        product *= np.where(rival[j][:, None], _phi(distance, s[j][:, None]), 1.0)
    result: Floats = np.minimum(((product @ WEIGHTS) * half).sum(axis=0), 1.0)
    exact = np.where(rival, _phi(m_y - m, s), 1.0).prod(axis=0)  # no noise on the label: no integral
    return np.where(s_y > 0, result, exact)


def _panel_edges(m_y: Floats, s_y: Floats, m: Floats, s: Floats) -> Floats:
    """Edges of panels of [−9, 9] within which every factor is constant or at most three of its widths long.

    Factor j rises about c_j = (m_j − m_y)/s_y with width s_j/s_y. Where that is 1 or more the splits of
    [−9, 9] itself will do; else the same splits about c_j, in its widths, are added.
    """
    scale = np.where(s_y > 0, s_y, 1.0)
    with np.errstate(over="ignore"):  # a rival out of reach: its edges go to the ends
        centre, width = (m - m_y) / scale, np.minimum(s / scale, 1.0)  # (K, B)
    fixed = np.broadcast_to(SPLITS[:, None], (SPLITS.size, m_y.size))
    if (width == 1).all():
        return fixed
    moved = [np.where(width < 1, centre + split * width, 0.0) for split in SPLITS]
    return np.sort(np.concatenate([fixed, *moved]).clip(SPLITS[0], SPLITS[-1]), axis=0)
