"""A small data set, and small walks over it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from wn.data.dataset import Dataset, Split
from wn.data.recipes import Preprocessing, Recipe
from wn.engine import backends, models, noise, training
from wn.engine.backends.plain.base import Backend
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.training import Population, TrainSettings
from wn.walking.jobs import run_jobs
from wn.walking.places import PHASES, places
from wn.walking.setup import Setup
from wn.walking.walk import Walk

BE = backends.get("auto")
SIGMA = np.array([0.0, 0.3, 2.0])

NOISES: dict[str, Callable[[Any], noise.Noise]] = {
    "none": lambda s: noise.none(),
    "plain additive": noise.additive,
    "additive": lambda s: noise.additive(s, mean=0.1),
    "multiplicative": noise.multiplicative,
    "mixed": lambda s: noise.mixed(s, 0.3),
    "mixed, add first": lambda s: noise.mixed(s, 0.7, order="add_mul", mean_add=0.2),
    "mixed-direct": lambda s: noise.mixed_direct(s, s),
    "three executions": lambda s: noise.additive(s, repetitions=3, execution="each"),
    "one for three": lambda s: noise.multiplicative(s, repetitions=3),
    "normalised": lambda s: noise.additive(100 * s, normalize_to_input_size=True),
}


def images(count: int, seed: int, shape: tuple[int, int, int] = (1, 28, 28)) -> Split:
    """Noisy copies of one pattern per class, in 10 classes."""
    patterns = np.random.default_rng(5).integers(0, 256, (10, *shape))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    x = 0.3 * patterns[labels] + 0.7 * rng.integers(0, 256, (count, *shape))
    return Split(x.astype(np.uint8), labels.astype(np.int64))


def small_data(train: int = 96, test: int = 300, flip: bool = False) -> Dataset:
    preprocessing = Preprocessing(mean=(0.5,), std=(0.25,), flip=flip, crop_padding=2 if flip else 0)
    recipe = Recipe(epochs_mlp=1, epochs_conv=1, batch_size=32, lr=1e-2, preprocessing=preprocessing)
    return Dataset("small", tuple("0123456789"), images(train, 1), images(test, 2), recipe)


def walk_for(model: str = "mlp-8", batch_norm: str = "none", kind: str = "additive", **changes: Any) -> Walk:
    network = models.build(model, (1, 28, 28), 10, batch_norm)
    train = TrainSettings(epochs=1, batch_size=32, learning_rate=1e-2)
    walk = Walk(
        setup=Setup(network, small_data(), train, evaluation_batch=256),
        operator=NOISES[kind],
        places=places(network, "each"),
        phases=PHASES,
        sigma=SIGMA,
        seed=3,
    )
    return changed(walk, **changes)


def changed(walk: Walk, **changes: Any) -> Walk:
    """Another walk, of which nothing is counted yet; changes may be of its setup."""
    setup = {name: changes.pop(name) for name in Setup._fields if name in changes}
    return replace(walk, setup=walk.setup._replace(**setup), **changes)


def trained(walk: Walk, seed: int = 7) -> Population:
    setup = walk.setup
    with single_threaded_blas():
        return training.train(BE, setup.network, setup.dataset, setup.train, seeds=(seed,), dtype=setup.dtype)


def run(walk: Walk, threads: int = 1, backwards: bool = False, be: Backend | None = None) -> list[Any]:
    """Run a walk and return its results as plain values."""
    return told(walk, threads, backwards, be)[0]


def told(
    walk: Walk, threads: int = 1, backwards: bool = False, be: Backend | None = None
) -> tuple[list[Any], list[int]]:
    """Run a walk and return its results, and what it reported."""
    walk, reports, step = changed(walk), list[int](), -1 if backwards else 1
    with single_threaded_blas(), ThreadPoolExecutor(threads) as executor:
        jobs = walk.jobs()[::step]
        run_jobs(BE if be is None else be, jobs, executor, reports.append, walk.setup.train.epochs)
    walk.check()
    return plain(walk), reports


def plain(walk: Walk) -> list[Any]:
    """Correct answers of the clean networks, and (phase, place, repeat, σ, correct) of the curves."""
    rows = [
        (phase, place, repeat, counts.sigma.tolist(), counts.correct.sum(axis=1).tolist())
        for phase, place, repeat, counts in walk.curves()
    ]
    return [walk.clean_counts.correct.sum(axis=1).tolist(), rows]
