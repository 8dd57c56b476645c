"""PyTorch as it is: the plain twin of reference/torch_peer.py, tensors in memory, noise by torch.randn."""

# mypy: allow-untyped-calls

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from reference import torch_peer
from tests.bench.data import CLASSES, SHAPE
from tests.bench.peers import Peer, Task

WALK_BATCH = 1000  # faster than 2000 at the first sites, as fast at the others


def noisy_twin(model: str, batch_norm: str, noise: str, sigma: float) -> Any:
    """Return the twin with the noise at every site."""
    twin = torch_peer.build_twin(model, SHAPE, CLASSES, batch_norm)
    if noise != "none":
        for site in torch_peer.sites(twin).values():
            site.noise = torch_peer.of_kind(noise, sigma)
    return twin


def peer(twin: Any, run: Any) -> Peer:
    """Return the run with the counts of its twin."""
    parameters = sum(parameter.numel() for parameter in twin.parameters())
    return Peer(run, parameters, len(torch_peer.sites(twin)))


def training(task: Task) -> Peer:
    """Train the twin by `train_twin`."""
    torch.set_num_threads(task.threads)
    twin = noisy_twin(task.model, task.batch_norm, task.noise, task.sigma)
    images, labels = torch.from_numpy(task.images), torch.from_numpy(task.labels)

    def run() -> float:
        return torch_peer.train_twin(twin, images, labels, epochs=1, batch_size=task.batch)[0]

    return peer(twin, run)


def walk(
    model: str,
    batch_norm: str,
    sigma: Sequence[float],
    images: NDArray[Any],
    labels: NDArray[Any],
    threads: int,
) -> Peer:
    """Evaluate an untrained twin under additive noise at every site and σ; layers before a site run once."""
    torch.set_num_threads(threads)
    twin = noisy_twin(model, batch_norm, "none", 0.0)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    noises = [torch_peer.of_kind("additive", value) for value in sigma]

    def run() -> float:
        return float(
            sum(
                torch_peer.evaluate_twin(twin, x, y, site, noises, WALK_BATCH).sum()
                for site in torch_peer.sites(twin)
            )
        )

    return peer(twin, run)


def normals(values: NDArray[Any], threads: int) -> Any:
    """Return a function that fills an array with standard normals by Tensor.normal_."""
    torch.set_num_threads(threads)
    return torch.from_numpy(values).normal_
