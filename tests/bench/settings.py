"""What is timed, how often and how large; and what a row is made of."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.timing import Side
from wn.engine.backends.plain.base import Backend

BATCH = 128
SIGMA = 0.1  # of the noise in training


@dataclass(frozen=True)
class Settings:
    """The sizes of all rows; where a slice is timed, seconds are scaled to the whole that a row is about."""

    be: Backend
    threads: int
    repeats: int = 7
    data_dir: Path | None = None  # with the IDX files of MNIST; None: random images of that shape
    images: int = 60_000  # of an epoch
    mlp_steps: int = 469  # training steps that are timed: a whole epoch of the short ones,
    conv_steps: int = 40  # and part of it
    population_steps: int = 20
    normals: int = 1 << 24
    walk_images: int = 2_000  # of 10,000
    walk_sigmas: int = 17
    pause: float = 0.1  # seconds before each timing, in which the other side's threads go to sleep

    @property
    def steps_of_epoch(self) -> int:
        """How many steps an epoch has; the last one may be a partial batch, and counts as a whole one."""
        return -(-self.images // BATCH)

    def timed_steps(self, model: str) -> int:
        """How many steps of a training are timed: whole batches, at most an epoch."""
        steps = self.mlp_steps if model.startswith("mlp") else self.conv_steps
        return max(1, min(steps, self.images // BATCH))


@dataclass(frozen=True)
class Contest:
    """A row made ready: both sides do the same work."""

    ours: Side
    peers: list[Side]
    facts: dict[str, Any] = field(default_factory=dict)  # for the JSON: what was timed
    flops: float | None = None  # of the work, where rates matter


@dataclass(frozen=True)
class Row:
    """One line of the table: its name, what its seconds are, whom it is compared with, how it is made ready.

    `build` is given the names of those peers that are there and wanted.
    """

    name: str
    what: str
    peers: tuple[str, ...]
    build: Callable[[Settings, Collection[str]], Contest]
