"""Groups of test images: correct predictions are counted by group, so that curves know their error.

All σ of a curve share images and draws, so their counts err together. Counts by group show how much.
Derived in docs/midpoint.md, section 4.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUPS = 64  # image i belongs to group i mod 64; batches of evaluation begin at multiples of it


def group_sizes(images: int) -> NDArray[np.int64]:
    """Number of images in each group, (G,) with G = min(images, GROUPS): none is empty."""
    groups = min(images, GROUPS)
    return (images - np.arange(groups, dtype=np.int64) + groups - 1) // groups


def totals(images: int, entries: int) -> NDArray[np.int64]:
    """Group sizes for each of some entries, (N, G): the totals of counts by group in a fit."""
    return np.tile(group_sizes(images), (entries, 1))


def variance_of_sum(parts: NDArray[Any]) -> float:
    """Variance of a sum of independent parts (G,), G ≥ 2, from their scatter: G/(G − 1) Σ (part − mean)²."""
    deviations = parts - parts.mean()
    return float(deviations @ deviations) * parts.size / (parts.size - 1)
