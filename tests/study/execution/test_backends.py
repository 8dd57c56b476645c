"""A folder's backend: chosen once, recorded, and the same for all of its units."""

import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import one_line
from tests.cli.command_line import run as command
from tests.engine.backends.cuda import needs_compiler
from tests.study.execution.test_driver import units_of
from tests.study.runs import FINER, SIGMA, TINY, UNITS, Immediate, counts, exported, retry, run
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.backends.plain.base import Backend, Room
from wn.engine.backends.threads import processors
from wn.study import parse_study, plan
from wn.study.execution import executors
from wn.study.execution import worker as work
from wn.study.execution.driver import BACKEND
from wn.study.execution.environment import environment
from wn.study.execution.executors import Workers, suitable
from wn.study.execution.tasks import tasks
from wn.study.execution.worker import Task, run_task
from wn.study.plan import plan_study
from wn.study.store.writer import Store
from wn.study.tables.results import read_table
from wn.walking import measurement

MORE = TINY.replace(SIGMA, FINER)  # 8 units more than TINY
SHORT = TINY.replace("repeats = 2", "repeats = 1").replace("0.1, 1, 10", "1")  # 1 + 2 × 2 units


def recorded(folder: Path) -> str | None:
    with Store.read(folder) as store:
        return store.meta.get(BACKEND)


def record(folder: Path, backend: str) -> None:
    with Store.create_or_open(folder) as store:
        store.write_meta({BACKEND: backend})


def used(executor: Immediate) -> set[str]:
    return {task.backend for task in executor.tasks}


def as_before(folder: Path, mixed: int = 0) -> None:
    """Make a folder like one from before backends were recorded, with `mixed` units of Numba."""
    db = sqlite3.connect(folder / "study.sqlite")
    with db:
        db.execute("DELETE FROM meta WHERE name = ?", (BACKEND,))
        numba = "INSERT INTO environments (backend, machine, versions, 'commit') VALUES ('numba', '', '', '')"
        number = db.execute(numba.replace("'commit'", '"commit"')).lastrowid
        db.execute("UPDATE units SET environment = ? WHERE id <= ?", (number, mixed))
    db.close()


# ---- one for all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["numba", "cupy", "cupy-tf32"])
def test_another_backend_is_refused(copy: Path, other: str) -> None:
    """Before anything is done, also where the study has changed; nothing of the folder changes."""
    before = (copy / "study.sqlite").read_bytes()
    executor = Immediate()
    why = f"^{copy}: was begun with backend numpy, which {other} equals to rounding only: go on with --ba"
    for text in (TINY, MORE):
        with pytest.raises(WnError, match=why):
            run(copy, text, executor, backend=other)
    assert executor.tasks == []
    assert counts(copy) == (0, UNITS, 0)
    assert (copy / "study.sqlite").read_bytes() == before


def test_two_precisions_of_one_library_are_two_backends(copy: Path) -> None:
    record(copy, "cupy-tf32")
    with pytest.raises(WnError, match="was begun with backend cupy-tf32, which cupy equals to rounding only"):
        run(copy, MORE, backend="cupy")


