"""Terminals that can't show every character, and readers that leave early."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command_line import ROOT, process
from tests.walking.test_results import FILES

TINY = "--train-limit 300 --test-limit 300 --epochs 1 --where 7 --sigma 0.1,1,10 --phase inference"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_a_terminal_cannot_show_is_no_error(encoding: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    line = f"walk {TINY} --out".split()
    with process(*line, str(tmp_path / "out"), env=environment, encoding=encoding) as child:
        printed, complaint = child.communicate(timeout=300)
    assert child.returncode == 0, complaint
    assert "Midpoint ? [95 % interval]" in printed
    assert sorted(os.listdir(tmp_path / "out")) == FILES
    with process("walk", "--help", env=environment, encoding=encoding) as child:
        assert "-sigma" in child.communicate(timeout=300)[0]
    assert child.returncode == 0


WIDTHS = ("0", "1", "59", "x", "²", "99999999999999999999")


@pytest.mark.parametrize("columns", WIDTHS)
def test_whatever_width_is_given_everything_is_printed(columns: str) -> None:
    """The kind: sizes in the environment that are none, or too narrow for a table; no number is cut."""
    code = (
        "from wn.cli.main import main\n"
        "for line in ('models lenet5', 'data list', 'walk --help'):\n"
        "    try: main(line.split())\n"
        "    except SystemExit as end: assert end.code == 0"
    )
    environment = os.environ | {"COLUMNS": columns, "LINES": columns}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("1×28×28", "3,456", "logits", "60,000", "fashion-mini: ", "--repetitions", "Examples:"):
        assert part in done.stdout
    assert "…" not in done.stdout[: done.stdout.index("Usage")]


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"FORCE_COLOR": "1"}])
def test_whatever_terminal_it_is_everything_is_printed(variables: dict[str, str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"} | variables
    with process("models", "lenet5", env=environment) as child:
        printed, complaint = child.communicate(timeout=300)
    assert (child.returncode, complaint) == (0, "")
    assert "3,456" in printed


@pytest.mark.parametrize("line", ["data list", "models", "walk --help"])
def test_a_reader_that_leaves_early_gets_no_traceback(line: str) -> None:
    """As in `wn data list | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    with process(*line.split(), stdout=writing) as child:
        os.close(writing)
        _, complaint = child.communicate(timeout=300)
    assert complaint == ""
    assert child.returncode != 0
