"""Small studies for the tests of the store, with results that follow from the units alone."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from wn.analysis.binarisation import Binarisation
from wn.basics.groups import group_sizes
from wn.study.store.reader import Reader
from wn.study.store.rows import Environment, PlaceBinarisation, Result, UnitRow, WeightStatistics
from wn.study.store.writer import Store
from wn.study.tables.results import read_table
from wn.study.unit import NoiseSpec, Unit

HERE = Environment("numpy", "this machine; 2 cores", "wn 0.1.0; numpy 2.4", "c0ffee")
THERE = Environment("numba", "another, faster machine", "wn 0.1.0; numba 0.68", "deadbeef+")
TOTAL = 1000
SIGMA = (0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 100.0)
LAYERS = ("fc1", "logits")
ADDITIVE = NoiseSpec(kind="additive")

CLEAN = Unit(
    phase="clean",
    dataset="mnist",
    data_checksum="d" * 64,
    model="mlp",
    batch_norm="none",
    dtype="float32",
    epochs=3,
    batch_size=128,
    learning_rate=1e-3,
    clamp_weights=False,
    seed=0,
    repeat=0,
)


def changed(unit: Unit, **changes: Any) -> Unit:
    return msgspec.structs.replace(unit, **changes)


def noisy(site: int = 0, sigma: float = 1.0, noise: NoiseSpec = ADDITIVE, **changes: Any) -> Unit:
    """A unit at inference, with noise at one site."""
    place = {"site": site, "site_name": f"site{site}", "factors": ((site, 1.0),)}
    return changed(CLEAN, **{"phase": "inference", "noise": noise, "sigma": sigma, **place, **changes})


def study(
    repeats: int = 2,
    sites: int = 2,
    sigma: Sequence[float] = SIGMA,
    phases: Sequence[str] = ("inference", "training"),
    **changes: Any,
) -> list[Unit]:
    """A study of one network: repeat by repeat the clean unit, then phase by phase, site by site, σ by σ."""
    units = []
    for repeat in range(repeats):
        own = changes | {"repeat": repeat}
        units.append(changed(CLEAN, **{name: value for name, value in own.items() if name != "noise"}))
        units += [
            noisy(site, s, phase=phase, **own) for phase in phases for site in range(sites) for s in sigma
        ]
    return units


def row(unit: Unit) -> UnitRow:
    """A unit as the store takes it."""
    spec = msgspec.json.encode(changed(unit, sigma=0.0, repeat=0))
    return UnitRow(unit.key, unit.clean_key, unit.sigma, unit.repeat, 10, spec)


def rows(units: Iterable[Unit]) -> Iterator[UnitRow]:
    return map(row, units)


def result(unit: Unit) -> Result:
    """What is found for a unit: accuracy falls from 0.9 to 0.1, later under training and behind the input."""
    middle = (1 + abs(unit.site)) * (3 if unit.phase == "training" else 1) * (1 + 0.1 * unit.repeat)
    share = 1 / (1 + (unit.sigma / middle) ** 2)
    correct = round(TOTAL * (0.1 + 0.8 * share))
    signal = tuple((site, math.sqrt(1 + site) * (1 + unit.repeat)) for site, _ in unit.factors)
    trained = None if unit.phase == "inference" else WeightStatistics(LAYERS, statistics(unit))
    found = Result(unit.key, correct, TOTAL, 0.25, signal, trained)
    values = Binarisation(share, 1 - share, math.nan, share / 2)
    return msgspec.structs.replace(
        found, binarisation=(PlaceBinarisation("relu1", values, share),) if trained else ()
    )


def grouped(unit: Unit) -> Result:
    """The result of a unit as a worker finds it: images that are easy are in the first groups."""
    found = result(unit)
    first = np.minimum(np.cumsum(group_sizes(TOTAL)), found.correct)
    return msgspec.structs.replace(found, by_group=tuple(np.diff(first, prepend=0).tolist()))


def statistics(unit: Unit) -> Any:
    """Statistics of the weights, (epochs, layers, 4): they grow with σ and epoch."""
    number = 1 + np.arange(unit.epochs * len(LAYERS) * 4).reshape(unit.epochs, len(LAYERS), 4)
    return number / 7 * (1 + unit.sigma)


def waiting(store: Any) -> list[Unit]:
    """The pending units."""
    return [msgspec.convert(unit.spec, Unit) for unit in store.pending()]


def finish(
    store: Store,
    units: Iterable[Unit],
    task: int = 5,
    where: Environment = HERE,
    found: Callable[[Unit], Result] = result,
) -> None:
    """Finish units in tasks of so many."""
    left = iter(units)
    while part := list(islice(left, task)):
        store.finish(map(found, part), where)


def finished_study(folder: Path, units: Sequence[Unit], found: Callable[[Unit], Result] = result) -> None:
    """Make a study with all units done."""
    with Store.create_or_open(folder) as store:
        store.add_units(rows(units))
        finish(store, units, found=found)


def table(folder: Path, columns: Sequence[str] | None = None) -> list[str]:
    """The rows of the study as text, in which NaN equals NaN."""
    return [str(row) for row in read_table(folder, columns).tolist()]


def counts(folder: Path) -> tuple[int, int, int]:
    """Pending, done and failed units."""
    with Store.read(folder) as store:
        status = store.status()
    return sum(s.pending for s in status), sum(s.done for s in status), sum(s.failed for s in status)


def done_keys(store: Reader) -> list[str]:
    """The keys of all units that are done, also of those that the study has no more."""
    query = "SELECT lower(hex(key)) FROM units WHERE status = 'done' ORDER BY id"
    return [key for (key,) in store.rows(query)]


def whole(folder: Path) -> bool:
    """Whether SQLite finds nothing wrong with the file."""
    with Store.read(folder) as store:
        return list(store.rows("PRAGMA integrity_check")) == [("ok",)]
