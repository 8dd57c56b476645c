"""Check the hand-written gradients of a layer against differences in float64. Derived in docs/testing.md."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.testing.case import Arrays, LayerCase
from wn.testing.errors import UnresolvedError, short_traceback
from wn.testing.problems import Problem, check_step, written
from wn.testing.rounding import Vector
from wn.testing.verdicts import check_problem

UPSTREAMS = (0, 3)  # streams of the random dy


@short_traceback
def check_gradient(
    case: LayerCase,
    *,
    directions: int | Sequence[Mapping[str, Any]] = 3,
    coordinates: int = 24,
    step: float | None = None,
    subgradients: bool = False,
) -> None:
    """Check backward's gradient of x and of every parameter against central differences in float64.

    The upstream dy is standard normal. Probed are single `coordinates` of each array (all if there are no
    more) and random `directions` through all of its elements; or only the directions that are given, each a
    dict from names ("x" and parameters) to arrays, for values that must stay in a set: x + t·direction for
    small t. Gradients of a shared array (1, …) may be summed over the members or not, (P, …). step: the
    first and largest step, by default 0.11 of each element; subgradients: at a kink, accept any slope
    between those of both sides.

    Raises AssertionError with the place, both values and a repro snippet where they differ; KinkError where
    y has a kink or jumps at x; UnresolvedError where differences cannot decide for another reason.
    """
    given = None if isinstance(directions, int) else _given(case, directions)
    number = directions if isinstance(directions, int) else 1
    if number < 1 or coordinates < 1:
        raise WnError(f"directions is {number}, coordinates is {coordinates}: both must be at least 1")
    check_step(step)
    case = case.in_dtype(np.float64)
    check_shapes(case)
    problem = _problem(case, given, step, subgradients)
    dys = [case.upstream(stream).reshape(-1) for stream in UPSTREAMS]
    check_problem(problem, dys, coordinates, number)


@short_traceback
def check_shapes(case: LayerCase, dy: Vector | None = None) -> Arrays:
    """Check that dx fits x and that grads has the type, names and shapes of params; return them by name.

    A shared array (1, …) may have a gradient (1, …) or one per member, (P, …). Raises AssertionError.
    """
    result = case.run(case.upstream() if dy is None else dy)
    gradients = {"x": result.dx, **result.grads}
    for name, value in case.variables().items():
        fitting = {value.shape}
        if value.shape[0] == 1:
            fitting.add((case.population, *value.shape[1:]))
        if gradients[name].shape not in fitting:
            found, shape = case.shown(gradients[name].shape), case.shown(value.shape)
            case.fail(f"the gradient of {name} has shape {found}, {name} has {shape}{case.axes(name)}")
    return gradients


def sum_shared(gradient: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the gradient of a shared array, (P, …), summed over members to (1, …); others as they are."""
    return gradient if gradient.shape == shape else gradient.sum(axis=0, keepdims=True)


def _problem(
    case: LayerCase, given: Sequence[list[Vector]] | None, step: float | None, subgradients: bool
) -> Problem:
    names = list(case.variables())
    y = case.to_host(case.forward()[0])

    def evaluate(values: list[Vector]) -> Vector:
        y = case.to_host(case.forward(arrays=dict(zip(names, values, strict=True)))[0])
        if y.dtype != np.float64:
            raise UnresolvedError(
                f"y is {y.dtype} although x is float64: differences need float64 throughout"
            )
        return y.reshape(-1)

    def gradients(dy: Vector, values: list[Vector]) -> list[Vector]:
        arrays = dict(zip(names, values, strict=True))
        found = check_shapes(case.with_variables(arrays), dy.reshape(y.shape))
        return [sum_shared(found[name], value.shape) for name, value in arrays.items()]

    return Problem(
        names=names,
        values=list(case.variables().values()),
        evaluate=evaluate,
        gradients=gradients,
        label=lambda j: "y" + written(case.shown(np.unravel_index(j, y.shape))),
        fail=case.fail,
        rng=case.generator(stream=1),
        directions=given,
        step=step,
        subgradients=subgradients,
        shown=case.shown,
    )


def _given(case: LayerCase, directions: Sequence[Mapping[str, Any]]) -> list[list[Vector]]:
    """Return directions by array, zero where a name is left out."""
    variables = case.variables()
    found = []
    for number, direction in enumerate(directions):
        unknown = sorted(set(direction) - set(variables))
        if unknown:
            raise WnError(f"directions[{number}] names {unknown[0]!r}: there are {', '.join(variables)}")
        arrays = {name: np.asarray(value, dtype=np.float64) for name, value in direction.items()}
        for name, array in arrays.items():
            if array.shape != variables[name].shape:
                shape = variables[name].shape
                raise WnError(f"directions[{number}] has shape {array.shape} for {name}, which has {shape}")
        if not any(np.any(array) for array in arrays.values()):
            raise WnError(f"directions[{number}] is zero throughout: it moves nothing")
        found.append([arrays.get(name, np.zeros(value.shape)) for name, value in variables.items()])
    if not found:
        raise WnError("directions is empty: nothing would be checked")
    return found
