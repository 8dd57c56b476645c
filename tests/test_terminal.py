"""Terminals that can't show every character, and readers that leave early."""

import os
from pathlib import Path

import pytest

from tests.command_line import process
from tests.test_results import FILES

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
