"""The check of the built book finds what it is for, in a real browser."""

from pathlib import Path

import pytest

from tests.checks.book import browser, pages, problems

WIDE = "<math display='block'><mi>" + "x" * 60 + "</mi></math>"
FITS = (
    "<p class='math'><math><mi>x</mi></math></p><pre style='white-space: pre-wrap'>" + "word " * 99 + "</pre>"
)
HIDDEN = f"<div style='overflow-x: hidden'>{WIDE}</div>"
SCROLLS = f"<div style='overflow-x: auto'>{WIDE}</div>"
CODE = "<pre style='overflow: auto'>" + "x" * 60 + "</pre>"
UNSET = "<span class='math'>\\(x\\)</span>"
NOT_UNDERSTOOD = "<math><merror><mtext>\\foo</mtext></merror></math>"
WIDE_PAGE = "<div style='width: 700px; height: 9px'></div>"


def write(book: Path, name: str, body: str) -> None:
    path = book / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"<!doctype html><meta charset='utf-8'><body style='margin: 0'>{body}", encoding="utf-8")


def test_pages_are_those_that_someone_wrote(tmp_path: Path) -> None:
    for name in ("index.html", "layers/relu.html", "search.html", "genindex.html", "_static/x.html"):
        write(tmp_path, name, "")
    assert pages(tmp_path) == ["index.html", "layers/relu.html"]


@pytest.mark.skipif(browser() is None, reason="needs Chromium")
def test_planted_faults_are_found_and_nothing_else(tmp_path: Path) -> None:
    """Cut off on a phone, by the screen, by a box that hides and by one that scrolls; never at a desk."""
    planted = {
        "a/fits.html": (FITS, ""),
        "hidden.html": (HIDDEN, "formula cut off by"),
        "scrolls.html": (SCROLLS, "formula cut off by"),
        "code.html": (CODE, "code cut off by"),
        "unset.html": (UNSET, "formula not set"),
        "unknown.html": (NOT_UNDERSTOOD, "formula not understood"),
        "wide.html": (WIDE_PAGE, "page wider than the screen by 310 px"),
    }
    for name, (body, _) in planted.items():
        write(tmp_path, name, body)
    chromium = browser()
    assert chromium is not None
    found = problems(tmp_path, chromium, (1280, 390))
    for name, (_, part) in planted.items():
        of_page = [line for line in found if line.startswith(f"{name} at 390")]
        assert len(of_page) == bool(part), of_page
        assert all(part in line for line in of_page)
    always = ("unset.html", "unknown.html")
    assert all(line.startswith(always) for line in found if " at 1280: " in line)
