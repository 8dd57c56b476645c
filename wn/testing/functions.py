"""Gradients of plain functions in any layout. Derived in docs/testing.md."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from wn.basics.errors import WnError
from wn.testing import trees
from wn.testing.errors import CheckFailure, short_traceback
from wn.testing.problems import Problem, Upstream, check_step, element_probes, require_finite
from wn.testing.repro import of_function
from wn.testing.results import flat, read
from wn.testing.rounding import Vector
from wn.testing.verdicts import Judge, check_problem

RANDOM_DIRECTIONS = 3
REPEATED = 2.0**-40  # of the largest value: rounding, and far below any draw


@short_traceback
def check_vjp(
    f: Callable[..., Any],
    vjp: Callable[..., Any],
    *arrays: Any,
    directions: Sequence[Any] | None = None,
    coordinates: int = 32,
    step: float | None = None,
    subgradients: bool = False,
    seed: int = 0,
) -> None:
    """Check the hand-written gradient of a plain function against central differences in float64.

    y = f(*arrays);  vjp(dy, *arrays) -> the gradients of Σ dy·y: for one array its gradient (or a tuple of
    one), for several a tuple.

    arrays: floating arrays or numbers in any layout, or dicts, tuples, lists and NamedTuples of them; they
    are passed on in float64. Others (integers, booleans, strings, None) are passed on as they are and their
    gradients ignored. f may return an array, a number, or containers of them; dy is like y. None as the
    gradient of an array stands for zero. directions: the only ones in which the arrays may be changed, each
    like `arrays` (a bare array if there is only one, None for an array that stays), for values that must
    keep to a set: directions of sum 0 on the simplex, symmetric ones for symmetric matrices. Without, up to
    `coordinates` elements of each array and three random directions through it are probed. step: the first
    and largest step; subgradients: at a kink, accept any slope between those of both sides; seed: of dy and
    of the directions.

    Raises AssertionError with the place, both values and a repro snippet where they differ, or where f or
    vjp gives different results for the same input, or changes its input; KinkError where y has a kink or
    jumps; UnresolvedError where differences cannot decide for another reason; WnError for arguments that
    allow no check. Derived in docs/testing.md.
    """
    function = _Function(f, vjp, arrays, seed)
    if coordinates < 1:
        raise WnError(f"coordinates is {coordinates}: it must be at least 1")
    check_step(step)
    given = None if directions is None else function.directions(directions)
    function.check_repeatable()
    problem = function.problem(given, step, subgradients)
    dys = [function.upstream(stream) for stream in (0, 1)]
    check_problem(problem, dys, coordinates, RANDOM_DIRECTIONS)


@short_traceback
def numerical_gradient(
    f: Callable[..., Any], *arrays: Any, dy: Any = None, step: float | None = None, seed: int = 0
) -> Any:
    """Return the gradient of Σ dy·f(*arrays), by central differences in float64, good to 5e-7 of its terms.

    arrays: as for `check_vjp`; dy: like y, default 1 where f returns a single number. The result is like the
    array, or a tuple with one entry per array; None stands for arrays that are not floating. Every element
    takes eight evaluations of f or more.

    Raises KinkError where y has a kink or jumps, UnresolvedError where an element cannot be found to 5e-7,
    WnError for arguments out of range.
    """
    function = _Function(f, None, arrays, seed)
    check_step(step)
    upstream = function.given_upstream(dy)
    function.check_repeatable()
    problem = function.problem(None, step, False)
    probes = [element_probes(problem, i, value, None) for i, value in enumerate(problem.values)]
    Judge(problem, [Upstream(upstream, None, [])]).judge([probe for of_array in probes for probe in of_array])
    found = []
    for value, of_array in zip(problem.values, probes, strict=True):
        slopes = [upstream @ probe.found.value for probe in of_array if probe.found]
        found.append(np.array(slopes, dtype=np.float64).reshape(value.shape))
    return function.like_arrays(found)


class _Function:
    """f and vjp with their arrays taken apart into leaves."""

    def __init__(
        self, f: Callable[..., Any], vjp: Callable[..., Any] | None, arrays: tuple[Any, ...], seed: int
    ) -> None:
        self.f, self.vjp, self.arrays, self.seed = f, vjp, arrays, seed
        if not arrays:
            raise WnError("no arrays are given: check_vjp(f, vjp, *arrays), numerical_gradient(f, *arrays)")
        for name, function in (("f", f), ("vjp", vjp)):
            if function is not None and not callable(function):
                raise WnError(f"{name} is {type(function).__name__}: it must be a function")
        names = _names(f, len(arrays))
        self.tree = dict(zip(names, arrays, strict=True))
        self.values = {
            name: np.array(leaf, np.float64)
            for name, leaf in trees.leaves(self.tree)
            if _floating(name, leaf)
        }
        if not any(value.size for value in self.values.values()):
            kinds = ", ".join(f"{n} is {_described(leaf)}" for n, leaf in trees.leaves(self.tree))
            raise WnError(
                f"nothing can be checked: a gradient needs floating arrays that are not empty, but {kinds}"
            )
        for name, value in self.values.items():
            if not np.all(np.isfinite(value)):
                raise WnError(f"{name} must be finite")
        self.result = read(self._call(list(self.values.values())), next(iter(self.values)))

    def problem(
        self, directions: Sequence[list[Vector]] | None, step: float | None, subgradients: bool
    ) -> Problem:
        return Problem(
            names=list(self.values),
            values=list(self.values.values()),
            evaluate=lambda values: flat(self._call(values), self.result),
            gradients=self.gradients,
            label=self.result.label,
            fail=self.fail,
            rng=np.random.default_rng([self.seed, 2, 0x5EED]),
            directions=directions,
            step=step,
            subgradients=subgradients,
            source="the vjp",
        )

    def check_repeatable(self) -> None:
        """Check that f, and vjp, give the same twice, but for rounding, and leave their arrays alone."""
        values = list(self.values.values())
        first, again = (flat(self._call(values, watched=True), self.result) for _ in range(2))
        require_finite(first, self.result.label)
        if not _alike(first, again):
            self.fail("f twice on the same input gives different results: give it fixed draws")
        if self.vjp is not None:
            dy = self.upstream(0)
            pairs = zip(self.gradients(dy, values), self.gradients(dy, values), strict=True)
            if not all(_alike(a, b) for a, b in pairs):
                self.fail("vjp twice on the same input gives different results: give it fixed draws")

    def upstream(self, stream: int) -> Vector:
        return np.random.default_rng([self.seed, stream, 0x5EED]).standard_normal(self.result.size)

    def given_upstream(self, dy: Any) -> Vector:
        """Return dy of the caller, flat, or 1 for a single number."""
        if dy is None:
            if self.result.size != 1:
                raise WnError(
                    f"f returns {self.result.described()}: pass dy, what its elements are weighted with"
                )
            return np.ones(1)
        unlike = trees.difference(dy, self.result.tree, "dy", "y")
        if unlike:
            raise WnError(unlike)
        parts = []
        leaves = trees.paired(dy, self.result.tree, "y")
        for (name, leaf, _), (shape, _) in zip(leaves, self.result.shapes, strict=True):
            array = np.asarray(leaf, dtype=np.float64)
            if array.shape != shape:
                raise WnError(f"d{name} has shape {array.shape}, {name} has {shape}")
            parts.append(array.reshape(-1))
        return np.concatenate(parts)

    def gradients(self, dy: Vector, values: list[Vector]) -> list[Vector]:
        """Return a gradient for each array, checked for structure, shape and dtype."""
        assert self.vjp is not None
        given, upstream = self._placed(values), self.result.like(dy)
        found = self.vjp(upstream, *given.values())
        tree = self._by_array(found)
        unlike = tree if isinstance(tree, str) else self._unlike(tree, "the gradient of ")
        if unlike:
            self.fail(f"the vjp returned {trees.kind(found)}: {unlike}")
        gradients = []
        for name, leaf, _ in trees.paired(tree, self.tree):
            if name in self.values:
                gradients.append(self._gradient(name, leaf))
        return gradients

    def like_arrays(self, found: list[Vector]) -> Any:
        """Return arrays in the structure of the arguments."""
        by_name = dict(zip(self.values, found, strict=True))
        parts = trees.rebuild(self.tree, lambda name, leaf: by_name.get(name))
        return tuple(parts.values()) if len(parts) > 1 else next(iter(parts.values()))

    def directions(self, directions: Sequence[Any]) -> list[list[Vector]]:
        """Return the caller's directions as an array for each value."""
        if isinstance(directions, np.ndarray | int) or not len(directions):
            raise WnError("directions must be a sequence of at least one direction, each like the arrays")
        return [self._direction(f"directions[{i}]", direction) for i, direction in enumerate(directions)]

    def fail(self, message: str) -> NoReturn:
        """Raise AssertionError with the message and how to repeat the call."""
        raise CheckFailure(f"{message}\n{of_function(self.f, self.vjp, self.arrays, self.seed)}")

    def _direction(self, label: str, direction: Any) -> list[Vector]:
        tree = self._by_array(direction)
        unlike = tree if isinstance(tree, str) else self._unlike(tree, "its part for ")
        if unlike:
            raise WnError(f"{label}: {unlike}")
        moved = []
        for name, leaf, _ in trees.paired(tree, self.tree):
            if name in self.values:
                shape = self.values[name].shape
                array = np.zeros(shape) if leaf is None else np.asarray(leaf, dtype=np.float64)
                if array.shape != shape or not np.all(np.isfinite(array)):
                    raise WnError(
                        f"{label} must be finite and of the shape {shape} of {name}, it is {array.shape}"
                    )
                moved.append(array)
        if not any(np.any(array) for array in moved):
            raise WnError(f"{label} is zero throughout: it moves nothing")
        return moved

    def _by_array(self, result: Any) -> Any:
        """Return a result of vjp by the names of the arrays, or in a line why that cannot be done."""
        names = list(self.tree)
        if len(names) == 1 and not self._wrapped(result):
            return {names[0]: result}
        if type(result) not in (tuple, list) or len(result) != len(names):
            return f"for {len(names)} arrays it must be a tuple of {len(names)}"
        return dict(zip(names, result, strict=True))

    def _unlike(self, tree: dict[str, Any], what: str) -> str | None:
        """Return in a line how containers differ from those of the arrays, or None."""
        found = (trees.difference(tree[name], value, what + name, name) for name, value in self.tree.items())
        return next(filter(None, found), None)

    def _wrapped(self, result: Any) -> bool:
        """Whether a tuple of one holds the gradient of the only array, and is not like that array itself."""
        if type(result) not in (tuple, list) or len(result) != 1 or np.isscalar(result[0]):
            return False
        (only,) = self.tree.values()
        alike = isinstance(only, tuple | list) and len(only) == 1 and not hasattr(only, "_fields")
        return not alike or isinstance(result[0], tuple | list)

    def _gradient(self, name: str, gradient: Any) -> Vector:
        value = self.values[name]
        if gradient is None:
            return np.zeros(value.shape)
        array = np.asarray(gradient)
        if array.dtype == object or trees.is_container(gradient):
            kind = trees.kind(gradient)
            self.fail(f"the gradient of {name} is {kind}, it must be an array of shape {value.shape}")
        if array.shape != value.shape:
            self.fail(f"the gradient of {name} has shape {array.shape}, {name} has {value.shape}")
        if array.dtype != np.float64:
            self.fail(f"the gradient of {name} is {array.dtype} although {name} and dy are float64")
        return np.array(array)

    def _placed(self, values: list[Vector]) -> dict[str, Any]:
        """Return the arguments with fresh copies of the values in their places."""
        by_name = dict(zip(self.values, values, strict=True))
        placed = trees.rebuild(
            self.tree, lambda name, leaf: _as_given(by_name[name], leaf) if name in by_name else leaf
        )
        result: dict[str, Any] = placed
        return result

    def _call(self, values: list[Vector], *, watched: bool = False) -> Any:
        placed = self._placed(values)
        y = self.f(*placed.values())
        if watched:
            y = trees.rebuild(y, lambda name, leaf: np.array(leaf))
            after = dict(trees.leaves(placed))
            for name, value in zip(self.values, values, strict=True):
                if np.asarray(after[name]).tobytes() != value.tobytes():
                    self.fail(f"f changed its argument {name}")
        return y


