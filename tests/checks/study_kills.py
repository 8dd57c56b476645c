"""Kill a study again and again, and see that it ends as if nothing had happened.

    python -m tests.checks.study_kills [--study walking-quick] [--kills 5] [--workers 2] [--seed 1]

With the MNIST files in DIR: --study walking-mnist-mlp-quick --data-dir DIR

Runs the study in one go; then once more, killed with SIGKILL at random moments and run again until it is
finished. Exit code 1 unless all exported tables are the same byte for byte, nothing that was finished was
lost on the way, and no worker process outlived its driver.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from wn.study.store.writer import Store
from wn.study.tables.export import export

SAME = ("results", "settings", "signal", "weights", "midpoints")  # however often a study was killed
PATIENCE = 30.0  # seconds that workers have to notice that their driver is gone
SHARE = 0.7  # of the units; when they are finished, the last kill is due
LATER = 0.03  # of the time that an uninterrupted run takes: by so much kills come later than they are due

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from wn.cli.main import main; main()", "study", "run")


class Study(NamedTuple):
    """What is run: a preset or a file, and how."""

    name: str
    workers: int = 2
    backend: str = "auto"
    data_dir: str | None = None

    def start(self, folder: Path) -> "subprocess.Popen[bytes]":
        """Start a driver, in a session of its own."""
        words = (self.name, "--out", str(folder), "--workers", str(self.workers), "--backend", self.backend)
        words += ("--data-dir", self.data_dir) if self.data_dir else ()
        return subprocess.Popen((*COMMAND, *words), cwd=ROOT, start_new_session=True)

    def run(self, folder: Path) -> float:
        """Run a driver to its end; return the seconds that it took. RuntimeError if it fails."""
        started = time.monotonic()
        code = self.start(folder).wait()
        if code:
            raise RuntimeError(f"the driver ended with exit code {code}")
        return time.monotonic() - started


class Moment(NamedTuple):
    """When a driver is killed: seconds after a number of units is finished."""

    units: int
    seconds: float


def moments(kills: int, units: int, seconds: float, seed: int) -> list[Moment]:
    """The moments of the kills: anywhere in the study, but for its end, which would come first."""
    numbers = random.Random(seed)
    after = sorted(numbers.randrange(int(SHARE * units)) for _ in range(kills))
    return [Moment(number, numbers.uniform(0, LATER * seconds)) for number in after]


def killed_run(study: Study, folder: Path, kills: Sequence[Moment]) -> Iterator[str]:
    """Run a study that is killed at each of these moments; yield what is to be told, and what is wrong.

    Lines about what is wrong begin with "wrong: ".
    """
    done: set[str] = set()
    for moment in kills:
        driver = study.start(folder)
        while len(done_keys(folder)) < moment.units and driver.poll() is None:
            time.sleep(0.02)
        time.sleep(moment.seconds)
        driver.kill()
        if driver.wait() != -signal.SIGKILL:
            yield f"wrong: the driver ended before it was killed, with exit code {driver.returncode}"
        if not emptied(driver.pid):
            yield f"wrong: processes outlived their driver: {session(driver.pid)}"
        there = done_keys(folder)
        if not done <= there:
            yield f"wrong: {len(done - there)} finished units are lost"
        yield (
            f"killed {moment.seconds:.2f} s after {moment.units} units were finished: "
            f"{len(there)} are there, {len(there - done)} of them new"
        )
        done = there
    yield f"the last run took {study.run(folder):.1f} s"


def done_keys(folder: Path) -> set[str]:
    """Return the keys of the finished units; none before there is a study."""
    if not (folder / "study.sqlite").exists():
        return set()
    with Store.read(folder) as store:
        return {key for (key,) in store.rows("SELECT lower(hex(key)) FROM units WHERE status = 'done'")}


def differing(one: Path, other: Path) -> list[str]:
    """Export both studies; return the names of the tables that differ."""
    tables = [export(folder, folder / "export", tables=SAME) for folder in (one, other)]
    pairs = zip(*tables, strict=True)
    return [a.name for a, b in pairs if a.read_bytes() != b.read_bytes()]


def session(leader: int) -> list[int]:
    """Return the processes of a session that live: a driver and its workers."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def emptied(leader: int) -> bool:
    """Whether all processes of a session end soon."""
    give_up = time.monotonic() + PATIENCE
    while session(leader):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def check(study: Study, folder: Path, kills: int, seed: int) -> Iterator[str]:
    """Do all of it in a folder; yield lines as `killed_run` does."""
    seconds = study.run(folder / "whole")
    units = len(done_keys(folder / "whole"))
    yield f"{study.name} in one go: {seconds:.1f} s, {units} units"
    yield from killed_run(study, folder / "killed", moments(kills, units, seconds, seed))
    differ = differing(folder / "whole", folder / "killed")
    if differ:
        yield f"wrong: tables differ: {', '.join(differ)}"
    else:
        yield f"the same byte for byte: {', '.join(SAME)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.checks.study_kills", description=__doc__)
    parser.add_argument("--study", default="walking-quick", help="a preset or a file; default: walking-quick")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seed", type=int, default=1, help="of the moments; default: 1")
    parser.add_argument("--data-dir", help="folder with the data files, where the study needs some")
    chosen = parser.parse_args(arguments)
    study = Study(chosen.study, chosen.workers, chosen.backend, chosen.data_dir)
    wrong = False
    with tempfile.TemporaryDirectory() as name:
        for line in check(study, Path(name), chosen.kills, chosen.seed):
            print(line, flush=True)
            wrong = wrong or line.startswith("wrong: ")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
