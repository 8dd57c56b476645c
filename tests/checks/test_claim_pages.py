"""Pages of claims follow from their tables: what is committed is up to date, and a changed number is seen."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.checks import claim_pages
from tests.checks.drawn import DATA, PIXELS, drawn
from tests.study.runs import run
from wn.walking.pictures.panels import Line, lines


def test_the_committed_pages_are_made_of_the_committed_tables() -> None:
    assert claim_pages.stale(write=False) == []
    assert len(list(claim_pages.PAGES.glob("c*.md"))) == 6


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one page with its tables and pictures, which the check looks at."""
    copy = tmp_path / "claims"

    def others(_folder: str, names: list[str]) -> list[str]:
        kept = ("c1", "mlp-mnist.", "mlp-mnist-midpoints")  # a study that several pages show
        return [name for name in names if not name.startswith(kept) and name != "tables"]

    shutil.copytree(claim_pages.PAGES, copy, ignore=others)
    monkeypatch.setattr(claim_pages, "PAGES", copy)
    monkeypatch.setattr(claim_pages, "TABLES", copy / "tables")
    assert claim_pages.stale(write=False) == []
    return copy


def test_a_changed_table_is_seen_and_mended(copy: Path) -> None:
    table = copy / "tables" / "c1-quick.midpoints.csv"
    text = table.read_text()
    row = next(line for line in text.splitlines() if ",training," in line and ",fc1," in line)
    midpoint = row.split(",")[8]
    table.write_text(text.replace(row, row.replace(midpoint, "1234.5")))
    changed = ["c1.md", "c1-quick-midpoints-0.png"]
    assert claim_pages.stale(write=False) == changed
    assert claim_pages.stale(write=True) == changed
    assert "1.23e+03" in (copy / "c1.md").read_text()
    assert claim_pages.stale(write=False) == []


def test_a_picture_that_is_another_is_seen(copy: Path) -> None:
    first, second = copy / "c1-quick-midpoints-0.png", copy / "c1-quick-midpoints-1.png"
    original = first.read_bytes()
    first.write_bytes(second.read_bytes())  # of other tables
    assert claim_pages.stale(write=False) == [first.name]
    first.write_bytes(original)
    with Image.open(first) as image:
        words = PngInfo()
        for name in (DATA, PIXELS):
            words.add_text(name, image.info[name])
        image.putpixel((3, 3), (255, 0, 0, 255))
        image.save(first, pnginfo=words)  # touched by hand
    assert claim_pages.stale(write=False) == [first.name]
    first.write_bytes(original[:1000])
    assert claim_pages.stale(write=False) == [first.name]
    first.unlink()
    assert claim_pages.stale(write=False) == [first.name]
    first.write_bytes(original)
    (copy / "other.png").write_bytes(original)
    assert claim_pages.stale(write=False) == ["other.png"]
    assert claim_pages.main(["--check"]) == 1


def test_a_digest_is_of_what_is_drawn() -> None:
    def digest(y: float = 1.0, title: str = "t", **options: Any) -> str:
        panel = {"a": Line(np.arange(2.0), np.array([y, np.nan]))}
        return drawn(lines, {title: panel}, "x", "y", **options).digest

    assert digest() == digest(y=1 + 1e-9)
    assert len({digest(), digest(y=1.001), digest(title="u"), digest(log_y=True)}) == 4


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
