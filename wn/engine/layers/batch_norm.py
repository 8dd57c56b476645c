"""Batch norm: y = γ (x − μ) / √(v + ε) + β. Derived in docs/layers/batch_norm.md."""

from dataclasses import dataclass
from math import inf, prod
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from wn.basics.errors import WnError
from wn.basics.numbers import is_number
from wn.engine.layers.base import DrawUniform, Formula, Runner, Shape
from wn.engine.layers.windows import Array, checked_flag

EPSILON = 1e-5  # added to the variance
MOMENTUM = 0.1  # share of the new batch in the running statistics


class BatchNormParams(NamedTuple):
    """Scales gamma (P, F) and shifts beta (P, F); F is C for images."""

    gamma: Array
    beta: Array


class BatchStatistics(NamedTuple):
    """Mean and biased variance (P|1, F) of a batch, and the number N = B·H·W of values behind each.

    The mean is mean + residual: the residual is what it has no digits for.
    """

    mean: Array
    variance: Array
    values: int
    residual: Array


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


class BatchNormCache(NamedTuple):
    """What backward needs: input, γ, and of each feature, (P|1, F): the mean μ, its residual, v and s."""

    x: Array
    gamma: Array
    mean: Array
    residual: Array
    variance: Array  # v
    inverse: Array  # s = 1/√(v + ε)


# ---- in training ------------------------------------------------------------------------------------------


def forward(
    xp: ModuleType, params: BatchNormParams, x: Array, eps: float = EPSILON
) -> tuple[Array, BatchNormCache]:
    """Normalise every feature by the mean and variance of its N = B (images: B·H·W) values in the batch.

    μ = Σ_n x_n / N, v = Σ_n (x_n − μ)² / N, s = 1/√(v + ε), x̂ = (x − μ) s, y = γ x̂ + β, ε = `eps`.
    Backends compute the mean with a residual, and variances up to the end of the dtype's range; where it is
    beyond that (in float32 above 3.4e38, as of values ±1.8e19), it is infinite and y = β.

    x: (P|1, F, B) or (P|1, C, H, W, B); gamma, beta: (P, F); y: (P, …); statistics: (P|1, F).
    Raises WnError if N is 1, and a backend OutOfRange for members with a value of x that is not finite.
    Ioffe and Szegedy 2015, algorithm 1; derived in docs/layers/batch_norm.md.
    """
    check_count(x)
    x_n, (gamma, beta) = rows(x), (array[:, :, None] for array in params)  # (P|1, F, N), (P, F, 1)
    mu = x_n.mean(axis=2, keepdims=True)  # (P|1, F, 1)
    v = ((x_n - mu) ** 2).mean(axis=2, keepdims=True)
    s = (v + eps) ** -0.5
    x_hat = (x_n - mu) * s  # (P|1, F, N)
    y = gamma * x_hat + beta  # (P, F, N)
    statistics = (array[:, :, 0] for array in (mu, mu * 0, v, s))
    return y.reshape(-1, *x.shape[1:]), BatchNormCache(x, params.gamma, *statistics)


def backward(xp: ModuleType, dy: Array, cache: BatchNormCache) -> tuple[Array, BatchNormParams]:
    """The gradients, through the batch's mean and variance too.

    With x̂ = (x − μ) s: dgamma = Σ_n dy x̂, dbeta = Σ_n dy,
    dx = γ s (dy − dbeta/N − x̂·dgamma/N); 0 where v is infinite.

    dy, dx: (P, F, B) or (P, C, H, W, B); dgamma, dbeta: (P, F).
    """
    x_n, dy_n = rows(cache.x), rows(dy)  # (P|1, F, N), (P, F, N)
    gamma, mu, residual, _, s = (array[:, :, None] for array in cache[1:])
    count = x_n.shape[2]
    x_hat = (x_n - mu - residual) * s  # (P|1, F, N)
    dbeta = dy_n.sum(axis=2, keepdims=True)  # (P, F, 1)
    dgamma = (dy_n * x_hat).sum(axis=2, keepdims=True)
    dx = gamma * s * (dy_n - dbeta / count - x_hat * dgamma / count)  # (P, F, N)
    return dx.reshape(dy.shape), BatchNormParams(dgamma[:, :, 0], dbeta[:, :, 0])


