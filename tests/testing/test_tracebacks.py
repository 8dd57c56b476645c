"""What pytest shows of a failed check: the line of the test and the message, no frames of the checker."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = {
    "a layer": "check_layer((toys.linear_forward, bugs.no_db), None, *toys.linear_case())",
    "a gradient": "check_gradient(LayerCase((toys.relu_forward, wrong), None, *toys.relu_case()))",
    "a function": "check_vjp(np.exp, lambda dy, x: dy, np.ones(3))",
    "a kink": "check_vjp(abs, lambda dy, x: dy, np.zeros(3))",
    "bad arguments": "check_vjp(abs, lambda dy, x: dy, 3)",
    "a mean": "check_mean(np.ones(2000), 0.0, 1.0, seed=1)",
    "closeness": "assert_close(np.ones(3), np.zeros(3), reduction_length=1)",
    "independence": "check_independence(np.arange(2000.0), np.arange(2000.0), seed=1)",
}
HEAD = """
import numpy as np
from tests.testing import test_planted_bugs as bugs, toys
from wn.testing import *

def wrong(be, dy, cache):
    return dy, ()

def broken(x):
    return x.nonsense
"""


def shown(calls, folder):
    """pytest's output on tests that make the calls, by test."""
    tests = [f"def test_{number}():\n    {call}\n" for number, call in enumerate(calls)]
    file = folder / "test_shown.py"
    file.write_text("\n".join([HEAD, *tests]), "utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    parts = run.stdout.split("= FAILURES =")[1].split("short test summary")[0].split("___ test_")
    return parts[1:]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    parts = shown([*CALLS.values(), "check_vjp(broken, abs, 1.0)"], tmp_path_factory.mktemp("shown"))
    return dict(zip([*CALLS, "an error of f's own"], parts, strict=True))


@pytest.mark.parametrize("name", CALLS)
def test_no_frame_of_the_checkers_is_shown(name, output):
    text = output[name]
    assert CALLS[name] in text
    assert "wn/testing/" not in text
    message, _, snippet = text.partition("# repro, seed")
    assert len(message.splitlines()) <= 12
    assert len(snippet.splitlines()) <= 30


def test_errors_of_the_checked_code_keep_theirs(output):
    text = output["an error of f's own"]
    assert "return x.nonsense" in text
    assert "AttributeError" in text
