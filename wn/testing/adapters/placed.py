"""Layers as networks have them, in the form that `check_layer` takes: forward with a state, in each phase."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.graph.initial import InitialDraws
from wn.engine.layers.noise import DrawKey
from wn.engine.networks.build import checked_layer
from wn.random import Purpose
from wn.testing import trees
from wn.testing.errors import CheckFailure

STATE = "state"  # what the arrays of a state are called by: state.mean, …
PHASES = {True: "in training", False: "at inference"}


@dataclass(frozen=True)
class Placed:
    """A layer of a network in one phase as a pair of forward and backward; its state comes by name."""

    layer: Any
    training: bool
    state: Any  # in its structure; the arrays are those that forward is given

    def forward(self, be: Any, params: Any, x: Any, **states: Any) -> tuple[Any, Any]:
        """Call the layer as a network does, and check the shape of what it makes."""
        phase = PHASES[self.training]
        state = self.state
        if states:
            state = trees.rebuild(self.state, lambda name, leaf: states.get(name, leaf), STATE)
        run = self.layer.for_phase(self.training)
        result: Any = run.forward(be, params, x, state, *self._drawn(run, x.shape[-1]))
        if not (isinstance(result, tuple) and len(result) == 3):
            raise WnError(f"forward returned {trees.kind(result)} {phase}, not (y, cache, new state)")
        y, cache, after = result
        if problem := trees.difference(after, self.state, "the new state", "the state"):
            raise CheckFailure(f"{problem} ({phase})")
        expected = tuple(self.layer.output_shape(tuple(x.shape[1:-1])))
        if tuple(y.shape[1:-1]) != expected or y.shape[-1] != x.shape[-1]:
            raise CheckFailure(
                f"y of one sample has shape {tuple(y.shape[1:-1])} and a batch of {y.shape[-1]} {phase}: "
                f"output_shape says {expected}, and x has {x.shape[-1]} samples"
            )
        return y, cache

    def backward(self, be: Any, dy: Any, cache: Any) -> tuple[Any, Any]:
        """Call the layer as a network does: with dx, after having asked for the gradients without it."""
        run = self.layer.for_phase(self.training)
        alone = run.backward(be, dy, cache, False)
        result: tuple[Any, Any] = run.backward(be, dy, cache, True)
        if not all(isinstance(found, tuple) and len(found) == 2 for found in (alone, result)):
            return result  # the check says what is wrong with it
        grads, others = (_leaves(be, found[1]) for found in (result, alone))
        if grads.keys() != others.keys() or not all(_equal(grads[name], others[name]) for name in grads):
            raise CheckFailure("backward gives other gradients where need_dx is False: dx alone may go")
        return result

    def _drawn(self, run: Any, batch: int) -> tuple[DrawKey, ...]:
        """The address of its draws, the same in every call, for a layer that draws."""
        if not getattr(type(run), "draws", False):
            return ()
        samples = np.arange(batch, dtype=np.uint32)
        return (DrawKey((0,), samples, 0, Purpose.DROPOUT, 0),)


class Arguments(NamedTuple):
    """What `check_layer` is called with for a layer of a network in one phase."""

    layer: Placed
    be: Any
    params: Any
    x: NDArray[Any]
    static: dict[str, NDArray[Any]]
    per_member: tuple[str, ...]


def in_phases(layer: Any, be: Any, params: Any, x: Any, state: Any = None) -> list[Arguments]:
    """The arguments of the checks of a layer in training and at inference; once where the two are one.

    be: by default NumPy's backend; params, state: by default those of a fresh population of max(P, 2), where
    P is that of x. Raises WnError for what is no layer, takes several inputs, or does not take this x, and
    CheckFailure for a layer that has parameters and does not say that it learns.
    """
    checked_layer("of the check", layer)
    be = backends.get("numpy") if be is None else be
    if not isinstance(x, np.ndarray) or x.ndim < 3 or not np.issubdtype(x.dtype, np.floating):
        raise WnError("x must be a floating NumPy array (P, features, B) or (P, C, H, W, B)")
    shape, members = tuple(x.shape[1:-1]), max(len(x), 2)
    members = max([members, *(len(array) for array in _leaves(be, params).values() if np.ndim(array))])
    if len(x) == 1 and params is None:  # a population shows leaks between members
        x = np.repeat(x, members, axis=0) * (1 + np.arange(members)).reshape(-1, *(1,) * (x.ndim - 1))
        x = x.astype(x.dtype)
    if params is None:
        draws = InitialDraws(be, range(members), x.dtype, 0)
        params = _on_host(be, layer.initial_parameters(be, shape, draws))
    _check_learns(layer, params)
    if state is None:
        state = _on_host(be, layer.initial_state(be, shape, members, x.dtype))
    named = dict(trees.leaves(state, STATE)) if trees.is_container(state) else {}
    rows = tuple(name for name, array in named.items() if np.ndim(array) and len(array) > 1)
    runs = [layer.for_phase(training) for training in PHASES]
    phases = [True] if runs[0] is runs[1] else [True, False]
    return [Arguments(Placed(layer, training, state), be, params, x, named, rows) for training in phases]


def _check_learns(layer: Any, params: Any) -> None:
    if _leaves(None, params) and not getattr(layer, "learns", False):
        raise CheckFailure(
            f"{type(layer).__name__} has parameters, and its class does not say learns = True: a network "
            "would not train them"
        )


def _on_host(be: Any, tree: Any) -> Any:
    if not trees.is_container(tree):
        return tree
    return trees.rebuild(tree, lambda name, leaf: None if leaf is None else be.to_numpy(leaf))


def _leaves(be: Any, tree: Any) -> Mapping[str, Any]:
    """The arrays of a tree by name, on the host if there is a backend that they are of."""
    move: Callable[[Any], Any] = getattr(be, "to_numpy", lambda array: array)
    found = trees.leaves(tree) if trees.is_container(tree) else ()
    return {name: move(leaf) for name, leaf in found if leaf is not None}


def _equal(first: Any, second: Any) -> bool:
    return np.array_equal(np.asarray(first), np.asarray(second), equal_nan=True)
