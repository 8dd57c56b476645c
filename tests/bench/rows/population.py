"""Sixteen LeNet-5 side by side, against sixteen one after another: a few steps without noise."""

from collections.abc import Callable, Collection, Sequence

from tests.bench import data, peers
from tests.bench.data import CLASSES, SHAPE
from tests.bench.rows.training import check_same_work, epoch
from tests.bench.settings import BATCH, Contest, Row, Settings
from tests.bench.timing import Side
from wn.engine import models

MODEL, BATCH_NORM, MEMBERS = "lenet5", "none", 16
OURS, TORCH = "wn one after another", "torch eager one after another"


def build(settings: Settings, wanted: Collection[str]) -> Contest:
    """Make sixteen members ready, on all sides with the same images for each."""
    steps = settings.population_steps
    split = data.images(settings.data_dir, "train", steps * BATCH)
    network, dataset = models.build(MODEL, SHAPE, CLASSES, BATCH_NORM), data.dataset(split, split)
    together = epoch(settings, network, dataset, {}, tuple(range(MEMBERS)))
    sides = []
    if OURS in wanted:
        alone = [epoch(settings, network, dataset, {}, (seed,)) for seed in range(MEMBERS)]
        sides.append(Side(OURS, _in_turn(alone)))
    if TORCH in wanted:
        task = peers.Task(
            MODEL, BATCH_NORM, "none", 0.0, data.floats(split), split.labels, BATCH, settings.threads
        )
        twins = [peers.training("torch eager", task) for _ in range(MEMBERS)]
        for twin in twins:
            check_same_work(network, TORCH, twin)
        sides.append(Side(TORCH, _in_turn([twin.run for twin in twins])))
    return Contest(Side("wn", together), sides, {"members": MEMBERS, "timed_steps": steps, "batch": BATCH})


def _in_turn(runs: Sequence[Callable[[], object]]) -> Callable[[], object]:
    def run() -> None:
        for one in runs:
            one()

    return run


ROW = Row("population", "16 LeNet-5, a few steps of training", (OURS, TORCH), build)
