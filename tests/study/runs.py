"""Small studies that are really run: in this process, or by `wn study` in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.checks.study_kills import SAME, session
from tests.cli.command_line import ROOT, process
from wn.study import parse_study
from wn.study.execution.driver import Progress
from wn.study.execution.executors import MakeWorkers, Workers
from wn.study.execution.greeting import greet
from wn.study.execution.run import retry_study, run_study
from wn.study.execution.worker import Task
from wn.study.store.writer import Store
from wn.study.tables.export import export

TINY = """
repeats = 2
[data]
names = "fashion-mini"
train_limit = 300
test_limit = 100
[[models]]
name = "mlp-8"
[recipe]
epochs = 2
learning_rate = 0.01
[[noise]]
kind = "additive"
sigma = [0.1, 1, 10]
where = ["input", "relu2"]
"""
SIGMA, FINER = "sigma = [0.1, 1, 10]", "sigma = [0.1, 0.5, 1, 10]"
UNITS = 2 * (1 + 2 * 2 * 3)
PATIENCE = 60.0  # seconds, for what is to come about in another process


class Immediate(Executor):
    """Calls functions when they are handed out; remembers the tasks, after `before` has seen them."""

    def __init__(self, before: Callable[[Task], None] = lambda task: None) -> None:
        self.before, self.tasks = before, list[Task]()

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            if function is not greet:
                self.before(arguments[0])
                self.tasks.append(arguments[0])
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def workers(self, backend: str = "numpy") -> Workers:
        return Workers(self, lambda: 1, lambda: None)


def run(folder: Path, text: str = TINY, executor: Immediate | None = None, **options: Any) -> Progress:
    """Run a study in this process, by default with NumPy."""
    executor = executor or Immediate()
    return run_study(parse_study(text), folder, executor.workers, **{"backend": "numpy", **options})


def run_on(folder: Path, make_workers: MakeWorkers) -> Progress:
    """Run the tiny study on any workers."""
    return run_study(parse_study(TINY), folder, make_workers, backend="numpy")


def retry(folder: Path, executor: Immediate | None = None) -> Progress:
    executor = executor or Immediate()
    return retry_study(folder, executor.workers, backend="numpy")


def exported(folder: Path) -> dict[str, bytes]:
    """The tables of a study that do not depend on when and where it was run, byte for byte.

    Not the midpoints: they follow from the results, and take a while.
    """
    tables = [name for name in SAME if name != "midpoints"]
    paths = export(folder, folder.with_name(f"{folder.name}-export"), tables=tables)
    return {path.name: path.read_bytes() for path in paths}


def phases(tasks: list[Task]) -> list[str]:
    return [task.units[0].phase for task in tasks]


def networks(folder: Path) -> list[Path]:
    """The files of the clean networks."""
    return sorted((folder / "networks").iterdir())


def counts(folder: Path) -> tuple[int, int, int]:
    """Pending, done and failed units; zeros before there is a study."""
    if not (folder / "study.sqlite").exists():
        return 0, 0, 0
    with Store.read(folder) as store:
        status = store.status()
    return sum(s.pending for s in status), sum(s.done for s in status), sum(s.failed for s in status)


def failures(folder: Path) -> dict[str, list[tuple[str, float, str]]]:
    """Phase, σ and site of the units that failed, by the last line of the traceback."""
    found: dict[str, list[tuple[str, float, str]]] = {}
    with Store.read(folder) as store:
        for failure in store.failures():
            reason = failure.traceback.strip().splitlines()[-1]
            spec = failure.spec
            found.setdefault(reason, []).append((spec["phase"], spec["sigma"], spec["site_name"]))
    return found


# ---- other processes --------------------------------------------------------------------------------------


@contextmanager
def driver(*arguments: str | Path, gated: bool = False) -> Iterator["subprocess.Popen[str]"]:
    """Have `wn study …` run until the end of the block, in a session of its own.

    With `gated` all but its first tasks wait: see `tests.study.execution.gate`.
    """
    words = ["study", *map(str, arguments)]
    started = gated_process(*words) if gated else process(*words, start_new_session=True)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()
        wait_for(lambda: not session(started.pid))


def gated_process(*words: str) -> "subprocess.Popen[str]":
    code = "from tests.study.execution.gate import command_line; command_line()"
    command = [sys.executable, "-c", code, *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def workers_of(leader: int) -> list[int]:
    """The worker processes of a driver."""
    return [pid for pid in session(leader) if pid != leader and b"spawn_main" in command(pid)]


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds; AssertionError if it does not come about."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def finished(folder: Path, at_least: int) -> Callable[[], bool]:
    return lambda: counts(folder)[1] >= at_least


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
