"""Benchmark of worker processes: how much faster two are than one, on a study of single-thread units.

    python -m tests.bench.study_workers [--rounds 3] [--study FILE] [--backend auto] [--json FILE]

Prints JSON. The machine should be idle. Runs take turns: one worker, two, one, two, …; the ratio is that of
the medians of the whole command, start of the processes included. All loops are compiled before the first
run. CPU seconds are those of driver and workers together: if two workers need more of them than one, they
are in each other's way.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.bench import machine

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from wn.cli.main import main; main()", "study", "run")
WANTED = 1.8

# About a minute on one core: 4 clean networks and 32 tasks of 8 trainings, which are alike
STUDY = """
repeats = 4
phases = "training"
[data]
names = "fashion-mini"
train_limit = 5000
test_limit = 1000
[[models]]
name = "mlp"
[recipe]
epochs = 5
[[noise]]
kind = "additive"
sigma = "0.1:100:8"
"""
WARM = STUDY.replace("train_limit = 5000", "train_limit = 256").replace("repeats = 4", "repeats = 1")


class Run(NamedTuple):
    """Wall and CPU seconds of a command, with those of its worker processes."""

    seconds: float
    cpu_seconds: float


def run(study: Path, folder: Path, workers: int, backend: str) -> Run:
    """Run a study; return what the command took."""
    words = (str(study), "--out", str(folder), "--workers", str(workers), "--backend", backend)
    started, before = time.perf_counter(), _cpu_of_children()
    subprocess.run((*COMMAND, *words), cwd=ROOT, check=True, capture_output=True)
    return Run(time.perf_counter() - started, _cpu_of_children() - before)


def _cpu_of_children() -> float:
    """Return the CPU seconds of all processes that this one started, or they, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(study: Path, folder: Path, rounds: int, backend: str) -> dict[int, list[Run]]:
    """Return the runs with one worker and with two, which took turns."""
    runs: dict[int, list[Run]] = {1: [], 2: []}
    for number in range(rounds):
        for workers, found in runs.items():
            found.append(run(study, folder / f"{number}-{workers}", workers, backend))
            print(f"{workers} workers: {found[-1].seconds:.1f} s", file=sys.stderr, flush=True)
    return runs


def figures(runs: dict[int, list[Run]]) -> dict[str, Any]:
    """Return the medians, all runs, and the ratio."""
    found: dict[str, Any] = {"rounds": len(runs[1])}
    for workers, name in ((1, "one_worker"), (2, "two_workers")):
        found[name] = {
            "seconds": round(median(one.seconds for one in runs[workers]), 2),
            "cpu_seconds": round(median(one.cpu_seconds for one in runs[workers]), 2),
            "all_seconds": [round(one.seconds, 2) for one in runs[workers]],
        }
    one, two = (median(one.seconds for one in runs[workers]) for workers in (1, 2))
    return found | {"ratio": round(one / two, 3), "wanted": WANTED}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 if two workers are less than WANTED times as fast as one."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.study_workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--study", type=Path, help="a study file; default: one of a minute")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures, too")
    chosen = parser.parse_args(arguments)
    about = {"processor": machine.processor(), "cores": os.cpu_count(), "load": machine.load()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study, warm = chosen.study or folder / "workers.toml", folder / "warm.toml"
        if chosen.study is None:
            study.write_text(STUDY)
        warm.write_text(WARM)
        run(warm, folder / "warm", 2, chosen.backend)
        found = about | figures(measured(study, folder, chosen.rounds, chosen.backend))
    text = json.dumps(found, indent=1)
    print(text)
    if chosen.json is not None:
        chosen.json.write_text(text + "\n", encoding="utf-8")
    return int(found["ratio"] < WANTED)


if __name__ == "__main__":
    sys.exit(main())
