"""Three forms of the mean and covariance of an activation, and noise on it.

One member's activation, in the shape of its features, batch last: mean (*features, B). F is their number, the
product of the features' axes, in row-major order. Derived in docs/theory/moments.md.
"""

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine.noise import Noise
from wn.random import philox4x32, seed_key
from wn.theory.moments import multiplier_moments, output_covariance, output_moments

Floats = NDArray[np.float64]

LARGEST = 4096  # features of a full covariance: 128 MiB for a sample
MOST_PROBES = 128  # columns of a factor: bits of one counter


class Diagonal(NamedTuple):
    """Mean and variance (*features, B) of elements that are taken for independent."""

    mean: Floats
    variance: Floats


class Factored(NamedTuple):
    """Covariance A·Aᵀ + diag(d) of low rank and independent parts.

    mean, variance d: (*features, B); factor A: (*features, r, B).
    """

    mean: Floats
    factor: Floats
    variance: Floats


class Full(NamedTuple):
    """Mean (*features, B) and covariance (F, F, B)."""

    mean: Floats
    covariance: Floats


Form = Diagonal | Factored | Full


def variances(moments: Form) -> Floats:
    """The variance of every element, (*features, B), whatever the form."""
    match moments:
        case Diagonal():
            return moments.variance
        case Factored():
            return np.asarray((moments.factor**2).sum(axis=-2) + moments.variance)
        case Full():
            index = np.arange(len(moments.covariance))
            return np.asarray(moments.covariance[index, index].reshape(moments.mean.shape))


def covariances(moments: Form) -> Floats:
    """The covariance matrix (F, F, B), whatever the form. Raises WnError above 4096 features."""
    if isinstance(moments, Full):
        return moments.covariance
    features, batch = prod(moments.mean.shape[:-1]), moments.mean.shape[-1]
    if features > LARGEST:
        raise WnError(f"a full covariance of {features} features is too large: at most {LARGEST}")
    result = np.zeros((features, features, batch))
    if isinstance(moments, Factored):
        columns = moments.factor.reshape(features, -1, batch).transpose(2, 0, 1)  # (B, F, r)
        result += (columns @ columns.transpose(0, 2, 1)).transpose(1, 2, 0)
    index = np.arange(features)
    result[index, index] += moments.variance.reshape(features, batch)
    return result


def certain(x: Floats) -> Diagonal:
    """An activation (*features, B) that is known: its variance is 0."""
    given = np.asarray(x, np.float64)
    return Diagonal(given, np.zeros_like(given))


def with_noise(moments: Form, operator: Noise) -> Form:
    """Mean and covariance behind a noise operator: of any kind, distribution, order and repetitions.

    Variances as `wn.theory.moments.output_moments` has them; covariances of different elements times the
    square of the multiplier's mean. Raises WnError for an operator with values for each member.
    """
    noise = operator.for_elements(prod(moments.mean.shape[:-1]))
    mean, variance = output_moments(moments.mean, noise, x_variance=variances(moments))
    if isinstance(moments, Diagonal):
        return Diagonal(mean, variance)
    if isinstance(moments, Factored):
        factor = multiplier_moments(noise)[0] * moments.factor
        return Factored(mean, factor, np.maximum(variance - (factor**2).sum(axis=-2), 0))
    flat = moments.mean.reshape(len(moments.covariance), -1)
    return Full(mean, output_covariance(flat, moments.covariance, noise))


def signs(shape: tuple[int, ...], columns: int, seed: int, first: int = 0) -> Floats:
    """Random signs ±1 (*features, r, B): ξ with E[ξξᵀ] the unit matrix, a function of the seed alone.

    shape: (*features, B), of the samples first … first + B − 1; columns: r in 1 … 128, else WnError. The bits
    of one counter each, see `wn.random`.
    """
    if not 1 <= columns <= MOST_PROBES:
        raise WnError(f"columns of a factor are {columns}: allowed are 1 … {MOST_PROBES}")
    count, batch = prod(shape[:-1]), shape[-1]
    words = philox4x32(np, (np.arange(count)[:, None], first + np.arange(batch), 0, 0), seed_key(seed))
    bits = [(word >> np.uint32(bit)) & np.uint32(1) for bit in range(32) for word in words][:columns]
    drawn = np.stack(bits, axis=1).astype(np.float64) * 2 - 1  # (F, r, B)
    return np.asarray(drawn.reshape(*shape[:-1], columns, batch))
