"""The signal's power at noisy sites, before their noise."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.engine.backends.plain.base import SAMPLE_TILE, Backend

Floats = NDArray[np.float64]
Tiles = list[Floats]  # sums of squares (P,), one array for each tile of samples


class SignalPower:
    """The mean of y² at noisy sites before their noise, over features and samples, each member's own.

    Squares are summed by tiles of samples, and those sums exactly: so no bit depends on the size of batches.
    """

    def __init__(self, be: Backend, members: int) -> None:
        self._be, self._members = be, members
        self._sums: dict[int, Tiles] = {}  # by site
        self._counts: dict[int, Floats] = {}
        self._attempt: dict[int, tuple[Tiles, int]] = {}

    def attempt(self) -> Callable[[int], Callable[[int, Any], None]]:
        """Begin to see batches, which count when they are kept; the result is `watch`.

        `watch(samples)` is the callback for a batch whose first `samples` count: the rest fills a tile.
        """
        seen = self._attempt = dict[int, tuple[Tiles, int]]()

        def watch(samples: int) -> Callable[[int, Any], None]:
            def see(site: int, x: Any) -> None:
                x = self._be.to_numpy(x)[..., :samples]
                starts = range(0, samples, SAMPLE_TILE)
                tiles = [_squares(x[..., start : start + SAMPLE_TILE]) for start in starts]
                before, count = seen.get(site, ([], 0))
                seen[site] = before + tiles, count + x[0].size

            return see

        return watch

    def keep(self, members: tuple[int, ...]) -> None:
        """Add the squares of this attempt to the sums of its members; they may share an activation."""
        for site, (tiles, count) in self._attempt.items():
            for sums in tiles:
                everyone = np.zeros(self._members)
                everyone[list(members)] = sums
                self._sums.setdefault(site, []).append(everyone)
            self._counts.setdefault(site, np.zeros(self._members))[list(members)] += count

    def of_member(self, p: int) -> tuple[tuple[int, float], ...]:
        """Pairs (site, power) for the sites at which member p was seen."""
        return tuple(
            (site, math.fsum(sums[p] for sums in tiles) / float(self._counts[site][p]))
            for site, tiles in sorted(self._sums.items())
            if self._counts[site][p]
        )


def _squares(x: NDArray[Any]) -> Floats:
    """The sum of squares of each member (P,) of a tile (P|1, …, B).

    Member by member: where the sums of a whole population are cut depends on its size.
    """
    flat = [member.reshape(-1) for member in x]
    return np.array([np.einsum("i,i->", member, member, dtype=np.float64) for member in flat])
