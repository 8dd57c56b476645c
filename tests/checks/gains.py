"""Maps of repetitions from gains against maps from measured midpoints, on MNIST:

    python -m tests.checks.gains [--data-dir DIR] [--networks DIR] [--epochs-mlp 15] [--epochs-lenet 5]

Trains an MLP and LeNet-5, each with and without batch norm, measures the midpoint of every site under
additive noise, and computes the gains of 500 images. Both make maps under the same budget, which are
evaluated under additive noise at all sites beside the uniform map: four evaluations of all test images. The
gains have to bring at least 90 % of what the midpoints bring. --networks keeps the trained networks, and
takes those that are there. Exit code 1 where they bring less. The table is in docs/theory/gains.md.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import wn
from wn.analysis.repetitions import optimal
from wn.data import catalogue
from wn.data.dataset import Dataset
from wn.engine import backends
from wn.engine.files import checkpoint
from wn.engine.noise import additive, everywhere, repeated
from wn.engine.training import evaluate
from wn.theory.gains import site_gains
from wn.walking.saved.network import read_network

SIGMA = "0.03:300:33"  # of the walk that measures midpoints
EVALUATIONS = 4
LEAST = 0.9  # of the improvement by midpoints


class Case(NamedTuple):
    """A budget and σ of global additive noise for a network, and whether it counts for the goal."""

    model: str
    batch_norm: str
    budget: int
    sigma: float
    counts: bool = True

    @property
    def name(self) -> str:
        """The network in words."""
        return {"mlp": "MLP", "lenet5": "LeNet-5"}[self.model] + ("-BN" if self.batch_norm == "sites" else "")


CASES = (
    Case("mlp", "none", 16, 0.68),
    Case("mlp", "none", 64, 1.35),
    Case("mlp", "none", 128, 1.91),
    Case("mlp", "sites", 88, 0.81),
    Case("mlp", "sites", 88, 0.49, counts=False),
    Case("lenet5", "none", 96, 1.32),
    Case("lenet5", "sites", 128, 0.50),
)


class Network(NamedTuple):
    """A trained network on disk, its midpoints by site, 1/c of its gains, and seconds for both."""

    path: Path
    midpoints: NDArray[np.float64]
    by_gain: NDArray[np.float64]
    seconds: tuple[float, float]


def prepared(case: Case, folder: Path, data_dir: str | None, epochs: int) -> Network:
    """Train the network of a case unless it is there, and find its midpoints and gains."""
    path = folder / f"{case.model}-{case.batch_norm}.safetensors"
    if not path.exists():
        wn.train(
            dataset="mnist", data_dir=data_dir, model=case.model, batch_norm=case.batch_norm, epochs=epochs
        ).save(path)
    started = time.process_time()
    walk = wn.walk(network=path, dataset="mnist", data_dir=data_dir, noise="additive", sigma=SIGMA)
    walked = time.process_time()
    loaded = checkpoint.load(path)
    be, data = backends.get("numpy"), catalogue.load("mnist", data_dir)
    gains = site_gains(be, loaded.network, loaded.population, data)
    ended = time.process_time()
    midpoints = np.where(walk.midpoints["reached"], walk.midpoints["midpoint"], np.inf)
    return Network(path, midpoints, gains.additive[0] ** -0.5, (walked - started, ended - walked))


def accuracy(network: Network, data: Dataset, sigma: float, repetitions: Sequence[int]) -> float:
    """Accuracy under global additive noise with a map of repetitions, over all evaluations."""
    be, saved = backends.get("auto"), read_network(str(network.path))
    noise = repeated(everywhere(len(repetitions), additive(sigma)), repetitions)
    correct = [
        int(evaluate(be, saved.network, saved.on(be), data, noise=noise, evaluation=number)[0])
        for number in range(EVALUATIONS)
    ]
    return sum(correct) / EVALUATIONS / len(data.test)


def row(case: Case, network: Network, data: Dataset) -> tuple[str, float]:
    """A line of the table, and the share of the improvement that gains bring."""
    sites = len(network.midpoints)
    maps = [
        (case.budget // sites,) * sites,
        optimal(network.midpoints, case.budget),
        optimal(network.by_gain, case.budget),
    ]
    uniform, measured, gained = (accuracy(network, data, case.sigma, r) for r in maps)
    share = (gained - uniform) / (measured - uniform)
    cells = [
        f"{case.name}, {case.budget}",
        f"{case.sigma:.2f}",
        f"{uniform:.4f}",
        *(f"{found:.4f} ({100 * (found - uniform):+.2f})" for found in (measured, gained)),
        f"{100 * share:.0f} %",
        " ".join(map(str, maps[1])),
        " ".join(map(str, maps[2])),
    ]
    return f"| {' | '.join(cells)} |", share


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--networks", type=Path)
    parser.add_argument("--epochs-mlp", type=int, default=15)
    parser.add_argument("--epochs-lenet", type=int, default=5)
    asked = parser.parse_args(arguments)
    data, networks = catalogue.load("mnist", asked.data_dir), dict[tuple[str, str], Network]()
    low = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.networks or Path(temporary)
        print(
            "| network, ΣR | σ | uniform | midpoints (points) | gains (points) | share | R, midpoints "
            "| R, gains |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for case in CASES:
            epochs = asked.epochs_mlp if case.model == "mlp" else asked.epochs_lenet
            key = case.model, case.batch_norm
            if key not in networks:
                networks[key] = prepared(case, folder, asked.data_dir, epochs)
            line, share = row(case, networks[key], data)
            print(line, flush=True)
            if case.counts and share < LEAST:
                low.append(case)
    for key, network in networks.items():
        ratio = network.midpoints / network.by_gain
        ratio = ratio[np.isfinite(ratio)]
        spread = ratio / np.exp(np.log(ratio).mean()) - 1
        print(
            f"{' '.join(key)}: processor seconds {network.seconds[0]:.1f} (walk), {network.seconds[1]:.2f} "
            f"(gains); midpoint·c up to a constant: {100 * spread.min():+.0f} … {100 * spread.max():+.0f} %"
        )
    for case in low:
        print(
            f"{case.name}, budget {case.budget}: gains bring less than {100 * LEAST:.0f} % of the midpoints"
        )
    return int(bool(low))


if __name__ == "__main__":
    sys.exit(main())
