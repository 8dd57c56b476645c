"""A bar where somebody looks: in a notebook and in a terminal; a function is told the same; else silence."""

import io
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import wn
from tests.walking.own import SMALL, own_data
from wn.basics.errors import WnError
from wn.walking.shown import progress
from wn.walking.shown.progress import reporting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Notebook:
    """A stand-in for IPython.display, which keeps what is shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.HTML = str

    def display(self, html: str, display_id: bool) -> "Notebook":
        assert display_id
        self.shown.append(html)
        return self

    def update(self, html: str) -> None:
        self.shown.append(html)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    shell, display = SimpleNamespace(kernel=object()), Notebook()
    package: Any = SimpleNamespace(get_ipython=lambda: shell)  # stands for the module
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setattr(progress, "import_module", {"IPython.display": display}.__getitem__)
    return display


def test_a_function_and_none_are_passed_on() -> None:
    def mine(finished: int, total: int) -> None:
        raise AssertionError

    for asked in (mine, None):
        with reporting(asked, "walking") as report:
            assert report is asked


@pytest.mark.parametrize("wrong", [3, "yes", True])
def test_anything_else_is_refused(wrong: Any) -> None:
    with (
        pytest.raises(WnError, match=r"progress is .*: it must be 'auto', None or a function"),
        reporting(wrong, "walking"),
    ):
        pass


def test_where_nobody_looks_there_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting("auto", "walking") as report:
        assert report is None
    wn.train(data=own_data(epochs=1), model="mlp-8")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with reporting("auto", "walking [b]", "networks") as report:
        assert report is not None
        report(3, 4)
        logging.getLogger("wn").info("compiling")
        report(4, 4)
    text = terminal.getvalue()
    assert "walking [b]" in text
    assert "4/4 networks" in text
    assert "wn: compiling" in text
    assert not logging.getLogger("wn").handlers


def test_a_notebook_has_a_bar_of_html_that_goes(notebook: Notebook) -> None:
    with reporting("auto", "walking <x>") as report:
        assert report is not None
        report(1, 4)
        logging.getLogger("wn").info("compiling <loops>")
        report(4, 4)
    first, quarter, note, end, gone = notebook.shown
    assert "<progress ></progress> walking &lt;x&gt;" in first
    assert '<progress value="1" max="4"></progress> walking &lt;x&gt; 1/4 network-epochs' in quarter
    assert "compiling &lt;loops&gt;" in note
    assert "walking &lt;x&gt;: trained, evaluating 4/4" in end
    assert gone == ""


def test_a_notebook_is_not_told_too_often(notebook: Notebook) -> None:
    with reporting("auto", "walking") as report:
        assert report is not None
        for done in range(1, 100_001):
            report(done, 100_000)
    assert 500 < len(notebook.shown) < 1100


def test_the_bar_goes_when_a_run_fails(notebook: Notebook) -> None:
    with pytest.raises(WnError, match="range of float32"):
        wn.walk(data=own_data(), **(SMALL | {"sigma": 1e38, "where": "global"}))
    assert notebook.shown[-1] == ""


def test_functions_of_the_front_door_show_bars(notebook: Notebook) -> None:
    wn.train(data=own_data(epochs=2), model="mlp-8")
    assert any("training" in html and "2/2 network-epochs" in html for html in notebook.shown)


def test_an_interactive_shell_without_a_kernel_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace()
    package: Any = SimpleNamespace(get_ipython=lambda: shell)  # stands for the module
    monkeypatch.setitem(sys.modules, "IPython", package)
    assert not progress.in_notebook()
