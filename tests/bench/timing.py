"""Time both sides in turns, and compare medians."""

import gc
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Side:
    """One way to do the work of a row; measured seconds times `scale` are the row's seconds."""

    name: str
    run: Callable[[], object]
    scale: float = 1.0


class Timing(NamedTuple):
    """Median, least and most seconds."""

    seconds: float
    least: float
    most: float


def alternate(
    sides: Sequence[Side],
    repeats: int,
    pause: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Return a timing for each side: all run once to warm up, then all in turns, `repeats` times.

    What disturbs the machine for a while so disturbs all of them, and the medians stay comparable.
    """
    seconds: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side.run()
    for _ in range(repeats):
        for side, measured in zip(sides, seconds, strict=True):
            gc.collect()
            time.sleep(pause)
            started = clock()
            side.run()
            measured.append((clock() - started) * side.scale)
    return [Timing(median(measured), min(measured), max(measured)) for measured in seconds]


def entry(row: str, ours: Timing, peer: str | None, theirs: Timing | None) -> dict[str, Any]:
    """Return a row of the JSON; `ratio` is how many times longer the peer takes, None without a peer."""
    return {
        "row": row,
        "seconds": ours.seconds,
        "seconds_min": ours.least,
        "seconds_max": ours.most,
        "peer": peer,
        "peer_seconds": theirs.seconds if theirs else None,
        "peer_seconds_min": theirs.least if theirs else None,
        "peer_seconds_max": theirs.most if theirs else None,
        "ratio": theirs.seconds / ours.seconds if theirs else None,
    }


def with_rates(found: dict[str, Any], flops: float) -> dict[str, Any]:
    """Return an entry with the rates of both sides, in 1e9 operations per second; the ratio is our share."""
    rates: dict[str, Any] = {"gflops": flops / found["seconds"] / 1e9}
    if found["peer_seconds"] is not None:
        rates |= {"peer_gflops": flops / found["peer_seconds"] / 1e9, "share": found["ratio"]}
    return found | rates


def geometric_mean(values: Iterable[float]) -> float:
    """Return exp(mean(log v)) of positive values."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))
