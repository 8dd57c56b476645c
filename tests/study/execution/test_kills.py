"""Studies whose processes are killed, interrupted, or run out of disk: really, as processes of their own."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks.study_kills import LATER, SHARE, Study, check, moments
from tests.cli.command_line import ROOT, one_line
from tests.cli.command_line import run as command
from tests.study.execution.gate import gate_of, open_gate, waiting
from tests.study.execution.processes import output
from tests.study.runs import (
    SIGMA,
    TINY,
    UNITS,
    counts,
    driver,
    exported,
    failures,
    finished,
    run,
    session,
    wait_for,
    workers_of,
)
from wn.study.execution.driver import Progress

# Long enough for kills at random moments: some seconds
LONGER = TINY.replace("repeats = 2", "repeats = 3").replace("epochs = 2", "epochs = 12")
NUMPY = ("--backend", "numpy", "--workers", "2")


@pytest.fixture
def words(tmp_path: Path) -> list[str | Path]:
    """The command that runs the tiny study on two workers, in the folder out."""
    (tmp_path / "tiny.toml").write_text(TINY)
    return ["run", tmp_path / "tiny.toml", "--out", tmp_path / "out", *NUMPY]


# ---- kill -9 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [LONGER, LONGER.replace("where", 'phases = "matrix"\nwhere')])
def test_a_driver_killed_at_random_moments(tmp_path: Path, text: str) -> None:
    """Nothing is lost, no worker outlives its driver, the tables are the same byte for byte."""
    (tmp_path / "longer.toml").write_text(text)
    told = list(check(Study(str(tmp_path / "longer.toml"), 2, "numpy"), tmp_path, kills=2, seed=4))
    assert [line for line in told if line.startswith("wrong")] == []
    assert sum(line.startswith("killed ") for line in told) == 2
    assert told[-1] == "the same byte for byte: results, settings, signal, weights, midpoints"


def test_moments_are_random_and_within_the_study() -> None:
    found = moments(5, 1000, 20.0, seed=3)
    assert found == moments(5, 1000, 20.0, seed=3) != moments(5, 1000, 20.0, seed=4)
    assert [moment.units for moment in found] == sorted(moment.units for moment in found)
    assert 0 <= found[0].units < found[-1].units < SHARE * 1000
    assert len({moment.seconds for moment in found}) == 5
    assert max(moment.seconds for moment in found) < LATER * 20


def test_killed_workers_cost_nothing(words: list[str | Path], whole: Path, tmp_path: Path) -> None:
    """One is killed in the middle of its task, and then one of those that came instead."""
    folder = tmp_path / "out"
    with driver(*words, gated=True) as started:
        for number in (2, 4):
            wait_for(waiting(folder, number))
            before = workers_of(started.pid)
            os.kill(before[0], signal.SIGKILL)
            wait_for(lambda before=before: set(workers_of(started.pid)).isdisjoint(before))  # type: ignore[misc]
        open_gate(folder)
        out, err = started.communicate()
        assert started.returncode == 0
    assert f"{UNITS} units finished, {UNITS} of {UNITS} are there" in out
    assert "Traceback" not in err
    assert exported(folder) == exported(whole)


SCRIPT = """
from tests.study.execution import gate
from wn.study import read_study
from wn.study.execution import driver, executors
from wn.study.execution.run import run_study
driver.run_task = getattr(gate, sys.argv[2])
if __name__ == "__main__":
    workers = lambda backend: executors.processes(1)
    say(run_study(read_study(folder / "shorter.toml"), folder / "out", workers, backend="numpy"))
