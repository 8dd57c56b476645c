"""Windows that slide over images (P|1, C, H, W, B): their geometry, and what they see."""

from types import ModuleType
from typing import Any, NamedTuple

from wn.basics.errors import WnError
from wn.basics.numbers import is_integer

Array = Any  # NumPy's and CuPy's arrays share an interface but no base class
Pair = tuple[int, int]  # along height and width
Sides = tuple[Pair, Pair]  # (top, bottom), (left, right)
Padding = Pair | Sides | str  # the same on both sides, each side its own, or a word of SAME

# As many outputs as ⌈size / stride⌉; where the padding is odd, one more after the image, or before it.
SAME = ("same", "same_lower")


def checked_count(what: str, count: Any) -> int:
    """An integer of Python or NumPy as one of Python; WnError unless it is at least 1."""
    if not is_integer(count) or count < 1:
        raise WnError(f"{what} are {count!r}: it needs an integer of at least 1")
    return int(count)


def checked_flag(what: str, flag: Any) -> bool:
    """True or False; WnError for anything else."""
    if not isinstance(flag, bool):
        raise WnError(f"{what} is {flag!r}: it must be True or False")
    return flag


def checked_pair(what: str, pair: Any, at_least: int) -> Pair:
    """Two integers of Python or NumPy as two of Python, one as both of them.

    WnError unless they are of at least `at_least`.
    """
    given = (pair, pair) if is_integer(pair) else tuple(pair) if isinstance(pair, list) else pair
    if not isinstance(given, tuple) or len(given) != 2 or not all(map(is_integer, given)):
        raise WnError(f"{what} is {pair!r}: it must be an integer or a pair of integers (height, width)")
    if min(given) < at_least:
        raise WnError(f"{what} is {given}: both must be at least {at_least}")
    return int(given[0]), int(given[1])


def checked_padding(what: str, padding: Any) -> Padding:
    """A padding as a pair where it is the same on both sides, else as ((top, bottom), (left, right)).

    A word of `SAME` stays as it is. Raises WnError for anything else.
    """
    if isinstance(padding, str):
        if padding not in SAME:
            raise WnError(f"{what} is {padding!r}: as a word it is {' or '.join(map(repr, SAME))}")
        return padding
    sides = isinstance(padding, tuple | list) and len(padding) == 2
    if not sides or not all(isinstance(side, tuple | list) for side in padding):
        return checked_pair(what, padding, at_least=0)
    rows, columns = (checked_pair(f"{what}, (before, after),", side, at_least=0) for side in padding)
    return (rows[0], columns[0]) if rows[0] == rows[1] and columns[0] == columns[1] else (rows, columns)


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
