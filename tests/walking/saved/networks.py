"""Small networks on disk: trained, imported, or just made."""

from pathlib import Path
from typing import Any

import numpy as np

import wn
from wn.engine import backends, models
from wn.engine.files import checkpoint
from wn.engine.training import Population, first_state

TRAINED: dict[str, Any] = {"dataset": "fashion-mini", "model": "mlp-8", "train_limit": 2000, "epochs": 2}
TRAINED |= {"learning_rate": 0.01}
HERE: dict[str, Any] = {"test_limit": 300, "backend": "numpy", "threads": 1}
GRID: dict[str, Any] = {"noise": "additive", "sigma": "0.1,1,10"}


def trained(folder: Path, **changes: Any) -> Path:
    """A network that `wn.train` has trained without noise."""
    return wn.train(**(TRAINED | HERE | changes)).save(folder / "trained.safetensors")


def made(
    folder: Path,
    record: dict[str, Any] | None = None,
    model: str = "mlp-8",
    members: int = 1,
    shape: tuple[int, int, int] = (1, 28, 28),
    dtype: Any = np.float32,
    batch_norm: str = "none",
) -> Path:
    """An untrained population with this record."""
    network = models.build(model, shape, 10, batch_norm)
    seeds = tuple(range(7, 7 + members))
    state = first_state(backends.get("numpy"), network, seeds, dtype)
    path = folder / "made.safetensors"
    checkpoint.save(path, network, Population(state.params, state.states, seeds), record or {})
    return path
