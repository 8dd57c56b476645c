"""`wn study` as a user has it: what is printed, where, and with which exit code."""

import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from tests.cli.command_line import Outcome, one_line
from tests.cli.command_line import run as wn
from tests.study.runs import SIGMA, TINY, UNITS, Immediate, counts, exported
from tests.study.runs import run as run_here
from wn.basics.errors import WnError
from wn.cli import studies_console as study_console
from wn.cli.studies_console import duration
from wn.study.declare import presets
from wn.study.execution.driver import Progress
from wn.study.execution.environment import environment
from wn.study.execution.worker import Task
from wn.study.tables.results import read_table

NUMPY = ("--backend", "numpy", "--workers", "1")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def study(*words: str | Path) -> Outcome:
    return wn("study", *words)


# ---- running ----------------------------------------------------------------------------------------------


def test_from_a_file_to_tables_and_pictures(tiny: Path, tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "out"
    first = study("run", tiny, "--out", folder, *NUMPY)
    assert first.code == 0
    assert first.out == f"{folder}: {UNITS} units finished, {UNITS} of {UNITS} are there\n"
    lines = first.err.splitlines()
    assert lines[0] == f"out: 0 %, 0 of {UNITS} units"
    assert lines[-1] == f"out: 100 %, {UNITS} of {UNITS} units"
    assert exported(folder) == exported(whole)

    again = study("run", tiny, "--out", folder, *NUMPY)
    assert again.code == 0
    assert again.out == f"{folder}: 0 units finished, {UNITS} of {UNITS} are there\n"

    wrote = study("export", folder, "--tables", "all")
    names = ("results", "provenance", "settings", "signal", "weights", "groups", "binarisation", "midpoints")
    assert wrote.out.splitlines() == [f"Wrote {folder}/export/{name}.csv" for name in names]
    drawn = study("plot", folder)
    stem = f"Wrote {folder}/plots/fashion-mini-mlp-8-bn-none-additive"
    assert drawn.out.splitlines() == [f"{stem}-curves.png", f"{stem}-midpoints.png"]


def test_the_folder_is_named_after_the_study(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert study("run", tiny.name, *NUMPY).code == 0
    assert counts(tmp_path / "tiny")[1] == UNITS


def test_failures_are_said_and_can_be_tried_again(tmp_path: Path) -> None:
    path, folder = tmp_path / "failing.toml", tmp_path / "out"
    path.write_text(TINY.replace(SIGMA, "sigma = [1, 3e38]"))
    first = study("run", path, "--out", folder, *NUMPY)
    assert first.code == 1
    advice = f"`wn study status {folder} --failures` says why, `wn study retry {folder}` tries again\n"
    assert first.out == f"{folder}: 10 units finished, 10 of 18 are there, 8 failed\n{advice}"
    assert first.err.splitlines()[-1] == "out: 100 %, 10 of 18 units, 8 failed"
    again = study("run", path, "--out", folder, *NUMPY)
    assert again.code == 1
    assert again.out == f"{folder}: 0 units finished, 10 of 18 are there, 8 failed\n{advice}"
    retried = study("retry", folder, *NUMPY)
    assert retried.code == 1
    assert retried.err.splitlines()[0] == "out: 0 %, 0 of 8 units"
    status = study("status", folder)
    assert status.code == 0
    last = status.out.splitlines()[-1]
    assert last.startswith(
        "first failure, inference mlp-8 on fashion-mini, repeat 0, additive σ 3e+38 at input: "
    )
    assert "OutOfRange: logits are out of the range of float32" in last
    shown = study("status", folder, "--failures").out
    assert shown.count("additive σ 3e+38 at ") == 8
    assert "Traceback (most recent call last):" in shown
    assert len(re.findall(r"^[0-9a-f]{64}: ", shown, re.MULTILINE)) == 8


def test_units_that_failed_of_the_same_are_shown_together(tmp_path: Path) -> None:
    def refuse(task: Task) -> None:
        if task.units[0].phase == "inference":
            raise MemoryError("no memory")

    run_here(tmp_path, executor=Immediate(refuse))
    shown = study("status", tmp_path, "--failures").out
    assert shown.count("MemoryError: no memory") == 1
    assert shown.count("inference mlp-8 on fashion-mini, repeat ") == UNITS / 2 - 1
    assert shown.count("Traceback") == 1


def test_a_status_counts_units(tiny: Path, tmp_path: Path) -> None:
    run_here(tmp_path / "out")
    lines = study("status", tmp_path / "out").out.splitlines()
    cells = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in lines if "│" in line]
    assert [row[:6] for row in cells] == [
        ["clean", "fashion-mini mlp-8", "none", "0", "2", "0"],
        ["inference", "fashion-mini mlp-8", "additive", "0", "12", "0"],
        ["training", "fashion-mini mlp-8", "additive", "0", "12", "0"],
        ["all", "", "", "0", "26", "0"],
    ]


def test_every_row_knows_where_it_comes_from(whole: Path) -> None:
    """Seed, versions, backend, machine and commit, from Python as well as in tables."""
    table = read_table(whole, ["seed", "versions", "backend", "machine", "commit", "seconds", "finished"])
    here = environment("numpy")
    assert len(table) == UNITS
    assert set(table["seed"].tolist()) == {0}
    for name in ("versions", "backend", "machine", "commit"):
        assert set(table[name].tolist()) == {getattr(here, name)}
    assert (table["seconds"] > 0).all()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text) for text in table["finished"])


