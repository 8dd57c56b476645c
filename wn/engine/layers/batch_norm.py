"""Batch norm: y = γ (x − mean) / √(variance + ε) + β. Derived in docs/layers/batch_norm.md."""

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from wn.engine.backends.plain.base import Array, Backend
from wn.engine.backends.plain.windows import Pair
from wn.engine.layers.base import DrawUniform, Shape
from wn.errors import WnError

EPSILON = 1e-5  # added to the variance
MOMENTUM = 0.1  # share of the new batch in the running statistics

_NOT_FINITE = {
    np.dtype(dtype): f"batch norm: an activation is not finite in {dtype}" for dtype in ("float32", "float64")
}


class BatchNormParams(NamedTuple):
    """Scales gamma (P, F) and shifts beta (P, F); F is C for images."""

    gamma: Array
    beta: Array


class BatchStatistics(NamedTuple):
    """Mean and biased variance (P|1, F) of a batch, and the number N = B·H·W of values behind each.

    The mean is mean + residual: the residual is what it has no digits for (None: 0).
    """

    mean: Array
    variance: Array
    values: int
    residual: Array | None = None


class _Statistics(NamedTuple):
    mean: Array
    variance: Array
    residual: Array


class RunningStatistics(_Statistics):
    """Mean and unbiased variance (P, F), averaged over the batches so far: what inference normalises with.

    The mean is mean + residual: the residual, by default 0, is what it has no digits for.
    """

    __slots__ = ()

    def __new__(cls, mean: Array, variance: Array, residual: Array | None = None) -> "RunningStatistics":
        """A residual of zeros where none is given."""
        return super().__new__(cls, mean, variance, mean * 0 if residual is None else residual)


class TrainingCache(NamedTuple):
    """What backward_training needs: input, gamma, mean, inverse = 1/√(variance + ε), the mean's residual."""

    x: Array
    gamma: Array
    mean: Array
    inverse: Array
    residual: Array


class InferenceCache(NamedTuple):
    """What backward_inference needs: the same of the running statistics."""

    x: Array
    gamma: Array
    mean: Array
    inverse: Array
    residual: Array


def forward_training(
    be: Backend, params: BatchNormParams, x: Array
) -> tuple[Array, TrainingCache, BatchStatistics]:
    """Normalise every feature by the mean and variance of its N = B (images: B·H·W) values in the batch.

    mean = Σ_n x_n / N, variance = Σ_n (x_n − mean)² / N, y = γ (x − mean)/√(variance + ε) + β, ε = 1e-5.
    Where the variance is beyond the dtype's range (in float32 above 3.4e38, as of values ±1.8e19), it is
    infinite and y = β.

    x: (P|1, F, B) or (P|1, C, H, W, B); gamma, beta: (P, F); y: (P, …); statistics: (P|1, F).
    Raises WnError if N is 1, and OutOfRange for members with a value of x that is not finite.
    Ioffe and Szegedy 2015, algorithm 1; derived in docs/layers/batch_norm.md.
    """
    return normalised_by_batch(be, be.batch_norm, params, x)


