"""Run the command line in this process or in one of its own."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Before wn.cli.main is imported, for the consoles that it makes: a plain one, whatever the tests run on.
os.environ["COLUMNS"] = "80"
for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)

from wn.cli import main as cli  # noqa: E402 - see above

ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def run(*arguments: str | Path) -> Outcome:
    """Run `wn` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return Outcome(ended.value.code, out.getvalue(), err.getvalue())


def process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start `wn` as a process of its own, in which Ctrl-C does what it does at a terminal."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from wn.cli.main import main; main()"
    )
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, **(settings | options))


def one_line(outcome: Outcome) -> str:
    """Check that a command ended with one line of complaint, which is returned."""
    assert outcome.out == ""
    assert outcome.err.startswith("wn: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    assert "\x1b" not in outcome.err
    return outcome.err