def test_midpoints_are_a_table_per_network_and_noise(tmp_path: Path) -> None:
    text = TINY.replace(SIGMA, 'sigma = "0.1:1000:9"').replace("train_limit = 300", "train_limit = 2000")
    run_here(tmp_path, text + '\n[[noise]]\nkind = "mixed"\nsigma = [1]\nratio = 0.5\nwhere = "global"\n')
    shown = study("fit", tmp_path)
    assert shown.code == 0
    lines = [line.strip() for line in shown.out.splitlines()]
    assert max(map(len, shown.out.splitlines())) <= 80
    title = "Midpoint σ [95 % interval]: fashion-mini, mlp-8, without batch norm, additive noise"
    assert title in " ".join(lines)
    title = "Accuracy at σ = 1: fashion-mini, mlp-8, without batch norm, mixed noise, inference and training"
    assert title in " ".join(lines)
    rows = [line for line in lines if "input" in line]
    assert len(rows) == 2  # of midpoints and of crossings
    assert all(re.fullmatch(r"│ +0 │ input │ +[\d.]+ \[[\d.]+, [\d.]+\] │ .*│", row) for row in rows)
    rows = [line for line in lines if "ratio 0.5" in line]
    assert [re.split(r"[ ,│]+", row)[3] for row in rows] == ["inference", "training"]
    assert "not reached" not in "".join(rows)


def test_a_study_without_noise_has_no_midpoints(tmp_path: Path) -> None:
    run_here(tmp_path, TINY[: TINY.index("[[noise]]")] + '[[noise]]\nkind = "none"\n')
    assert study("fit", tmp_path).out == f"{tmp_path}: nothing with noise is in this study\n"
    assert study("plot", tmp_path).code == 0


def test_parquet_reads_as_csv(tmp_path: Path, whole: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs walking-noise[parquet]")
    outcome = study("export", whole, "--format", "parquet", "--tables", "results", "--out", tmp_path)
    assert outcome.out == f"Wrote {tmp_path}/results.parquet\n"
    columns = parquet.read_table(tmp_path / "results.parquet").to_pydict()
    assert columns["correct"] == read_table(whole)["correct"].tolist()


def test_presets_are_listed_with_what_they_are() -> None:
    listed = study("presets")
    assert [line.split(": ")[0] for line in listed.out.splitlines()] == list(presets.names())
    assert "walking-quick: three noise kinds walking through a small MLP on fashion-mini\n" in listed.out


# ---- mistakes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "export", "fit", "plot", "retry"])
def test_a_folder_without_a_study(tmp_path: Path, command: str) -> None:
    """One line, exit code 2, and no folder is made."""
    for folder in (tmp_path, tmp_path / "none"):
        outcome = study(command, folder)
        assert outcome.code == 2
        assert "no study is here: study.sqlite is missing; wn study run makes it" in one_line(outcome)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("run", "none.toml"), "none.toml: can't be read: No such file"),
        (("run", "nonsense"), "no preset is called 'nonsense'"),
        (("run", "walking-quick", "--workers", "0"), "--workers is 0: it must be at least 1"),
        (("run", "walking-quick", "--workers", "x"), "Invalid value for '--workers'"),
        (("run", "walking-quick", "--backend", "abacus"), "unknown backend 'abacus'"),
        (("run",), "Missing argument"),
        (("run", "walking-quick", "--no"), "No such option"),
        (("export", "x", "--format", "xls"), "unknown format 'xls': allowed are csv, parquet"),
        (("export", "x", "--tables", "all,of"), "unknown table 'all': allowed are results, "),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = study(*words)
    assert outcome.code == 2
    assert why in one_line(outcome)
    assert list(tmp_path.iterdir()) == []


