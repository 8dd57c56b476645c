"""Layers with the batch first and without members, as most libraries have them, for `check_layer`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from wn.basics.errors import WnError
from wn.testing import trees


class BatchFirst:
    """A layer in another layout in the form that `check_layer` takes; made by `batch_first`."""

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        self.own_forward, self.own_backward = forward, backward

    def with_members(self, params: Any, x: Any) -> tuple[Any, Any]:
        """Return arrays with a leading axis of one member."""
        return _each(params, lambda array: np.asarray(array)[None]), np.asarray(x)[None]

    def without_members(self, params: Any, x: Any) -> tuple[Any, Any]:
        """Return arrays without their leading axis."""
        return _each(params, lambda array: array[0]), x[0]

    def forward(self, be: Any, params: Any, x: Any, **static: Any) -> tuple[Any, Any]:
        """Call the layer for the only member."""
        params, x = self.without_members(params, x)
        result = self.own_forward(params, x, **static)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise WnError(f"forward returned {trees.kind(result)}, not the pair (y, cache)")
        y, cache = result
        return np.asarray(y)[None], cache

    def backward(self, be: Any, dy: Any, cache: Any) -> tuple[Any, Any]:
        """Call the layer for the only member."""
        result = self.own_backward(dy[0], cache)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise WnError(f"backward returned {trees.kind(result)}, not the pair (dx, grads)")
        dx, grads = result
        return np.asarray(dx)[None], _each(grads, lambda array: np.asarray(array)[None])


def batch_first(forward: Callable[..., Any], backward: Callable[..., Any]) -> BatchFirst:
    """Return a layer for `check_layer` from functions with the batch first and without members.

    forward(params, x, **static) -> (y, cache);  backward(dy, cache) -> (dx, grads).

    x: (B, features…), y and dy alike; params: arrays in a NamedTuple, dict, tuple or list, grads in the same.
    `check_layer(batch_first(forward, backward), None, params, x)` takes these arrays as they are, and checks
    everything but members.
    """
    for name, function in (("forward", forward), ("backward", backward)):
        if not callable(function):
            raise WnError(f"{name} is {type(function).__name__}: batch_first takes two functions")
    return BatchFirst(forward, backward)


def _each(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Return a tree with every array changed; () and None stay, as do entries that are None."""
    if not trees.is_container(tree):
        return tree
    return trees.rebuild(tree, lambda name, leaf: None if leaf is None else change(leaf))
