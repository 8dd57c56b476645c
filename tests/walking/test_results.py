"""The files of a walk: whole or not at all, and the cells of the tables."""

import csv
import errno
import io
import json
import math
import os
import signal
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.files.whole import whole_file
from wn.walking import results
from wn.walking.pictures import plots
from wn.walking.report import walks
from wn.walking.results import CURVE_COLUMNS, MIDPOINT_COLUMNS, WalkResult

RUN_HEADER = "dataset,model,batch_norm,noise,seed,backend,phase,site,site_name"
CURVE_HEADER = f"{RUN_HEADER},sigma,repeat,correct,total,accuracy"
MIDPOINT_HEADER = f"{RUN_HEADER},midpoint,ci_low,ci_high,slope,reached,clean_accuracy,"
MIDPOINT_HEADER += "measured_crossing,crossing_low,crossing_high"
TABLES = ["curves.csv", "midpoints.csv", "run.json", "signal.csv", "weights.csv"]
FILES = sorted([*TABLES, "curves.png", "midpoints.png", "report.html"])


def result(correct: int = 50) -> WalkResult:
    """A result with two σ at one site, and a second site that is not reached."""
    run = ("small", "mlp", "none", "additive", 2**64 - 1, "numba", "inference")
    curves = [
        (*run, site, name, sigma, 0, correct, 100, correct / 100)
        for site, name in ((0, "input"), (1, "fc1"))
        for sigma in (0.1, 1 / 3)
    ]
    midpoints = [
        (*run, 0, "input", 0.1 + 0.2, 0.25, math.inf, 2.0, True, 0.95, 0.3, 0.25, math.inf),
        (*run, 1, "fc1", math.nan, math.nan, math.nan, math.nan, False, 0.95, *[math.nan] * 3),
    ]
    return WalkResult(
        np.array(curves, CURVE_COLUMNS),
        np.array(midpoints, MIDPOINT_COLUMNS),
        ("", "never falls half-way"),
        {"command": "walk", "asked": {"sigma": "0.1:1:2"}, "settings": {"epochs": 3}, "seed": 2**63},
    )


def rows(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


# ---- whole files ----------------------------------------------------------------------------------------


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with whole_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_error_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "table.csv"

    def write() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert os.listdir(tmp_path) == []
    path.write_text("old")
    with pytest.raises(error):
        write()
    assert os.listdir(tmp_path) == ["table.csv"]
    assert path.read_text() == "old"


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    """Who has the old one open keeps it; nobody sees a part of the new one."""
    path = tmp_path / "table.csv"
    path.write_text("old")
    with path.open() as before, whole_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        old = before.fileno()
        inode = os.fstat(old).st_ino
    assert path.read_text() == "new"
    assert path.stat().st_ino != inode


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with whole_file(tmp_path / "table.csv") as temporary:
            temporary.write_text("x")
        (tmp_path / "other").touch()
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("table.csv", "other")}
    assert modes == {0o666 & ~mask}


def test_a_folder_in_the_way_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "table.csv").mkdir()

    def write() -> None:
        with whole_file(tmp_path / "table.csv") as temporary:
            temporary.write_text("x")

    with pytest.raises(OSError, match=r"table\.csv"):
        write()
    assert os.listdir(tmp_path) == ["table.csv"]


# ---- tables ---------------------------------------------------------------------------------------------


@given(st.floats(allow_nan=False))
def test_floats_are_written_so_that_they_come_back(value: float) -> None:
    assert float(results._cell(value)) == value
    assert repr(float(results._cell(value))) == repr(value)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (math.nan, ""),
        (True, "true"),
        (False, "false"),
        (0.1, "0.1"),
        (-1, -1),
        ("fc1", "fc1"),
        (math.inf, "inf"),
    ],
)
def test_cells(value: Any, cell: Any) -> None:
    assert results._cell(value) == cell


def test_columns_are_those_of_the_documentation() -> None:
    assert ",".join(CURVE_COLUMNS.names or ()) == CURVE_HEADER
    assert ",".join(MIDPOINT_COLUMNS.names or ()) == MIDPOINT_HEADER
    assert CURVE_COLUMNS["sigma"] == CURVE_COLUMNS["accuracy"] == np.float64
    assert CURVE_COLUMNS["correct"] == CURVE_COLUMNS["total"] == CURVE_COLUMNS["site"] == np.int64
    assert MIDPOINT_COLUMNS["reached"] == np.bool_


# ---- saving ---------------------------------------------------------------------------------------------


