"""The signal's power at noisy sites, before their noise."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.engine.backends.plain.base import Backend

Floats = NDArray[np.float64]


class SignalPower:
    """The mean of y² at noisy sites before their noise, over features and samples, each member's own."""

    def __init__(self, be: Backend, members: int) -> None:
        self._be, self._members = be, members
        self._sums: dict[int, Floats] = {}  # (P,) by site
        self._counts: dict[int, Floats] = {}
        self._attempt: dict[int, tuple[Any, int]] = {}

    def attempt(self) -> Callable[[int], Callable[[int, Any], None]]:
        """Begin to see batches, which count when they are kept; the result is `watch`.

        `watch(samples)` is the callback for a batch whose first `samples` count: the rest fills a tile.
        """
        seen = self._attempt = dict[int, tuple[Any, int]]()

        def watch(samples: int) -> Callable[[int, Any], None]:
            def see(site: int, x: Any) -> None:
                x = self._be.to_numpy(x)
                # Member by member: where the sums of a whole population are cut depends on its size.
                sums = np.array([_sum_of_squares(member[..., :samples]) for member in x])
                before, count = seen.get(site, (0.0, 0))
                seen[site] = before + sums, count + x[0, ..., :samples].size

            return see

        return watch

    def keep(self, members: tuple[int, ...]) -> None:
        """Add the squares of this attempt to the sums of its members; they may share an activation."""
        for site, (sums, count) in self._attempt.items():
            for total, seen in ((self._sums, sums), (self._counts, count)):
                total.setdefault(site, np.zeros(self._members))[list(members)] += seen

    def of_member(self, p: int) -> tuple[tuple[int, float], ...]:
        """Pairs (site, power) for the sites at which member p was seen."""
        return tuple(
            (site, float(sums[p]) / float(self._counts[site][p]))
            for site, sums in sorted(self._sums.items())
            if self._counts[site][p]
        )


def _sum_of_squares(x: NDArray[Any]) -> float:
    flat = x.reshape(-1)
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))
