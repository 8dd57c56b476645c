"""What tests of analyses ask for in one go, plainly."""

from collections.abc import Sequence

import numpy as np

from wn.analysis.binarisation import Binarisation, Sums


def of_activations(x: np.ndarray, labels: np.ndarray) -> Binarisation:
    """The binarisation of activations x (F…, B) for samples with labels (B,), all at once."""
    flat = np.asarray(x).reshape(-1, labels.size)
    sums = Sums(flat.shape[0], int(labels.max()) + 1)
    sums.add(flat, labels)
    return sums.result()


def strength(midpoints: Sequence[float], repetitions: Sequence[int]) -> float:
    """The strength of all noise together, E = Σ_i 1 / (R_i μ_i²), in units of 1/σ²."""
    return sum(1 / (r * m * m) for r, m in zip(repetitions, midpoints, strict=True))
