"""Activations by what they compute: exporters write GELU or SiLU as several nodes, each in its own way.

Element-wise nodes are composed to one function of one number. Which activation it is, is found by its values:
a function is taken for an activation where both agree on a grid to the digits of float32, in float64. One
that agrees with none is refused, never approximated.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from wn.basics.errors import WnError
from wn.engine.files.onnx.graph import Step

Function = Callable[[NDArray[Any]], NDArray[Any]]
AGREE = 4e-7  # relative, or absolute below 1: constants of files have the digits of float32

NEAR = np.concatenate(
    (np.linspace(-12, 12, 4801), np.geomspace(12, 80, 60), -np.geomspace(12, 80, 60), [0.0])
)
# Limits may be anywhere: far out, functions have to agree where they are finite (exponentials are not there).
FAR = np.geomspace(1e2, 1e30, 57)
GRID = np.concatenate((NEAR, FAR, -FAR))


class Activation(NamedTuple):
    """The name of an activation, its settings, and its function."""

    name: str
    settings: dict[str, Any]
    function: Function


def gelu(x: NDArray[Any]) -> NDArray[Any]:
    """x Φ(x)."""
    return np.asarray(x * 0.5 * (1 + erf(x / np.sqrt(2))))


def gelu_tanh(x: NDArray[Any]) -> NDArray[Any]:
    """The form of GELU with a tanh."""
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


FIXED = (
    Activation("Relu", {}, lambda x: np.maximum(x, 0)),
    Activation("Sigmoid", {}, expit),
    Activation("Tanh", {}, np.tanh),
    Activation("Softplus", {"threshold": 50.0}, lambda x: np.logaddexp(0, x)),
    Activation("Silu", {}, lambda x: x * expit(x)),
    Activation("Gelu", {}, gelu),
    Activation("Gelu", {"approximate": "tanh"}, gelu_tanh),
)

# Operators that are activations themselves: of what is one already, they are another layer.
LAYERS = {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Gelu", "Clip"}
UNARY: Mapping[str, Callable[[NDArray[Any], dict[str, Any]], Any]] = {
    "Relu": lambda x, _: np.maximum(x, 0),
    "LeakyRelu": lambda x, given: np.where(x < 0, given.get("alpha", 0.01) * x, x),
    "Sigmoid": lambda x, _: expit(x),
    "Tanh": lambda x, _: np.tanh(x),
    "Softplus": lambda x, _: np.logaddexp(0, x),
    "Gelu": lambda x, given: (gelu_tanh if given.get("approximate") == "tanh" else gelu)(x),
    "Erf": lambda x, _: erf(x),
    "Exp": lambda x, _: np.exp(x),
    "Log": lambda x, _: np.log(x),
    "Neg": lambda x, _: -x,
    "Abs": lambda x, _: np.abs(x),
    "Sqrt": lambda x, _: np.sqrt(x),
    "Reciprocal": lambda x, _: 1 / x,
    "Identity": lambda x, _: x,
    "Dropout": lambda x, _: x,
}
BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sum": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Max": np.maximum,
    "Min": np.minimum,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
}


def composed(step: Step, operands: Sequence[Function | float]) -> Function | None:
    """The function of an element-wise node of functions and numbers; None for another operator."""
    functions = [_constant(x) if isinstance(x, float) else x for x in operands]
    if step.op in UNARY and len(functions) >= 1:
        unary, inner = UNARY[step.op], functions[0]
        return _tabled(lambda x: unary(inner(x), step.attributes))
    if step.op in BINARY and len(functions) == 2:
        binary, (left, right) = BINARY[step.op], functions
        return _tabled(lambda x: binary(left(x), right(x)))
    if step.op == "Where" and len(functions) == 3:
        where, then, other = functions
        return _tabled(lambda x: np.where(where(x), then(x), other(x)))
    return None


def _tabled(function: Function) -> Function:
    """A function as its values on the grid, the only place where functions are asked for.

    Computed at once: a function of functions would take time exponential in a chain of nodes that read one
    value twice, and a deep stack.
    """
    with np.errstate(all="ignore"):
        values = function(GRID)
    return lambda _: values


def _constant(value: float) -> Function:
    return lambda x: np.full_like(x, value)


def clipped(step: Step, inner: Function, low: float, high: float) -> Function:
    """The function of a Clip."""
    if low > high:
        raise WnError(f"{step.words}: its limits are {low} and {high}: the first must be the lower one")
    return _tabled(lambda x: np.clip(inner(x), low, high))


def activation_of(function: Function) -> Activation | None:
    """The activation that a function is, `Identity` if it changes nothing; None for one that is none."""
    with np.errstate(all="ignore"):
        values = np.asarray(function(GRID), np.float64)
        identity = Activation("Identity", {}, lambda x: x)
        for activation in (identity, *FIXED, *_with_settings(values)):
            if _agree(values, np.asarray(activation.function(GRID), np.float64)):
                return activation
    return None


def _with_settings(values: NDArray[Any]) -> list[Activation]:
    """Leaky ReLU and clip with the settings that a function's values would give them."""
    found = []
    slope = float(values[0] / GRID[0])
    if np.isfinite(slope):
        slope = _short(slope)
        found.append(Activation("LeakyRelu", {"slope": slope}, lambda x: np.where(x < 0, slope * x, x)))
    low, high = float(values.min()), float(values.max())
    if low < high and np.isfinite([low, high]).all():
        limits = _short(low) if low > GRID.min() else None, _short(high) if high < GRID.max() else None
        found.append(Activation("Clip", {"low": limits[0], "high": limits[1]}, lambda x: np.clip(x, *limits)))
    return found


def _short(value: float) -> float:
    """A number of float32 as the shortest decimal that stands for it: 0.1, not 0.10000000149."""
    return float(str(np.float32(value)))


def _agree(found: NDArray[Any], wanted: NDArray[Any]) -> bool:
    size = np.maximum(np.abs(wanted), 1)
    finite = np.isfinite(found)
    near = np.abs(found - wanted) <= AGREE * size
    return bool(finite[: len(NEAR)].all() and near[finite].all())
