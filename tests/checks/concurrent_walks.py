"""Run several walks, and several trainings, to the same place at once, as commands of their own.

    python -m tests.checks.concurrent_walks [--rounds 50] [--at-once 3] [--seed 1]

Every fifth round one of the walks is killed with SIGKILL at a random moment. Exit code 1 unless each run that
said it was done left a whole output of its own, no file of another run was mixed in, and nothing is left over
but the claim of a killed run.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.files.contenders import TRAIN, WALK, seed_of
from tests.walking.test_results import FILES
from wn.engine.files import checkpoint
from wn.files.claims import NAME

ROOT = Path(__file__).parents[2]
EVERY = 5  # rounds
SECONDS = (0.5, 4.0)  # within these a killed run ends


def started(words: Sequence[str], seed: int, out: Path) -> "subprocess.Popen[str]":
    """Start a command of `wn`."""
    command = [sys.executable, "-m", "wn", *words, "--seed", str(seed), "--out", str(out)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def walks(out: Path, seeds: Sequence[int], kill_after: float | None) -> Iterator[str]:
    """Run walks at once; yield what is wrong."""
    children = [started(WALK, seed, out) for seed in seeds]
    if kill_after is not None:
        time.sleep(kill_after)
        children[0].kill()
    ended = [(child, child.communicate()[1]) for child in children]
    done = [seed for seed, (child, _) in zip(seeds, ended, strict=True) if child.returncode == 0]
    for child, complaint in ended:
        if child.returncode not in (0, 2) and not (kill_after is not None and child is children[0]):
            yield f"exit code {child.returncode}: {complaint}"
        if "Traceback" in complaint:
            yield complaint
    folders = [out.parent / name for name in sorted(os.listdir(out.parent))]
    whole = []
    for folder in folders:
        names = set(os.listdir(folder))
        if kill_after is not None and not names.issuperset(FILES):
            continue  # of the killed run
        try:
            whole.append(seed_of(folder, pictures=False))
        except AssertionError as error:
            yield f"{folder.name} is not whole: {sorted(names)}: {error}"
    lost = sorted(set(done) - set(whole))
    if lost or (kill_after is None and sorted(whole) != done):
        yield f"done were {done}, there are {sorted(whole)}"
    if kill_after is not None:
        yield from after_a_kill(out, max(seeds) + 1)


def after_a_kill(out: Path, seed: int) -> Iterator[str]:
    """Run a walk where one was killed; yield what is wrong."""
    again = started([*WALK, "--overwrite"], seed, out)
    complaint = again.communicate()[1]
    if again.returncode or seed_of(out, pictures=False) != seed or NAME in os.listdir(out):
        yield f"after a kill: {again.returncode}, {sorted(os.listdir(out))}: {complaint}"


def trainings(out: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Run trainings at once; yield what is wrong."""
    children = [started(TRAIN, seed, out) for seed in seeds]
    ended = [(child, child.communicate()[1]) for child in children]
    done = [seed for seed, (child, _) in zip(seeds, ended, strict=True) if child.returncode == 0]
    found = checkpoint.load(out).record["asked"]["seed"]
    if done != [found] or os.listdir(out.parent) != [out.name]:
        yield f"done were {done}, the file is of {found}; there are {os.listdir(out.parent)}"
    for _, complaint in ended:
        if "Traceback" in complaint:
            yield complaint


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.checks.concurrent_walks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the moments of kills; default: 1")
    chosen = parser.parse_args(arguments)
    numbers, seeds, wrong, folders = random.Random(chosen.seed), list(range(chosen.at_once)), 0, 0
    with tempfile.TemporaryDirectory() as name:
        for number in range(chosen.rounds):
            place = Path(name) / f"{number}"
            kill = numbers.uniform(*SECONDS) if number % EVERY == EVERY - 1 else None
            found = list(walks(place / "out", seeds, kill))
            folders += len(os.listdir(place))
            found += trainings(place / "networks" / "net.safetensors", seeds)
            wrong += len(found)
            for line in found:
                print(f"round {number}: {line}", flush=True)
    print(f"{chosen.rounds} rounds of {chosen.at_once}: {folders} folders, {wrong} faults")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
