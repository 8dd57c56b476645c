"""Zero padding: zeros around an image. Derived in docs/layers/shapes.md."""

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from wn.basics.errors import WnError
from wn.engine.layers.base import Formula, OfFormula, Shape
from wn.engine.layers.sliding.places import Window
from wn.engine.layers.windows import Array, Padding, Pair, Sides, checked_padding


class ZeroPaddingCache(NamedTuple):
    """What backward needs: height and width of the input, and the padding."""

    size: Pair
    sides: Sides


def forward(xp: ModuleType, params: tuple[()], x: Array, sides: Sides) -> tuple[Array, ZeroPaddingCache]:
    """y[p, c, top + h, left + w, n] = x[p,c,h,w,n], 0 elsewhere.

    sides: (top, bottom), (left, right). x: (P|1, C, H, W, B); y: (P|1, C, top + H + bottom, left + W + right,
    B).
    """
    (top, bottom), (left, right) = sides
    height, width = x.shape[2:4]
    shape = (*x.shape[:2], top + height + bottom, left + width + right, x.shape[4])
    y = xp.zeros(shape, x.dtype)
    y[:, :, top : top + height, left : left + width] = x
    return y, ZeroPaddingCache((height, width), sides)


def backward(xp: ModuleType, dy: Array, cache: ZeroPaddingCache) -> tuple[Array, tuple[()]]:
    """dx[p,c,h,w,n] = dy[p, c, top + h, left + w, n]: what falls on the zeros is dropped."""
    (height, width), ((top, _), (left, _)) = cache
    return xp.ascontiguousarray(dy[:, :, top : top + height, left : left + width]), ()


FORMULA = Formula(forward, backward)


@dataclass(frozen=True)
class ZeroPadding(OfFormula):
    """Zeros around images in a network; it has no noise site unless a node says so.

    padding: an integer or (height, width) for the same on both sides, or ((top, bottom), (left, right)).
    """

    formula = FORMULA
    recordable = True
    noisy = False
    padding: int | Padding

    def __post_init__(self) -> None:
        padding = checked_padding("padding of a zero padding", self.padding)
        if isinstance(padding, str):
            raise WnError(f"padding of a zero padding is {padding!r}: it must be in numbers")
        object.__setattr__(self, "padding", padding)  # the one way to set a field of a frozen dataclass

    @property
    def sides(self) -> Sides:
        """(top, bottom), (left, right)."""
        return Window((1, 1), (1, 1), self.padding).sides((1, 1))  # type: ignore[arg-type]  # pairs by now

    @property
    def static(self) -> tuple[Sides]:
        """The padding of each side."""
        return (self.sides,)

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) → (C, top + H + bottom, left + W + right)."""
        if len(shape) != 3:
            raise WnError(f"a zero padding takes (channels, height, width), got {shape}")
        rows, columns = self.sides
        return shape[0], shape[1] + sum(rows), shape[2] + sum(columns)
