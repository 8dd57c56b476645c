"""Studies whose processes are killed, interrupted, or run out of disk: really, as processes of their own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.check_study_kills import Study, check, moments
from tests.command_line import ROOT, process
from tests.study.processes import output
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

# Long enough for a kill to come in its midst: 68 units in 16 tasks
LONGER = TINY.replace("repeats = 2", "repeats = 4").replace("epochs = 2", "epochs = 30")
LONGER_UNITS = 2 * UNITS
NUMPY = ("--backend", "numpy", "--workers", "2")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "longer.toml"
    path.write_text(LONGER)
    return path


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of the longer study, run in one go in this process."""
    folder = tmp_path_factory.mktemp("longer") / "whole"
    run(folder, LONGER)
    return exported(folder)


# ---- kill -9 ----------------------------------------------------------------------------------------------


def test_a_driver_killed_five_times(study: Path, tmp_path: Path) -> None:
    """Nothing is lost, no worker outlives its driver, the tables are the same byte for byte."""
    told = list(check(Study(str(study), 2, "numpy"), tmp_path, kills=5, seed=4))
    assert [line for line in told if line.startswith("wrong")] == []
    assert sum(line.startswith("killed ") for line in told) == 5
    assert told[-1] == "the same byte for byte: results, settings, signal, weights, midpoints"


def test_moments_are_random_and_within_the_study() -> None:
    found = moments(5, 1000, 20.0, seed=3)
    assert found == moments(5, 1000, 20.0, seed=3) != moments(5, 1000, 20.0, seed=4)
    assert [moment.units for moment in found] == sorted(moment.units for moment in found)
    assert found[0].units == 0
    assert found[-1].units < 900
    assert len({moment.seconds for moment in found}) == 5
    assert max(moment.seconds for moment in found) < 2


