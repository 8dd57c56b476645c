"""The progress of a run where somebody looks: a bar in notebooks and terminals, nothing elsewhere."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from wn.basics.errors import WnError

ProgressCallback = Callable[[int, int], None]  # (finished, all)
AUTO = "auto"
EPOCHS, NETWORKS = "network-epochs", "networks"

_ATONCE = 0.1  # of a percent: a notebook is told no more often


@contextmanager
def reporting(
    asked: ProgressCallback | str | None, what: str, parts: str = EPOCHS
) -> Iterator[ProgressCallback | None]:
    """The function that a run reports to: the one that is given, or a bar; None for nothing.

    "auto" is a bar in a notebook and in a terminal, and nothing where nobody looks. What wn logs meanwhile
    (that loops are being compiled) is shown too. Raises WnError for anything else.
    """
    if asked is None or callable(asked):
        yield asked
    elif asked != AUTO:
        raise WnError(f"progress is {asked!r}: it must be {AUTO!r}, None or a function of (finished, all)")
    elif in_notebook():
        with _notebook_bar(what, parts) as report:
            yield report
    elif sys.stderr is not None and sys.stderr.isatty():
        console = Console(stderr=True, markup=False, emoji=False, highlight=False)
        with _terminal_bar(console, what, parts) as report:
            yield report
    else:
        yield None


def in_notebook() -> bool:
    """Whether this code runs in a kernel of Jupyter, which shows HTML; IPython is not imported for that."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def _terminal_bar(console: Console, what: str, parts: str) -> Iterator[ProgressCallback]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn(f"{{task.completed}}/{{task.total}} {parts}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def report(finished: int, total: int) -> None:
            doing = _doing(what, parts, finished, total)
            bar.update(task, completed=finished, total=total, description=doing)

        with _said(lambda text: console.print(f"wn: {text}")):
            yield report


@contextmanager
def _notebook_bar(what: str, parts: str) -> Iterator[ProgressCallback]:
    """A bar of HTML, which needs no widgets, and goes when the work is done."""
    shown: Any = import_module("IPython.display")
    handle = shown.display(shown.HTML(_bar(what, parts, (0, 0), "")), display_id=True)
    done, note, last = (0, 0), "", -1.0

    def show() -> None:
        handle.update(shown.HTML(_bar(what, parts, done, note)))

    def report(finished: int, total: int) -> None:
        nonlocal last, done
        done, percent = (finished, total), 100 * finished / max(total, 1)
        if finished == total or percent - last >= _ATONCE:
            last = percent
            show()

    def say(text: str) -> None:
        nonlocal note
        note = text
        show()

    try:
        with _said(say):
            yield report
    finally:
        handle.update(shown.HTML(""))


def _bar(what: str, parts: str, done: tuple[int, int], note: str) -> str:
    """The bar as HTML."""
    finished, total = done
    value = f'value="{finished}" max="{total}"' if total else ""
    count = f" {finished}/{total} {parts}" if total else ""
    doing = escape(_doing(what, parts, finished, total))
    return f"<div><progress {value}></progress> {doing}{count} {escape(note)}</div>"


def _doing(what: str, parts: str, finished: int, total: int) -> str:
    return f"{what}: trained, evaluating" if 0 < total == finished and parts == EPOCHS else what


class _Sayer(logging.Handler):
    def __init__(self, say: Callable[[str], Any]) -> None:
        super().__init__(logging.INFO)
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        self.say(record.getMessage())


@contextmanager
def _said(say: Callable[[str], Any]) -> Iterator[None]:
    """Have what wn logs at level INFO and above said."""
    log, sayer = logging.getLogger("wn"), _Sayer(say)
    before = log.level
    log.addHandler(sayer)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(sayer)
