"""Several inputs side by side, channels after channels. Derived in docs/layers/joins.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from types import ModuleType
from typing import ClassVar, NamedTuple

from wn.basics.errors import WnError
from wn.engine.layers.base import Formula, OfFormula, Shape
from wn.engine.layers.windows import Array


class ConcatenateCache(NamedTuple):
    """What backward needs: the channels of each input."""

    channels: tuple[int, ...]


def forward(xp: ModuleType, params: tuple[()], x: Sequence[Array]) -> tuple[Array, ConcatenateCache]:
    """Put the channels, or features, of the inputs one after the other.

    y[:, C₁ + … + C_{j−1} + c] = x_j[:, c]. x: J arrays (P|1, C_j, …, B), which agree in all other axes;
    y: (P|1, ΣC_j, …, B). Derived in docs/layers/joins.md.
    """
    cache = ConcatenateCache(tuple(part.shape[1] for part in x))
    population = max(map(len, x))
    y = xp.empty((population, sum(cache.channels), *x[0].shape[2:]), x[0].dtype)
    for part, (start, stop) in zip(x, edges(cache), strict=True):
        y[:, start:stop] = part
    return y, cache


def backward(xp: ModuleType, dy: Array, cache: ConcatenateCache) -> tuple[tuple[Array, ...], tuple[()]]:
    """Every input has the gradient of its channels: dx_j[:, c] = dy[:, C₁ + … + C_{j−1} + c]."""
    return tuple(dy[:, start:stop] for start, stop in edges(cache)), ()


def edges(cache: ConcatenateCache) -> list[tuple[int, int]]:
    """The first channel of each input, and the one after its last."""
    return list(pairwise(accumulate(cache.channels, initial=0)))


FORMULA = Formula(forward, backward)


@dataclass(frozen=True)
class ConcatenateChannels(OfFormula):
    """Several inputs side by side in a network."""

    formula = FORMULA
    recordable = True
    joins: ClassVar[bool] = True

    def output_shape(self, shape: Sequence[Shape]) -> Shape:
        """(C_j, H, W) → (ΣC_j, H, W); (F_j,) → (ΣF_j,)."""
        if (
            len({part[1:] for part in shape}) != 1
            or len({len(part) for part in shape}) != 1
            or len(shape) < 2
        ):
            raise WnError(
                "a concatenation takes at least two inputs that agree in all but their channels, got "
                + ", ".join(map(str, shape))
            )
        return (sum(part[0] for part in shape), *shape[0][1:])