def _alike(first: Vector, again: Vector) -> bool:
    """Whether results differ by no more than the order of sums, which may depend on where arrays lie."""
    if first.tobytes() == again.tobytes():
        return True
    size = float(np.max(np.abs(first), initial=0.0))
    return bool(np.all(np.abs(first - again) <= REPEATED * size))


def _as_given(value: Vector, leaf: Any) -> Any:
    """Return a fresh copy, as a number where a number was given."""
    return np.float64(value) if isinstance(leaf, float | np.floating) else value.copy()


def _floating(name: str, leaf: Any) -> bool:
    """Whether a leaf is differentiated; complex ones are refused."""
    if isinstance(leaf, bool | int | str | bytes) or leaf is None:
        return False
    dtype = getattr(leaf, "dtype", None)
    if isinstance(leaf, complex) or (isinstance(dtype, np.dtype) and dtype.kind == "c"):
        raise WnError(
            f"{name} is complex: gradients are of real numbers; pass real and imaginary part as two arrays"
        )
    return isinstance(leaf, float) or (isinstance(dtype, np.dtype) and dtype.kind == "f")


def _described(leaf: Any) -> str:
    if isinstance(leaf, np.ndarray):
        return f"{leaf.dtype} of shape {leaf.shape}"
    return "None" if leaf is None else type(leaf).__name__


def _names(f: Callable[..., Any], count: int) -> list[str]:
    """Return the names of f's first parameters, arrays[0] and so on where they have none."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [plain[i] if i < len(plain) else f"arrays[{i}]" for i in range(count)]
