"""The rows of a study's store, as they are written and read."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from wn.analysis.binarisation import Binarisation
from wn.analysis.weights import STATISTICS
from wn.basics.groups import group_sizes

# Entries of the record of a study as a whole
SPEC = "spec"  # the study as it is declared, in TOML
EXPLICIT = "explicit"  # the study with maps and σ in place of what waits for midpoints, once they are known
LEFT_OUT = "left_out"  # what that study has no maps for, a line each

# A spec is cut in three: what tells the units of one curve apart, what tells the curves of one setting apart,
# and the setting, which is the rest.
OLD_STATISTICS = ("mean_abs", "std", "norm")  # of files whose names are those of layers alone
OF_UNIT = ("sigma", "repeat")
OF_CURVE = ("phase", "site", "site_name", "factors", "sigma_train")


class UnitRow(msgspec.Struct, frozen=True):
    """A unit of work as the store takes it.

    `key` and `clean_key` (of the clean network of the same training settings and repeat; None if it is one)
    are sha256 in hexadecimal; `classes` are those of the data. `spec` is the unit as JSON with any σ and
    repeat, as they are given apart: where it is the same text for a whole curve, it is read once.
    """

    key: str
    clean_key: str | None
    sigma: float
    repeat: int
    classes: int
    spec: bytes


class Environment(msgspec.Struct, frozen=True):
    """The environment of a computation: backend, machine, versions of the libraries, and commit of wn."""

    backend: str
    machine: str
    versions: str
    commit: str


class WeightStatistics(msgspec.Struct, frozen=True, eq=False):
    """Statistics of the weights after each epoch: values (E, L, S) for L named layers, in STATISTICS' order.

    The store keeps them as float32. Files of older versions have the first three alone.
    """

    layers: tuple[str, ...]
    values: NDArray[Any]


class PlaceBinarisation(msgspec.Struct, frozen=True):
    """The binarisation at a place of a trained network: a site by name, or the weights of a layer.

    pattern, signs: accuracies as in `wn.walking.observed.binarised.Binarised`; NaN for weights.
    """

    place: str
    values: Binarisation
    pattern: float = math.nan
    signs: float = math.nan


class Result(msgspec.Struct, frozen=True, eq=False):
    """The result of one unit: `correct` of `total` test images, in `seconds`.

    `signal` has the mean of y² before the noise at each noisy site, as pairs (site, power); `weights` are
    there if a network was trained for this unit. `by_group` is `correct` by group of test images
    (`wn.basics.groups`), nothing if it was not counted so; `binarisation` is there if it was asked for.
    """

    key: str
    correct: int
    total: int
    seconds: float
    signal: tuple[tuple[int, float], ...] = ()
    weights: WeightStatistics | None = None
    by_group: tuple[int, ...] = ()
    binarisation: tuple[PlaceBinarisation, ...] = ()


class Unfinished(NamedTuple):
    """A unit that is not done: its keys, its spec, as JSON gives it, and the traceback if it failed."""

    key: str
    clean_key: str | None
    spec: dict[str, Any]
    traceback: str


class StatusCount(NamedTuple):
    """Numbers of units of a phase, data set, model and noise kind by status, and their seconds."""

    phase: str
    dataset: str
    model: str
    noise: str
    pending: int
    done: int
    failed: int
    seconds: float


def key_bytes(key: str | None) -> bytes | None:
    """Return a key, if there is one, as the file has it: half as long."""
    return None if key is None else bytes.fromhex(key)


def packed(statistics: WeightStatistics) -> tuple[str, bytes]:
    """The names of layers and statistics as JSON, and the values as little-endian float32."""
    values = np.asarray(statistics.values)
    wanted = (len(statistics.layers), len(STATISTICS))
    if values.ndim != 3 or values.shape[1:] != wanted:
        raise ValueError(
            f"weight statistics have shape {values.shape}, not (epochs, {wanted[0]}, {wanted[1]})"
        )
    names = {"layers": statistics.layers, "statistics": STATISTICS}
    with np.errstate(over="ignore"):
        return msgspec.json.encode(names).decode(), values.astype("<f4").tobytes()


def unpacked(names: str, values: bytes) -> WeightStatistics:
    """Return the statistics that `packed` packed; NaN for those that older versions did not have."""
    said = msgspec.json.decode(names)
    layers, statistics = (said, OLD_STATISTICS) if isinstance(said, list) else map(tuple, said.values())
    there = np.frombuffer(values, "<f4").reshape(-1, len(layers), len(statistics))
    found = np.full((*there.shape[:2], len(STATISTICS)), np.nan, np.float32)
    found[:, :, [STATISTICS.index(name) for name in statistics]] = there
    return WeightStatistics(tuple(layers), found)


def packed_groups(result: Result) -> bytes:
    """The counts by group in integers of the size that the largest group needs."""
    (sizes, dtype), counts = _groups_of(result.total), np.array(result.by_group)
    if counts.shape != sizes.shape or (counts > sizes).any() or counts.sum() != result.correct:
        raise ValueError(f"the counts by group are not those of {result.correct} of {result.total} images")
    return counts.astype(dtype).tobytes()


def unpacked_groups(packed: bytes, total: int) -> NDArray[np.int64]:
    """Return the counts by group (G,) that `packed_groups` packed."""
    return np.frombuffer(packed, _groups_of(total)[1]).astype(np.int64)


@lru_cache(maxsize=16)  # all units of a study have a few data sets
def _groups_of(total: int) -> tuple[NDArray[np.int64], str]:
    """Sizes of the groups of some images, and the type that their counts are kept in."""
    sizes = group_sizes(total)
    largest = int(sizes.max())
    return sizes, "<u1" if largest < 1 << 8 else "<u2" if largest < 1 << 16 else "<u4"
