"""Errors of users are one line; mistakes of the program are seen whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import one_line, run
from wn.basics.errors import WnError
from wn.cli import main as cli
from wn.walking import api


def test_errors_of_a_walk_are_one_line_and_other_errors_are_not_hidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(error: Exception) -> Callable[..., Any]:
        def walk(*_: Any) -> None:
            raise error

        return walk

    monkeypatch.setattr(api, "walk", fail(WnError("site [0]: over\nflow")))
    outcome = run("walk", "--out", tmp_path / "out")
    assert (outcome.code, one_line(outcome)) == (2, "wn: site [0]: over flow\n")
    monkeypatch.setattr(api, "walk", fail(ZeroDivisionError("a mistake in wn")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["walk", "--out", str(tmp_path / "out")])
