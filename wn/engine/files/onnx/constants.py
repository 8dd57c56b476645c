"""What a graph computes from constants and shapes alone: exporters write reshapes and limits that way."""

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine.files.onnx.graph import Step

Value = NDArray[Any]
# Values that may be computed beyond those that the file has: shapes and weights need few, and a file of some
# hundred bytes must not take memory because it says so.
MOST = 1 << 24

# ONNX's numbers of element types that Cast may name.
TYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 11: "float64", 2: "uint8", 3: "int8", 12: "uint32"}


def computed(step: Step, given: Sequence[Value | None]) -> Value | None:
    """The result of a node whose inputs are constants; None for an operator that is not computed here.

    Raises WnError where the inputs do not fit the operator.
    """
    operator = OPERATORS.get(step.op)
    if operator is None:
        return None
    try:
        with np.errstate(all="ignore"):
            found = operator(step.attributes, *given)
    except WnError:
        raise
    except Exception as error:  # of NumPy, of several kinds: shapes and types that do not fit
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WnError(f"{step.words}: its constants do not fit it: {reason}") from None
    return found


class Room:
    """What a graph may still compute of constants: as many values as it has itself, four times, and some."""

    def __init__(self, constants: Iterable[Value]) -> None:
        self.left = MOST + 4 * sum(x.size for x in constants)

    def take(self, step: Step, made: Value) -> Value:
        """Count a result, unless it is a view; WnError where there is no room for it."""
        if made.base is None:
            self.left -= made.size
        if self.left < 0:
            raise WnError(f"{step.words}: the graph computes more constants than {MOST} beyond its own")
        return made


def _axes(attributes: dict[str, Any], axes: Value | None) -> tuple[int, ...]:
    found = axes if axes is not None else attributes.get("axes")
    return tuple(int(axis) for axis in np.atleast_1d(found)) if found is not None else ()


def _unsqueeze(attributes: dict[str, Any], x: Value, axes: Value | None = None) -> Value:
    return np.expand_dims(x, _axes(attributes, axes))


def _squeeze(attributes: dict[str, Any], x: Value, axes: Value | None = None) -> Value:
    return np.squeeze(x, _axes(attributes, axes) or None)


def _slice(attributes: dict[str, Any], x: Value, *given: Value | None) -> Value:
    starts, ends, axes, steps = (
        (*given, None, None)[:4]
        if given
        else (attributes["starts"], attributes["ends"], attributes.get("axes"), None)
    )
    if starts is None or ends is None:
        raise ValueError("it needs starts and ends")
    starts, ends = np.atleast_1d(starts), np.atleast_1d(ends)
    along = range(len(starts)) if axes is None else np.atleast_1d(axes)
    paces = np.ones(len(starts), int) if steps is None else np.atleast_1d(steps)
    for start, end, axis, pace in zip(starts, ends, along, paces, strict=True):
        chosen: list[Any] = [slice(None)] * x.ndim
        chosen[int(axis)] = slice(int(start), int(end), int(pace))
        x = x[tuple(chosen)]
    return x


def _reshape(attributes: dict[str, Any], x: Value, shape: Value | None = None) -> Value:
    target = [int(size) for size in (attributes["shape"] if shape is None else np.atleast_1d(shape))]
    sizes = [x.shape[place] if size == 0 else size for place, size in enumerate(target)]
    return x.reshape(sizes)


def _constant(attributes: dict[str, Any]) -> Value | None:
    for name, kind in (("value", None), ("value_float", "float32"), ("value_int", "int64")):
        if attributes.get(name) is not None:
            return np.asarray(attributes[name], kind)
    for name, kind in (("value_floats", "float32"), ("value_ints", "int64")):
        if attributes.get(name) is not None:
            return np.asarray(attributes[name], kind)
    return None


def _constant_of_shape(attributes: dict[str, Any], shape: Value) -> Value:
    sizes = [int(size) for size in shape]
    count = prod(sizes)
    if count > MOST:
        raise WnError(f"ConstantOfShape of {count} values: at most {MOST} are supported")
    value = attributes.get("value")
    return np.full(
        sizes, 0.0 if value is None else value.reshape(-1)[0], "float32" if value is None else value.dtype
    )


def _cast(attributes: dict[str, Any], x: Value, *_: Any) -> Value:
    to = attributes["to"]
    if to not in TYPES:
        raise WnError(f"Cast to the type {to} is not supported: allowed are {', '.join(TYPES.values())}")
    return x.astype(TYPES[to])


def _divide(attributes: dict[str, Any], x: Value, y: Value) -> Value:
    whole = x.dtype.kind in "iu" and y.dtype.kind in "iu"
    return np.trunc(x / y).astype(x.dtype) if whole else x / y


def _gather(attributes: dict[str, Any], x: Value, places: Value) -> Value:
    axis = attributes.get("axis", 0)
    _check_count(places.size * (x.size // max(x.shape[axis], 1)), x)
    return np.asarray(np.take(x, places, axis))


def _concat(attributes: dict[str, Any], *parts: Value) -> Value:
    _check_count(sum(part.size for part in parts), *parts)
    return np.concatenate(parts, attributes["axis"])


def _check_count(count: int, *given: Value) -> None:
    """Before anything is allocated: results are not larger than MOST, or all of what they are made of."""
    if count > max(MOST, sum({id(x): x.size for x in given}.values())):
        raise ValueError(f"it would compute {count} constants, at most {MOST} are supported")


def _elementwise(function: Callable[..., Any]) -> Callable[..., Value]:
    def operator(_attributes: dict[str, Any], *given: Value) -> Value:
        _check_count(prod(np.broadcast_shapes(*(x.shape for x in given))), *given)
        return np.asarray(function(*given))

    return operator


OPERATORS: dict[str, Callable[..., Value | None]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": _elementwise(lambda x: x),
    "Cast": _cast,
    "CastLike": lambda _attributes, x, like: x.astype(like.dtype),
    "Gather": _gather,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": _concat,
    "Slice": _slice,
    "Reshape": _reshape,
    "Transpose": lambda attributes, x: np.transpose(x, attributes.get("perm")),
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Sum": _elementwise(lambda *parts: sum(parts)),
    "Mul": _elementwise(np.multiply),
    "Div": _divide,
    "Sqrt": _elementwise(np.sqrt),
    "Neg": _elementwise(np.negative),
    "Exp": _elementwise(np.exp),
    "Floor": _elementwise(np.floor),
    "Pow": _elementwise(np.power),
    "Less": _elementwise(np.less),
    "Equal": _elementwise(np.equal),
    "Where": _elementwise(np.where),
}
