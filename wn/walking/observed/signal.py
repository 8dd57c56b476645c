"""The signal's power at noisy sites, before their noise."""

from collections.abc import Callable
from math import fsum, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.engine.backends.plain.base import SAMPLE_TILE, Backend

Floats = NDArray[np.float64]
Tiles = list[Floats]  # sums of squares (P,), one array for each tile of samples


class SignalPower:
    """The mean of y² at noisy sites before their noise, over features and samples, each member's own.

    Squares are summed sample by sample, their sums tile by tile, and the sums of tiles exactly: so no bit
    depends on the size of batches.
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
                sums = self._be.to_numpy(self._be.square_sums(x))[:, :samples]  # (P|1, samples)
                tiles = np.add.reduceat(sums, range(0, samples, SAMPLE_TILE), axis=1)  # (P|1, tiles)
                before, count = seen.get(site, ([], 0))
                seen[site] = [*before, *tiles.T], count + samples * prod(x.shape[1:-1])

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
            (site, fsum(sums[p] for sums in tiles) / float(self._counts[site][p]))
            for site, tiles in sorted(self._sums.items())
            if self._counts[site][p]
        )