"""
SHORTER = (
    TINY.replace("repeats = 2", "repeats = 1").replace(SIGMA, "sigma = [1, 10]").replace('"input", ', "")
)
SHORTER_UNITS = 1 + 2 * 2


def test_a_unit_that_always_kills_its_worker_fails_alone(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "shorter.toml").write_text(SHORTER)
    said = output(SCRIPT, tmp_path, "deadly")
    done = Progress(SHORTER_UNITS - 1, 1, SHORTER_UNITS, 1.0)
    assert said == [str(done)]
    assert failures(tmp_path / "out") == {
        "the worker process died (in each of 3 attempts)": [("training", 10, "relu2")]
    }
    found = exported(tmp_path / "out")["results.csv"].splitlines()
    assert len(found) == 1 + done.finished
    assert set(found) < set(exported(whole)["results.csv"].splitlines())


@pytest.mark.parametrize("who", ["worker", "driver"])
def test_killed_in_the_middle_of_trainings(tmp_path: Path, who: str) -> None:
    """They go on from their checkpoints, and end in the same bits."""
    (tmp_path / "shorter.toml").write_text(SHORTER)
    folder, words = tmp_path / "out", (SCRIPT, tmp_path, f"{who}_killed")
    if who == "driver":
        assert output(*words, code=-signal.SIGKILL) == []
        assert output(*words, code=-signal.SIGKILL) == []
    assert output(*words)[0].startswith("Progress(")
    assert (tmp_path / "out-gate" / "resumed").read_text() == "3\n" * 2  # the clean network, and both σ
    assert counts(folder) == (0, SHORTER_UNITS, 0)
    assert list((folder / "checkpoints").iterdir()) == []
    run(tmp_path / "whole", SHORTER)
    assert exported(folder) == exported(tmp_path / "whole")


def test_workers_end_with_their_driver(words: list[str | Path], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with driver(*words, gated=True) as started:
        wait_for(waiting(folder, 2))
        wait_for(finished(folder, 1))
        assert len(workers_of(started.pid)) == 2
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
        wait_for(lambda: not session(started.pid))
    assert 0 < counts(folder)[1] < UNITS


# ---- Ctrl-C -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("everywhere", [False, True])
def test_ctrl_c(words: list[str | Path], tmp_path: Path, whole: Path, everywhere: bool) -> None:
    """At a terminal all processes get it; the driver alone handles it."""
    folder = tmp_path / "out"
    with driver(*words, gated=True) as started:
        wait_for(waiting(folder, 2))
        wait_for(finished(folder, 5))
        send = os.killpg if everywhere else os.kill
        send(started.pid, signal.SIGINT)
        out, err = started.communicate()
        assert started.returncode == 130
        wait_for(lambda: not session(started.pid))
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-2:] == [
        f"{folder}: what is finished is kept: the same command goes on with the rest",
        "wn: interrupted",
    ]
    _, done, failed = counts(folder)
    assert 5 <= done < UNITS
    assert failed == 0
    assert run(folder) == Progress(UNITS - done, 0, UNITS - done, 1.0)
    assert exported(folder) == exported(whole)


@pytest.mark.parametrize("moment", ["the store", "a process", "a task"])
def test_ctrl_c_while_it_starts(words: list[str | Path], tmp_path: Path, moment: str) -> None:
    """Workers that are being started say nothing, and are not left behind."""
    folder = tmp_path / "out"
    with driver(*words, gated=True) as started:
        begun = {
            "the store": lambda: (folder / "study.sqlite").exists(),
            "a process": lambda: workers_of(started.pid),
            "a task": gate_of(folder).exists,
        }
        wait_for(begun[moment])
        os.killpg(started.pid, signal.SIGINT)
        _, err = started.communicate()
        assert started.returncode == 130
        wait_for(lambda: not session(started.pid))
    assert "Traceback" not in err
    assert err.endswith("wn: interrupted\n")


# ---- two drivers, and a full disk -------------------------------------------------------------------------


def test_a_second_driver_is_refused(
    words: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wn.study.store.lock.PATIENCE", 0.1)
    folder = tmp_path / "out"
    with driver(*words, gated=True) as first:
        wait_for(waiting(folder, 2))
        for second in (words, ("retry", folder, *NUMPY)):
            refused = command("study", *second)
            assert refused.code == 2
            assert f"another driver runs this study: process {first.pid} on " in one_line(refused)
        status = command("study", "status", folder)
        assert status.code == 0
        assert f"running: process {first.pid} on " in status.out
        open_gate(folder)
        first.communicate()
        assert first.returncode == 0
    assert counts(folder) == (0, UNITS, 0)


FULL = """
from wn.cli.main import main
size = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if __name__ == "__main__":
    words = ["study", "run", str(folder / "tiny.toml"), "--out", str(folder / "out"), "--backend", "numpy"]
    main([*words, "--workers", "1"])
