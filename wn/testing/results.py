"""Results of plain functions: one array, a number, or containers of them, as one flat vector and back."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from wn.basics.errors import WnError
from wn.testing import trees
from wn.testing.errors import UnresolvedError
from wn.testing.problems import written
from wn.testing.rounding import Vector

WIDE = (np.dtype(np.float64), np.dtype(np.longdouble))


@dataclass(frozen=True)
class Result:
    """The structure of y: names, shapes and whether each leaf is a number."""

    tree: Any
    names: list[str]
    shapes: list[tuple[tuple[int, ...], bool]]

    @property
    def size(self) -> int:
        return sum(int(np.prod(shape)) for shape, _ in self.shapes)

    def label(self, j: int) -> str:
        """Return the name of element j of the flat vector."""
        for name, (shape, _) in zip(self.names, self.shapes, strict=True):
            size = int(np.prod(shape))
            if j < size:
                return name + written(np.unravel_index(j, shape) if shape else ())
            j -= size
        raise IndexError(j)

    def like(self, vector: Vector) -> Any:
        """Return a flat vector in the structure of y."""
        ends = np.cumsum([int(np.prod(shape)) for shape, _ in self.shapes])
        parts = iter(np.split(np.array(vector), ends[:-1]))
        shapes = iter(self.shapes)

        def place(name: str, leaf: Any) -> Any:
            shape, number = next(shapes)
            array = next(parts).reshape(shape).copy()
            return array[()] if number else array

        return trees.rebuild(self.tree, place)

    def described(self) -> str:
        return ", ".join(
            f"{name} of shape {shape}" for name, (shape, _) in zip(self.names, self.shapes, strict=True)
        )


def read(y: Any, x: str) -> Result:
    """Return the structure of y; raise in a line unless it consists of real numbers in float64."""
    names, shapes = [], []
    for name, leaf in trees.leaves(y, "y"):
        array = _array(name, leaf)
        if array.dtype not in WIDE:
            raise _unfit(name, array, x)
        names.append(name)
        shapes.append((array.shape, not hasattr(leaf, "shape") or np.isscalar(leaf)))
    result = Result(y, names, shapes)
    if result.size == 0:
        raise WnError("y is empty: there is nothing to check")
    return result


def flat(y: Any, result: Result) -> Vector:
    """Return y as a flat float64 vector; UnresolvedError unless it has the structure that it had before."""
    parts = [(name, _array(name, leaf)) for name, leaf in trees.leaves(y, "y")]
    if [name for name, _ in parts] != result.names or any(
        array.shape != shape for (_, array), (shape, _) in zip(parts, result.shapes, strict=True)
    ):
        raise UnresolvedError("y has another shape next to x than at x")
    return np.concatenate([np.asarray(array, dtype=np.float64).reshape(-1) for _, array in parts])


def _array(name: str, leaf: Any) -> Any:
    if leaf is None:
        raise WnError(f"{name} is None: f must return arrays or numbers")
    array = np.asarray(leaf)
    if array.dtype == object or array.dtype.kind in "USmMV":
        raise WnError(f"{name} is {type(leaf).__name__}: f must return arrays or numbers")
    return array


def _unfit(name: str, array: Any, x: str) -> WnError:
    if array.dtype.kind == "c":
        return WnError(
            f"{name} is {array.dtype}: gradients are of real numbers; let f return the pair of its real and "
            "imaginary parts"
        )
    if array.dtype.kind in "biu":
        return WnError(
            f"{name} is {array.dtype}: it takes steps and has no gradient; f must return floating numbers"
        )
    return UnresolvedError(
        f"{name} is {array.dtype} although {x} is float64: differences need float64 throughout "
        "(JAX: jax_enable_x64; PyTorch: torch.float64)"
    )
