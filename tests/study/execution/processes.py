"""Other processes that open the store of a study: a driver, a reader, one that is killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
BEGIN = """
import os, resource, signal, sys, time
from itertools import chain
from pathlib import Path
from tests.study.store.stores import *
from wn.basics.errors import WnError
folder = Path(sys.argv[1])
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def say(text):
    print(text, flush=True)
"""


def script(text: str, folder: Path, *words: object) -> "subprocess.Popen[str]":
    """Start another process."""
    command = [sys.executable, "-c", BEGIN + text, str(folder), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def output(text: str, folder: Path, *words: object, code: int = 0) -> list[str]:
    """Run another process to its end; return the lines it says."""
    process = script(text, folder, *words)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code
    return said.splitlines()


@contextmanager
def started(text: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Have another process run until the end of the block; it has said its first line."""
    process = script(text, folder)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()
