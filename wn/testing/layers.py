"""The contract of a layer as checks: pure, repeatable, faithful to dtype and layout, no leak between members.

Each check takes a `LayerCase` and raises AssertionError with a repro snippet; `check_layer` runs them all.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.testing.adapters.batch_first import BatchFirst
from wn.testing.case import Arrays, LayerCase, Layout, Pass, functions
from wn.testing.errors import short_traceback
from wn.testing.gradients import check_gradient, check_shapes
from wn.testing.rounding import NOISE_GUARD, measured_noise
from wn.testing.tolerances import largest_of_member

LAYOUTS: dict[str, Layout] = {
    "reversed": lambda array: array[..., ::-1].copy()[..., ::-1],
    "transposed": lambda array: array.T.copy().T,
    "every second element": lambda array: array.repeat(2, axis=-1)[..., ::2],
}


@short_traceback
def check_layer(
    layer: Any,
    be: Any = None,
    params: Any = None,
    x: NDArray[Any] | None = None,
    *,
    state: Any = None,
    static: Mapping[str, Any] | None = None,
    per_member: tuple[str, ...] = (),
    seed: int = 0,
    step: float | None = None,
    subgradients: bool = False,
) -> None:
    """Run every check on a layer: shapes, repeatability, inputs, dtype, layout, members, gradient.

    forward(be, params, x, **static) -> (y, cache);  backward(be, dy, cache) -> (dx, grads).

    A layer of a network (one of `wn.layers`, or of your own: an object with an output_shape) is taken as it
    is: check_layer(MyLayer(), x=x), with forward(be, params, x, state) -> (y, cache, new state) and
    backward(be, dy, cache, need_dx) -> (dx, grads). be is NumPy's backend by default, params and state (in
    its structure) are those of a fresh population. It is checked in training and at inference where these are
    two; and that y has the shape of output_shape, that no state is changed in place, that a layer with
    parameters says `learns`, and that gradients do not depend on need_dx.

    Arguments as in `LayerCase`, step and subgradients as in `check_gradient`. The population must have at
    least 2 members, or a leak between them could not be seen; a layer made by `batch_first` has none, and its
    arrays are in its own layout. Raises AssertionError where the layer breaks its contract, UnresolvedError
    where a gradient cannot be decided, WnError where the arguments do not allow a check.
    """
    if x is None:
        raise WnError("check_layer needs an input: x=array, (P, features, B) or (P, C, H, W, B)")
    if callable(getattr(layer, "output_shape", None)):
        from wn.testing.adapters.placed import in_phases  # alone needs the engine

        if static or per_member:
            raise WnError("a layer of a network takes no static arguments: its settings are its own fields")
        for given in in_phases(layer, be, params, x, state):
            _check(LayerCase(*given, seed), step, subgradients)
        return
    if state is not None:
        raise WnError("state is that of a layer of a network; other layers take static arguments")
    if isinstance(layer, BatchFirst):
        params, x = layer.with_members(params, x)
    _check(LayerCase(layer, be, params, x, dict(static or {}), per_member, seed), step, subgradients)


def _check(case: LayerCase, step: float | None, subgradients: bool) -> None:
    check_shapes(case)
    check_repeatable(case)
    check_inputs_unchanged(case)
    check_dtype(case)
    check_layout(case)
    if not isinstance(case.layer, BatchFirst):
        check_population(case)
        check_isolation(case)
    check_gradient(case, step=step, subgradients=subgradients)


@short_traceback
def check_repeatable(case: LayerCase) -> None:
    """Check that forward twice and backward twice agree bit by bit, whatever is computed in between."""
    dy, other = (case.upstream(stream).astype(case.x.dtype) for stream in (0, 2))
    y, cache = case.forward()
    first = case.to_host(y).copy()
    again, fresh_cache = case.forward()
    if not same_bits(first, case.to_host(again)):
        case.fail("forward twice on the same input gives different results: give it fixed draws")
    expected = _backward(case, dy, fresh_cache)
    if not same_gradients(_backward(case, dy, case.forward()[1]), expected):
        case.fail("backward twice on the same input gives different results: give it fixed draws")
    case.with_variables({"x": case.x * 0.5}).forward()
    if not same_gradients(_backward(case, dy, cache), expected):
        case.fail("backward depends on a later forward: something is kept outside of the cache")
    if not same_gradients(_backward(case, dy, cache), expected):
        case.fail("backward twice gives different results: the first call changes the cache")
    _backward(case, other, cache)
    if not same_gradients(_backward(case, dy, cache), expected):
        case.fail("backward gives another result after a call with another dy: that changed the cache")


@short_traceback
def check_inputs_unchanged(case: LayerCase) -> None:
    """Check that forward leaves x, params and static arrays as they are, and backward also dy and y."""
    forward, backward = functions(case.layer)
    arrays = {**case.variables(), **{n: v for n, v in case.static.items() if isinstance(v, np.ndarray)}}
    held = {name: case.on_device(array) for name, array in arrays.items()}
    held["dy"] = case.on_device(case.upstream().astype(case.x.dtype))
    before = {name: case.to_host(array).copy() for name, array in held.items()}
    params = case.params_with({name: held[name] for name in case.parameter_arrays()})
    static = {name: held.get(name, value) for name, value in case.static.items()}

    y, cache = forward(case.be, params, held["x"], **static)
    _check_unchanged(case, held, before, "forward")
    held["y"], before["y"] = y, case.to_host(y).copy()
    backward(case.be, held["dy"], cache)
    _check_unchanged(case, held, before, "backward")


@short_traceback
def check_dtype(case: LayerCase) -> None:
    """Check that float32 in gives float32 out and float64 gives float64: y, dx and every gradient."""
    for dtype in (np.float32, np.float64):
        cast = case.in_dtype(dtype)
        result = cast.run(cast.upstream().astype(dtype))
        for name, array in _by_name(result).items():
            if array.dtype != dtype:
                cast.fail(f"{name} is {array.dtype} where all inputs are {np.dtype(dtype)}")


@short_traceback
def check_layout(case: LayerCase) -> None:
    """Check that non-contiguous x, params and dy give the same results, to tolerance."""
    dy = case.upstream().astype(case.x.dtype)
    expected, sizes = _by_name(case.run(dy)), term_sizes(case, dy)
    for name, layout in LAYOUTS.items():
        actual = _by_name(case.run(dy, layout))
        for array in expected:
            _assert_close(case, dy, array, actual[array], expected[array], sizes, f"of {name} arrays")


@short_traceback
def check_population(case: LayerCase) -> None:
    """Check that a population agrees with its members computed alone, to tolerance."""
    _require_members(case)
    dy = case.upstream().astype(case.x.dtype)
    stacked, sizes = _by_name(case.run(dy)), term_sizes(case, dy)
    if stacked["y"].shape[0] != case.population:
        case.fail(
            f"y has shape {stacked['y'].shape} for a population of {case.population}: its first axis must "
            "count the members, as that of x and of the parameters does"
        )
    alone = [_by_name(case.member(p).run(dy[p : p + 1])) for p in range(case.population)]
    for name, array in stacked.items():
        rows = np.concatenate([member[name] for member in alone])
        # The gradient of a shared array may be summed over the members.
        expected = rows if rows.shape == array.shape else rows.sum(axis=0, keepdims=True)
        _assert_close(case, dy, name, array, expected, sizes, "of the population")


def _assert_close(
    case: LayerCase,
    dy: NDArray[Any],
    name: str,
    actual: NDArray[Any],
    expected: NDArray[Any],
    sizes: Arrays,
    which: str,
) -> None:
    """Compare a result; where it is not close, with the rounding that is measured in differences, too.

    A constant that is added within the layer rounds what was there before, and changes of the inputs by a few
    roundings do not show that.
    """
    try:
        case.assert_close(actual, expected, sizes[name], f"{name} {which}")
    except AssertionError:
        measured = _measured_sizes(case, dy)[name]
        if np.all(measured <= sizes[name]):
            raise
        case.assert_close(actual, expected, np.maximum(sizes[name], measured), f"{name} {which}")


def _measured_sizes(case: LayerCase, dy: NDArray[Any]) -> Arrays:
    """Return, for y and every gradient, the size of terms that would round as the results are seen to do."""
    expected, rng = _by_name(case.run(dy)), case.generator(7)
    changes = {n: array * rng.uniform(-1, 1, array.shape) for n, array in case.variables().items()}

    def output(t: float) -> NDArray[np.float64] | None:
        moved = {n: (v + t * changes[n]).astype(v.dtype) for n, v in case.variables().items()}
        row = _row(_by_name(case.with_variables(moved).run(dy)))
        return row if np.all(np.isfinite(row)) else None

    noise = measured_noise(output, _row(expected)) / (NOISE_GUARD * float(np.finfo(case.x.dtype).eps))
    parts = np.split(noise, np.cumsum([array.size for array in expected.values()])[:-1])
    pairs = zip(expected.items(), parts, strict=True)
    return {name: largest_of_member(part.reshape(array.shape)) for (name, array), part in pairs}


def _row(results: Arrays) -> NDArray[np.float64]:
    return np.concatenate([array.astype(np.float64).reshape(-1) for array in results.values()])


def term_sizes(case: LayerCase, dy: NDArray[Any]) -> Arrays:
    """Return, for y and every gradient, the size of the terms that its elements are made of, per member.

    Measured: every input is changed at random by two roundings, and what that does to a result, divided by
    two roundings, is the size of its terms even where they cancel. Never below the member's largest value.
    """
    eps = float(np.finfo(case.x.dtype).eps)
    expected = _by_name(case.run(dy))
    sizes = {name: largest_of_member(array) for name, array in expected.items()}
    for stream in range(3, 7):
        rng = case.generator(stream)
        nudged = {n: _nudged(array, rng, 2 * eps) for n, array in case.variables().items()}
        found = _by_name(case.with_variables(nudged).run(_nudged(dy, rng, 2 * eps)))
        for name, array in expected.items():
            change = largest_of_member(found[name].astype(np.float64) - array) / (2 * eps)
            sizes[name] = np.maximum(sizes[name], change)
    return sizes


@short_traceback
def check_isolation(case: LayerCase) -> None:
    """Check that one member's x, parameters and dy change nothing of the others, bit by bit."""
    _require_members(case)
    dy = case.upstream().astype(case.x.dtype)
    before = _by_name(case.run(dy))
    for p in range(case.population):
        own = {name: array for name, array in case.variables().items() if array.shape[0] > 1}
        changed = case.with_variables({name: _perturbed(array, p) for name, array in own.items()})
        after = _by_name(changed.run(_perturbed(dy, p)))
        others = np.arange(case.population) != p
        for name, old in before.items():
            if old.shape[0] == case.population and not same_bits(old[others], after[name][others]):
                case.fail(f"{name} of other members changes with the values of member {p}")


