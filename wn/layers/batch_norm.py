"""Batch norm: y = γ (x − mean) / √(variance + ε) + β. Derived in docs/layers/batch_norm.md."""

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from wn.backends.base import Array, Backend
from wn.backends.windows import Pair
from wn.errors import WnError
from wn.layers.base import DrawUniform, Shape

EPSILON = 1e-5  # added to the variance
MOMENTUM = 0.1  # share of the new batch in the running statistics

_TOO_LARGE = {
    np.dtype(dtype): f"the variance of a feature is not finite in {dtype}: activations must be numbers below "
    f"about {float(np.finfo(dtype).max) ** 0.5:.0e}; use float64 or less noise before it"
    for dtype in ("float32", "float64")
}


class BatchNormParams(NamedTuple):
    """Scales gamma (P, F) and shifts beta (P, F); F is C for images."""

    gamma: Array
    beta: Array


class BatchStatistics(NamedTuple):
    """Mean and biased variance (P|1, F) of a batch, and the number N = B·H·W of values behind each."""

    mean: Array
    variance: Array
    values: int


class RunningStatistics(NamedTuple):
    """Mean and unbiased variance (P, F), averaged over the batches so far: what inference normalises with."""

    mean: Array
    variance: Array


class TrainingCache(NamedTuple):
    """What backward_training needs: input, gamma, the batch's mean, and inverse = 1/√(variance + ε)."""

    x: Array
    gamma: Array
    mean: Array
    inverse: Array


class InferenceCache(NamedTuple):
    """What backward_inference needs: input, gamma, the running mean, and inverse = 1/√(variance + ε)."""

    x: Array
    gamma: Array
    mean: Array
    inverse: Array


