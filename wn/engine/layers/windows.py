"""Windows that slide over images (P|1, C, H, W, B): their geometry, and what they see."""

from types import ModuleType
from typing import Any, NamedTuple

from wn.basics.errors import WnError
from wn.basics.numbers import is_integer

Array = Any  # NumPy's and CuPy's arrays share an interface but no base class
Pair = tuple[int, int]  # along height and width


def checked_pair(what: str, pair: Pair, at_least: int) -> Pair:
    """Two integers of Python or NumPy as two of Python; WnError unless they are of at least `at_least`."""
    if not isinstance(pair, tuple) or len(pair) != 2 or not all(map(is_integer, pair)):
        raise WnError(f"{what} is {pair!r}: it must be a pair of integers (height, width)")
    if min(pair) < at_least:
        raise WnError(f"{what} is {pair}: both must be at least {at_least}")
    return int(pair[0]), int(pair[1])


class Sliding(NamedTuple):
    """How a kernel moves: its size, its steps, and the zeros around the image."""

    kernel: Pair
    stride: Pair
    padding: Pair

    def places(self, height: int, width: int) -> Pair:
        """Return (H', W') = ⌊(size + 2·padding − kernel) / stride⌋ + 1, ≤ 0 where the kernel does not fit."""
        return (
            (height + 2 * self.padding[0] - self.kernel[0]) // self.stride[0] + 1,
            (width + 2 * self.padding[1] - self.kernel[1]) // self.stride[1] + 1,
        )


def pad(xp: ModuleType, x: Array, padding: Pair) -> Array:
    """Put zeros around the images: (P|1, C, H, W, B) → (P|1, C, H + 2·PH, W + 2·PW, B)."""
    if padding == (0, 0):
        return x
    population, channels, height, width, batch = x.shape
    (top, left), shape = padding, (height + 2 * padding[0], width + 2 * padding[1])
    padded = xp.zeros((population, channels, *shape, batch), x.dtype)
    padded[:, :, top : top + height, left : left + width] = x
    return padded


def tiles(x: Array, window: Pair) -> list[Array]:
    """Return, for each place of the window in row-major order, what it sees of non-overlapping windows.

    A tile is one place (i, j) of all windows: x[:, :, i::KH, j::KW], as far as whole windows reach.
    x: (P|1, C, H, W, B); each of the KH·KW views: (P|1, C, ⌊H/KH⌋, ⌊W/KW⌋, B).
    """
    height, width = (x.shape[2] // window[0]) * window[0], (x.shape[3] // window[1]) * window[1]
    return [
        x[:, :, i : height : window[0], j : width : window[1]]
        for i in range(window[0])
        for j in range(window[1])
    ]


def unit(count: int) -> float:
    """The largest power of two that is at most 1/count: `count` numbers times it have a sum in range."""
    return 2.0 ** -(count - 1).bit_length()


def tiled(xp: ModuleType, shape: tuple[int, ...], window: Pair, dtype: Any) -> Array:
    """Return an array (P, C, H, W, B) whose `tiles` are to be written; what no window covers is 0."""
    covered = shape[2] % window[0] == 0 and shape[3] % window[1] == 0
    empty: Array = (xp.empty if covered else xp.zeros)(shape, dtype)
    return empty


def pooled_shape(what: str, shape: tuple[int, ...], window: Pair) -> tuple[int, ...]:
    """Return (C, ⌊H/KH⌋, ⌊W/KW⌋) for (C, H, W); raise WnError where no window fits."""
    if len(shape) != 3:
        raise WnError(f"{what} takes (channels, height, width), got {shape}")
    channels, height, width = shape
    if height < window[0] or width < window[1]:
        raise WnError(
            f"{what} with a window of {window[0]}×{window[1]} does not fit an image of {height}×{width}"
        )
    return channels, height // window[0], width // window[1]
