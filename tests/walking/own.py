"""A small data set of the user's own, with unequal classes: patterns under pixel noise."""

from typing import Any

import numpy as np

import wn
from wn.data.dataset import Dataset

SHARES = (0.5, 0.3, 0.2)
PATTERNS = np.random.default_rng(8).integers(0, 256, (3, 8, 8))
SMALL: dict[str, Any] = {
    "model": "mlp-8",
    "epochs": 12,
    "batch_size": 16,
    "lr": 0.01,
    "sigma": "0.03:1000:9",
    "where": ["fc1"],
    "threads": 1,
}


def part(count: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=SHARES)
    x = 0.4 * PATTERNS[labels] + 0.6 * rng.integers(0, 256, (count, 8, 8))
    return x.astype(np.uint8), labels


def own_data(**options: Any) -> Dataset:
    return wn.dataset(*part(300, 1), *part(200, 2), **({"name": "patterns"} | options))