"""


@pytest.mark.parametrize(
    ("model", "size", "what"),
    [
        ("mlp-8", 95_000, "study.sqlite"),  # on the way
        ("mlp-64", 160_000, "networks/"),  # when the first network is written
    ],
)
def test_a_full_disk(
    whole: Path, tmp_path: Path, model: str, size: int, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Files end at a limit in bytes; when there is room again, the same command goes on."""
    text = TINY.replace("mlp-8", model)
    (tmp_path / "tiny.toml").write_text(text)
    said = output(FULL, tmp_path, size, code=2)
    err = capfd.readouterr().err
    assert said == []
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith(f"wn: {tmp_path / 'out' / what}")
    assert list((tmp_path / "out").rglob(".*")) == []
    _, done, failed = counts(tmp_path / "out")
    assert failed == 0
    assert done < UNITS
    assert run(tmp_path / "out", text).finished == UNITS - done
    if text == TINY:
        assert exported(tmp_path / "out") == exported(whole)


def test_a_failure_of_a_unit_is_no_failure_of_the_study(tmp_path: Path) -> None:
    """σ beyond float32: exit code 1, and the summary says what to do."""
    path, folder = tmp_path / "failing.toml", tmp_path / "out"
    path.write_text(TINY.replace(SIGMA, "sigma = [1, 3e38]"))
    with driver("run", path, "--out", folder, *NUMPY) as started:
        out, _ = started.communicate()
        assert started.returncode == 1
    assert out.splitlines() == [
        f"{folder}: 10 units finished, 10 of 18 are there, 8 failed",
        f"`wn study status {folder} --failures` says why, `wn study retry {folder}` tries again",
    ]


# ---- from Python ------------------------------------------------------------------------------------------


def example(number: int) -> str:
    """A Python example of docs/studies.md."""
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[number]


def script(folder: Path, text: str) -> "subprocess.CompletedProcess[str]":
    """Run a script as users do."""
    (folder / "tiny.toml").write_text(TINY)
    (folder / "script.py").write_text(text.replace("walking-quick", "tiny.toml"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "script.py"]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_study_is_run_and_read_from_python(tmp_path: Path, whole: Path) -> None:
    ran = script(tmp_path, example(1).replace("processes(2))", 'processes(2), backend="numpy")'))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"Progress(finished={UNITS}, failed=0, total={UNITS}, share=1.0)\n"
    assert counts(tmp_path / "quick") == (0, UNITS, 0)
    shutil.rmtree(tmp_path / "quick")
    shutil.copytree(whole, tmp_path / "quick")
    read = script(tmp_path, example(0))
    assert read.returncode == 0, read.stderr
    rows = [line.split() for line in read.stdout.splitlines()]
    assert [row[:2] for row in rows] == [
        [name, s] for name in ("input", "relu2") for s in ("0.1", "1.0", "10.0")
    ]
    assert all(0 <= float(row[2]) <= 1 for row in rows)


def test_a_script_that_worker_processes_can_not_import(tmp_path: Path) -> None:
    """Without its guard it would run the study in each of them."""
    code = example(1).replace('if __name__ == "__main__":', "if True:")
    ran = script(tmp_path, code)
    assert ran.returncode == 1
    assert 'A Python script that runs studies also needs an `if __name__ == "__main__":`' in ran.stderr
    assert counts(tmp_path / "quick") == (UNITS, 0, 0)
