"""Site curves of one trained network, evaluated by wn and by the PyTorch twin with the same weights.

Run: python -m tests.engine.twin_curves NETWORK.safetensors --data-dir MNIST

Each side draws its own noise (Philox here, torch.randn there), so that counts agree in distribution only.
Both classify the same n images; z = (p − p') / √((p (1 − p) + p' (1 − p')) / n) takes them as independent, so
it is at most of the size of a standard normal: smaller where many images are right or wrong under any draw.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from reference.torch_peer import build_twin, evaluate_twin, of_kind
from wn import data
from wn.engine import backends, noise, training
from wn.engine.backends.numpy.backend import NumpyBackend
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.files import checkpoint, exchange
from wn.engine.network import Network
from wn.engine.training import Population

NUMPY = NumpyBackend()

SIGMA = np.geomspace(0.1, 100, 13)


def compare(network: Network, population: Population, dataset: data.Dataset, batch_norm: str) -> None:
    """Print a row per site: both accuracies where they fall the most, and the largest |z| over all σ."""
    twin = build_twin(network.name, network.input_shape, network.classes, batch_norm)
    tensors = exchange.member_tensors(network, population, 0)
    twin.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in tensors.items()})
    x = data.batch(NUMPY, dataset.test, np.arange(len(dataset.test)), dataset.recipe.preprocessing)
    images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x[0], -1, 0)))  # (B, C, H, W)
    labels = torch.from_numpy(dataset.test.labels)
    n = len(labels)
    print("| site | σ | wn | PyTorch | largest abs z of 13 σ |\n|---|---|---|---|---|")
    for site, name in enumerate(network.site_names):
        at = {site: noise.additive(SIGMA)}
        ours = training.evaluate(backends.get(), network, population, dataset, noise=at) / n
        theirs = evaluate_twin(twin, images, labels, name, [of_kind("additive", s) for s in SIGMA]) / n
        variance = (ours * (1 - ours) + theirs * (1 - theirs)) / n
        z = (ours - theirs) / np.sqrt(np.maximum(variance, 1 / n**2))
        middle = int(np.argmin(np.abs(ours - 0.55)))
        row = (f"{site} {name}", f"{SIGMA[middle]:.3g}", f"{ours[middle]:.4f}", f"{theirs[middle]:.4f}")
        print("| " + " | ".join(row) + f" | {np.abs(z).max():.1f} |", flush=True)


def main() -> None:
    """Compare the network in a file."""
    parser = argparse.ArgumentParser(prog="python -m tests.engine.twin_curves", description=__doc__)
    parser.add_argument("network", type=Path)
    parser.add_argument("--data-dir", type=Path)
    chosen = parser.parse_args()
    loaded = checkpoint.load(chosen.network)
    settings = loaded.record["settings"]
    dataset = data.load(settings["dataset"], chosen.data_dir)
    torch.set_num_threads(1)
    with single_threaded_blas():
        compare(loaded.network, loaded.population, dataset, settings["batch_norm"])


if __name__ == "__main__":
    main()
