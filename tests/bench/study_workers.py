"""Benchmark of worker processes: how much faster two are than one, on a study of single-thread units.

    python -m tests.bench.study_workers [--rounds 3] [--study FILE] [--backend auto]

The machine should be idle. Runs take turns: one worker, two, one, two, …; the figure is the ratio of the
medians of the whole command, start of the processes included. All loops are compiled before the first run.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import machine

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-c", "from wn.cli import main; main()", "study", "run")
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


def seconds_of(study: Path, folder: Path, workers: int, backend: str) -> float:
    """Run a study; return the seconds that the command took."""
    words = (str(study), "--out", str(folder), "--workers", str(workers), "--backend", backend)
    started = time.perf_counter()
    subprocess.run((*COMMAND, *words), cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 if two workers are less than WANTED times as fast as one."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.study_workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--study", type=Path, help="a study file; default: one of a minute")
    parser.add_argument("--backend", default="auto")
    chosen = parser.parse_args(arguments)
    print(f"processor: {machine.processor()}, load {machine.load()}", flush=True)
    took: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = chosen.study or folder / "workers.toml"
        if chosen.study is None:
            study.write_text(STUDY)
        warm = folder / "warm.toml"
        warm.write_text(STUDY.replace("5000", "256").replace("repeats = 4", "repeats = 1"))
        seconds_of(warm, folder / "warm", 2, chosen.backend)
        for number in range(chosen.rounds):
            for workers, found in took.items():
                found.append(seconds_of(study, folder / f"{number}-{workers}", workers, chosen.backend))
                print(f"{workers} workers: {found[-1]:.1f} s", flush=True)
    ratio = statistics.median(took[1]) / statistics.median(took[2])
    print(f"two workers are {ratio:.2f} times as fast as one; load {machine.load()}")
    return int(ratio < WANTED)


if __name__ == "__main__":
    sys.exit(main())