def test_a_study_file_with_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(TINY.replace(SIGMA, "sigma = [0.1, -1]"))
    for command in ("run", "plan"):
        outcome = study(command, path)
        assert outcome.code == 2
        assert f"{path}: noise[0].sigma: σ grid" in one_line(outcome)
        assert "-1" in outcome.err
    assert [file.name for file in tmp_path.iterdir()] == ["wrong.toml"]


def test_a_folder_that_is_a_file(tiny: Path) -> None:
    outcome = study("run", tiny, "--out", tiny, *NUMPY)
    assert outcome.code == 2
    assert f"{tiny}: can't be a study's folder: File exists" in one_line(outcome)


def test_data_that_are_not_there(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wn.data import catalogue
    from wn.data.locate import DataError

    def missing(name: str, data_dir: Any) -> Any:
        raise DataError(f"{name}: not in {data_dir}")

    monkeypatch.setattr(catalogue, "load", missing)
    outcome = study("run", tiny, "--data-dir", tmp_path / "data", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert f"fashion-mini: not in {tmp_path}/data" in one_line(outcome)
    assert not (tmp_path / "out").exists()


def test_help_says_how_to_go_on() -> None:
    assert os.environ["COLUMNS"] == "80"
    shown = study("run", "--help").out
    assert "the same command again resumes it" in shown
    assert "--scheduler-file" in shown
    for command in ("plan", "run", "retry", "status", "export", "fit", "plot", "presets", "import-seml"):
        assert command in study("--help").out


# ---- progress ---------------------------------------------------------------------------------------------


def test_lines_come_at_the_beginning_now_and_then_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now, console = [0.0], Console(width=80, record=True, file=io.StringIO())
    monkeypatch.setattr(study_console.time, "monotonic", lambda: now[0])
    with study_console.progress(console, "tiny") as report:
        for seconds, *progress in [
            (0, 0, 0, 10, 0.0),
            (10, 1, 0, 10, 0.1),
            (31, 2, 0, 10, 0.25),
            (40, 2, 1, 10, 0.3),
            (1200, 5, 1, 10, 0.5),
            (1201, 9, 1, 10, 1.0),
        ]:
            now[0] = float(seconds)
            report(Progress(*progress))  # type: ignore[arg-type]  # numbers in the order of the fields
    assert console.export_text().splitlines() == [
        "tiny: 0 %, 0 of 10 units",
        "tiny: 25 %, 2 of 10 units, about 93 s left",
        "tiny: 50 %, 5 of 10 units, 1 failed, about 20 min left",
        "tiny: 100 %, 9 of 10 units, 1 failed",
    ]


def test_a_bar_at_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "screen"
    with path.open("w") as screen:
        console = Console(width=80, force_terminal=True, file=screen)
        with study_console.progress(console, "tiny") as report:
            report(Progress(0, 0, 10, 0.0))
            report(Progress(5, 1, 10, 0.5))
            report(Progress(9, 1, 10, 1.0))
    shown = Text.from_ansi(path.read_text().replace("\r", "\n")).plain
    assert "100%" in shown
    assert "9 of 10 units, 1 failed" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (5900, "98 min"),
        (6000, "1.7 h"),
        (170_000, "47.2 h"),
        (180_000, "2.1 days"),
    ],
)
def test_durations_are_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_is_logged_meanwhile_is_printed(tmp_path: Path) -> None:
    """A damaged clean network, say."""
    run_here(tmp_path / "out", TINY.replace(SIGMA, "sigma = 1"))
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    for network in (tmp_path / "out" / "networks").iterdir():
        network.write_bytes(b"")
    outcome = study("run", path, "--out", tmp_path / "out", *NUMPY)
    assert outcome.code == 0
    told = [line for line in outcome.err.splitlines() if line.startswith("wn: ")]
    assert len(told) == 2
    assert all(line.startswith("wn: a clean network can't be used, and is trained again: ") for line in told)


def test_errors_of_reading_are_one_line(whole: Path) -> None:
    with pytest.raises(WnError, match="unknown column 'colour'"):
        read_table(whole, ["colour"])
