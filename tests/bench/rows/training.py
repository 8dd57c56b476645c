"""Training: an epoch of four networks without noise, and with noise at every site."""

from collections.abc import Callable, Collection
from functools import partial

from tests.bench import data, peers
from tests.bench.data import CLASSES, SHAPE
from tests.bench.settings import BATCH, SIGMA, Contest, Row, Settings
from tests.bench.timing import Side
from wn.data.dataset import Dataset
from wn.engine import models
from wn.engine.network import Network
from wn.engine.noise import SiteNoise, everywhere, of_kind
from wn.engine.training import TrainSettings, train

NETWORKS = {
    "mlp": ("mlp-64", "none"),
    "mlp-bn": ("mlp-64", "sites"),
    "lenet5": ("lenet5", "none"),
    "lenet5-bn": ("lenet5", "sites"),
}
NOISES = ("none", "additive", "multiplicative")


def epoch(
    settings: Settings, network: Network, dataset: Dataset, noise: SiteNoise, seeds: tuple[int, ...] = (0,)
) -> Callable[[], object]:
    """Return a function that trains for one epoch, as `wn train` does, a member per seed.

    Threads and work arrays are those that the command line has opened for the row: `command.measure`.
    """
    once = TrainSettings(epochs=1, batch_size=BATCH)
    return lambda: train(settings.be, network, dataset, once, seeds=seeds, noise=noise)


def noise_everywhere(network: Network, kind: str) -> SiteNoise:
    """Return the noise at every site, {} for "none"."""
    return {} if kind == "none" else everywhere(len(network.site_names), of_kind(kind, SIGMA))


def build(settings: Settings, wanted: Collection[str], *, model: str, batch_norm: str, noise: str) -> Contest:
    """Make one network's epoch ready on all sides; each is trained further with every run.

    Ours holds bytes and prepares each batch; the peers hold prepared images in float32.
    """
    steps = settings.timed_steps(model)
    scale = settings.steps_of_epoch / steps
    split = data.images(settings.data_dir, "train", steps * BATCH)
    network = models.build(model, SHAPE, CLASSES, batch_norm)
    ours = epoch(settings, network, data.dataset(split, split), noise_everywhere(network, noise))
    task = peers.Task(
        model, batch_norm, noise, SIGMA, data.floats(split), split.labels, BATCH, settings.threads
    )
    sides = []
    for name in wanted:
        peer = peers.training(name, task)
        check_same_work(network, name, peer)
        sides.append(Side(name, peer.run, scale))
    facts = {"timed_steps": steps, "steps": settings.steps_of_epoch, "batch": BATCH, "sigma": SIGMA}
    return Contest(Side("wn", ours, scale), sides, facts)


def check_same_work(network: Network, name: str, peer: peers.Peer) -> None:
    """Raise ValueError unless the peer has as many parameters and noise sites."""
    ours = (models.parameter_count(network), len(network.site_names))
    if ours != (peer.parameters, peer.sites):
        raise ValueError(
            f"{network.name} has {ours[0]} parameters and {ours[1]} sites, "
            f"that of {name} {peer.parameters} and {peer.sites}"
        )


ROWS = tuple(
    Row(
        f"train/{name}/{noise}",
        "an epoch of training",
        tuple(peers.TRAINING),
        partial(build, model=model, batch_norm=batch_norm, noise=noise),
    )
    for name, (model, batch_norm) in NETWORKS.items()
    for noise in NOISES
)