def test_save_writes_all_files(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    paths = result().save(folder)
    assert sorted(path.name for path in paths) == FILES == sorted(os.listdir(folder))
    curves, midpoints = rows(folder / "curves.csv"), rows(folder / "midpoints.csv")
    assert ",".join(curves[0]) == CURVE_HEADER
    assert ",".join(midpoints[0]) == MIDPOINT_HEADER
    assert (
        ",".join(curves[1])
        == "small,mlp,none,additive,18446744073709551615,numba,inference,0,input,0.1,0,50,100,0.5"
    )
    assert [row[9] for row in curves[1:]] == ["0.1", repr(1 / 3)] * 2
    assert midpoints[1][9:] == [
        "0.30000000000000004",
        "0.25",
        "inf",
        "2.0",
        "true",
        "0.95",
        "0.3",
        "0.25",
        "inf",
    ]
    assert midpoints[2][9:] == ["", "", "", "", "false", "0.95", "", "", ""]
    assert (folder / "curves.csv").read_bytes().endswith(b"\n")
    assert b"\r" not in (folder / "curves.csv").read_bytes()
    record = json.loads((folder / "run.json").read_text())
    assert record == result().run
    for name in ("curves.png", "midpoints.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plot_curves", "plot_midpoints"):
        monkeypatch.setattr(plots, name, lambda _result, path: path.write_bytes(b"picture"))
    monkeypatch.setattr(walks, "write_report", lambda _tables, _run, path: path.write_bytes(b"page"))


@pytest.fixture
def _interrupted(_no_pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the last picture is drawn."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "plot_midpoints", interrupt)


@pytest.mark.usefixtures("_interrupted")
@pytest.mark.parametrize("before", [[], FILES])
def test_interrupted_pictures_leave_the_new_tables_alone(tmp_path: Path, before: list[str]) -> None:
    """And no picture of an earlier run beside them."""
    for name in before:
        (tmp_path / name).write_text("old")
    with pytest.raises(KeyboardInterrupt):
        result().save(tmp_path, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == TABLES
    assert all((tmp_path / name).read_text() != "old" for name in TABLES)


@pytest.mark.usefixtures("_no_pictures")
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_tables_leave_the_results_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def stop(*_: Any) -> None:
        raise error

    monkeypatch.setattr(results, "_write_json", stop)
    with pytest.raises(error):
        result().save(tmp_path)
    assert os.listdir(tmp_path) == []
    for name in FILES:
        (tmp_path / name).write_text("old")
    with pytest.raises(error):
        result().save(tmp_path, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == FILES
    assert {(tmp_path / name).read_text() for name in FILES} == {"old"}


def full(*_: Any) -> None:
    """A write to a full disk: such an error names no file."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("module", "function", "name", "left"),
    [
        (results, "_write_json", "run.json", []),
        (plots, "plot_curves", "curves.png", TABLES),
        (plots, "plot_midpoints", "midpoints.png", TABLES),
        (walks, "write_report", "report.html", TABLES),
    ],
)
@pytest.mark.usefixtures("_no_pictures")
def test_a_full_disk_is_told_with_the_file_and_costs_no_table_for_a_picture(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    function: str,
    name: str,
    left: list[str],
) -> None:
    monkeypatch.setattr(module, function, full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        result().save(tmp_path)
    assert caught.value.filename == str(tmp_path / name)
    assert caught.value.errno == errno.ENOSPC
    assert sorted(os.listdir(tmp_path)) == left


def test_errors_without_a_number_and_about_other_files_keep_their_words(tmp_path: Path) -> None:
    for error, words in ((OSError("encoder error"), "encoder error"), (OSError(2, "gone", "font"), "font")):
        with pytest.raises(OSError, match=words), whole_file(tmp_path / "x.png"):
            raise error


@pytest.mark.usefixtures("_no_pictures")
def test_a_folder_in_the_way_of_one_table_keeps_all_of_them(tmp_path: Path) -> None:
    for name in ("curves.csv", "run.json", "curves.png"):
        (tmp_path / name).write_text("old")
    (tmp_path / "midpoints.csv").mkdir()
    with pytest.raises(IsADirectoryError, match=r"midpoints\.csv"):
        result().save(tmp_path, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["curves.csv", "curves.png", "midpoints.csv", "run.json"]
    assert (tmp_path / "curves.csv").read_text() == "old"


def signal_while_replacing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when the first file has taken its place."""
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        moved = replace(self, target)
        if target.name == "curves.csv":
            signal.raise_signal(signal.SIGINT)
        return moved

    monkeypatch.setattr(Path, "replace", interrupted)


@pytest.mark.usefixtures("_no_pictures")
def test_ctrl_c_waits_while_files_take_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FILES:
        (tmp_path / name).write_text("old")
    signal_while_replacing(monkeypatch)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            result().save(tmp_path, overwrite=True)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(os.listdir(tmp_path)) == TABLES
    assert all((tmp_path / name).read_text() != "old" for name in TABLES)


@pytest.mark.usefixtures("_no_pictures")
def test_other_threads_save_too(tmp_path: Path) -> None:
    """Where signals can't be held back."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(result().save, tmp_path).result()
    assert sorted(os.listdir(tmp_path)) == FILES


@pytest.mark.usefixtures("_no_pictures")
def test_saving_again_replaces(tmp_path: Path) -> None:
    result(correct=50).save(tmp_path)
    result(correct=60).save(tmp_path)
    assert sorted(os.listdir(tmp_path)) == FILES
    assert {row[11] for row in rows(tmp_path / "curves.csv")[1:]} == {"60"}


@pytest.mark.usefixtures("_no_pictures")
def test_run_json_is_the_last_of_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells whose results the folder holds."""
    order: list[str] = []
    replace = Path.replace

    def record(self: Path, target: Path) -> Path:
        order.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", record)
    result().save(tmp_path)
    assert sorted(order) == FILES
    assert order[len(TABLES) - 1] == "run.json"
