"""Measured accuracy against theory where theory is exact: the engine from its draws to its counts.

    python -m tests.checks.exact_tails [--data-dir DIR] [--evaluations 25] [--backends numpy numba]

MLP and LeNet-5, with and without batch norm, trained on MNIST (without --data-dir on fashion-mini), under
additive, multiplicative and mixed noise at the last ReLU and at the logits. Each σ has draws of its own: the
test images times the evaluations, so that the four of a row are a million on MNIST. Exit code 1 if a z-score
is beyond 6.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.data import catalogue
from wn.data.dataset import Dataset
from wn.engine import backends, models
from wn.engine.backends.plain.base import Backend
from wn.engine.network import Network
from wn.engine.noise import Noise, of_kind
from wn.engine.training import Population, TrainSettings, count_correct, evaluation_batches, train
from wn.testing.tolerances import Z_LIMIT
from wn.theory.tails import ExactAccuracy, exact_accuracy, exact_sites

NETWORKS = [(model, batch_norm) for model in ("mlp", "lenet5") for batch_norm in ("none", "sites")]
SIGMA = {"additive": (1, 3, 10, 30), "multiplicative": (0.3, 1, 3, 10), "mixed": (0.6, 2, 6, 20)}
SEED = 3  # of the training; those of the draws are 100, 101, … for the σ, on the second backend 200, …


class Row(NamedTuple):
    """A site under a kind of noise: theory and z-scores at its σ, and processor seconds of both."""

    site: str
    kind: str
    backend: str
    n: int
    exact: ExactAccuracy
    z: NDArray[np.float64]
    seconds: tuple[float, float]


def right_answers(
    be: Backend,
    network: Network,
    population: Population,
    dataset: Dataset,
    site: int,
    noise: Noise,
    evaluations: int,
    seeds: tuple[int, ...],
) -> NDArray[np.int64]:
    """Right answers (P,) in evaluations of the test images under noise at a site, with a seed for each σ."""
    total = np.zeros(len(seeds), np.int64)
    params, states = population.params, population.states
    for x, conditions, labels in evaluation_batches(be, dataset, seeds, {site: noise}, 0, 1024, np.float32):
        clean = network.clean_activations(be, params, states, x)[site]
        for evaluation in range(evaluations):
            drawn = conditions._replace(epoch=evaluation)
            logits = network.forward_from_site(be, params, states, clean, drawn, site)
            total += count_correct(be, logits, labels)
    return total


def z_scores(
    found: NDArray[np.int64], exact: ExactAccuracy, images: int, evaluations: int
) -> NDArray[np.float64]:
    """(measured − theory) over the standard errors of both; 0 where neither varies and they agree."""
    measured = found / (images * evaluations)
    error = np.sqrt(exact.variance / evaluations + exact.error**2)
    return np.asarray((measured - exact.accuracy) / np.maximum(error, 1e-9))


def compared(
    be: Backend, network: Network, population: Population, dataset: Dataset, evaluations: int, first: int
) -> Iterator[Row]:
    """Yield a row for each exact site and kind of noise; the seeds of its σ are first, first + 1, …"""
    images = len(dataset.test)
    for kind, sigma in SIGMA.items():
        noise, seeds = of_kind(kind, np.array(sigma)), tuple(range(first, first + len(sigma)))
        for site in exact_sites(network, noise):
            start = time.process_time()
            exact = exact_accuracy(be, network, population, dataset, site, noise)
            middle = time.process_time()
            found = right_answers(be, network, population, dataset, site, noise, evaluations, seeds)
            seconds = middle - start, time.process_time() - middle
            z = z_scores(found, exact, images, evaluations)
            name = network.site_names[site]
            yield Row(name, kind, be.name, images * evaluations, exact, z, seconds)


def on(be: Backend, trees: Any) -> Any:
    """The arrays of parameters or states, on a backend."""
    if not isinstance(trees, tuple):
        return be.asarray(trees, trees.dtype)
    parts = [on(be, part) for part in trees]
    return type(trees)(*parts) if hasattr(trees, "_fields") else tuple(parts)


def main(arguments: Sequence[str]) -> int:
    """Compare all networks on all backends; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.checks.exact_tails")
    parser.add_argument("--data-dir", help="where the files of MNIST are; else fashion-mini is taken")
    parser.add_argument("--evaluations", type=int, default=25)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--backends", nargs="+", default=["numpy", "numba"])
    given = parser.parse_args(arguments)
    dataset = catalogue.load("mnist", given.data_dir) if given.data_dir else catalogue.load("fashion-mini")
    print(
        f"{dataset.name}; n: draws of each σ; seeds: training {SEED}; draws of the σ 100, 101, … on the first"
    )
    print("backend and 200, 201, … on the second\n")
    print("| network | site | noise, σ | backend | n | accuracy | z | integral ± | seconds: theory, draws |")
    print("|---|---|---|---|---|---|---|---|---|")
    worst = 0.0
    for model, batch_norm in NETWORKS:
        network = models.build(model, dataset.image_shape, len(dataset.classes), batch_norm)
        trainer = backends.get("numba")
        population = train(trainer, network, dataset, TrainSettings(epochs=given.epochs), seeds=(SEED,))
        for number, name in enumerate(given.backends, 1):
            be = backends.get(name)
            own = Population(on(be, population.params), on(be, population.states), population.seeds)
            for row in compared(be, network, own, dataset, given.evaluations, 100 * number):
                worst = max(worst, float(np.abs(row.z).max()))
                print(_line(f"{model}{'' if batch_norm == 'none' else ', batch norm'}", row), flush=True)
    print(f"largest |z| {worst:.2f}, allowed {Z_LIMIT:g}")
    return int(worst >= Z_LIMIT)


def _line(network: str, row: Row) -> str:
    sigma = " ".join(f"{level:g}" for level in SIGMA[row.kind])
    accuracy = " ".join(f"{100 * value:.2f}" for value in row.exact.accuracy)
    z = " ".join(f"{value:+.2f}" for value in row.z)
    error, seconds = 100 * row.exact.error.max(), f"{row.seconds[0]:.1f}, {row.seconds[1]:.1f}"
    return (
        f"| {network} | {row.site} | {row.kind} {sigma} | {row.backend} | {row.n:,} | {accuracy} | {z} "
        f"| {error:.3f} | {seconds} |"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