def test_a_killed_worker_costs_nothing(study: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """Twice, in the middle of their tasks."""
    folder = tmp_path / "out"
    with driver("run", study, "--out", folder, *NUMPY) as started:
        for at_least in (1, LONGER_UNITS // 3):
            wait_for(finished(folder, at_least))
            before = workers_of(started.pid)
            os.kill(before[0], signal.SIGKILL)
            wait_for(lambda before=before: set(workers_of(started.pid)).isdisjoint(before))  # type: ignore[misc]
        out, err = started.communicate()
        assert started.returncode == 0
    assert f"{LONGER_UNITS} units finished, {LONGER_UNITS} of {LONGER_UNITS} are there" in out
    assert "Traceback" not in err
    assert exported(folder) == expected


DEADLY = """
from tests.study import runs, test_kills
from wn.study import driver, executors, parse_study
from wn.study.run import run_study
driver.run_task = test_kills.deadly
if __name__ == "__main__":
    workers = lambda: executors.processes(2)
    say(run_study(parse_study(runs.TINY), folder, workers, backend="numpy"))
"""


def deadly(task):  # type: ignore[no-untyped-def]  # run by worker processes
    """Kill the worker that gets one certain unit, as running out of memory does."""
    from wn.study.work import run_task

    if any((unit.phase, unit.sigma, unit.site_name) == ("training", 10, "relu2") for unit in task.units):
        os.kill(os.getpid(), signal.SIGKILL)
    return run_task(task)


def test_a_unit_that_always_kills_its_worker_fails_alone(whole: Path, tmp_path: Path) -> None:
    said = output(DEADLY, tmp_path)
    assert said == [f"Progress(finished={UNITS - 2}, failed=2, total={UNITS}, share=1.0)"]
    assert failures(tmp_path) == {
        "the worker process died (in each of 3 attempts)": [("training", 10, "relu2")] * 2
    }
    with_all = exported(whole)["results.csv"].splitlines()
    without = exported(tmp_path)["results.csv"].splitlines()
    assert set(without) < set(with_all)
    assert len(with_all) - len(without) == 2


def test_workers_end_with_their_driver(study: Path, tmp_path: Path) -> None:
    with driver("run", study, "--out", tmp_path / "out", *NUMPY) as started:
        wait_for(lambda: len(workers_of(started.pid)) == 2)
        wait_for(finished(tmp_path / "out", 1))
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
        wait_for(lambda: not session(started.pid))
    assert 0 < counts(tmp_path / "out")[1] < LONGER_UNITS


# ---- Ctrl-C -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("everywhere", [False, True])
def test_ctrl_c(study: Path, tmp_path: Path, expected: dict[str, bytes], everywhere: bool) -> None:
    """At a terminal all processes get it; the driver alone handles it."""
    folder = tmp_path / "out"
    with driver("run", study, "--out", folder, *NUMPY) as started:
        wait_for(finished(folder, 5))
        send = os.killpg if everywhere else os.kill
        send(started.pid, signal.SIGINT)
        out, err = started.communicate(timeout=20)
        assert started.returncode == 130
        assert session(started.pid) == []
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-2:] == [
        f"{folder}: what is finished is kept: the same command goes on with the rest",
        "wn: interrupted",
    ]
    _, done, failed = counts(folder)
    assert 5 <= done < LONGER_UNITS
    assert failed == 0
    with driver("run", study, "--out", folder, *NUMPY) as started:
        out, _ = started.communicate()
        assert f"{LONGER_UNITS - done} units finished, {LONGER_UNITS} of" in out
    assert exported(folder) == expected


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.6, 0.9, 1.2])
def test_ctrl_c_while_it_starts(study: Path, tmp_path: Path, delay: float) -> None:
    """Workers that are being started say nothing, and are not left behind."""
    folder = tmp_path / "out"
    with driver("run", study, "--out", folder, *NUMPY) as started:
        wait_for(lambda: (folder / "study.sqlite").exists())
        time.sleep(delay)
        os.killpg(started.pid, signal.SIGINT)
        _, err = started.communicate(timeout=20)
        assert started.returncode == 130
        assert session(started.pid) == []
    assert "Traceback" not in err
    assert err.endswith("wn: interrupted\n")


# ---- two drivers, and a full disk -------------------------------------------------------------------------


def test_a_second_driver_is_refused(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with driver("run", study, "--out", folder, *NUMPY) as first:
        wait_for(finished(folder, 1))
        for words in (("run", str(study), "--out", str(folder)), ("retry", str(folder))):
            second = process("study", *words, *NUMPY)
            out, err = second.communicate()
            assert second.returncode == 2
            assert out == ""
            assert f"another driver runs this study: process {first.pid} on " in err.splitlines()[-1]
        status = process("study", "status", str(folder))
        out, _ = status.communicate()
        assert status.returncode == 0
        assert f"running: process {first.pid} on " in out
        first.communicate()
        assert first.returncode == 0
    assert counts(folder) == (0, LONGER_UNITS, 0)


FULL = """
from tests.study import runs
from wn.cli import main
(folder / "tiny.toml").write_text(runs.TINY)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if __name__ == "__main__":
    words = ["study", "run", str(folder / "tiny.toml"), "--out", str(folder / "out"), "--backend", "numpy"]
    main([*words, "--workers", "1"])
"""


@pytest.mark.parametrize("size", [2_000, 20_000, 100_000, 150_000])
def test_a_full_disk(whole: Path, tmp_path: Path, size: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Files end at so many bytes: when the study is made, when a network is written, and in between."""
    said = output(FULL, tmp_path, size, code=2)
    err = capfd.readouterr().err
    assert said == []
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("wn: ")
    assert str(tmp_path / "out") in err.splitlines()[-1]
    left = [path.name for path in (tmp_path / "out").rglob(".*")]
    assert left == []
    _, done, failed = counts(tmp_path / "out")
    assert failed == 0
    assert done < UNITS
    run(tmp_path / "out")  # there is room again
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
