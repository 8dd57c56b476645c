"""The clean networks of a walk on their own: trained one after the other, or those of a file."""

from threading import Event

import numpy as np

from wn.engine import training
from wn.engine.backends.plain.base import Backend
from wn.engine.backends.threads import processors
from wn.engine.halving import alone
from wn.engine.training import Population
from wn.random import member_seed
from wn.walking.api import counted
from wn.walking.asked import WalkSettings
from wn.walking.jobs import JobMonitor
from wn.walking.observed.binarised import member_of
from wn.walking.saved.network import SavedNetwork
from wn.walking.setup import Setup
from wn.walking.shown.progress import ProgressCallback


def clean_networks(
    be: Backend,
    setup: Setup,
    walk: WalkSettings,
    saved: SavedNetwork | None,
    progress: ProgressCallback | None,
) -> list[Population]:
    """The networks, a population of one each: as a walk trains them for its repeats, or those of the file.

    `progress` is told of (finished, all) network-epochs.
    """
    if saved is not None:
        whole = saved.on(be)
        return [member_of(whole, p) for p in range(len(whole.seeds))]
    epochs = setup.train.epochs
    monitor = JobMonitor(counted(progress, epochs * walk.repeats), epochs, Event())
    with be.working(walk.threads or processors()), alone():
        return [
            training.train(
                be,
                setup.network,
                setup.dataset,
                setup.train,
                seeds=(member_seed(walk.seed, repeat),),
                noise={},
                dtype=np.dtype(setup.dtype),
                monitor=monitor,
            )
            for repeat in range(walk.repeats)
        ]
