"""The peers: one file each, imported where its library is installed."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from numpy.typing import NDArray

TRAINING = {"torch eager": "torch_eager", "torch compiled": "torch_compiled", "jax jit": "jax_jit"}


@dataclass(frozen=True)
class Task:
    """A training: the network, the noise at every site, images (N, C, H, W) in float32, labels (N,).

    model: mlp-64 or lenet5; noise: none, additive or multiplicative. One run is one epoch of whole batches,
    shuffled anew, with Adam and the mean cross-entropy.
    """

    model: str
    batch_norm: str
    noise: str
    sigma: float
    images: NDArray[Any]
    labels: NDArray[Any]
    batch: int
    threads: int


class Peer(NamedTuple):
    """A training made ready: one epoch per call; its numbers of parameters and of noise sites."""

    run: Callable[[], float]
    parameters: int
    sites: int


def training(name: str, task: Task) -> Peer:
    """Make a training ready with the peer of that name."""
    ready: Peer = import_module(f"{__name__}.{TRAINING[name]}").training(task)
    return ready


def load_openmp() -> None:
    """Let PyTorch, if it is there, load its OpenMP before our loops load the system's.

    Both are libgomp, and a process has one of that name: with the system's (GCC 12 of Debian) PyTorch took
    four times as long for a step of the MLP, our loops the same.
    """
    if find_spec("torch") is not None:
        import_module("torch")


def missing(name: str) -> str:
    """The requirement that a peer lacks on this machine, "" if it can run; a peer is called LIBRARY WAY."""
    library = name.split()[0]
    if library in ("torch", "jax") and find_spec(library) is None:
        return f"{library} is not installed"
    if name == "torch compiled" and shutil.which("g++") is None:
        return "g++ is not installed"
    return ""