def forward_training(
    be: Backend, params: BatchNormParams, x: Array, relu: bool = False
) -> tuple[Array, TrainingCache, BatchStatistics]:
    """Normalise every feature by the mean and variance of its N = B (images: B·H·W) values in the batch.

    mean = Σ_n x_n / N, variance = Σ_n (x_n − mean)² / N, y = γ (x − mean)/√(variance + ε) + β, ε = 1e-5.

    x: (P|1, F, B) or (P|1, C, H, W, B); gamma, beta: (P, F); y: (P, …), relu(y) with `relu`;
    statistics: (P|1, F).
    Raises WnError if N is 1, and where the variance is beyond the dtype's range.
    Ioffe and Szegedy 2015, algorithm 1; derived in docs/layers/batch_norm.md.
    """
    rows = _rows(x)  # (P|1, F, N)
    count = rows.shape[2]
    if count < 2:
        raise WnError(
            "batch norm in training needs at least 2 values per feature (B·H·W ≥ 2), got 1: the variance of "
            "a single value is 0, and every output would be beta; use a larger batch"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # looked for in the next line
        normalised = be.batch_norm_relu if relu else be.batch_norm
        y, mean, variance, inverse = normalised(rows, params.gamma, params.beta, EPSILON)
    be.check_finite(variance, f"batch norm: {_TOO_LARGE[np.dtype(x.dtype)]}")
    cache = TrainingCache(x, params.gamma, mean, inverse)
    return y.reshape(-1, *x.shape[1:]), cache, BatchStatistics(mean, variance, count)


def backward_training(be: Backend, dy: Array, cache: TrainingCache) -> tuple[Array, BatchNormParams]:
    """Return the gradients, through the batch's mean and variance too.

    With x̂ = (x − mean)·inverse: dgamma = Σ_n dy x̂, dbeta = Σ_n dy,
    dx = γ·inverse·(dy − dbeta/N − x̂·dgamma/N).

    dy, dx: (P, F, B) or (P, C, H, W, B); dgamma, dbeta: (P, F).
    """
    dx, dgamma, dbeta = be.batch_norm_backward(
        _rows(dy), _rows(cache.x), cache.gamma, cache.mean, cache.inverse
    )
    return dx.reshape(dy.shape), BatchNormParams(dgamma, dbeta)


def forward_inference(
    be: Backend, params: BatchNormParams, running: RunningStatistics, x: Array, relu: bool = False
) -> tuple[Array, InferenceCache]:
    """Normalise every feature by the running statistics, which are constants here.

    y = γ (x − mean)/√(variance + ε) + β with the running mean and variance. Shapes as `forward_training`.
    """
    inverse = (running.variance + EPSILON) ** -0.5
    normalise = be.normalise_relu if relu else be.normalise
    y = normalise(_rows(x), running.mean, params.gamma * inverse, params.beta)
    return y.reshape(-1, *x.shape[1:]), InferenceCache(x, params.gamma, running.mean, inverse)


def forward_pooled(
    be: Backend, params: BatchNormParams, running: RunningStatistics, x: Array, window: Pair
) -> Array:
    """Return what a max pooling makes of the ReLU of `forward_inference`; nothing is kept for backward.

    x: (P|1, C, H, W, B); y: (P, C, ⌊H/KH⌋, ⌊W/KW⌋, B).
    """
    inverse = (running.variance + EPSILON) ** -0.5
    return be.normalise_relu_pool(x, running.mean, params.gamma * inverse, params.beta, window)


def backward_inference(be: Backend, dy: Array, cache: InferenceCache) -> tuple[Array, BatchNormParams]:
    """Return the gradients where the statistics are constants.

    dx = γ·inverse·dy, dgamma = Σ_n dy x̂, dbeta = Σ_n dy. Shapes as `backward_training`.
    """
    drows = _rows(dy)
    dgamma, dbeta = be.normalise_sums(drows, _rows(cache.x), cache.mean, cache.inverse)
    dx = drows * (cache.gamma * cache.inverse)[:, :, None]
    return dx.reshape(dy.shape), BatchNormParams(dgamma, dbeta)


def update_running(be: Backend, running: RunningStatistics, batch: BatchStatistics) -> RunningStatistics:
    """Return the running statistics after a batch, with the unbiased variance, as PyTorch keeps them.

    new = (1 − m)·old + m·batch, m = 0.1; the batch's variance counts as Σ (x − mean)²/(N − 1).
    """
    unbiased = batch.values / (batch.values - 1)
    return RunningStatistics(
        be.running_average(running.mean, batch.mean, MOMENTUM, 1.0),
        be.running_average(running.variance, batch.variance, MOMENTUM, unbiased),
    )


@dataclass(frozen=True)
class BatchNorm:
    """A batch norm in a network; its state is the `RunningStatistics`."""

    recordable: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    relu_after: ClassVar[bool] = True
    relu_before: ClassVar[bool] = False

    def output_shape(self, shape: Shape) -> Shape:
        """(F,) and (C, H, W) stay as they are."""
        if len(shape) not in (1, 3):
            raise WnError(f"batch norm takes (features,) or (channels, height, width), got {shape}")
        return shape

    def initial_parameters(self, be: Backend, shape: Shape, draw: DrawUniform) -> BatchNormParams:
        """γ = 1, β = 0."""
        nothing = draw(0, (shape[0],), 0.0)  # U(0, 0): zeros in the population's shape and dtype
        return BatchNormParams(nothing + 1, nothing + 0)

    def initial_state(self, be: Backend, shape: Shape, population: int, dtype: Any) -> RunningStatistics:
        """Mean 0, variance 1."""
        size = (population, shape[0])
        return RunningStatistics(be.xp.zeros(size, dtype), be.xp.ones(size, dtype))

    def forward(
        self, be: Backend, params: Any, x: Array, state: Any, training: bool, relu: bool = False
    ) -> tuple[Array, Any, Any]:
        """Use the batch's statistics and update the running ones in training, else use the running ones."""
        if not training:
            y, inference_cache = forward_inference(be, params, state, x, relu)
            return y, inference_cache, state
        y, cache, statistics = forward_training(be, params, x, relu)
        return y, cache, update_running(be, state, statistics)

    def backward(
        self, be: Backend, dy: Array, cache: Any, need_dx: bool, relu: bool = False
    ) -> tuple[Array | None, Any]:
        """See `backward_training` and `backward_inference`."""
        if isinstance(cache, InferenceCache):
            return backward_inference(be, dy, cache)
        return backward_training(be, dy, cache)


def _rows(x: Array) -> Array:
    """(P, F, B) or (P, C, H, W, B) → (P, F|C, N)."""
    return x.reshape(x.shape[0], x.shape[1], prod(x.shape[2:]))
