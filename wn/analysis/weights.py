"""Statistics of weights, and their growth relative to the clean twin (claim C2)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Of the weights of a layer: mean |w|, standard deviation, 2-norm, share of |w| ≥ BOUND
STATISTICS = ("mean_abs", "std", "norm", "at_bound")
BOUND = 1.0  # clamping keeps weights in [−1, 1]


def statistics(w: ArrayLike) -> Floats:
    """The statistics of weights w of any shape, in the order of STATISTICS: (4,), in float64."""
    wide = np.asarray(w).astype(np.float64)
    size = np.abs(wide)
    return np.array([size.mean(), wide.std(), np.sqrt((wide * wide).sum()), (size >= BOUND).mean()])


def growth(norm: ArrayLike, clean_norm: ArrayLike) -> Floats:
    """‖w‖ / ‖w of the clean twin‖: of the network with the same seed, trained without noise.

    Arrays that broadcast, as (σ, E, L) and (E, L); NaN where the twin's norm is 0 or unknown.
    """
    ours, clean = np.asarray(norm, np.float64), np.asarray(clean_norm, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(clean > 0, ours / clean, np.nan)