def test_the_command_says_it_in_one_line(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text(MORE)
    for words in (("run", tmp_path / "more.toml", "--out", copy), ("retry", copy)):
        outcome = command("study", *words, "--backend", "numba")
        assert outcome.code == 2
        assert "was begun with backend numpy, which numba equals" in one_line(outcome)


@pytest.mark.parametrize("has", ["gpu", "no_gpu"])
def test_auto_is_what_the_folder_was_begun_with(
    copy: Path, has: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever this machine has; a line in the log says so."""
    request.getfixturevalue(has)
    executor = Immediate()
    with caplog.at_level(logging.INFO, "wn"):
        assert run(copy, MORE, executor, backend="auto").finished == 8
    assert used(executor) == {"numpy"}
    here = {"gpu": "cupy", "no_gpu": "numba"}[has]
    assert caplog.messages == [f"{copy}: goes on with backend numpy, as it was begun, not with {here}"]


@pytest.mark.parametrize(
    ("has", "name"), [pytest.param("gpu", "cupy", marks=needs_compiler), ("no_gpu", "numba")]
)
def test_auto_is_resolved_by_the_driver(
    tmp_path: Path, has: str, name: str, request: pytest.FixtureRequest
) -> None:
    """Once, for all workers: a task never says auto."""
    request.getfixturevalue(has)
    executor = Immediate()
    assert run(tmp_path, SHORT, executor, backend="auto").finished == 5
    assert used(executor) == {recorded(tmp_path)} == {name}
    assert set(read_table(tmp_path, ["backend"])["backend"].tolist()) == {name}


# ---- workers that can't use it ----------------------------------------------------------------------------


@pytest.mark.usefixtures("no_gpu")
def test_a_backend_that_can_not_be_used_binds_nobody(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "begun"
    with pytest.raises(WnError, match=r"^worker on .+: backend cupy can't be used: no NVIDIA GPU answers$"):
        run(folder, backend="cupy")
    assert recorded(folder) is None
    assert run(folder).finished == UNITS
    assert recorded(folder) == "numpy"
    assert exported(folder) == exported(whole)


def test_units_are_not_to_blame_for_a_worker_without_the_backend(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster on which some machines have a GPU: the run ends, and goes on elsewhere."""
    left = [3]

    def elsewhere(task: Task) -> None:
        left[0] -= 1
        if left[0] == 0:
            monkeypatch.setattr(work, "backend_here", refuse)

    def refuse(name: str) -> Backend:
        raise WnError(f"worker on node-7: backend {name} can't be used: no NVIDIA GPU answers")

    with pytest.raises(WnError, match=r"^worker on node-7: backend numpy can't be used"):
        run(tmp_path / "out", executor=Immediate(elsewhere))
    monkeypatch.undo()
    pending, done, failed = counts(tmp_path / "out")
    assert (pending + done, failed) == (UNITS, 0)
    assert 0 < done < UNITS
    assert run(tmp_path / "out").finished == pending
    assert exported(tmp_path / "out") == exported(whole)


# ---- folders from before backends were recorded -----------------------------------------------------------


def test_an_old_folder_takes_the_backend_of_its_units(copy: Path, whole: Path) -> None:
    as_before(copy)
    assert exported(copy) == exported(whole)
    with pytest.raises(WnError, match="was begun with backend numpy, which numba equals"):
        run(copy, MORE, backend="numba")
    executor = Immediate()
    run(copy, MORE, executor, backend="auto")
    assert used(executor) == {recorded(copy)} == {"numpy"}


@pytest.mark.parametrize(("asked", "found"), [("auto", "numba"), ("numba", "numba"), ("numpy", "numpy")])
def test_an_old_folder_with_two_backends_goes_on_with_one(copy: Path, asked: str, found: str) -> None:
    """That of most units, unless the other one is asked for; from then on it is settled."""
    as_before(copy, mixed=UNITS - 4)
    with pytest.raises(
        WnError, match=r"with backend numba and numpy, which cupy .* --backend numba or numpy,"
    ):
        run(copy, MORE, backend="cupy")
    executor = Immediate()
    run(copy, MORE, executor, backend=asked)
    assert used(executor) == {recorded(copy)} == {found}
    assert set(read_table(copy, ["backend"])["backend"].tolist()) == {"numba", "numpy"}


def test_an_old_folder_without_results_takes_that_of_the_first_run(tmp_path: Path) -> None:
    def interrupt(task: Task) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, SHORT, Immediate(interrupt))
    as_before(tmp_path)
    run(tmp_path, SHORT, backend="numba")
    assert recorded(tmp_path) == "numba"


def test_failed_units_are_tried_again_with_the_same_backend(tmp_path: Path) -> None:
    run(tmp_path, SHORT.replace("sigma = [1]", "sigma = [3e38]"))
    assert counts(tmp_path) == (0, 1, 4)
    executor = Immediate()
    retry(tmp_path, executor)
    assert used(executor) == {"numpy"}


# ---- how many workers, and how much at once ---------------------------------------------------------------


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", [name for name in backends.NAMES if name != "auto"])
def test_backends_that_share_a_gpu_have_one_worker(name: str) -> None:
    side_by_side = backends.get(name).takes_jobs_side_by_side
    assert suitable(name) == (processors() if side_by_side else 1)


@pytest.mark.parametrize(
    ("has", "begun", "words", "number"),
    [
        ("gpu", None, (), 1),
        ("gpu", None, ("--workers", "3"), 3),
        ("gpu", "numpy", (), 7),
        ("gpu", None, ("--backend", "numba"), 7),
        ("no_gpu", None, (), 7),
        ("no_gpu", "cupy-tf32", (), 1),
    ],
)
def test_default_workers_follow_the_backend(
    tmp_path: Path,
    has: str,
    begun: str | None,
    words: tuple[str, ...],
    number: int,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def processes(count: int) -> Workers:
        raise WnError(f"{count} workers")

    request.getfixturevalue(has)
    monkeypatch.setattr(executors, "processes", processes)
    monkeypatch.setattr(executors, "processors", lambda: 7)
    (tmp_path / "tiny.toml").write_text(TINY)
    if begun:
        record(tmp_path / "out", begun)
    outcome = command("study", "run", tmp_path / "tiny.toml", "--out", tmp_path / "out", *words)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1] == f"wn: {number} workers"


@pytest.mark.usefixtures("gpu")
def test_a_plan_has_as_many_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_calibrate", lambda be, unit, levels: plan._Speed(1.0, 1.0, 1.0))
    (tmp_path / "tiny.toml").write_text(TINY)
    assert " with one worker; " in command("study", "plan", tmp_path / "tiny.toml").out
    numba = command("study", "plan", tmp_path / "tiny.toml", "--backend", "numba").out
    assert (" with one worker; " in numba) == (processors() == 1)


def test_trainings_side_by_side_follow_the_room_of_a_worker() -> None:
    everything = units_of(TINY.replace(SIGMA, 'sigma = "0.01:1e10:49"'))

    def most(room: Room) -> int:
        cut = list(tasks(everything, room))
        assert [unit for part in cut for unit in part] == everything
        return max(len(part) for part in cut if part[0].phase == "training")

    assert most(Room()) == 16
    assert most(Room(1 << 40, 1024)) == 49
    assert most(Room(1, 1024)) == 1
    assert 1 < most(Room(1 << 24, 1024)) < 49


@pytest.mark.parametrize("members", [1, 2])
def test_no_result_or_key_depends_on_the_room(
    whole: Path, tmp_path: Path, members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(backends.get("numpy")), "room", Room(members=members))
    executor = Immediate()
    run(tmp_path / "out", executor=executor)
    assert max(len(task.units) for task in executor.tasks if task.units[0].phase == "training") == members
    assert exported(tmp_path / "out") == exported(whole)


def test_a_plan_times_no_more_side_by_side_than_a_curve_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def calibrate(be: Backend, unit: Any, levels: int) -> plan._Speed:
        asked.append(levels)
        return plan._Speed(1.0, 1.0, 1.0)

    monkeypatch.setattr(plan, "_calibrate", calibrate)
    plan_study(parse_study(TINY.replace(SIGMA, 'sigma = "0.01:1e10:49"')), "numpy")
    assert asked == [49]


@needs_compiler
@pytest.mark.usefixtures("gpu")
def test_at_inference_a_gpu_takes_whole_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 20 σ of a place at once, where a CPU takes 16."""
    sizes: dict[str, set[int]] = {}
    count = measurement.count_correct

    def noted(be: Backend, logits: Any, *rest: Any) -> Any:
        sizes.setdefault(be.name, set()).add(len(logits))
        return count(be, logits, *rest)

    monkeypatch.setattr(measurement, "count_correct", noted)
    text = 'phases = "inference"' + SHORT.replace("sigma = [1]", 'sigma = "0.1:10:20"')
    for name in ("numpy", "cupy"):
        assert run(tmp_path / name, text, backend=name).finished == 41
    assert sizes == {"numpy": {10}, "cupy": {20}}


# ---- provenance -------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ["cupy", "cupy-tf32"])
def test_rows_know_the_gpu_and_the_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.get(name), "libraries", ("scipy",))  # for a CuPy that is installed
    found = run_task(Task(units_of_data()[:1], name)).environment
    assert found.backend == name
    assert found.machine.endswith(f"; {os.cpu_count()} cores; stand-in")
    assert "; scipy " in found.versions
    assert environment("numpy").machine.endswith(f"; {os.cpu_count()} cores")


def units_of_data() -> work.Units:
    """The units of the short study, with the checksum of its data."""
    from wn.study import units
    from wn.study.execution.run import load_facts

    spec = parse_study(SHORT)
    return tuple(units(spec, load_facts(spec, None)))
