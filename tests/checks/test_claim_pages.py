"""Pages of claims follow from their tables: what is committed is up to date, and a changed number is seen."""

import shutil
from pathlib import Path

import pytest

from tests.checks import claim_pages
from tests.study.runs import run


def test_the_committed_pages_are_made_of_the_committed_tables() -> None:
    assert claim_pages.stale(write=False) == []
    assert len(list(claim_pages.PAGES.glob("c*.md"))) == 6


def test_a_changed_table_is_seen_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "claims"
    shutil.copytree(claim_pages.PAGES, copy)
    monkeypatch.setattr(claim_pages, "PAGES", copy)
    monkeypatch.setattr(claim_pages, "TABLES", copy / "tables")
    table = copy / "tables" / "c1-quick.midpoints.csv"
    text = table.read_text()
    row = next(line for line in text.splitlines() if ",training," in line and ",fc1," in line)
    midpoint = row.split(",")[8]
    table.write_text(text.replace(row, row.replace(midpoint, "1234.5")))
    assert claim_pages.stale(write=False) == ["c1.md"]
    assert claim_pages.stale(write=True) == ["c1.md"]
    assert "1.23e+03" in (copy / "c1.md").read_text()
    assert claim_pages.stale(write=False) == []


STUDY = """
[data]
names = "fashion-mini"
train_limit = 300
test_limit = 200
[[models]]
name = "mlp"
[recipe]
epochs = 2
[[noise]]
kind = "additive"
sigma = [1, 30]
where = "fc1"
"""


def test_gathered_tables_have_what_the_pages_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_pages, "TABLES", tmp_path / "tables")
    run(tmp_path / "study", STUDY)
    assert claim_pages.main(["gather", str(tmp_path / "study"), "small"]) == 0
    found = claim_pages.gathered("small")
    assert {name: len(rows) for name, rows in found.items()} == {
        "midpoints": 2, "results": 1 + 2 * 2, "weights": (1 + 2) * 4, "binarisation": 0,
    }  # fmt: skip
    assert {row["epoch"] for row in found["weights"]} == {"2"}
    keys = {row["key"] for row in found["results"]}
    assert {row["key"] for row in found["weights"]} < keys
    page = claim_pages.Page(tmp_path / "c0.md")
    page.path.write_text(
        "# C0\n\n<!-- made: growth small -->\n<!-- end -->\n\n<!-- made: midpoints small -->\n<!-- end -->\n"
    )
    assert page.made().count("![") == 2
    assert sorted(page.pictures) == ["small-growth-0.png", "small-midpoints-0.png"]
