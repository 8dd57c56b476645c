"""The check of the default walk, on small tables."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks.default_walk import main
from tests.cli.command_line import ROOT

HEADER = "phase,site,site_name,midpoint,reached\n"
GOOD = (
    "inference,0,input,0.5,true",
    "inference,1,fc1,20.0,true",
    "training,0,input,0.6,true",
    "training,1,fc1,3000.0,true",
)


def written(folder: Path, *rows: str) -> str:
    (folder / "midpoints.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return str(folder)


def test_a_good_table_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([written(tmp_path, *GOOD)]) == 0
    assert "at every site" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "bad", "line"),
    [
        (
            2,
            "training,0,input,0.4,true",
            "site 0 input: midpoint of training, 0.4, is not above that of inference, 0.5",
        ),
        (
            2,
            "training,0,input,0.5,true",
            "site 0 input: midpoint of training, 0.5, is not above that of inference, 0.5",
        ),
        (3, "training,1,fc1,,false", "site 1 fc1: midpoint of training is not reached"),
        (0, "inference,0,input,,false", "site 0 input: midpoint of inference is not reached"),
        (3, "", "site 1 fc1: has the phases inference, not inference and training"),
        (3, "training,1,fc1,nan,true", "site 1 fc1: midpoint of training, nan, is not above"),
    ],
)
def test_one_bad_site_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: int, bad: str, line: str
) -> None:
    rows = [*GOOD[:row], *([bad] if bad else []), *GOOD[row + 1 :]]
    assert main([written(tmp_path, *rows)]) == 1
    told = capsys.readouterr().out
    assert f"midpoints.csv: {line}" in told
    assert told.count("\n") == 1


def test_no_rows_and_no_file_do_not_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([written(tmp_path)]) == 1
    assert main([str(tmp_path / "none")]) == 1
    assert main([]) == 2
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/midpoints.csv: no sites",
        f"{tmp_path}/none/midpoints.csv: No such file or directory",
        "usage: python -m tests.checks.default_walk FOLDER",
    ]


def test_it_runs_as_a_command(tmp_path: Path) -> None:
    for rows, code in ((GOOD, 0), (GOOD[:3], 1)):
        line = [sys.executable, "-m", "tests.checks.default_walk", written(tmp_path, *rows)]
        assert subprocess.run(line, cwd=ROOT, capture_output=True, check=False).returncode == code
