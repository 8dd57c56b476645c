"""The driver when units fail, workers die and Ctrl-C is pressed, with workers in this process."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.study.runs import (
    FINER,
    SIGMA,
    TINY,
    UNITS,
    Immediate,
    counts,
    exported,
    failures,
    networks,
    phases,
    retry,
    run,
    run_on,
)
from wn.basics.errors import WnError
from wn.engine.backends.plain.base import Backend
from wn.study import parse_study
from wn.study.execution import worker as work
from wn.study.execution.driver import ATTEMPTS, Progress
from wn.study.execution.executors import Workers
from wn.study.execution.greeting import greet
from wn.study.execution.run import run_study
from wn.study.execution.worker import Task
from wn.study.store.writer import Store
from wn.walking import measurement

# ---- units that fail --------------------------------------------------------------------------------------

TOO_MUCH = TINY.replace("1, 10]", "1, 3e38]")


def test_a_unit_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    """σ beyond float32: at inference and in training, each unit on its own."""
    folder = tmp_path / "failing"
    done = run(folder, TOO_MUCH)
    assert done == Progress(UNITS - 8, 8, UNITS, 1.0)
    assert counts(folder) == (0, UNITS - 8, 8)
    assert {sigma for units in failures(folder).values() for _, sigma, _ in units} == {3e38}
    assert all("float32" in reason and "OutOfRange" in reason for reason in failures(folder))
    run(tmp_path / "less", TINY.replace("1, 10]", "1]"))
    assert rows(folder) == rows(tmp_path / "less")
    with Store.read(folder) as store:
        failure = next(store.failures())
    assert failure.traceback.startswith("Traceback (most recent call last):")
    assert "wn/walking/measurement.py" in failure.traceback


def rows(folder: Path) -> bytes:
    return exported(folder)["results.csv"]


def test_retry_runs_what_failed_and_nothing_else(whole: Path, tmp_path: Path) -> None:
    folder, bad = tmp_path / "retried", set[float]({0.1})

    def refuse(task: Task) -> None:
        if bad & {unit.sigma for unit in task.units}:
            raise MemoryError("no memory")

    done = run(folder, executor=Immediate(refuse))
    assert done.failed == 8
    assert failures(folder).keys() == {f"MemoryError: no memory (in each of {ATTEMPTS} attempts)"}
    executor = Immediate()
    assert run(folder, executor=executor).total == 0  # they are not tried again by themselves
    assert retry(folder, executor) == Progress(8, 0, 8, 1.0)
    assert {unit.sigma for task in executor.tasks for unit in task.units} == {0.1}
    assert "clean" not in phases(executor.tasks)
    assert exported(folder) == exported(whole)


def test_units_without_their_clean_network_fail_with_it(whole: Path, tmp_path: Path) -> None:
    def refuse(task: Task) -> None:
        if task.units[0].phase == "clean" and task.units[0].repeat == 1:
            raise MemoryError("no memory")

    folder = tmp_path / "failing"
    done = run(folder, executor=Immediate(refuse))
    assert (done.finished, done.failed) == (UNITS - 7, 7)
    reasons = failures(folder)
    assert sorted(len(units) for units in reasons.values()) == [1, 6]
    (text,) = (reason for reason in reasons if "clean network" in reason)
    with Store.read(folder) as store:
        (clean,) = (f.key for f in store.failures() if f.spec["phase"] == "clean")
    assert text == f"the clean network of these units could not be trained: see unit {clean}"
    executor = Immediate()
    assert retry(folder, executor).finished == 7
    assert phases(executor.tasks) == ["clean", "inference"]
    assert exported(folder) == exported(whole)


def test_a_killed_driver_between_a_failed_network_and_its_units(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, executor=Immediate(interrupt_after(0)))
    with Store.create_or_open(tmp_path) as store:
        clean = next(unit.key for unit in store.pending() if unit.clean_key is None)
        store.fail([clean], "killed")
    done = run(tmp_path)
    assert (done.total, done.failed) == (UNITS - 1, 6)


def test_retry_needs_a_study(tmp_path: Path) -> None:
    with pytest.raises(WnError, match="no study is here"):
        retry(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_size_of_data_is_checked_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(WnError, match=r"data\.train_limit: 70000 is out of range"):
        run(tmp_path / "none", TINY.replace("300", "70000"))


# ---- workers that die -------------------------------------------------------------------------------------


class Ended(BaseException):
    """A worker process has ended."""


def test_a_worker_that_has_lost_its_device_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It can compute nothing any more: no unit is recorded as failed by it, whichever way the device went."""

    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("an illegal memory access")

    def end(status: int) -> None:
        raise Ended(status)

    executor = Immediate()
    run(tmp_path, executor=executor)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(measurement, "train", fail)
    monkeypatch.setattr(measurement, "count_correct", fail)
    tasks = {task.units[0].phase: task for task in executor.tasks}
    assert tasks.keys() == {"clean", "inference", "training"}
    for task in tasks.values():
        outcome = work.run_task(task)
        assert outcome.results == ()
        assert len(outcome.failures) == len(task.units)
    assert caplog.messages == []
    monkeypatch.setattr(Backend, "lost", True)
    for task in tasks.values():
        with pytest.raises(Ended, match="1"):
            work.run_task(task)
    assert caplog.messages == 3 * [
        "a worker process ends, since it has lost its GPU: RuntimeError: an illegal memory access"
    ]


