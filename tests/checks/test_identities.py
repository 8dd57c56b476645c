"""The page of identities follows from its tables; a measurement on a small network has what they need."""

import shutil
from itertools import islice
from pathlib import Path

import pytest

from tests.checks.identities import measured, page
from tests.checks.identities.__main__ import main


def test_the_committed_page_is_made_of_the_committed_tables() -> None:
    assert main(["--check"]) == 0


def test_a_changed_table_is_seen_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "theory"
    shutil.copytree(page.PAGE.parent, copy)
    monkeypatch.setattr(page, "PAGE", copy / "identities.md")
    monkeypatch.setattr(page, "TABLES", copy / "tables")
    table = copy / "tables" / "identities.pathwise.csv"
    head, first, *rest = table.read_text().splitlines()
    changed = ",".join(["additive", "0.12345", *first.split(",")[2:]])
    table.write_text("\n".join([head, changed, *rest]) + "\n")
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert "| additive | 0.12345 |" in (copy / "identities.md").read_text()
    assert main(["--check"]) == 0


def test_a_small_measurement_has_what_the_page_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "TRAINED", {"mlp": 1})
    rows = list(islice(measured.levels(images=20, pairs=4), 2))
    assert list(rows[0]) == list(page.kept("levels")[0])
    assert rows[0]["trace"] > 0
    assert rows[0]["error"] > 0
