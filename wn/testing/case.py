"""A layer with all its arguments: the object of the checks in `gradients` and `layers`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.testing import trees
from wn.testing.adapters.batch_first import BatchFirst
from wn.testing.errors import CheckFailure
from wn.testing.repro import of_layer
from wn.testing.tolerances import assert_close

# Ends every seed list, so that no stream equals default_rng(seed), which x was perhaps drawn from: with
# dy = x, a mask taken from dy instead of x would look right.
OWN_STREAMS = 0x5EED

Layout = Callable[[Any], Any]
Arrays = dict[str, NDArray[Any]]


class Pass(NamedTuple):
    """One forward and backward pass, in host memory: y, dx, and the gradients by parameter name."""

    y: NDArray[Any]
    dx: NDArray[Any]
    grads: Arrays


@dataclass(frozen=True)
class LayerCase:
    """A layer, its backend, parameters, input and static arguments.

    forward(be, params, x, **static) -> (y, cache);  backward(be, dy, cache) -> (dx, grads).

    layer: a module or object with these two functions, or a pair of them; be: passed on as it is (if it has
    `asarray` and `to_numpy`, arrays go through them); params: arrays (P|1, …) or None in a NamedTuple, dict,
    tuple or list, nested if need be, or () or None for a layer without; x: (P|1, …, B); static: further
    arguments by name; per_member: names of static arrays that hold a row per member; seed: of the random
    upstream gradients and probes. Raises WnError if any of these do not fit together.
    """

    layer: Any
    be: Any
    params: Any
    x: NDArray[Any]
    static: Mapping[str, Any] = field(default_factory=dict)
    per_member: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        _check_layer(self.layer)
        _check_params(self.params)
        missing = [name for name in self.per_member if name not in self.static]
        if missing:
            raise WnError(f"per_member names {missing[0]!r}: static has {sorted(self.static)}")
        for name, array in self.variables().items():
            _check_array(name, array)
        self._check_members()

    # ---- what the case consists of ------------------------------------------------------------------------

    @property
    def population(self) -> int:
        """P, the largest leading axis of x, the parameters and the per-member static arrays."""
        return max(int(array.shape[0]) for array in self._members_by_name().values())

    @property
    def reduction_length(self) -> int:
        """A bound on the terms of any sum in the layer: elements per member of the largest array."""
        return max(int(array[0].size) for array in self.variables().values())

    def variables(self) -> Arrays:
        """Return x and the parameters by name: everything that has a gradient."""
        return {"x": self.x, **self.parameter_arrays()}

    def parameter_arrays(self) -> Arrays:
        """Return the parameters by name, without those that are None."""
        return named_arrays(self.params)

    def with_variables(self, arrays: Mapping[str, NDArray[Any]]) -> "LayerCase":
        """Return the case with some of x and the parameters replaced."""
        return replace(self, params=self.params_with(arrays), x=arrays.get("x", self.x))

    def params_with(self, arrays: Mapping[str, Any]) -> Any:
        """Return params with some of its arrays replaced."""
        if not self.parameter_arrays():
            return self.params
        return trees.rebuild(self.params, lambda name, leaf: arrays.get(name, leaf))

    def in_dtype(self, dtype: Any) -> "LayerCase":
        """Return the case with x, the parameters and every floating static array in that dtype."""
        case = self.with_variables({name: array.astype(dtype) for name, array in self.variables().items()})
        static = {name: _to_dtype(value, dtype) for name, value in self.static.items()}
        return replace(case, static=static)

    def member(self, p: int) -> "LayerCase":
        """Return member p alone, as a population of one."""
        case = self.with_variables({name: _row(array, p) for name, array in self.variables().items()})
        static = {name: _row(v, p) if name in self.per_member else v for name, v in self.static.items()}
        return replace(case, static=static)

    def _members_by_name(self) -> Arrays:
        return {**self.variables(), **{name: np.asarray(self.static[name]) for name in self.per_member}}

    def _check_members(self) -> None:
        counts = {name: array.shape[0] for name, array in self._members_by_name().items()}
        if len(set(counts.values()) - {1}) > 1:
            listed = ", ".join(f"{count} for {name}" for name, count in counts.items())
            raise WnError(
                "arrays are for different numbers of members: the first axis of each counts the members P (or"
                f" is 1), the last axis of x the samples; the first axis is {listed}. Layers with the batch "
                "first and without members go through `batch_first`, other functions through `check_vjp`"
            )

    # ---- calling the layer --------------------------------------------------------------------------------

    def forward(self, layout: Layout | None = None, arrays: Arrays | None = None) -> tuple[Any, Any]:
        """Return (y, cache) as the layer does.

        layout: applied to x and the parameters first; arrays: their values, instead of the case's.
        """
        put = self.on_device if layout is None else lambda array: layout(self.on_device(array))
        placed = {name: put(array) for name, array in (arrays or self.variables()).items()}
        static = {n: self.on_device(v) if isinstance(v, np.ndarray) else v for n, v in self.static.items()}
        result = functions(self.layer)[0](self.be, self.params_with(placed), placed["x"], **static)
        if not (isinstance(result, tuple) and len(result) == 2):
            self.fail(f"forward returned {trees.kind(result)}, not the pair (y, cache)")
        return result

    def backward(self, dy: Any, cache: Any, layout: Layout | None = None) -> tuple[NDArray[Any], Any]:
        """Return (dx in host memory, grads as the layer gives them)."""
        upstream = self.on_device(dy)
        result = functions(self.layer)[1](self.be, upstream if layout is None else layout(upstream), cache)
        if not (isinstance(result, tuple) and len(result) == 2):
            self.fail(f"backward returned {type(result).__name__}, not the pair (dx, grads)")
        return self.to_host(result[0]), result[1]

    def run(self, dy: NDArray[Any], layout: Layout | None = None) -> Pass:
        """Return y, dx and the gradients of one pass with upstream gradient dy."""
        y, cache = self.forward(layout)
        dx, grads = self.backward(dy, cache, layout)
        return Pass(self.to_host(y), dx, self.host_gradients(grads))

    def upstream(self, stream: int = 0) -> NDArray[np.float64]:
        """Return a random dy in the shape of y; another `stream` gives another one."""
        y, _ = self.forward()
        return self.generator(stream).standard_normal(self.to_host(y).shape)

    def generator(self, stream: int) -> np.random.Generator:
        """Return a generator of its own for each stream number of this case's seed."""
        return np.random.default_rng([self.seed, stream, OWN_STREAMS])

    def host_gradients(self, grads: Any) -> Arrays:
        """Return gradients by parameter name in host memory; AssertionError unless of params' type."""
        if type(grads) is not type(self.params):
            self.fail(f"grads is {trees.kind(grads)}, it must be of params' type {trees.kind(self.params)}")
        unlike = trees.difference(grads, self.params, "grads", "params")
        if unlike:
            self.fail(unlike)
        of_type = {n: self.to_host(g) for n, g, _ in trees.paired(grads, self.params) if g is not None}
        if set(of_type) != set(self.parameter_arrays()):
            self.fail(f"grads has arrays for {sorted(of_type)}, params for {sorted(self.parameter_arrays())}")
        return of_type

    def on_device(self, array: Any) -> Any:
        """Return a fresh copy of an array as the backend wants it, to see whether a layer changes it."""
        fresh = np.array(array)
        return self.be.asarray(fresh) if hasattr(self.be, "asarray") else fresh

    def to_host(self, array: Any) -> NDArray[Any]:
        """Return an array of the backend in host memory."""
        return np.asarray(self.be.to_numpy(array) if hasattr(self.be, "to_numpy") else array)

    # ---- what messages show -------------------------------------------------------------------------------

    def shown(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a shape or an index as the layer's author knows it: without members where it has none."""
        return shape[1:] if isinstance(self.layer, BatchFirst) else shape

    def axes(self, name: str) -> str:
        """The axes of x in words, for messages about its shape."""
        if name != "x":
            return ""
        return (
            " (samples, features…)"
            if isinstance(self.layer, BatchFirst)
            else " (members, features…, samples)"
        )

    # ---- failing ------------------------------------------------------------------------------------------

    def fail(self, message: str) -> NoReturn:
        """Raise AssertionError with the message and how to repeat the call."""
        raise CheckFailure(f"{message}\n{self.repro()}")

    def assert_close(
        self, actual: NDArray[Any], expected: NDArray[Any], magnitude: NDArray[Any], name: str
    ) -> None:
        """Compare as `wn.testing.assert_close` does, with the case's reduction length and repro snippet."""
        length = self.reduction_length
        try:
            assert_close(actual, expected, reduction_length=length, magnitude=magnitude, name=name)
        except AssertionError as error:
            self.fail(str(error))

    def repro(self) -> str:
        """Return Python code that makes the same check again."""
        params, x = self.params, self.x
        if isinstance(self.layer, BatchFirst):
            params, x = self.layer.without_members(params, x)
        arguments = {"layer": self.layer, "be": self.be, "params": params, "x": x}
        return of_layer(arguments, self.static, self.per_member, self.seed)


def functions(layer: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return (forward, backward) of a module, an object or a pair."""
    return layer if isinstance(layer, tuple) else (layer.forward, layer.backward)


def named_arrays(params: Any) -> Arrays:
    """Return the leaves of params that are not None, by name."""
    if not trees.is_container(params):
        return {}
    return {name: leaf for name, leaf in trees.leaves(params) if leaf is not None}


def _row(array: Any, p: int) -> NDArray[Any]:
    """Return row p with its axis, or the only row of a shared array."""
    array = np.asarray(array)
    row: NDArray[Any] = array if array.shape[0] == 1 else array[p : p + 1]
    return row


def _to_dtype(value: Any, dtype: Any) -> Any:
    floating = isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)
    return value.astype(dtype) if floating else value


def _check_layer(layer: Any) -> None:
    pair = isinstance(layer, tuple) and len(layer) == 2 and all(callable(function) for function in layer)
    if not pair and not all(callable(getattr(layer, name, None)) for name in ("forward", "backward")):
        raise WnError(
            f"layer is {type(layer).__name__}: it must have forward and backward or be a pair of them"
        )


def _check_params(params: Any) -> None:
    if params is not None and not trees.is_container(params):
        raise WnError(
            f"params is {type(params).__name__}: it must be a NamedTuple, dict, tuple or list of arrays, () "
            "or None"
        )
    if "x" in named_arrays(params):
        raise WnError("a parameter is called x, as the input is: give it another name")


def _check_array(name: str, array: Any) -> None:
    if not (isinstance(array, np.ndarray) and np.issubdtype(array.dtype, np.floating) and array.ndim >= 1):
        raise WnError(f"{name} must be a floating NumPy array with a leading axis of members")
    if array.size == 0 or not np.all(np.isfinite(array)):
        raise WnError(f"{name} of shape {array.shape} must be finite and must not be empty")
