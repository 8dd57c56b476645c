"""Studies in two parts: what waits for midpoints, and what is left out, is said wherever one looks."""

import io
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.cli.command_line import run as wn
from tests.study.runs import Immediate, retry, run
from wn.cli.studies_console import print_status, print_summary
from wn.study.execution import run as execution
from wn.study.execution.driver import Progress
from wn.study.execution.worker import Task
from wn.study.report.found import found_in
from wn.study.report.run import run_section
from wn.study.store.writer import Store
from wn.study.tables.results import read_table

STUDY = """
phases = "inference"
[data]
names = "fashion-mini"
train_limit = 100
test_limit = 100
[[models]]
name = "mlp-8"
[recipe]
epochs = 1
[[noise]]
kind = "additive"
sigma = [1, 10]
[[noise]]
kind = "additive"
sigma = 3
where = "global"
allocation = ["uniform", "inverse_log10", "inverse_lin"]
budget = "3x"
"""
WAITS = "noise[1]: waits for midpoints or gains of this study, which are not all known yet"
LEFT_OUT = (
    "left out: noise[1].allocation: fashion-mini mlp-8 batch norm none: the scheme inverse_log10 has no "
    "weight for the midpoints of sites [0]: [1.0]"
)
SITES = ("input", "fc1", "relu1", "fc2", "relu2", "fc3", "relu3", "logits")


@pytest.fixture(autouse=True)
def _midpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let midpoints be 1, 2, … 8: those of so small a study are none."""
    found = {name: 1.0 + site for site, name in enumerate(SITES)}
    monkeypatch.setattr(execution, "midpoints_of", lambda _store: lambda *_: found)


def said(folder: Path, done: Progress) -> tuple[bool, str, str, list[str]]:
    """Whether all is there, the summary, the status, and the text of the report."""
    summary, status = io.StringIO(), io.StringIO()
    whole = print_summary(Console(file=summary, width=200, soft_wrap=True), folder, done)
    print_status(Console(file=status, width=200, soft_wrap=True), folder, failures=False)
    with Store.read(folder) as store:
        report = list(run_section(found_in(store)).text)
    return whole, summary.getvalue(), status.getvalue(), report


def test_a_scheme_without_a_weight_is_left_out_and_the_others_are_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "study"
    with caplog.at_level(logging.WARNING, "wn"):
        done = run(folder, STUDY)
    assert done.finished == 1 + 8 * 2 + 2
    assert LEFT_OUT in caplog.text
    assert set(read_table(folder, where_global := ["label"], site=-1)[where_global[0]]) == {
        "uniform",
        "inverse_lin",
    }
    whole, summary, status, report = said(folder, done)
    assert not whole
    assert LEFT_OUT in summary
    assert LEFT_OUT in status
    assert f"Missing: {LEFT_OUT}." in report
    again = run(folder, STUDY)
    assert again.total == 0
    assert LEFT_OUT in said(folder, again)[1]
    changed = run(folder, STUDY.replace('"inverse_log10", ', ""))
    assert said(folder, changed)[0]


def test_what_waits_for_midpoints_is_said(tmp_path: Path) -> None:
    def fail(task: Task) -> None:
        if any(unit.site_name == "fc1" for unit in task.units):
            raise ArithmeticError("planted")

    folder = tmp_path / "study"
    done = run(folder, STUDY, Immediate(fail))
    assert done.failed == 2
    whole, summary, status, report = said(folder, done)
    assert not whole
    assert WAITS in summary
    assert WAITS in status
    assert f"Missing: {WAITS}." in report
    assert "left out" not in status
    status_of_command: Any = wn("study", "status", folder)
    assert WAITS in " ".join(status_of_command.out.split())
    retry(folder)
    assert WAITS not in said(folder, done)[2]