class Breaking(Immediate):
    """Breaks as a process pool does when a worker dies: from then on nothing goes in."""

    def __init__(self, deadly: Callable[[Task], bool]) -> None:
        super().__init__()
        self.deadly, self.broken = deadly, False

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> "Future[Any]":
        task = arguments[0]
        if self.broken:
            raise BrokenProcessPool
        if function is greet or not self.deadly(task):
            return super().submit(function, *arguments)
        self.broken = True
        self.tasks.append(task)
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool())
        return future


class Pools:
    """Makes one pool after the other."""

    def __init__(self, deadly: Callable[[Task], bool]) -> None:
        self.deadly, self.made = deadly, list[Breaking]()

    def __call__(self, backend: str) -> Workers:
        self.made.append(Breaking(self.deadly))
        return self.made[-1].workers()

    @property
    def tasks(self) -> list[Task]:
        return [task for pool in self.made for task in pool.tasks]


def test_a_unit_whose_worker_always_dies_fails_alone(tmp_path: Path) -> None:
    def deadly(task: Task) -> bool:
        return any((unit.phase, unit.sigma, unit.site) == ("training", 10, 4) for unit in task.units)

    pools = Pools(deadly)
    done = run_on(tmp_path, pools)
    assert (done.finished, done.failed) == (UNITS - 2, 2)
    assert failures(tmp_path) == {
        f"the worker process died (in each of {ATTEMPTS} attempts)": [("training", 10, "relu2")] * 2
    }
    alone = [task for task in pools.tasks if deadly(task) and len(task.units) == 1]
    together = [task for task in pools.tasks if deadly(task) and len(task.units) == 3]
    assert len(together) == 2 * ATTEMPTS
    assert len(alone) == 2 * 2  # having been in a task that failed counts as the first attempt
    assert len(pools.made) == 1 + len(alone) + len(together)


def test_a_worker_that_dies_once_costs_nothing(whole: Path, tmp_path: Path) -> None:
    """Whichever task it had."""
    for number in range(8):
        left = [number]

        def deadly(task: Task, left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] == -1

        folder = tmp_path / str(number)
        assert run_on(folder, Pools(deadly)) == Progress(UNITS, 0, UNITS, 1.0)
        assert exported(folder) == exported(whole)


def test_a_clean_network_whose_worker_always_dies(tmp_path: Path) -> None:
    done = run_on(tmp_path, Pools(lambda task: task.units[0].phase == "clean"))
    assert done.failed == 2 * 7
    assert done.finished == UNITS - 2 * 7


def test_a_clean_network_that_can_not_be_trained_again(copy: Path) -> None:
    """What is finished stays so; what needs the network fails."""
    networks(copy)[0].unlink()
    with Store.create_or_open(copy):
        pass
    pools = Pools(lambda task: task.units[0].phase == "clean")
    done = run_study(parse_study(TINY.replace(SIGMA, FINER)), copy, pools, backend="numpy")
    assert (done.finished, done.failed) == (6, 2)
    assert counts(copy) == (0, UNITS + 6, 2)
    assert len(pools.made) == 1 + ATTEMPTS


