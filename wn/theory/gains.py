"""Gains: how much of a site's noise reaches the margin of the logits, by one backward sweep without noise.

The margin of an image is m = logit of its label − largest other logit. To first order noise δ at the
activation x of a site changes it by g·δ with g = ∂m/∂x, so that independent noise of variance σ² per element
adds c²σ² to its variance:

    additive: c² = E Σ_i g_i²        multiplicative: c² = E Σ_i g_i² x_i²        (E: mean over images)

Derived in docs/theory/gains.md, where it says what gains are good for (which site needs how many repetitions)
and what they are not: an absolute midpoint.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wn.basics.errors import WnError
from wn.data.dataset import Dataset
from wn.engine.backends.plain.base import SAMPLE_TILE, Array, Backend
from wn.engine.network import Network
from wn.engine.noise import Noise
from wn.engine.noise_spec import NoiseSpec
from wn.engine.training import Population, check_data, check_population, evaluation_batches

Floats = NDArray[np.float64]

IMAGES = 500  # enough for a standard error of some percent; see docs/theory/gains.md


class Gains(NamedTuple):
    """Gains c² of each member at each site, (P, S), with their standard errors over N images.

    What noise of σ at a site adds to the variance of the margin, per σ²: `additive` for y = x + σz, and
    `multiplicative` for y = x(1 + σz).
    """

    additive: Floats
    multiplicative: Floats
    additive_error: Floats
    multiplicative_error: Floats
    images: int


def site_gains(
    be: Backend,
    network: Network,
    population: Population,
    dataset: Dataset,
    *,
    images: int = IMAGES,
    dtype: DTypeLike = np.float32,
) -> Gains:
    """Return the gains of every site of every member of a population, without drawing any noise.

    c² = mean over images of Σ_i (∂m/∂x_i)² or Σ_i (∂m/∂x_i)² x_i², by one forward and one backward pass at
    inference. The images are the first of the test images class by class, as `Dataset.limited` takes them, or
    all there are. Raises WnError for fewer than 2 images, for a population of another network, and if a gain
    is not finite. Derived in docs/theory/gains.md.
    """
    if images < 2:
        raise WnError(f"gains of {images} images: at least 2 are needed for a standard error")
    check_data(network, dataset)
    check_population(be, network, population)
    chosen = dataset.limited(None, min(images, len(dataset.test)))
    parts = [
        image_gains(be, network, population, x, labels)
        for x, _, labels in evaluation_batches(be, chosen, population.seeds, {}, 0, SAMPLE_TILE, dtype)
    ]
    found = np.concatenate(parts, axis=3)  # (2, P, S, N)
    if not np.isfinite(found).all():
        raise WnError(f"{network.name}: a gain is not finite in {np.dtype(dtype)}: use float64")
    number = found.shape[3]
    (additive, multiplicative), errors = found.mean(axis=3), found.std(axis=3, ddof=1) / np.sqrt(number)
    return Gains(additive, multiplicative, errors[0], errors[1], number)


def together(parts: Sequence[Gains]) -> Gains:
    """Return the gains of several populations, over as many images each, as those of one: (ΣP, S)."""
    names = Gains._fields[:-1]
    values = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Gains(**values, images=parts[0].images)


@np.errstate(over="ignore", invalid="ignore")  # gains that are not finite are reported
def image_gains(be: Backend, network: Network, population: Population, x: Array, labels: Array) -> Floats:
    """Return Σ_i g_i² and Σ_i g_i² x_i² at every site for each image of a batch: (2, P, S, B), float64.

    x: (P|1, C, H, W, ≥B); labels: (B,), of its first images. One backward pass serves all images: at
    inference none of them depends on another.
    """
    params, states, seeds = population
    activations, cache = network.clean_pass(be, params, states, x)
    squares = np.empty((2, len(seeds), len(activations), len(labels)))

    def watch(site: int, dx: Array) -> None:
        for kind, g in enumerate((dx, dx * activations[site])):
            total = (g * g).reshape(len(g), -1, g.shape[-1]).sum(axis=1, dtype=np.float64)  # (P, ≥B)
            squares[kind, :, site] = be.to_numpy(total)[:, : len(labels)]

    dlogits = margin_gradient(be, activations[-1], labels)
    network.backward(be, dlogits, cache, need_dx=True, watch=watch)
    return squares


def margin_gradient(be: Backend, logits: Array, labels: Array) -> Array:
    """Return ∂m/∂logits (P, K, ≥B): 1 at the label, −1 at the largest other logit (the first of equal ones).

    logits: (P, K, ≥B); labels: (B,); images beyond B have 0.
    """
    values, labels = be.to_numpy(logits), be.to_numpy(labels)
    members, images = np.arange(len(values))[:, None], np.arange(len(labels))
    others = np.array(values[..., : len(labels)])  # (P, K, B)
    others[members, labels, images] = -np.inf
    dlogits = np.zeros_like(values)
    dlogits[members, labels, images] = 1
    dlogits[members, others.argmax(axis=1), images] = -1
    return be.asarray(dlogits)


def of_noise(found: Gains, network: Network, noise: Mapping[int, Noise]) -> Floats:
    """The variance that noise adds to the margin, to first order: (P, S), 0 at sites without noise.

    c²_i = (s²·multiplicative_i + t²·additive_i)/R for M of variance s², D of variance t² and R repetitions,
    either order of mixed noise; normalised noise has σ/N at a site of N elements. Raises WnError for values
    by member, and for means other than 1 and 0: the gains are those of the network without noise, which such
    means would change. Derived in docs/theory/gains.md.
    """
    network.check_sites(list(noise))
    shapes, variance = network.site_shapes(), np.zeros_like(found.additive)
    for site, operator in noise.items():
        if operator.members() > 1:
            raise WnError("gains are of one operator, and this one has values for each member")
        check_means(operator)
        local = operator.for_elements(prod(shapes[site]))
        s2, t2 = (float(sigma) ** 2 / operator.repetitions for sigma in (local.sigma_mul, local.sigma_add))
        variance[:, site] = s2 * found.multiplicative[:, site] + t2 * found.additive[:, site]
    return variance


def check_means(operator: Noise | NoiseSpec) -> None:
    """Raise WnError for noise of other means than 1 (of the factor) and 0 (of what is added)."""
    if (operator.mean_mul, operator.mean_add) != (1, 0):
        raise WnError(
            "gains go with noise whose factor has mean 1 and whose offset has mean 0, not "
            f"{operator.mean_mul:g} and {operator.mean_add:g}"
        )


def sensitivities(variances: Any) -> Floats:
    """Return c (S,) of a site's noise for networks with c² (P, S): the root of the mean over them.

    1/c is to σ what a midpoint is, up to one constant for all sites: `wn.analysis.repetitions.optimal` takes
    it. Where c is 0 that is inf: no noise harms.
    """
    return np.asarray(np.sqrt(np.mean(variances, axis=0)))