def normalised_by_batch(
    be: Backend, primitive: Any, params: BatchNormParams, x: Array
) -> tuple[Array, TrainingCache, BatchStatistics]:
    """The results of `forward_training` by a primitive such as `Backend.batch_norm`."""
    given = rows(x)  # (P|1, F, N)
    count = given.shape[2]
    if count < 2:
        raise WnError(
            "batch norm in training needs at least 2 values per feature (B·H·W ≥ 2), got 1: the variance of "
            "a single value is 0, and every output would be beta; use a larger batch"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite variance is meant, others are looked for
        y, mean, residual, variance, inverse = primitive(given, params.gamma, params.beta, EPSILON)
    be.check_finite(mean, _NOT_FINITE[np.dtype(x.dtype)])
    cache = TrainingCache(x, params.gamma, mean, inverse, residual)
    return y.reshape(-1, *x.shape[1:]), cache, BatchStatistics(mean, variance, count, residual)


def backward_training(be: Backend, dy: Array, cache: TrainingCache) -> tuple[Array, BatchNormParams]:
    """Return the gradients, through the batch's mean and variance too.

    With x̂ = (x − mean)·inverse: dgamma = Σ_n dy x̂, dbeta = Σ_n dy,
    dx = γ·inverse·(dy − dbeta/N − x̂·dgamma/N); 0 where the variance is infinite.

    dy, dx: (P, F, B) or (P, C, H, W, B); dgamma, dbeta: (P, F).
    """
    dx, dgamma, dbeta = be.batch_norm_backward(
        rows(dy), rows(cache.x), cache.gamma, cache.mean, cache.residual, cache.inverse
    )
    return dx.reshape(dy.shape), BatchNormParams(dgamma, dbeta)


def forward_inference(
    be: Backend, params: BatchNormParams, running: RunningStatistics, x: Array
) -> tuple[Array, InferenceCache]:
    """Normalise every feature by the running statistics, which are constants here.

    y = γ (x − mean)/√(variance + ε) + β with the running mean and variance; β where the variance is infinite.
    Shapes as `forward_training`.
    """
    return normalised_by_running(be, be.normalise, params, running, x)


def normalised_by_running(
    be: Backend, primitive: Any, params: BatchNormParams, running: RunningStatistics, x: Array
) -> tuple[Array, InferenceCache]:
    """The results of `forward_inference` by a primitive such as `Backend.normalise`."""
    mean, variance, residual = running
    centre, scale, shift, inverse = be.normaliser(*params, mean, residual, variance, EPSILON)
    y = primitive(rows(x), centre, scale, shift)
    return y.reshape(-1, *x.shape[1:]), InferenceCache(x, params.gamma, mean, inverse, residual)


def normalised_and_pooled(
    be: Backend, params: BatchNormParams, running: RunningStatistics, x: Array, window: Pair
) -> Array:
    """A max pooling of the ReLU of `forward_inference`; nothing is kept for backward.

    x: (P|1, C, H, W, B); y: (P, C, ⌊H/KH⌋, ⌊W/KW⌋, B).
    """
    mean, variance, residual = running
    centre, scale, shift, _ = be.normaliser(*params, mean, residual, variance, EPSILON)
    return be.normalise_relu_pool(x, centre, scale, shift, window)


def backward_inference(be: Backend, dy: Array, cache: InferenceCache) -> tuple[Array, BatchNormParams]:
    """Return the gradients where the statistics are constants.

    dx = γ·inverse·dy, dgamma = Σ_n dy x̂, dbeta = Σ_n dy. Shapes as `backward_training`.
    """
    drows = rows(dy)
    dgamma, dbeta = be.normalise_sums(drows, rows(cache.x), cache.mean, cache.residual, cache.inverse)
    dx = drows * (cache.gamma * cache.inverse)[:, :, None]
    return dx.reshape(dy.shape), BatchNormParams(dgamma, dbeta)


def update_running(be: Backend, running: RunningStatistics, batch: BatchStatistics) -> RunningStatistics:
    """Return the running statistics after a batch, with the unbiased variance, as PyTorch keeps them.

    new = (1 − m)·old + m·batch, m = 0.1; the batch's variance counts as Σ (x − mean)²/(N − 1).
    """
    unbiased = batch.values / (batch.values - 1)
    old = running.mean, running.residual, running.variance
    new = batch.mean, batch.mean * 0 if batch.residual is None else batch.residual, batch.variance
    mean, residual, variance = be.running_statistics(old, new, MOMENTUM, unbiased)
    return RunningStatistics(mean, variance, residual)


@dataclass(frozen=True)
class BatchNorm:
    """A batch norm in a network; its state is the `RunningStatistics`.

    What is run is another layer in each phase: one's own forward needs a `for_phase` of its own.
    """

    recordable: ClassVar[bool] = True
    learns: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        """Refuse a forward that would never be called."""
        own = vars(cls)
        if cls.__module__ != __name__ and "forward" in own and "for_phase" not in own:
            raise WnError(f"{cls.__name__}: a batch norm with its own forward needs its own for_phase")

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
        mean, residual = (be.xp.zeros(size, dtype) for _ in range(2))
        return RunningStatistics(mean, be.xp.ones(size, dtype), residual)

    def for_phase(self, training: bool) -> "BatchNormTraining | BatchNormInference":
        """The statistics are those of the batch in training, and the running ones in inference."""
        return BatchNormTraining() if training else BatchNormInference()


class BatchNormTraining(BatchNorm):
    """Batch norm with the statistics of the batch, which updates the running ones."""

    recordable = True

    def forward(self, be: Backend, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `forward_training`."""
        y, cache, statistics = forward_training(be, params, x)
        return y, cache, update_running(be, state, statistics)

    def backward(self, be: Backend, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `backward_training`."""
        return backward_training(be, dy, cache)


class BatchNormInference(BatchNorm):
    """Batch norm with the running statistics."""

    recordable = True

    def forward(self, be: Backend, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `forward_inference`."""
        y, cache = forward_inference(be, params, state, x)
        return y, cache, state

    def backward(self, be: Backend, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `backward_inference`."""
        return backward_inference(be, dy, cache)


def rows(x: Array) -> Array:
    """(P, F, B) or (P, C, H, W, B) → (P, F|C, N)."""
    return x.reshape(x.shape[0], x.shape[1], prod(x.shape[2:]))
