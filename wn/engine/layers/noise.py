"""Noise as a layer: y = x·M + D, averaged over R repetitions. Derived in docs/noise.md."""

from math import prod
from typing import Any, NamedTuple

from wn.engine.layers.windows import Array
from wn.engine.noise import Noise
from wn.random import Purpose


class DrawKey(NamedTuple):
    """Where draws come from: everything of a Philox address but the feature and the repetition."""

    seeds: tuple[int, ...]  # one for all members, or one per member
    samples: Array  # (B,) sample ids
    epoch: int  # epoch in training, evaluation id in inference
    purpose: Purpose
    site: int


class Draws(NamedTuple):
    """Draws scale·z + shift of a noise operator, with z of mean 0 and variance 1 from the stream `key`."""

    key: DrawKey
    scale: Array  # (P|1,) in the dtype of the activation, in the host's memory
    shift: Array  # (P|1,)
    distribution: str = "normal"  # of z, see `wn.random`


def members(draws: Draws | None) -> int:
    """For how many members the draws are different: 1 if all share them."""
    if draws is None:
        return 1
    seeds = draws.key.seeds
    return max(len(draws.scale), len(draws.shift), len(seeds) if len(set(seeds)) > 1 else 1)


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


def forward(
    be: Any, noise: Noise, x: Array, streams: NoiseDraws, keep: bool = True
) -> tuple[Array, NoiseCache]:
    """Apply a noise operator.

    mul→add: y = x·M + D; add→mul: y = (x + D)·M; M = mean_mul + σ_mul z, D = mean_add + σ_add z', with z, z'
    of mean 0 and variance 1 from the streams; the average over R such executions, or one with σ/√R. Every y
    is linear in x, so the draws are averaged instead of the y: y = x·M̄ + D̄, for add→mul x·M̄ + mean(D·M).
    Where σ is 0 the averages are exactly 1 and 0, and x comes out as it is.

    x: (P|1, …, B); y: (P, …, B), where P is that of x or of the operator's values. The cache is of use for
    `backward` only with `keep`. Derived in docs/noise.md.
    σ is the `scale` of `Noise.scales`; scale·z + shift is computed and applied by `draw` and `apply_draws` of
    the backend, in plain code in wn/engine/backends/plain/base.py.
    Raises WnError where a σ does not fit the dtype of x.
    """
    scales = noise.scales(x.dtype, prod(x.shape[1:-1]))
    multiplier = (
        None if scales.multiplier is None else Draws(streams.mul, *scales.multiplier, noise.distribution)
    )
    offset = None if scales.offset is None else Draws(streams.add, *scales.offset, noise.distribution)
    executions = noise.repetitions if noise.draws_each else 1
    if executions == 1:
        y, m = be.apply_draws(x, multiplier, offset, noise.order == "add_mul", keep)
        return y, NoiseCache(m)
    m, d = _averages(be, x, multiplier, offset, noise.order == "add_mul", executions)
    y = x if m is None else x * m  # (P, …, B)
    y = y if d is None else y + d
    return y, NoiseCache(m)


def backward(be: Any, dy: Array, cache: NoiseCache) -> Array:
    """Return dx = M·dy with the multiplier of the forward pass; dx = dy for additive noise."""
    return dy if cache.multiplier is None else be.multiply(dy, cache.multiplier)


def _averages(
    be: Any, x: Array, multiplier: Draws | None, offset: Draws | None, add_first: bool, executions: int
) -> tuple[Array | None, Array | None]:
    """Return M̄ and D̄ (for add→mul the mean of D·M) over executions with draws of their own."""
    m_total = d_total = None
    for repetition in range(executions):
        m = None if multiplier is None else be.draw(multiplier, x, repetition)
        d = None if offset is None else be.draw(offset, x, repetition)
        if add_first and m is not None and d is not None:
            d = d * m  # (x + D)·M = x·M + D·M
        m_total, d_total = _added(m_total, m), _added(d_total, d)
    for total in (m_total, d_total):
        if total is not None:
            total /= executions
    return m_total, d_total


def _added(total: Array | None, part: Array | None) -> Array | None:
    if total is None or part is None:
        return part
    total += part
    return total
