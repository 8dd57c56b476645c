"""How often 95 % intervals hold the midpoint: python -m tests.fit.coverage_of_intervals [--out FILE].

One network per model is trained on fashion-mini. Which of its test images it gets right is recorded for every
σ and several noise seeds; the same draws serve all σ, as in a walk. A resampling draws images with
replacement, each with one of the noise seeds, and is fitted as a walk is. The truth is the fit to all images
and seeds together, from which the resamplings are drawn. Prints a table in Markdown; "independent" are
intervals from counts without groups, which take all σ as independent samples.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.groups import group_sizes
from wn.engine import backends, training
from wn.engine import noise as noises
from wn.engine.backends.plain.base import Backend
from wn.fit.intervals import Counts, fit_repeats, floor_of
from wn.fit.midpoint import Midpoint
from wn.walking.grids import sigma_grid
from wn.walking.settings import prepare, read_walk

Bools = NDArray[np.bool_]

CHANCE = 0.1
# Model: epochs, and sites: the input, a hidden one at which accuracy falls half-way, the logits
NETWORKS: dict[str, tuple[int, dict[str, tuple[int, ...]]]] = {
    "mlp": (8, {"additive": (0, 3, 7), "multiplicative": (0, 4, 7)}),
    "lenet5": (6, {"additive": (0, 5, 11), "multiplicative": (0, 3, 11)}),
}
GRIDS = {"additive": "0.1:10000:16", "multiplicative": "0.1:300:16"}


class Recorded(NamedTuple):
    """Which images are right: under noise at a site (S, seeds · images), without it (seeds · images,)."""

    site: str
    sigma: NDArray[np.float64]
    right: Bools
    clean: Bools


class Row(NamedTuple):
    """Coverage of one setting: how many of `runs` intervals hold the truth."""

    model: str
    noise: str
    site: str
    images: int
    midpoint: float
    joint: int
    independent: int
    runs: int


def recorded(model: str, kind: str, seeds: int, epochs: int, **settings: Any) -> Iterator[Recorded]:
    """Train a network and yield, site by site, which test images it gets right under each noise seed."""
    be: Backend = backends.get("auto")
    dataset, network, train_settings = prepare(read_walk({"model": model, "epochs": epochs, **settings}))
    sigma = sigma_grid(GRIDS[kind])
    with be.working(1):
        population = training.train(be, network, dataset, train_settings, seeds=(7,))
        for site in NETWORKS[model][1][kind]:
            noise = {site: noises.of_kind(kind, sigma)}
            found = [_right(be, network, population, dataset, noise, seed) for seed in range(seeds)]
            clean = _right(be, network, population, dataset, {}, 0)[0]
            right = np.concatenate(found, axis=1)
            yield Recorded(network.site_names[site], sigma, right, np.tile(clean, seeds))


def _right(be: Backend, network: Any, population: Any, dataset: Any, noise: Any, seed: int) -> Bools:
    """Which test images each σ leaves right (S, images)."""
    parts = []
    for x, run, labels in training.evaluation_batches(
        be, dataset, population.seeds, noise, seed, training.EVALUATION_BATCH, np.float32
    ):
        logits = network.forward_from_site(be, population.params, population.states, x, run, 0)
        parts.append(be.to_numpy(logits)[:, :, : len(labels)].argmax(axis=1) == labels)
    return np.concatenate(parts, axis=1)


def fitted(found: Recorded, kind: str, chosen: NDArray[np.intp] | None, groups: bool = True) -> Midpoint:
    """The fit of a walk to some images, or to all of them."""
    right, clean = (
        (found.right, found.clean) if chosen is None else (found.right[:, chosen], found.clean[chosen])
    )
    sizes = group_sizes(clean.size)
    by_group = np.stack([right[:, g :: len(sizes)].sum(axis=1) for g in range(len(sizes))], axis=1)
    clean_by_group = np.array([clean[g :: len(sizes)].sum() for g in range(len(sizes))])
    counts = Counts(found.sigma, by_group, np.tile(sizes, (len(found.sigma), 1)))
    if not groups:
        counts = Counts(found.sigma, by_group.sum(axis=1), np.full(len(found.sigma), clean.size))
    options = {"clean_by_group": clean_by_group if groups else None}
    return fit_repeats([counts], float(clean.mean()), CHANCE, floor_of("inference", kind), **options)


def coverage(model: str, kind: str, found: Recorded, images: int, runs: int) -> Row:
    """Resample and count."""
    rng, truth, hits = np.random.default_rng(images), fitted(found, kind, None).midpoint, [0, 0]
    for _ in range(runs):
        chosen = rng.integers(0, found.clean.size, images)
        for n, groups in enumerate((True, False)):
            fit = fitted(found, kind, chosen, groups)
            hits[n] += fit.ci_low <= truth <= fit.ci_high
    return Row(model, kind, found.site, images, truth, *hits, runs)


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    head = "| network | noise | site | images | midpoint | coverage | independent |\n"
    return f"{head}|---|---|---|---|---|---|---|\n" + "".join(
        f"| {row.model} | {row.noise} | {row.site} | {row.images:,} | {row.midpoint:.3g} | "
        f"{100 * row.joint / row.runs:.1f} % | {100 * row.independent / row.runs:.1f} % |\n"
        for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="resamplings of each setting")
    parser.add_argument("--seeds", type=int, default=10, help="noise seeds recorded")
    parser.add_argument("--images", type=int, nargs="+", default=[500, 2000, 10_000])
    parser.add_argument("--out", type=Path, default=None, help="a file for the table")
    chosen = parser.parse_args()
    rows: list[Row] = []
    for model, (epochs, kinds) in NETWORKS.items():
        for kind in kinds:
            for found in recorded(model, kind, chosen.seeds, epochs):
                rows += [coverage(model, kind, found, images, chosen.runs) for images in chosen.images]
                print(table(rows[-len(chosen.images) :]).split("\n", 2)[2], end="", flush=True)
    if chosen.out is not None:
        chosen.out.write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
