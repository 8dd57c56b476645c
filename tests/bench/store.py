"""Benchmark of the store: time and peak memory of each stage for 63,500 and 635,000 units, as JSON.

    python -m tests.bench.store [--units 635000 …] [--dir FOLDER]

Each stage is a process of its own, so that its peak memory is its own; "nothing" has that of Python and
the libraries. 635,000 units are about as many as the authors' full grid has; they are synthetic here, in
blocks of 49 σ, with results for all.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tests.bench import machine
from wn.basics.groups import group_sizes
from wn.study.store.rows import Environment, Result, UnitRow
from wn.study.store.writer import Store
from wn.study.tables.export import export
from wn.study.tables.results import read_table

EDGES = np.append(0, np.cumsum(group_sizes(10_000)))
ROOT = Path(__file__).parents[2]
SIGMA = [0.01 * 10 ** (place / 4) for place in range(49)]
HERE = Environment("numpy", "machine", "wn 0", "0" * 40)
NOISE = {"kind": "additive", "ratio": None, "mean_add": 0.0, "repetitions": 1, "execution": "single"}
RECIPE = {"epochs": 100, "batch_size": 128, "learning_rate": 1e-3, "clamp_weights": False, "seed": 0}


def key(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def units(number: int) -> Iterator[UnitRow]:
    """Yield units as a study does: repeat by repeat, network by network, place by place, σ by σ."""
    return islice(_all_units(), number)


def _all_units() -> Iterator[UnitRow]:
    for repeat in count():
        for network in range(110):
            spec = {"dataset": "mnist", "model": f"mlp-{network}", "batch_norm": "none"} | RECIPE
            for phase in ("inference", "training"):
                for site in range(11):
                    place = {"site": site, "site_name": f"site{site}", "factors": [[site, 1.0]]}
                    text = msgspec.json.encode(spec | {"phase": phase, "noise": NOISE} | place)
                    for sigma in SIGMA:
                        own = key(repeat, network, phase, site, sigma)
                        yield UnitRow(own, key(repeat, network), sigma, repeat, 10, text)


def results(keys: Iterator[str]) -> Iterator[Result]:
    for unit in keys:
        number = int(unit[:4], 16)
        correct = number % 10_001
        by_group = tuple(np.diff(correct * EDGES // 10_000).tolist())
        yield Result(unit, correct, 10_000, 0.5, ((number % 11, 1.0 + number),), by_group=by_group)


def add(folder: Path, number: int) -> None:
    with Store.create_or_open(folder) as store:
        assert store.add_units(units(number)) in (number, 0)


def fill(folder: Path, _: int) -> None:
    with Store.create_or_open(folder) as store:
        keys = (unit.key for unit in store.pending())
        while part := list(islice(keys, 20_000)):
            store.finish(results(iter(part)), HERE)


def commit(folder: Path, _: int) -> None:
    """200 tasks of 16 units, each a transaction that is brought to disk."""
    with tempfile.TemporaryDirectory(dir=folder) as other, Store.create_or_open(Path(other)) as store:
        store.add_units(units(3200))
        keys = (unit.key for unit in store.pending())
        while part := list(islice(keys, 16)):
            store.finish(results(iter(part)), HERE)


def open_and_close(folder: Path, _: int) -> None:
    Store.create_or_open(folder).close()


def status(folder: Path, number: int) -> None:
    with Store.read(folder) as store:
        assert sum(counts.done for counts in store.status()) == number


def pending(folder: Path, _: int) -> None:
    """What a driver does that resumes a study which is all done."""
    with Store.create_or_open(folder) as store:
        assert list(store.pending()) == []


def export_csv(folder: Path, _: int) -> None:
    export(folder, folder / "out")


def export_parquet(folder: Path, _: int) -> None:
    export(folder, folder / "out", "parquet")


def read(folder: Path, number: int) -> None:
    assert len(read_table(folder, ("noise", "phase", "site", "sigma", "accuracy"))) == number


def nothing(_: Path, __: int) -> None:
    """The memory of Python and its libraries."""


STAGES: dict[str, Callable[[Path, int], None]] = {
    "nothing": nothing,
    "add": add,
    "add again": add,
    "fill": fill,
    "200 commits": commit,
    "open": open_and_close,
    "status": status,
    "pending": pending,
    "export csv": export_csv,
    "export parquet": export_parquet,
    "read 5 columns": read,
}


def measure(stage: str, folder: Path, number: int) -> dict[str, float]:
    """Run a stage in a process of its own; return wall seconds, CPU seconds and peak memory."""
    command = [sys.executable, "-m", "tests.bench.store", "--stage", stage]
    command += ["--units", str(number), "--dir", str(folder.absolute())]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(number: int, parent: Path | None) -> dict[str, Any]:
    """Return the figures of all stages for a number of units."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        stages = {stage: measure(stage, Path(folder), number) for stage in STAGES}
        size = (Path(folder) / "study.sqlite").stat().st_size
    return {"units": number, "stages": stages, "bytes_per_unit": round(size / number)}


def run(stage: str, folder: Path, number: int) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    STAGES[stage](folder, number)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux has KiB
    found = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": peak,
    }
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, nargs="+", default=[63_500, 635_000])
    parser.add_argument("--dir", type=Path, default=None, help="on the disk to be measured")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.stage:
        run(chosen.stage, chosen.dir, chosen.units[0])
        return
    found = [measured(number, chosen.dir) for number in chosen.units]
    about = {"processor": machine.processor(), "load": machine.load(), "versions": machine.versions()}
    print(json.dumps(about | {"measured": found}, indent=1))


if __name__ == "__main__":
    main()