class Losing(Immediate):
    """Loses the first tasks, as a Dask cluster whose connection is lost for a moment."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self.lost, self.checked = lost, 0

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> "Future[Any]":
        if self.lost == 0 or function is greet:
            return super().submit(function, *arguments)
        self.lost -= 1
        future: Future[Any] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future

    def check(self) -> None:
        self.checked += 1
        if self.checked == 20:
            raise WnError("tcp://nowhere: the connection to the scheduler is lost")


def test_a_lost_connection_is_no_failure(whole: Path, tmp_path: Path) -> None:
    executor = Losing(10)
    workers = Workers(executor, lambda: 1, lambda: None, executor.check)
    assert run_on(tmp_path / "lost", lambda backend: workers).finished == UNITS
    assert executor.checked == 10
    assert exported(tmp_path / "lost") == exported(whole)


class Gone(Immediate):
    """A cluster whose scheduler went: nothing can be handed out, or what was comes to nothing."""

    def __init__(self, at_once: bool) -> None:
        super().__init__()
        self.at_once = at_once

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> "Future[Any]":
        if function is greet:
            return super().submit(function, *arguments)
        if self.at_once:
            raise RuntimeError("the client is closed")
        future: Future[Any] = Future()
        future.set_exception(OSError("connection reset by peer"))
        return future


@pytest.mark.parametrize("at_once", [False, True])
def test_units_are_not_to_blame_for_a_scheduler_that_went(tmp_path: Path, at_once: bool) -> None:
    def check() -> None:
        raise WnError("tcp://nowhere: the connection to the scheduler is lost")

    with pytest.raises(WnError, match="tcp://nowhere: the connection"):
        run_on(tmp_path, lambda backend: Workers(Gone(at_once), lambda: 1, lambda: None, check))
    assert counts(tmp_path) == (UNITS, 0, 0)


def test_a_connection_that_is_lost_for_good_ends_the_run(tmp_path: Path) -> None:
    executor, stopped = Losing(1000), []
    workers = Workers(executor, lambda: 1, lambda: stopped.append(True), executor.check)
    with pytest.raises(WnError, match="tcp://nowhere: the connection"):
        run_on(tmp_path, lambda backend: workers)
    assert stopped
    assert counts(tmp_path) == (UNITS, 0, 0)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (WnError("no GPU answers"), "^no GPU answers$"),
        (
            ModuleNotFoundError("No module named 'wn'"),
            "can't run wn: ModuleNotFoundError: No module",
        ),
        (BrokenProcessPool(), "the worker processes end before they begin: is there memory for them?"),
    ],
)
def test_workers_that_can_not_work_at_all(tmp_path: Path, error: Exception, why: str) -> None:
    """They are found out before any unit fails for them."""

    class Useless(Immediate):
        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> "Future[Any]":
            future: Future[Any] = Future()
            future.set_exception(error)
            return future

    stopped = list[bool]()
    with pytest.raises(WnError, match=why):
        run_on(tmp_path, lambda backend: Workers(Useless(), lambda: 1, lambda: stopped.append(True)))
    assert stopped == [True]
    assert counts(tmp_path) == (UNITS, 0, 0)


# ---- Ctrl-C and progress ----------------------------------------------------------------------------------


def interrupt_after(tasks: int) -> Callable[[Task], None]:
    left = [tasks]

    def before(task: Task) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    return before


@pytest.mark.parametrize("tasks", range(8))
def test_interrupted_anywhere_and_run_again(whole: Path, tmp_path: Path, tasks: int) -> None:
    folder, executor = tmp_path / "interrupted", Immediate(interrupt_after(tasks))
    with pytest.raises(KeyboardInterrupt):
        run(folder, executor=executor)
    there = counts(folder)[1]
    assert there >= sum(len(task.units) for task in executor.tasks[:-1])  # the last was not collected yet
    assert run(folder) == Progress(UNITS - there, 0, UNITS - there, 1.0)
    assert exported(folder) == exported(whole)


def test_progress_only_grows(tmp_path: Path) -> None:
    seen: list[Progress] = []
    run(tmp_path, TOO_MUCH, report=seen.append)
    assert seen[0] == Progress(0, 0, UNITS, 0.0)
    assert seen[-1] == Progress(UNITS - 8, 8, UNITS, 1.0)
    assert all(a.share < b.share for a, b in pairwise(seen))
    assert all(a.finished + a.failed < b.finished + b.failed for a, b in pairwise(seen))
