"""A small data set, and small walks over it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from wn.data.dataset import Dataset, Split
from wn.data.recipes import Preprocessing, Recipe
from wn.engine import backends, models, noise, training
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.training import Population, TrainSettings
from wn.walking import measurement as walking
from wn.walking.measurement import CleanResult, Curve, WalkPlan

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


def plan_for(
    model: str = "mlp-8", batch_norm: str = "none", kind: str = "additive", **changes: Any
) -> WalkPlan:
    network = models.build(model, (1, 28, 28), 10, batch_norm)
    plan = WalkPlan(
        network=network,
        dataset=small_data(),
        noise=NOISES[kind],
        places=walking.places(network, "each"),
        phases=walking.PHASES,
        sigma=SIGMA,
        train=TrainSettings(epochs=1, batch_size=32, learning_rate=1e-2),
        repeats=1,
        seed=3,
        evaluation_batch=256,
    )
    return plan._replace(**changes)


def trained(plan: WalkPlan, seed: int = 7) -> Population:
    with single_threaded_blas():
        return training.train(BE, plan.network, plan.dataset, plan.train, seeds=(seed,), dtype=plan.dtype)


def run(plan: WalkPlan, threads: int = 1, backwards: bool = False) -> list[Any]:
    """Run a walk and return its merged results as plain values."""
    work = walking.jobs(plan)
    with single_threaded_blas(), ThreadPoolExecutor(threads) as executor:
        results = walking.run_jobs(BE, work[::-1] if backwards else work, executor, lambda members: None)
    return plain(*walking.merge(plan, results))


def plain(clean: list[CleanResult], curves: list[Curve]) -> list[Any]:
    rows = [(*curve[:3], curve.sigma.tolist(), curve.correct.tolist(), curve.total) for curve in curves]
    return [list(clean), rows]
