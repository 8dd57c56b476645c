"""The curve of accuracy over σ without drawing any noise, with an estimate of its error.

With nothing but affine layers behind it is exact. Elsewhere statistical linearisation gives the moments of
the logits (`linearised`), and conditioning along the directions of the noise most of what is not Gaussian in
them (`conditioned`). Derived, and measured against the engine's own draws, in docs/theory/linearisation.md.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wn.basics.errors import WnError
from wn.data.dataset import Dataset, batch
from wn.engine import backends
from wn.engine.backends.plain.base import Backend
from wn.engine.network import Network
from wn.engine.noise import SiteNoise
from wn.engine.training import Population, check_data, check_noise, check_population
from wn.theory.argmax import gaussian_argmax
from wn.theory.curves.chain import Chain, chain_of
from wn.theory.curves.common import in_common
from wn.theory.curves.conditioned import MOST_DIRECTIONS, Mixture, mixture, normal_points
from wn.theory.curves.linearised import Common, Linearised, linearise

Array = NDArray[Any]
Floats = NDArray[np.float64]

IMAGES = 1000  # that a prediction is over by default
AT_ONCE = 48  # images in memory together
PROBED = 24  # images on which what elements have in common is measured
POINTS = 4  # of the mixture, in all K − 1 directions
LEAST_ERROR = 0.005  # where it is not exact
BEHIND_POOLS = 2  # times the estimate, which does not see what neighbouring pixels have in common
COMPOUNDED = 3  # times the estimate where multipliers act on each other: products of noise are not normal
METHODS = ("default", "plain", "conditioned")
SEED = 20221024
ROUNDED = -math.inf  # covariances are sums, and differences, of float32: what is negative in them is rounding


class Prediction(NamedTuple):
    """A predicted curve: σ, accuracy, and the estimate of its error, (S,) each.

    method: "exact", "plain" (linearised, Gaussian logits) or "conditioned"; "none", with NaN, where theory
    can't go, for the `reason`. clean: the accuracy without noise on the same images. chance: of
    the whole test set, see `Dataset.chance`; 1/K of images alone. seconds: of a processor.
    """

    sigma: Floats
    accuracy: Floats
    error: Floats
    clean: float
    chance: float
    method: str
    reason: str
    seconds: float

    @property
    def half(self) -> float:
        """The accuracy half-way from the clean one to chance."""
        return (self.clean + self.chance) / 2

    @property
    def crossing(self) -> float:
        """The first σ at which the curve has fallen half-way to chance, along log σ; NaN if there is none."""
        return crossing_of(self.sigma, self.accuracy, self.half)

    @property
    def crossing_range(self) -> tuple[float, float]:
        """The crossings of the curve less and plus its error; NaN where one never crosses."""
        low, high = self.accuracy - self.error, self.accuracy + self.error
        return crossing_of(self.sigma, low, self.half), crossing_of(self.sigma, high, self.half)


def predict(
    be: Backend,
    network: Network,
    population: Population,
    dataset: Dataset,
    noise: Callable[[Floats], SiteNoise],
    sigma: ArrayLike,
    *,
    images: int | None = IMAGES,
    member: int = 0,
    method: str = "default",
) -> Prediction:
    """The accuracy of a trained network under noise at inference, for each σ, without drawing any.

    noise: the operators by site for given σ (S,), as `wn.walking.measurement.Levels` takes them. images: the
    number of test images, taken class by class as by `Dataset.limited`; None for all. member: of the
    population, whose arrays are those of `be`. method: "default"; "plain" leaves conditioning out,
    and does not know its error: NaN.
    Where theory can't go – a layer whose moments are not known, draws that are not normal – the prediction
    says why; σ whose moments leave the range of float32 are NaN among others. Raises WnError for sites,
    values, methods and data that do not fit.
    """
    if method not in METHODS:
        raise WnError(f"unknown method {method!r}: allowed are {', '.join(METHODS)}")
    levels = np.asarray(sigma, np.float64)
    if levels.ndim != 1 or not levels.size:
        raise WnError(f"sigma must be (S ≥ 1,), not {levels.shape}")
    check_data(network, dataset)
    check_population(be, network, population)
    if not 0 <= member < len(population.seeds):
        raise WnError(f"member is {member}: the population has {len(population.seeds)}")
    check_noise(network, noise(levels), len(levels))
    part = dataset if images is None else dataset.limited(test_samples=min(images, len(dataset.test)))
    params, states = (_on_host(be, trees, member) for trees in population[:2])
    own = Population(params, states, (population.seeds[member],))
    host = backends.get("numba")
    x = batch(host, part.test.on(host), np.arange(len(part.test)), part.recipe.preprocessing, np.float32)
    given = np.asarray(x), part.test.labels

    def some(which: Floats) -> Prediction:
        try:
            return predict_images(network, own, *given, noise(which), which, method=method)
        except OutOfReach:
            if len(which) == 1:
                return _nothing(network, which, "variances leave the range of float32 at this σ")
            return _joined(some(which[: len(which) // 2]), some(which[len(which) // 2 :]))

    return some(levels)._replace(chance=dataset.chance)


class OutOfReach(Exception):
    """Moments left the range of float32."""


def _nothing(network: Network, sigma: Floats, reason: str) -> Prediction:
    """No prediction, for a reason."""
    nothing = np.full(len(sigma), np.nan)
    return Prediction(sigma, nothing, nothing, np.nan, 1 / network.classes, "none", reason, 0.0)


def _joined(one: Prediction, other: Prediction) -> Prediction:
    """The predictions of two parts of the σ; those that are there say clean accuracy and method."""
    there = one if one.method != "none" else other
    return there._replace(
        sigma=np.concatenate([one.sigma, other.sigma]),
        accuracy=np.concatenate([one.accuracy, other.accuracy]),
        error=np.concatenate([one.error, other.error]),
        seconds=one.seconds + other.seconds,
    )


def predict_images(
    network: Network,
    population: Population,
    x: Array,
    labels: NDArray[np.int64],
    at_sites: SiteNoise,
    sigma: Floats,
    *,
    method: str = "default",
) -> Prediction:
    """The same for one network (P = 1, arrays of NumPy) and images x (1, C, H, W, B) with labels (B,).

    Raises `OutOfReach` where moments leave the range of float32.
    """
    started, be = time.process_time(), backends.get("numba")
    noise = {site: operator for site, operator in at_sites.items() if operator.active(training=False)}
    try:
        check_noise_known(noise)
        chain = chain_of(network, population, be, min(noise))
    except WnError as error:
        return _nothing(network, sigma, str(error))
    total, right = Sums.of(len(sigma)), 0
    kinds = {step.kind for step in chain.behind(min(noise), frozenset(noise))}
    exact = kinds <= {"affine"}
    used = "exact" if exact else "plain" if method == "plain" else "conditioned"
    with be.working(1), np.errstate(over="ignore", invalid="ignore"):
        few = np.unique(np.linspace(0, len(labels) - 1, PROBED).astype(int))
        probed = network.clean_activations(be, population.params, population.states, np.take(x, few, axis=-1))
        common = in_common(chain, noise, probed[min(noise)], SEED)
        for start in range(0, len(labels), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            given = np.ascontiguousarray(x[..., some])
            clean = network.clean_activations(be, population.params, population.states, given)
            right += int((clean[-1][0].argmax(axis=0) == labels[some]).sum())
            total = total.add(
                _part(chain, noise, common, clean[min(noise)], labels[some], len(sigma), used, start)
            )
    count = len(labels)
    spread = (2 * np.sqrt(total.squares) + np.abs(total.accuracy - total.plain)) / count
    spread = spread if exact else spread + (LEAST_ERROR if used == "conditioned" else np.nan)
    behind_pools = BEHIND_POOLS if kinds & {"max", "relu-max"} else 1
    compounded = COMPOUNDED if sum(operator.has_multiplier for operator in noise.values()) > 1 else 1
    spread = spread * (1 if exact else max(behind_pools, compounded))
    seconds = time.process_time() - started
    return Prediction(
        sigma, total.accuracy / count, spread, right / count, 1 / network.classes, used, "", seconds
    )


class Sums(NamedTuple):
    """Over images, (S,) each: probabilities of the label, those of plain linearisation, squared errors."""

    accuracy: Floats
    plain: Floats
    squares: Floats

    @staticmethod
    def of(levels: int) -> "Sums":
        """Sums of nothing."""
        return Sums(*np.zeros((3, levels)))

    def add(self, other: "Sums") -> "Sums":
        """Both together."""
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))


def check_noise_known(noise: SiteNoise) -> None:
    """Raise WnError for noise whose effect is not Gaussian to begin with, or where there is none."""
    if not noise:
        raise WnError("no noise is on at inference: there is nothing to predict")
    for operator in noise.values():
        if operator.distribution != "normal":
            raise WnError(f"draws are {operator.distribution}: predictions are for normal draws")
        if operator.order == "add_mul" and operator.has_multiplier and operator.has_offset:
            raise WnError("draws of M and D are multiplied in (x + D)·M: that is not normal")


def _part(
    chain: Chain,
    noise: SiteNoise,
    common: Common,
    x: Array,
    labels: NDArray[np.int64],
    levels: int,
    used: str,
    seed: int,
) -> Sums:
    """The sums of some images, from their clean activations at the first noisy site."""
    found = linearise(chain, noise, x, common)
    if not (np.isfinite(found.mean).all() and np.isfinite(found.covariance).all()):
        raise OutOfReach
    plain, error = _probabilities(found, labels, levels, seed)
    if used != "conditioned":
        return Sums(plain.sum(1), plain.sum(1), (error**2).sum(1))
    points = normal_points(POINTS, min(chain.classes - 1, MOST_DIRECTIONS), len(labels), SEED + seed)
    mixed = mixture(chain, noise, x, found, points, common)
    if not (np.isfinite(mixed.means).all() and np.isfinite(mixed.covariance).all()):
        raise OutOfReach
    p = _of_mixture(mixed, labels, levels, seed)  # (S, N, B)
    halves = p.reshape(levels, 2, -1, len(labels)).mean(axis=2)
    squares = ((halves[:, 0] - halves[:, 1]) / 2) ** 2
    return Sums(p.mean(axis=1).sum(axis=1), plain.sum(axis=1), squares.sum(axis=1))


def _probabilities(
    found: Linearised, labels: NDArray[np.int64], levels: int, seed: int
) -> tuple[Floats, Floats]:
    """Probabilities of the labels and their errors, (S, B)."""
    shape = (levels, *found.mean.shape[1:])
    mean = np.broadcast_to(found.mean, shape).transpose(1, 0, 2).reshape(shape[1], -1)
    covariance = np.broadcast_to(found.covariance, (levels, *found.covariance.shape[1:]))
    flat = covariance.transpose(1, 2, 0, 3).reshape(shape[1], shape[1], -1)
    p = gaussian_argmax(mean, flat, np.tile(labels, levels), points=8, seed=SEED + seed, negative=ROUNDED)
    return p.probability.reshape(levels, -1), p.error.reshape(levels, -1)


def _of_mixture(mixed: Mixture, labels: NDArray[np.int64], levels: int, seed: int) -> Floats:
    """Probabilities of the labels given each point, (S, N, B)."""
    members, points, classes, batch = mixed.means.shape
    mean = mixed.means.transpose(2, 0, 1, 3).reshape(classes, -1)
    shape = (members, points, *mixed.covariance.shape[2:])
    flat = np.broadcast_to(mixed.covariance, shape).transpose(2, 3, 0, 1, 4).reshape(classes, classes, -1)
    own = np.tile(labels, members * points)
    p = gaussian_argmax(mean, flat, own, points=2, seed=SEED + seed, negative=ROUNDED)
    return np.broadcast_to(p.probability.reshape(members, points, batch), (levels, points, batch))


def crossing_of(sigma: Floats, accuracy: Floats, half: float) -> float:
    """The first σ at which a curve is at `half` or below, between levels along log σ; NaN if none."""
    below = np.flatnonzero(accuracy <= half)
    if not below.size or below[0] == 0:
        return math.nan
    i = int(below[0])
    share = (accuracy[i - 1] - half) / (accuracy[i - 1] - accuracy[i])
    return float(sigma[i - 1] * (sigma[i] / sigma[i - 1]) ** share)


def _on_host(be: Backend, trees: Sequence[Any], member: int) -> tuple[Any, ...]:
    """Parameters or states of one member, (1, …), as float32 arrays of NumPy."""

    def of(array: Any) -> Array:
        return np.asarray(be.to_numpy(array[member : member + 1]), np.float32)

    return tuple(type(tree)(*map(of, tree)) if tree else tree for tree in trees)
