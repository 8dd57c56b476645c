"""Flatten: (C, H, W) → (F). Derived in docs/layers/flatten.md."""

from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import NamedTuple

from wn.engine.layers.base import Formula, OfFormula, Shape
from wn.engine.layers.windows import Array


class FlattenCache(NamedTuple):
    """What backward needs: the feature axes of the input."""

    features: Shape


def forward(xp: ModuleType, params: tuple[()], x: Array) -> tuple[Array, FlattenCache]:
    """Lay the feature axes of a sample in one row.

    y[p, (c·H + h)·W + w, n] = x[p, c, h, w, n]. x: (P, …, B); y: (P, F, B) with F the product of the axes
    between; the same values in the same order, so nothing is copied where x is contiguous.
    """
    features = x.shape[1:-1]
    return x.reshape(x.shape[0], prod(features), x.shape[-1]), FlattenCache(features)


def backward(xp: ModuleType, dy: Array, cache: FlattenCache) -> tuple[Array, tuple[()]]:
    """Return dx: dy in the shape of x."""
    return dy.reshape(dy.shape[0], *cache.features, dy.shape[-1]), ()


FORMULA = Formula(forward, backward)


@dataclass(frozen=True)
class Flatten(OfFormula):
    """A flatten in a network; it has no noise site."""

    formula = FORMULA
    recordable = True
    noisy = False

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) → (C·H·W,)."""
        return (prod(shape),)