# ---- at inference -----------------------------------------------------------------------------------------


def forward_inference(
    xp: ModuleType, params: BatchNormParams, x: Array, running: RunningStatistics, eps: float = EPSILON
) -> tuple[Array, BatchNormCache]:
    """Normalise every feature by the running statistics, which are constants here.

    s = 1/√(variance + ε), y = γ (x − mean) s + β with the running mean and variance; β where the variance is
    infinite. Shapes as `forward`.
    """
    x_n, (gamma, beta) = rows(x), (array[:, :, None] for array in params)
    mean, variance, residual = (array[:, :, None] for array in running)  # (P, F, 1)
    s = (variance + eps) ** -0.5
    x_hat = (x_n - mean - residual) * s  # (P, F, N)
    y = gamma * x_hat + beta
    statistics = running.mean, running.residual, running.variance, s[:, :, 0]
    return y.reshape(-1, *x.shape[1:]), BatchNormCache(x, params.gamma, *statistics)


def backward_inference(xp: ModuleType, dy: Array, cache: BatchNormCache) -> tuple[Array, BatchNormParams]:
    """The gradients where the statistics are constants.

    dx = γ s dy, dgamma = Σ_n dy x̂, dbeta = Σ_n dy. Shapes as `backward`.
    """
    x_n, dy_n = rows(cache.x), rows(dy)
    gamma, mean, residual, _, s = (array[:, :, None] for array in cache[1:])
    x_hat = (x_n - mean - residual) * s  # (P|1, F, N)
    dbeta = dy_n.sum(axis=2)  # (P, F)
    dgamma = (dy_n * x_hat).sum(axis=2)
    dx = gamma * s * dy_n  # (P, F, N)
    return dx.reshape(dy.shape), BatchNormParams(dgamma, dbeta)


TRAINING = Formula(forward, backward)
INFERENCE = Formula(forward_inference, backward_inference)


# ---- shapes and statistics --------------------------------------------------------------------------------


def rows(x: Array) -> Array:
    """(P, F, B) or (P, C, H, W, B) → (P, F|C, N)."""
    return x.reshape(x.shape[0], x.shape[1], prod(x.shape[2:]))


def check_count(x: Array) -> None:
    """Raise WnError if there is one value per feature."""
    if prod(x.shape[2:]) < 2:
        raise WnError(
            "batch norm in training needs at least 2 values per feature (B·H·W ≥ 2), got 1: the variance of "
            "a single value is 0, and every output would be beta; use a larger batch"
        )


def check_finite(be: Any, mean: Array) -> None:
    """Raise OutOfRange for members with a mean that is known not to be finite, see `Backend.check_finite`."""
    be.check_finite(mean, f"batch norm: an activation is not finite in {mean.dtype}")


def statistics(cache: BatchNormCache) -> BatchStatistics:
    """The statistics of the batch that a forward in training has seen."""
    return BatchStatistics(cache.mean, cache.variance, prod(cache.x.shape[2:]), cache.residual)


def update_running(
    running: RunningStatistics, batch: BatchStatistics, momentum: float = MOMENTUM
) -> RunningStatistics:
    """The running statistics after a batch, with the unbiased variance, as PyTorch keeps them.

    new = (1 − α)·old + α·batch, α = `momentum`; the batch's variance counts as Σ (x − mean)²/(N − 1).
    The mean moves by α·(batch − old), and what its dtype has no digits for goes to the residual: so it
    reaches its limit. Each step is rounded to the dtype.
    """
    mean, variance, residual = running
    half = mean.dtype.type(0.5)  # a difference may be out of range, that of halves is not
    step = 2 * momentum * ((batch.mean * half - mean * half) + (batch.residual * half - residual * half))
    mean, residual = two_sum(mean, residual + step)
    variance = (1 - momentum) * variance + momentum * unbiased(batch.values) * batch.variance
    return RunningStatistics(mean, variance, residual)


