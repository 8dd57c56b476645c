"""Where a window stands, for any stride, padding and dilation. Derived in docs/layers/windows.md."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from wn.basics.errors import WnError
from wn.engine.layers.windows import SAME, Padding, Pair, Sides

Slices = tuple[slice, slice, slice, slice]  # of (P, C, H, W, B): all members and channels, rows, columns


class Window(NamedTuple):
    """How a window moves: its places, d pixels apart, its steps, and the padding of the image."""

    size: Pair
    stride: Pair
    padding: Padding = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False

    @property
    def extent(self) -> Pair:
        """The pixels from its first to its last place: d·(K − 1) + 1."""
        (kernel_h, kernel_w), (gap_h, gap_w) = self.size, self.dilation
        return gap_h * (kernel_h - 1) + 1, gap_w * (kernel_w - 1) + 1

    def sides(self, image: Pair) -> Sides:
        """The padding of an image (H, W): (top, bottom), (left, right)."""
        if isinstance(self.padding, str):
            return self._same(image, 0), self._same(image, 1)
        top, left = self.padding
        if isinstance(top, tuple) and isinstance(left, tuple):
            return top, left
        assert isinstance(top, int)  # a padding is checked
        assert isinstance(left, int)
        return (top, top), (left, left)

    def _same(self, image: Pair, axis: int) -> Pair:
        """As much padding as ⌈size / stride⌉ outputs take."""
        outputs = -(-image[axis] // self.stride[axis])
        total = max((outputs - 1) * self.stride[axis] + self.extent[axis] - image[axis], 0)
        less = total // 2
        return (less, total - less) if self.padding == SAME[0] else (total - less, less)

    def settled(self) -> "Window":
        """The same with a pair for a padding in words, where that holds for images of every size."""
        if not isinstance(self.padding, str) or self.stride != (1, 1) or not all(e % 2 for e in self.extent):
            return self
        return self._replace(padding=(self.extent[0] // 2, self.extent[1] // 2))

    def places(self, image: Pair) -> Pair:
        """The number of places (H', W') where the window stands, ≤ 0 where it does not fit.

        ⌊(size + padding − extent) / stride⌋ + 1. In `ceil_mode` it is rounded up, and a window that would
        begin in the padding behind the image is left out.
        """
        return self._along(image, 0), self._along(image, 1)

    def _along(self, image: Pair, axis: int) -> int:
        stride, (before, after) = self.stride[axis], self.sides(image)[axis]
        room = image[axis] + before + after - self.extent[axis]
        if not self.ceil_mode:
            return room // stride + 1
        count = -(-room // stride) + 1
        return count - 1 if (count - 1) * stride >= image[axis] + before else count

    def seen(self, image: Pair) -> Iterator[tuple[Pair, Slices, Slices]]:
        """For each place (i, j) of the window, in row-major order: the outputs that see a pixel, and these.

        Both are indices of arrays (P, C, rows, columns, B): output (u, v) sees pixel
        (u·SH + i·DH − top, v·SW + j·DW − left). Places that no output sees a pixel at are left out.
        """
        rows, columns = self._ranges(image)
        everything = slice(None)
        for (i, (u, row)), (j, (v, column)) in product(enumerate(rows), enumerate(columns)):
            if u.start < u.stop and v.start < v.stop:
                yield (i, j), (everything, everything, u, v), (everything, everything, row, column)

    def _ranges(self, image: Pair) -> list[list[tuple[slice, slice]]]:
        """Along each axis and for each place of the window: `_range`."""
        counts, sides = self.places(image), self.sides(image)
        return [
            [self._range(axis, at, counts[axis], image[axis], sides[axis][0]) for at in range(size)]
            for axis, size in enumerate(self.size)
        ]

    def _range(self, axis: int, at: int, count: int, size: int, before: int) -> tuple[slice, slice]:
        """Outputs first … last − 1 that see a pixel at a place along an axis, and what they see."""
        stride, shift = self.stride[axis], at * self.dilation[axis] - before
        first = max(-(shift // stride), 0)  # the smallest u with u·stride + shift ≥ 0
        last = min((size - 1 - shift) // stride + 1, count)
        start = first * stride + shift
        return slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)

    def check_fits(self, what: str, image: Pair) -> None:
        """Raise WnError unless the window fits an image (H, W)."""
        if min(self.places(image)) < 1:
            raise WnError(
                f"{what} of {self.size[0]}×{self.size[1]}{self._gaps()} with padding {self.padding} is "
                f"larger than an image of {image[0]}×{image[1]}"
            )

    def _gaps(self) -> str:
        return "" if self.dilation == (1, 1) else f", dilation {self.dilation},"

    def check_sees(self, what: str, image: Pair) -> None:
        """Raise WnError if a window would see nothing of an image but padding."""
        for count, ranges in zip(self.places(image), self._ranges(image), strict=True):
            seen = {u for outputs, _ in ranges for u in range(outputs.start, outputs.stop)}
            if len(seen) < count:
                raise WnError(
                    f"{what}: some windows of {self.size[0]}×{self.size[1]}{self._gaps()} with padding "
                    f"{self.padding} see only padding of an image of {image[0]}×{image[1]}: use less padding"
                )
