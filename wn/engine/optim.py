"""Optimisation: Adam, cosine annealing, weight clamping. Derived in docs/optimisation.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, inf, pi
from typing import Any, NamedTuple

from wn.basics.errors import WnError
from wn.engine.backends.plain.base import Array, Backend


@dataclass(frozen=True)
class Adam:
    """Adam's constants: decay rates β1, β2 in [0, 1), ε > 0. Raises WnError for values out of range."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise WnError(f"{name} is {getattr(self, name)}: it must be at least 0 and below 1")
        if not 0 < self.epsilon < inf:
            raise WnError(f"epsilon is {self.epsilon}: it must be above 0 and finite")


class AdamState(NamedTuple):
    """First and second moments, in the structure and shapes of the parameters."""

    first: Any
    second: Any


def arrays(tree: Any) -> list[Array]:
    """Return the arrays of a structure of (named) tuples, in order."""
    if not isinstance(tree, tuple):
        return [tree]
    found: list[Array] = []
    for part in tree:
        if not isinstance(part, tuple):  # without a call of its own: this runs in every step
            found.append(part)
        elif part:
            found += arrays(part)
    return found


def with_arrays(tree: Any, values: Iterator[Array]) -> Any:
    """Return a structure like `tree` with the next arrays of `values` in place of its own."""
    if not isinstance(tree, tuple):
        return next(values)
    parts = [with_arrays(part, values) for part in tree]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


def adam_start(be: Backend, params: Any) -> AdamState:
    """Return zero moments for `params`."""
    first, second = (with_arrays(params, map(be.xp.zeros_like, arrays(params))) for _ in range(2))
    return AdamState(first, second)


def adam_constants(step: int, learning_rate: float, adam: Adam | None = None) -> tuple[float, ...]:
    """The constants of step t of Adam: η/(1−β1ᵗ), β1, β2, 1/√(1−β2ᵗ), ε; WnError for t < 1."""
    if step < 1:
        raise WnError(f"step is {step}: steps count from 1")
    adam = adam or Adam()
    return (
        learning_rate / (1 - adam.beta1**step),
        adam.beta1,
        adam.beta2,
        (1 - adam.beta2**step) ** -0.5,
        adam.epsilon,
    )


def adam_update(be: Backend, params: Any, grads: Any, state: AdamState, constants: Sequence[float]) -> None:
    """Update `params` and `state` in place with the constants of step t, see `adam_constants`.

    m ← β1 m + (1−β1) g,  v ← β2 v + (1−β2) g²,
    θ ← θ − η/(1−β1ᵗ) · m / (√v/√(1−β2ᵗ) + ε).

    Every member of the population has its own parameters and moments; η is shared. Source: Kingma & Ba
    (arXiv 1412.6980), Algorithm 1, in the order of operations that PyTorch uses.
    """
    moments = arrays(state.first), arrays(state.second)
    be.adam_updates(arrays(params), arrays(grads), *moments, constants)


def check_gradients(params: Any, grads: Any) -> None:
    """Raise WnError unless each parameter has a gradient of its shape and dtype."""
    parameters, gradients = arrays(params), arrays(grads)
    if [(array.shape, array.dtype) for array in parameters] != [(g.shape, g.dtype) for g in gradients]:
        raise WnError(_misfit(parameters, gradients))


def _misfit(parameters: list[Array], gradients: list[Array]) -> str:
    """The message about gradients that do not fit."""
    if len(parameters) != len(gradients):
        return (
            f"there are {len(parameters)} parameters and {len(gradients)} gradients: a layer with parameters "
            "says learns = True, and its backward returns a gradient for each, in the same structure"
        )
    of_arrays = (
        [(tuple(array.shape), str(array.dtype)) for array in some] for some in (parameters, gradients)
    )
    index, (parameter, gradient) = next(
        (index, pair) for index, pair in enumerate(zip(*of_arrays, strict=True)) if pair[0] != pair[1]
    )
    return (
        f"the gradient of parameter {index} has shape {gradient[0]} and dtype {gradient[1]}, the parameter "
        f"{parameter[0]} and {parameter[1]}"
    )


def cosine_annealing(learning_rate: float, epoch: int, epochs: int) -> float:
    """Return η_epoch = η/2 · (1 + cos(π·epoch/epochs)) for epoch 0…epochs−1: from η down towards 0.

    Source: Loshchilov & Hutter (arXiv 1608.03983), equation 5, one cycle, changed once per epoch.
    """
    if not 0 <= epoch < epochs:
        raise WnError(f"epoch is {epoch}: it must be in 0…{epochs - 1}")
    return learning_rate / 2 * (1 + cos(pi * epoch / epochs))


def clamp_weights(be: Backend, weights: list[Array], limit: float = 1.0) -> None:
    """Clamp weights of linear and convolution layers to [−limit, limit] in place.

    Raises WnError unless limit ≥ 0.
    """
    if not limit >= 0:
        raise WnError(f"the limit of weights is {limit}: it must be at least 0")
    for w in weights:
        be.clip(w, limit)
