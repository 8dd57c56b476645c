"""Noise alone: standard normals in float32, into memory that is there already."""

from collections.abc import Collection
from importlib import import_module

import numpy as np

from tests.bench.settings import BATCH, Contest, Row, Settings
from tests.bench.timing import Side
from wn.engine.backends.plain.base import Backend, DrawKey
from wn.random import Purpose

TORCH, NUMPY = "torch normal_", "numpy Generator"


def draw(be: Backend, features: int) -> object:
    """Draw normals (1, F, B) for a batch of samples.

    The backend that compiles takes the memory of the draw before; NumPy's allocates anew.
    """
    key = DrawKey((0,), np.arange(BATCH), 0, Purpose.TRAIN_ADD, 0)
    return be.standard_draws(key, features)


def build(settings: Settings, wanted: Collection[str]) -> Contest:
    """Make the generators ready; the peers' draw with one thread, however many they are given."""
    features = settings.normals // BATCH
    values = np.zeros(features * BATCH, np.float32)
    generator = np.random.default_rng(0)
    sides = []
    if TORCH in wanted:
        torch_eager = import_module("tests.bench.peers.torch_eager")
        sides.append(Side(TORCH, torch_eager.normals(values, settings.threads)))
    if NUMPY in wanted:
        sides.append(Side(NUMPY, lambda: generator.standard_normal(dtype=np.float32, out=values)))
    ours = Side("wn", lambda: draw(settings.be, features))
    return Contest(ours, sides, {"count": values.size})


ROW = Row("normals", "2^24 standard normals", (TORCH, NUMPY), build)
