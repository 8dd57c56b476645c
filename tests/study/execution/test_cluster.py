"""A real Dask scheduler and workers, as processes of their own, run a study."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cli.command_line import ROOT, one_line
from tests.cli.command_line import run as run_command
from tests.study.execution.gate import open_gate, waiting
from tests.study.runs import TINY, UNITS, counts, driver, exported, failures, finished, lives, run, wait_for
from wn.basics.errors import WnError
from wn.study.execution import executors

pytest.importorskip("distributed", reason="needs walking-noise[cluster]")

Process = subprocess.Popen[bytes]


@contextmanager
def dask(folder: Path, *words: str) -> Iterator[Process]:
    """Have a process of Dask run until the end of the block; what it says is in a file of the folder."""
    number = len(list(folder.glob("*.log")))
    with (folder / f"{number}-{words[0]}.log").open("wb") as log:
        command = [sys.executable, "-m", "dask", *words]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        if lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Cluster:
    """A scheduler on a free port of this machine, and workers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack, self.file = folder, stack, folder / "scheduler.json"
        words = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(self.file))
        self.scheduler = stack.enter_context(dask(folder, "scheduler", *words))
        self.workers: list[Process] = []

    def add_worker(self) -> Process:
        words = ("--scheduler-file", str(self.file), "--nthreads", "1", "--no-nanny", "--no-dashboard")
        local = ("--local-directory", str(self.folder / "scratch"))
        worker = self.stack.enter_context(dask(self.folder, "worker", *words, *local))
        self.workers.append(worker)
        return worker


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "dask").mkdir()
    with ExitStack() as stack:
        yield Cluster(tmp_path / "dask", stack)


@pytest.fixture
def words(cluster: Cluster, tmp_path: Path) -> list[str | Path]:
    """The command that runs the tiny study on the cluster, in the folder out."""
    (tmp_path / "tiny.toml").write_text(TINY)
    options = ("--out", tmp_path / "out", "--backend", "numpy", "--scheduler-file", cluster.file)
    return ["run", tmp_path / "tiny.toml", *options]


def all_said(err: str) -> list[str]:
    """What a driver says beside its progress; nothing comes from Dask."""
    lines = [line for line in err.splitlines() if not line.startswith("out: ")]
    assert [line for line in lines if not line.startswith("wn: ")] == []
    return [line.removeprefix("wn: ") for line in lines]


def test_a_study_on_a_cluster_of_which_a_worker_is_killed(
    cluster: Cluster, words: list[str | Path], whole: Path, tmp_path: Path
) -> None:
    """In the middle of a task. The results are those of this machine bit for bit."""
    for _ in range(2):
        cluster.add_worker()
    folder = tmp_path / "out"
    with driver(*words, gated=True) as started:
        wait_for(waiting(folder, 2))
        cluster.workers[0].kill()
        cluster.workers[0].wait()
        open_gate(folder)
        out, err = started.communicate()
        assert started.returncode == 0
    assert f"{UNITS} units finished, {UNITS} of {UNITS} are there" in out
    assert all_said(err) == [f"{cluster.file}: waiting for the scheduler and its workers"]
    assert exported(folder) == exported(whole)


def test_workers_may_come_later_and_the_scheduler_may_go(
    cluster: Cluster, words: list[str | Path], whole: Path, tmp_path: Path
) -> None:
    """The run waits for the first worker; without a scheduler it ends in one line, and goes on elsewhere."""
    folder = tmp_path / "out"
    with driver(*words, gated=True) as started:
        wait_for(folder.exists)
        cluster.add_worker()
        wait_for(waiting(folder, 1))
        wait_for(finished(folder, 3))
        os.killpg(cluster.scheduler.pid, signal.SIGKILL)
        out, err = started.communicate()
        assert started.returncode == 2
    assert out == ""
    assert all_said(err) == [
        f"{cluster.file}: waiting for the scheduler and its workers",
        f"{cluster.file}: the connection to the scheduler is lost; nothing that was finished is lost: "
        "the same command goes on when it is there again",
    ]
    _, done, failed = counts(folder)
    assert 3 <= done < UNITS
    assert failed == 0
    assert run(folder).finished == UNITS - done
    assert exported(folder) == exported(whole)


def test_ctrl_c_leaves_the_cluster_alone(cluster: Cluster, words: list[str | Path], tmp_path: Path) -> None:
    worker = cluster.add_worker()
    with driver(*words, gated=True) as started:
        wait_for(waiting(tmp_path / "out", 1))
        started.send_signal(signal.SIGINT)
        _, err = started.communicate()
        assert started.returncode == 130
    assert err.splitlines()[-2:] == [
        f"{tmp_path / 'out'}: what is finished is kept: the same command goes on with the rest",
        "wn: interrupted",
    ]
    assert len(err.splitlines()) == 4  # and the first line of progress, and that it waits for the cluster
    assert worker.poll() is None
    assert cluster.scheduler.poll() is None
    assert failures(tmp_path / "out") == {}


# ---- no cluster -------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "PATIENCE", 0.1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("flag", "value", "why"),
    [
        ("--scheduler", "tcp://127.0.0.1:1", "tcp://127.0.0.1:1: the scheduler can't be reached: "),
        ("--scheduler", "here", "here: the scheduler can't be reached: "),
        ("--scheduler", "nonsense://x:1", "nonsense://x:1: the scheduler can't be reached: "),
        ("--scheduler-file", "none.json", "none.json: the scheduler's file can't be read: No such"),
    ],
)
def test_no_scheduler_is_one_line(tmp_path: Path, flag: str, value: str, why: str) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    outcome = run_command("study", "run", tmp_path / "tiny.toml", "--out", tmp_path / "out", flag, value)
    assert outcome.code == 2
    last = outcome.err.splitlines()[-1]
    assert last.startswith(f"wn: {why}")
    assert counts(tmp_path / "out") == (UNITS, 0, 0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("content", ["", "{}", "[]", '{"address": 3}'])
def test_a_file_that_is_not_of_a_scheduler(tmp_path: Path, content: str) -> None:
    (tmp_path / "scheduler.json").write_text(content)
    with pytest.raises(WnError, match="can't be read: it is not what a scheduler writes"):
        executors.cluster(scheduler_file=tmp_path / "scheduler.json")


def test_flags_that_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    words = ("study", "run", tmp_path / "tiny.toml", "--out", tmp_path / "out", "--workers", "2")
    outcome = run_command(*words, "--scheduler", "tcp://127.0.0.1:1")
    assert outcome.code == 2
    assert "--workers, --scheduler and --scheduler-file exclude each other" in one_line(outcome)
    assert not (tmp_path / "out").exists()


def test_without_dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(WnError, match=r"needs the package distributed: pip install 'walking-noise\[clu"):
        executors.cluster("tcp://127.0.0.1:1")
