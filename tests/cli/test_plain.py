"""What is printed is the text as it is: no markup, no emoji, no control codes, on consoles of every kind."""

import io
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from tests.cli.command_line import one_line, run
from tests.cli.test_console import result
from tests.study.runs import TINY
from tests.study.runs import run as run_here
from wn.cli import console, midpoints_console
from wn.cli import studies_console as study_console
from wn.cli.plain import PlainConsole, PlainTable, printable, say
from wn.study.execution.driver import Progress
from wn.study.plan import Plan

ODD = "a[/b] [red]:100: [/red]"
CONTROLS = "\x1b[31mred\x07\x9b\u202e\udcff"
CUT = r"\udcff"
ESCAPED = r"\x1b[31mred\x07\x9b\u202e\udcff"


@pytest.fixture(params=[Console, PlainConsole])
def screen(request: pytest.FixtureRequest) -> Any:
    """A terminal of 200 columns: rich's own console, which knows markup and emoji, and that of wn."""
    return request.param(file=io.StringIO(), width=200, force_terminal=True, _environ={})


def shown(screen: Console) -> str:
    """What a terminal shows of what was printed: without rich's own colours."""
    assert isinstance(screen.file, io.StringIO)
    return Text.from_ansi(screen.file.getvalue().replace("\r", "\n")).plain


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("walk --sigma 10:100:1", "σ grid '10:100:1': FIRST"),
        ("export net:100:.safetensors", "net:100:.safetensors: no such file"),
        ("export [red]net[/red]", "[red]net[/red]: no such file"),
        ("walk --model :100:[/b]", "':100:[/b]'"),
        ("walk --epochs :100:", "':100:' is no whole number"),
        ("walk --:100:", "No such option: --:100:"),
        ("data :smile:", "No such command ':smile:'"),
        ("study run [/b]:100:.toml", "[/b]:100:.toml: can't be read"),
        ("study status :100:", ":100:: no study is here"),
        (f"export {CONTROLS}", f"{ESCAPED}: no such file"),
    ],
)
def test_mistakes_show_what_was_given(
    line: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kind: names and values that rich takes for markup, emoji or that a terminal obeys."""
    monkeypatch.chdir(tmp_path)
    outcome = run(*line.split())
    assert outcome.code == 2
    assert part in one_line(outcome)


def test_files_are_named_as_they_are(tmp_path: Path) -> None:
    study = tmp_path / "quick:100:.yaml"
    study.write_text(
        "seml: { executable: main.py }\nfixed: { data.dataset: MNIST, model.model_class: MLP }\n"
    )
    outcome = run("study", "import-seml", study)
    assert f"Wrote {tmp_path}/quick:100:.toml: " in outcome.out


def test_walks_and_bars(screen: Console) -> None:
    found = result({0: ODD})
    found.midpoints["model"] = ":100:[b]"
    midpoints_console.print_midpoints(screen, found)
    with console.progress(screen, ODD) as report:
        # Without the lone surrogate: pytest keeps records, and its worker processes can't send it.
        logging.getLogger("wn").info("%s is %s", ODD, CONTROLS[:-1])
        report(1, 2)
    with study_console.progress(screen, f"{ODD} {CONTROLS}") as told:
        told(Progress(0, 0, 10, 0.5))
    with console.downloads(screen) as start:
        start(f"{ODD}.gz").close()
    text = shown(screen)
    assert f"│ {ODD} │" in text
    assert "speech-commands, :100:[b], batch norm hidden" in text
    assert f"wn: {ODD} is {ESCAPED.removesuffix(CUT)}" in text
    assert f"{ODD} {ESCAPED}" in text
    assert f"{ODD}.gz" in text


def test_studies(screen: Console, tmp_path: Path) -> None:
    """A study may have any name, and its folder too."""
    folder = tmp_path / "[x]:100:"
    name = f"{ODD} \\u001b[31m\\n"
    run_here(folder, f'name = "{name}"\n{TINY}')
    study_console.print_status(screen, folder, failures=True)
    study_console.print_summary(screen, folder, Progress(1, 0, 1, 1.0))
    study_console.print_fit(screen, folder)
    study_console.print_plan(screen, Plan(ODD, (), 1))
    text = "".join(shown(screen).split())  # titles are broken into lines
    for part in (f"[x]:100:: {ODD} \\x1b[31m\\n", f"{folder}: 1 units finished", f"{ODD}: nothing was run"):
        assert "".join(part.split()) in text


def test_tables_and_lines(screen: Console) -> None:
    table = PlainTable(ODD, f"{ODD}.")
    table.add_column(f"{ODD}:")
    table.add_row(CONTROLS)
    screen.print(table)
    say(screen, f"{ODD}\n{CONTROLS}")
    text = shown(screen)
    for part in (ODD, f"{ODD}.", f"{ODD}:", ESCAPED, f"{ODD}\\n{ESCAPED}"):
        assert part in text


def test_a_console_of_wn_prints_strings_as_they_are() -> None:
    screen = PlainConsole(file=io.StringIO(), width=80)
    screen.print(f"{ODD}\n{CONTROLS}")
    assert shown(screen) == f"{ODD}\n{ESCAPED}\n"


def test_printable_text_is_left_alone() -> None:
    assert printable("σ = 0.5 → 中文 [b] :100: é") == "σ = 0.5 → 中文 [b] :100: é"
    assert printable("a\tb\nc\r", "\n") == r"a\tb" + "\n" + r"c\r"