def unbiased(values: int) -> float:
    """N/(N − 1), the factor from biased to unbiased variance."""
    return values / (values - 1)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b as its nearest number and the exact rest (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@dataclass(frozen=True)
class BatchNorm:
    """A batch norm in a network; its state is the `RunningStatistics`.

    eps: added to the variance, above 0. momentum: share of a new batch in the running statistics, 0 … 1.
    affine: whether it has γ and β; without, they are 1 and 0. As in `torch.nn.BatchNorm2d` (ONNX's momentum
    is 1 − momentum). Raises WnError for settings out of range. Derived in docs/layers/batch_norm.md.

    What is run is another layer in each phase: one's own forward or backward needs a `for_phase` of its own.
    """

    recordable: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    eps: float = EPSILON
    momentum: float = MOMENTUM
    affine: bool = True

    def __post_init__(self) -> None:
        if not is_number(self.eps) or not 0 < self.eps < inf:
            raise WnError(f"eps of a batch norm is {self.eps!r}: it must be above 0 and finite")
        if not is_number(self.momentum) or not 0 <= self.momentum <= 1:
            raise WnError(f"momentum of a batch norm is {self.momentum!r}: it must be from 0 to 1")
        checked_flag("affine of a batch norm", self.affine)
        for name in ("eps", "momentum"):  # the one way to set a field of a frozen dataclass
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def usual(self) -> bool:
        """See `OfFormula.usual`."""
        return (self.eps, self.momentum, self.affine) == (EPSILON, MOMENTUM, True)

    def __init_subclass__(cls) -> None:
        """Refuse a forward or backward that would never be called, its own or that of a mixin."""
        for name in ("forward", "backward"):
            own = getattr(cls, name, None)
            if own and own.__module__ != __name__ and cls.for_phase is BatchNorm.for_phase:
                raise WnError(f"{cls.__name__}: a batch norm with its own {name} needs its own for_phase")

    def output_shape(self, shape: Shape) -> Shape:
        """(F,) and (C, H, W) stay as they are."""
        if len(shape) not in (1, 3):
            raise WnError(f"batch norm takes (features,) or (channels, height, width), got {shape}")
        return shape

    def initial_parameters(self, be: Any, shape: Shape, draw: DrawUniform) -> BatchNormParams | tuple[()]:
        """γ = 1, β = 0."""
        if not self.affine:
            return ()
        nothing = draw(0, (shape[0],), 0.0)  # U(0, 0): zeros in the population's shape and dtype
        return BatchNormParams(nothing + 1, nothing + 0)

    def initial_state(self, be: Any, shape: Shape, population: int, dtype: Any) -> RunningStatistics:
        """Mean 0, variance 1."""
        size = (population, shape[0])
        mean, residual = (be.xp.zeros(size, dtype) for _ in range(2))
        return RunningStatistics(mean, be.xp.ones(size, dtype), residual)

    def for_phase(self, training: bool) -> "BatchNormTraining | BatchNormInference":
        """The statistics are those of the batch in training, and the running ones in inference."""
        kind = BatchNormTraining if training else BatchNormInference
        return kind(self.eps, self.momentum, self.affine)

    def _scaled(self, be: Any, params: Any, x: Array) -> BatchNormParams:
        """γ and β, 1 and 0 where there are none."""
        if self.affine:
            given: BatchNormParams = params
            return given
        shape = (1, x.shape[1])
        return BatchNormParams(be.constant(np.ones(shape, x.dtype)), be.constant(np.zeros(shape, x.dtype)))


class BatchNormTraining(BatchNorm):
    """Batch norm with the statistics of the batch, which updates the running ones."""

    recordable = True

    def forward(self, be: Any, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `forward` and `update_running` of this module."""
        y, cache = be.forward(TRAINING, self._scaled(be, params, x), x, self.eps)
        return y, cache, be.update_running(state, statistics(cache), self.momentum)

    def backward(self, be: Runner, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `backward` of this module."""
        dx, grads = be.backward(TRAINING, dy, cache)
        return dx, grads if self.affine else ()


class BatchNormInference(BatchNorm):
    """Batch norm with the running statistics."""

    recordable = True

    def forward(self, be: Any, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `forward_inference`."""
        y, cache = be.forward(INFERENCE, self._scaled(be, params, x), x, state, self.eps)
        return y, cache, state

    def backward(self, be: Runner, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `backward_inference`."""
        dx, grads = be.backward(INFERENCE, dy, cache)
        return dx, grads if self.affine else ()
