"""Which lines CI takes for install lines, and that one that does not work is found.

The kind: a line that a reader copies must work where nothing of ours is installed yet. CI runs every such
line of README, docs and messages; a new line is found without being listed anywhere.
"""

import venv
import zipfile
from pathlib import Path

import pytest

from tests.checks.installs import HEAVY, ROOT, install_lines, lines_of, problem_in

PAGE = """
Install it with `pip install 'walking-noise[seml]'`; pip install in prose is no line.

<!-- commands -->
```
pip install . && wn walk
```
<!-- end -->

```
pip install 'walking-noise[gpu]'           # CUDA 12
python -m pip install -U --quiet walking-noise>=0.1 && wn walk
```

    pip3 install -e '.[dev]'
"""
MESSAGE = (
    "HINT = \"pip install 'walking-noise[gpu]' for CUDA 12, or pip install 'cupy-cuda13x[ctk]' for CUDA 13\""
)


def test_lines_of_a_page() -> None:
    assert lines_of(PAGE, page=True) == [
        "pip install 'walking-noise[seml]'",
        "pip install 'walking-noise[gpu]'",
        "pip install -U --quiet walking-noise>=0.1",
        "pip3 install -e '.[dev]'",
    ]


def test_lines_of_a_message() -> None:
    assert lines_of(MESSAGE, page=False) == [
        "pip install 'walking-noise[gpu]'",
        "pip install 'cupy-cuda13x[ctk]'",
    ]


def test_lines_of_this_checkout() -> None:
    """Every extra of the user's is installed by some line, and no line is lost on its way to CI."""
    found = install_lines(ROOT)
    for extra in ("gpu", "cluster", "parquet", "seml", "test"):
        assert f"pip install 'walking-noise[{extra}]'" in found
    assert "pip install '.[docs]'" in found
    texts = [
        path.read_text(encoding="utf-8")
        for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
        if "_build" not in path.parts
    ]
    written = sum(text.count("pip install") for text in texts)
    read = sum(len(lines_of(text, page=True)) for text in texts)
    assert read + 2 == written  # the README's two commands


@pytest.mark.parametrize("line", ["pip install 'walking-noise[gpu]'", "pip install torch==2.13.0"])
def test_what_is_only_resolved(line: str) -> None:
    assert HEAVY.search(line)
    assert not HEAVY.search("pip install 'walking-noise[cluster]'")


def wheel(folder: Path, name: str) -> None:
    """A wheel without content."""
    record = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{record}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{record}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr(f"{record}/RECORD", "")


def test_a_line_that_works_and_lines_that_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    environment = str(tmp_path / "environment")
    venv.create(environment, with_pip=True)
    wheel(tmp_path, "something")
    assert problem_in(environment, "pip install something", tmp_path, tmp_path) is None
    problem = problem_in(environment, "pip install nothing", tmp_path, tmp_path)
    assert problem is not None
    assert "nothing" in problem
    problem = problem_in(environment, "pip install 'something[more]'", tmp_path, tmp_path)
    assert problem == "\"pip install 'something[more]'\" names an extra that does not exist: more"