def same_bits(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether two arrays have the same shape, dtype and bits (NaN equals itself, −0 differs from 0)."""
    same = first.shape == second.shape and first.dtype == second.dtype
    return same and first.tobytes() == second.tobytes()


def same_gradients(first: Arrays, second: Arrays) -> bool:
    """Whether two sets of gradients have the same names and bits."""
    return set(first) == set(second) and all(same_bits(first[name], second[name]) for name in first)


def _backward(case: LayerCase, dy: NDArray[Any], cache: Any) -> Arrays:
    """Return copies of dx and the gradients, by name."""
    dx, grads = case.backward(dy, cache)
    return {"dx": dx.copy(), **_named({n: g.copy() for n, g in case.host_gradients(grads).items()})}


def _named(grads: Arrays) -> Arrays:
    return {f"d{name}": gradient for name, gradient in grads.items()}


def _by_name(result: Pass) -> Arrays:
    return {"y": result.y, "dx": result.dx, **_named(result.grads)}


def _nudged(array: NDArray[Any], rng: np.random.Generator, relative: float) -> NDArray[Any]:
    """Return the array with every element changed by ±relative, in its dtype."""
    signs = rng.choice([-relative, relative], size=array.shape)
    changed: NDArray[Any] = (array * (1 + signs)).astype(array.dtype)
    return changed


def _check_unchanged(case: LayerCase, held: dict[str, Any], before: Arrays, by: str) -> None:
    for name, array in before.items():
        if not same_bits(array, case.to_host(held[name])):
            case.fail(f"{by} changed its input {name}")


def _perturbed(array: NDArray[Any], p: int) -> NDArray[Any]:
    """Return a copy in which every element of member p has another value."""
    changed = array.copy()
    changed[p] = 1.0 + 2.0 * np.abs(changed[p])
    return changed


def _require_members(case: LayerCase) -> None:
    if case.population < 2:
        raise WnError(
            "a population of 1 cannot show a leak between members: stack at least 2 along the first axis, or "
            "use batch_first for a layer without members"
        )
