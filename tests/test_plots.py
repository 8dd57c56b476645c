"""Pictures: every case draws without warnings, says what it shows, and is the same each time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.midpoint import ALREADY_BELOW, NEVER_FALLS, NO_NOISE
from wn.results import CURVE_COLUMNS, MIDPOINT_COLUMNS, WalkResult

MLP = "input fc1 relu1 fc2 relu2 fc3 relu3 logits".split()
LENET_BN = (
    "input conv1 bn1 relu1 pool1 conv2 bn2 relu2 pool2 fc1 bn3 relu3 fc2 bn4 relu4 logits".split()
)
VGG_BN = ["input"]
for block, pooled in enumerate((1, 1, 0, 1, 0, 1, 0, 1), start=1):
    VGG_BN += [f"conv{block}", f"bn{block}", f"relu{block}"] + [f"pool{block}"] * pooled
VGG_BN += ["avgpool", "logits"]
BOTH = ("inference", "training")
CHANCE = 0.1
Mu = float | list[float]


def example(
    sites: dict[int, str] | list[str],
    sigma: NDArray[np.float64] | list[float],
    *,
    phases: tuple[str, ...] = BOTH,
    repeats: int = 1,
    clean: float = 0.88,
    floor: float = CHANCE,
    mu: Any = None,
    noise: str = "additive",
    run: dict[str, Any] | None = None,
    **names: str,
) -> WalkResult:
    """A made-up walk: logistic curves that fall to `floor` at μ; mu maps phase to one number per site."""
    generator = np.random.default_rng(3)
    labels = dict(enumerate(sites)) if isinstance(sites, list) else sites
    grid = np.asarray(sigma, np.float64)
    if mu is None:
        mu = {"inference": np.geomspace(0.5, 40, len(labels)), "training": np.geomspace(20, 900, len(labels))}
    prefix = tuple(({"dataset": "fashion-mini", "model": "mlp", "batch_norm": "none"} | names).values())
    curves, midpoints, reasons = [], [], []
    half = (clean + CHANCE) / 2
    for phase in phases:
        for (site, name), middle in zip(labels.items(), mu[phase], strict=True):
            for repeat in range(repeats):
                shift = np.exp(0.25 * generator.standard_normal()) if repeats > 1 else 1.0
                accuracy = floor + (clean - floor) / (1 + (grid / (middle * shift)) ** 1.4)
                correct = generator.binomial(2000, np.clip(accuracy, 0, 1))
                curves += [
                    (*prefix, noise, phase, site, name, s, repeat, k, 2000, k / 2000)
                    for s, k in zip(grid.tolist(), correct.tolist(), strict=True)
                ]
            positive = grid[grid > 0]
            reason = ""
            if not positive.size:
                reason = NO_NOISE
            elif floor >= half or middle > positive.max():
                reason = NEVER_FALLS
            elif middle < positive.min():
                reason = ALREADY_BELOW
            fit = (np.nan,) * 3 if reason else (middle, middle / 1.2, middle * 1.25)
            midpoints.append((*prefix, noise, phase, site, name, *fit, 1.4, not reason, clean))
            reasons.append(reason)
    return WalkResult(
        np.array(curves, CURVE_COLUMNS),
        np.array(midpoints, MIDPOINT_COLUMNS),
        tuple(reasons),
        {"chance": CHANCE} if run is None else run,
    )


def mlp_walk() -> WalkResult:
    return example(MLP, np.geomspace(0.01, 100, 17))


def lenet_walk() -> WalkResult:
    return example(LENET_BN, np.geomspace(0.01, 1e4, 25), repeats=3, model="lenet5", batch_norm="sites")


def vgg_walk() -> WalkResult:
    mu = {"inference": np.geomspace(0.05, 5000, 32), "training": np.geomspace(1, 1e8, 32)}
    names = {"dataset": "cifar-10", "model": "vgg11", "batch_norm": "sites"}
    return example(VGG_BN, np.geomspace(0.01, 1e10, 49), mu=mu, repeats=3, clean=0.91, **names)


def multiplicative_walk() -> WalkResult:
    mu = {"inference": [0.05, 0.4, 0.8, 3, 1.1, 9, 1.5, 1.9], "training": [0.7, 9, 9, 9, 9, 9, 9, 9]}
    return example(MLP, np.linspace(0, 2, 21), mu=mu, noise="multiplicative", repeats=3)


def global_walk() -> WalkResult:
    mu = {"inference": [0.35], "training": [2.0]}
    return example({-1: "global"}, np.geomspace(0.01, 100, 17), mu=mu, repeats=10)


def single_point() -> WalkResult:
    return example({3: "fc2"}, [1.0], phases=("inference",), mu={"inference": [2.0]})


def never_reached() -> WalkResult:
    mu = {"training": [1.0] * 16}
    grid = np.geomspace(1, 1e16, 65)
    names = {"dataset": "mnist", "model": "lenet5", "batch_norm": "sites"}
    return example(LENET_BN, grid, phases=("training",), mu=mu, noise="multiplicative", floor=0.7, **names)


def wild_with_zero() -> WalkResult:
    mu = {"inference": np.geomspace(0.001, 1e14, 9), "training": np.geomspace(0.1, 1e17, 9)}
    labels = dict(enumerate(MLP)) | {-1: "global"}
    return example(labels, [0, *np.geomspace(1e-2, 1e16, 19)], mu=mu)


def near_chance() -> WalkResult:
    return example(MLP[:2], [0.1, 1, 3], mu={p: [0.5, 1.0] for p in BOTH}, clean=0.13)


def listed_zero() -> WalkResult:
    return example(MLP[:3], [0, 0.1, 0.3, 1, 3], mu={p: [0.2, 0.5, 1.0] for p in BOTH})


def without_noise() -> WalkResult:
    return example(MLP[:3], [0.0], mu={p: [1.0] * 3 for p in BOTH})


CASES = {
    walk.__name__: walk
    for walk in (
        mlp_walk,
        lenet_walk,
        vgg_walk,
        multiplicative_walk,
        global_walk,
        single_point,
        never_reached,
        wild_with_zero,
        near_chance,
        listed_zero,
        without_noise,
    )
}
