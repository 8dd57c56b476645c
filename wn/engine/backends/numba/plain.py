"""Formulas in plain array code as primitives: a recorded step repeats each as one call."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from wn.engine.backends.numba.recorded_calls import primitive
from wn.engine.backends.numpy import grouped
from wn.engine.backends.plain.base import Array
from wn.engine.layers.activations import clip, gelu, leaky_relu, sigmoid, silu, softplus, tanh
from wn.engine.layers.base import Formula
from wn.engine.layers.shapes import zero_padding
from wn.engine.layers.sliding import average_pooling, convolution, global_pooling, max_pooling

NOTHING = np.empty(0)


def as_primitives(pair: Formula, namespace: Any = np) -> Formula:
    """A pair that does the same, and can be recorded: for pure functions of arrays alone.

    namespace: what the pair takes in the place of `xp`. Where a step is recorded, the call is repeated with
    the same arrays, and what it makes is written to those that it made first.
    """

    @primitive
    def forward(be: Any, *given: Any, **static: Any) -> Any:
        return _called(be, pair.forward, (namespace, *given), static)

    @primitive
    def backward(be: Any, *given: Any, **static: Any) -> Any:
        return _called(be, pair.backward, (namespace, *given), static)

    return Formula(forward, backward)


def _called(be: Any, function: Callable[..., Any], given: tuple[Any, ...], static: dict[str, Any]) -> Any:
    recording = be._local.recording
    if recording is None:
        return function(*given, **static)
    arrays, made = list(_arrays(given)), list[Any]()
    structure = _with(given, iter([NOTHING] * len(arrays)))  # which keeps no work array from being used again

    def first(*arrays: Array) -> None:
        made.append(function(*_with(given, iter(arrays)), **static))

    def again(*arrays: Array) -> None:
        new_arrays = _arrays(function(*_with(structure, iter(arrays)), **static))
        for array, new in zip(kept, new_arrays, strict=True):
            if array.ctypes.data != new.ctypes.data:  # of an array that it was given
                np.copyto(array, new)

    recording.run_once(first, again, arrays)
    kept = [recording.work.unowned(array) for array in _arrays(made[0])]
    return made[0]


def _arrays(value: Any) -> Iterator[Array]:
    """Yield the arrays in a structure of tuples."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _arrays(part)


def _with(value: Any, arrays: Iterator[Array]) -> Any:
    """The structure with other arrays in the places of its own."""
    if isinstance(value, np.ndarray):
        return next(arrays)
    if not isinstance(value, tuple):
        return value
    parts = [_with(part, arrays) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


# What is run as it stands in its file.
FORMULAS = (
    *(average_pooling.FORMULA, max_pooling.FORMULA, global_pooling.AVERAGE, global_pooling.MAXIMUM),
    *(sigmoid.FORMULA, tanh.FORMULA, softplus.FORMULA, silu.FORMULA, gelu.EXACT, gelu.TANH),
    *(leaky_relu.FORMULA, clip.FORMULA, clip.RELU6, zero_padding.FORMULA),
)
OWN = {formula: as_primitives(formula) for formula in FORMULAS}
OWN[convolution.FORMULA] = as_primitives(grouped.PAIR, SimpleNamespace(xp=np))
