"""What the README shows is run as it stands there."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example_runs_and_prints_a_midpoint_per_site() -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    rows = [line.split() for line in printed.getvalue().splitlines()]
    names = ["input", "fc1", "relu1", "fc2", "relu2", "fc3", "relu3", "logits"]
    assert [row[:2] for row in rows] == [[str(site), name] for site, name in enumerate(names)]
    assert all(float(low) <= float(midpoint) <= float(high) for _, _, midpoint, low, high in rows)
    assert len([line for line in code.splitlines() if line.strip()]) <= 5


def test_own_network_and_data_in_at_most_fifteen_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script of a researcher with a network and arrays of their own, as it stands in the README."""
    (block,) = re.findall(r"<!-- own -->(.*?)<!-- end -->", README, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", block, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    printed, names = io.StringIO(), dict[str, Any]()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), names)
    result = names["result"]
    assert set(result.midpoints["site_name"]) >= {"input", "conv1", "block1.conv1", "block1.add", "logits"}
    assert result.midpoints["reached"].all()
    assert result.midpoints["clean_accuracy"][0] > 0.7
    statement = printed.getvalue()
    assert result.run["data"]["sha256"] in statement
    assert statement.startswith("Accuracy under noise and midpoint noise levels were measured with wn ")
    assert (tmp_path / "midpoints.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "my-net" / "report.html").is_file()


def test_two_commands_are_where_ci_reads_them() -> None:
    (block,) = re.findall(r"<!-- commands -->(.*?)<!-- end -->", README, re.DOTALL)
    assert len(re.findall(r"^pip install .*$", block, re.MULTILINE)) == 2


PAGES = sorted(
    [*ROOT.glob("*.md"), *(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)  # in code, [1](dy) is no link
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []
