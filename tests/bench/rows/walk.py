"""A full walk at inference: every site of LeNet-5-BN × 17 σ × 10,000 images, additive noise."""

from collections.abc import Collection
from importlib import import_module

import numpy as np

from tests.bench import data
from tests.bench.data import CLASSES, SHAPE
from tests.bench.rows.training import check_same_work
from tests.bench.settings import Contest, Row, Settings
from tests.bench.timing import Side
from wn.engine import models
from wn.engine.noise import additive
from wn.engine.training import Monitor, Population, TrainSettings
from wn.walking.measurement import members_at_once
from wn.walking.places import places
from wn.walking.setup import Setup
from wn.walking.walk import Walk

MODEL, BATCH_NORM = "lenet5", "sites"
IMAGES = 10_000
TORCH = "torch eager"


def build(settings: Settings, wanted: Collection[str]) -> Contest:
    """Make the walk ready with untrained networks: accuracy does not matter."""
    split = data.images(settings.data_dir, "t10k", settings.walk_images)
    scale = IMAGES / len(split)
    sigma = np.geomspace(0.01, 100, settings.walk_sigmas)
    be, network = settings.be, models.build(MODEL, SHAPE, CLASSES, BATCH_NORM)
    once = TrainSettings(epochs=1)
    walk = Walk(
        setup=Setup(network, data.dataset(split, split), once),
        operator=additive,
        places=places(network, "each"),
        phases=("inference",),
        sigma=sigma,
        members=members_at_once(network, once, np.float32),
    )
    params = network.initial_parameters(be, (0,), np.float32)
    population = Population(params, network.initial_states(be, 1, np.float32), (0,))
    sides = []
    if TORCH in wanted:
        torch_eager = import_module("tests.bench.peers.torch_eager")
        images, labels = data.floats(split), split.labels
        peer = torch_eager.walk(MODEL, BATCH_NORM, sigma.tolist(), images, labels, settings.threads)
        check_same_work(network, TORCH, peer)
        sides.append(Side(TORCH, peer.run, scale))
    ours = Side("wn", lambda: walk.count_at_inference(be, population, 0, Monitor()), scale)
    facts = {"timed_images": len(split), "images": IMAGES, "sigmas": len(sigma), "sites": len(walk.places)}
    return Contest(ours, sides, facts)


ROW = Row("walk", "a walk over all sites, 17 σ, 10,000 images", (TORCH,), build)
