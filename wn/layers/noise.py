"""Noise as a layer: y = x·M + D, averaged over R repetitions. Derived in docs/noise.md."""

from math import prod
from typing import NamedTuple

import numpy as np

from wn.backends.base import Array, Backend, DrawKey
from wn.errors import WnError
from wn.noise import FloatOrMembers, Noise
from wn.random import Purpose


class NoiseDraws(NamedTuple):
    """The two streams of a site: for the additive and for the multiplicative part."""

    add: DrawKey
    mul: DrawKey


class NoiseCache(NamedTuple):
    """What backward needs: the multiplier averaged over the repetitions, None for the constant 1."""

    multiplier: Array | None


def draws(seeds: tuple[int, ...], samples: Array, epoch: int, site: int, training: bool) -> NoiseDraws:
    """Return the streams of a site in training (epoch) or inference (evaluation id)."""
    add, mul = (Purpose.TRAIN_ADD, Purpose.TRAIN_MUL) if training else (Purpose.EVAL_ADD, Purpose.EVAL_MUL)
    return NoiseDraws(DrawKey(seeds, samples, epoch, add, site), DrawKey(seeds, samples, epoch, mul, site))


def forward(be: Backend, noise: Noise, x: Array, streams: NoiseDraws) -> tuple[Array, NoiseCache]:
    """Apply a noise operator.

    mul→add: y = x·M + D; add→mul: y = (x + D)·M; M = mean_mul + σ_mul z, D = mean_add + σ_add z', with
    standard normal z, z' from the streams; the average over R such executions, or one with σ/√R. Every y
    is linear in x, so the draws are averaged instead of the y: y = x·M̄ + D̄, for add→mul x·M̄ + mean(D·M).
    Where σ is 0 the averages are exactly 1 and 0, and x comes out as it is.

    x: (P|1, …, B); y: (P, …, B), where P is that of x or of the operator's values. Derived in docs/noise.md.
    Raises WnError where a σ does not fit the dtype of x.
    """
    executions, averaged = (noise.repetitions, 1) if noise.draws_each else (1, noise.repetitions)
    multiplier, offset = _draw(be, noise, x, streams, averaged, 0)
    for repetition in range(1, executions):
        again = _draw(be, noise, x, streams, averaged, repetition)
        for total, part in ((multiplier, again[0]), (offset, again[1])):
            if total is not None:
                total += part
    if executions > 1:
        for total in (multiplier, offset):
            if total is not None:
                total /= executions
    y = x if multiplier is None else x * multiplier  # (P, …, B)
    y = y if offset is None else y + offset
    return y, NoiseCache(multiplier)


def backward(be: Backend, dy: Array, cache: NoiseCache) -> Array:
    """Return dx = M·dy with the multiplier of the forward pass; dx = dy for additive noise."""
    return dy if cache.multiplier is None else dy * cache.multiplier


def _draw(
    be: Backend, noise: Noise, x: Array, streams: NoiseDraws, averaged: int, repetition: int
) -> tuple[Array | None, Array | None]:
    """Draw what one execution multiplies x by and then adds; None stands for the constants 1 and 0.

    `averaged` > 1 stands for that many executions by one draw with σ/√averaged.
    """
    features = prod(x.shape[1:-1])
    shrink = averaged**-0.5 / (features if noise.normalize_to_input_size else 1)

    def part(key: DrawKey, sigma: FloatOrMembers, mean: FloatOrMembers) -> Array:
        z = be.normals(key, features, repetition).reshape(-1, *x.shape[1:])  # (S, …, B)
        scale, shift = _members(be, np.asarray(sigma) * shrink, x), _members(be, mean, x)
        return be.affine_draws(z.astype(x.dtype, copy=False), scale, shift)  # (S or P, …, B)

    multiplier = part(streams.mul, noise.sigma_mul, noise.mean_mul) if noise.has_multiplier else None
    offset = part(streams.add, noise.sigma_add, noise.mean_add) if noise.has_offset else None
    if noise.order == "add_mul" and multiplier is not None and offset is not None:
        offset = offset * multiplier  # (x + D)·M = x·M + D·M
    return multiplier, offset


def _members(be: Backend, values: FloatOrMembers, x: Array) -> Array:
    """Return values as an array (P|1, 1, …, 1) of x's dtype."""
    array = np.atleast_1d(np.asarray(values, np.float64))
    largest = float(np.finfo(x.dtype).max)
    if np.abs(array).max() > largest:
        raise WnError(f"a noise value of {np.abs(array).max():g} is beyond {x.dtype} (at most {largest:g})")
    return be.asarray(array.reshape(-1, *[1] * (x.ndim - 1)), dtype=x.dtype)
