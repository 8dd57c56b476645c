"""The page of a study: each section where there is something to say, from what is finished."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.checks.book import browser
from tests.checks.report import problems
from tests.cli.command_line import run as wn
from tests.study.store.stores import CLEAN, finish, finished_study, noisy, result, rows, study
from tests.walking.report.test_page import Text
from wn.analysis.binarisation import Binarisation
from wn.basics.errors import WnError
from wn.study.report.whole import report, write_report
from wn.study.store.rows import PlaceBinarisation, Result
from wn.study.store.writer import Store
from wn.study.unit import NoiseSpec, Unit

WIDE = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


def titles(folder: Path) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", report(folder))


def words(folder: Path) -> str:
    return " ".join(Text(report(folder)).words)


def seen(unit: Unit) -> Result:
    """The result of a unit, with its own site's binarisation if a network was trained for it."""
    found = result(unit)
    if unit.phase == "inference":
        return found
    sites = [unit.site_name] if unit.phase == "training" else ["site0", "site1"]
    share = 0.5 if unit.phase == "clean" else unit.sigma / (1 + unit.sigma)
    at_sites = tuple(PlaceBinarisation(site, Binarisation(share, 1.0, 0.3, 0.4), 0.5, 0.6) for site in sites)
    weights = PlaceBinarisation("fc1.weight", Binarisation(0.0, float("nan"), 0.36, 0.33))
    return msgspec.structs.replace(found, binarisation=(*at_sites, weights))


ALWAYS = ["What was run", "Clean accuracy"]
CURVES = ["Midpoints", "Accuracy against σ"]


def mixed(ratio: float, **options: Any) -> NoiseSpec:
    return NoiseSpec(kind="mixed", ratio=ratio, **options)


@pytest.mark.parametrize(
    ("units", "found", "wanted"),
    [
        ([CLEAN], result, ALWAYS),
        (study(phases=["inference"]), result, [*ALWAYS, *CURVES]),
        (study(), result, [*ALWAYS, *CURVES, "Growth of weights", "Weights at ±1", "Signal and noise"]),
        (study(), seen, "Binarisation"),
        (
            study(sigma=(1e10,), phases=["training"]),
            result,
            "Accuracy at one σ: mnist, mlp, without batch norm",
        ),
        (study(noise=mixed(0.1)) + study(noise=mixed(0.9))[1:], result, "Mixed noise: amplitude and ratio"),
    ],
)
def test_sections_stand_where_there_is_something_to_say(
    tmp_path: Path, units: list[Unit], found: Callable[[Unit], Result], wanted: Any
) -> None:
    finished_study(tmp_path, units, found)
    there = titles(tmp_path)
    assert wanted == there if isinstance(wanted, list) else wanted in there


def test_mixed_noise_of_another_order_has_a_map_of_its_own(tmp_path: Path) -> None:
    specs = [mixed(r, order=order) for order in ("mul_add", "add_mul") for r in (0.1, 0.9999999)]
    finished_study(tmp_path, [CLEAN, *(u for s in specs for u in study(repeats=1, noise=s)[1:])])
    html = words(tmp_path)
    assert "mixed noise, networks trained clean." in html
    assert "mixed noise, add→mul, networks trained clean." in html
    assert "ratio 0.9999999, add→mul" in html


def test_one_sigma_is_told_by_ratio_and_order(tmp_path: Path) -> None:
    specs = [mixed(r, order=order) for order in ("mul_add", "add_mul") for r in (0.1, 0.5, 0.9)]
    points: Any = {"repeats": 1, "sites": 2, "sigma": (1e10,), "phases": ["training"]}
    finished_study(tmp_path, [CLEAN, *(u for s in specs for u in study(**points, noise=s)[1:])])
    there = titles(tmp_path)
    assert "Mixed noise: ratio, mnist, mlp, without batch norm" in there
    assert "Mixed noise: amplitude and ratio" not in there
    found = words(tmp_path)
    assert "mixed noise, σ = 10¹⁰: accuracy [95 %]" in found
    assert "mixed noise, add→mul, σ = 10¹⁰: accuracy [95 %]" in found


def test_numbers_of_growth_and_signal(tmp_path: Path) -> None:
    """The results of the small study have closed forms."""
    finished_study(tmp_path, study(repeats=2, sigma=WIDE), seen)
    found = Text(report(tmp_path)).words
    cells = [word.strip() for word in found if word.strip()]
    row = cells[cells.index("fc1", cells.index("place of the noise")) - 2 :]
    assert row[:4] == ["σ", "accuracy", "fc1", "logits"]
    place, sigma, accuracy, *growth = row[4:8]
    assert place == "0 site0"
    assert float(sigma) < 3.15 < 10 * float(sigma)  # the midpoint in training is about 3.15
    assert float(accuracy) > 0.5
    assert [float(x) for x in growth] == pytest.approx([1 + float(sigma)])  # norms are 1 + σ times the twin's
    start = cells.index("share explained") + 1
    place, clean, noisy, before, after, share = cells[start : start + 6]
    assert (place, clean, noisy) == ("0 site0", "1.414", "1.414")  # √(1 · 2) of two repeats
    assert float(before) == pytest.approx(1.414 / 1.05**2, rel=0.05)  # the midpoint is about 1.05
    assert float(after) == pytest.approx(1.414 / 3.15**2, rel=0.05)
    assert float(share) == pytest.approx(0, abs=1e-9)  # the power stayed


# ---- what is not finished ----------------------------------------------------------------------------------


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    units = study(repeats=2, sites=2)
    with Store.create_or_open(tmp_path) as store:  # the driver is at work
        store.add_units(rows(units))
        nothing = words(tmp_path)
        assert f"0 of {len(units)} units are finished" in nothing
        assert f"Missing: {len(units)} units are not computed yet, 0 have failed" in nothing
        finish(store, units[: len(units) // 2])
        store.fail([units[-1].key], "broken")
        part = words(tmp_path)
        assert (
            f"Missing: {len(units) - len(units) // 2 - 1} units are not computed yet, 1 have failed" in part
        )
        assert "Midpoints" in part
        finish(store, units)
    assert "Missing" not in words(tmp_path)


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(WnError, match="no study is here"):
        write_report(tmp_path, tmp_path / "report.html")
    assert os.listdir(tmp_path) == []


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_study(tmp_path / "study", [CLEAN])
    out = tmp_path / "new" / "page.html"
    assert write_report(tmp_path / "study", out) == out
    before = out.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(WnError, match="can't be written: No space left on device"):
            write_report(tmp_path / "study", out)
    assert out.read_bytes() == before
    assert os.listdir(out.parent) == ["page.html"]
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(WnError, match="can't be written"):
        write_report(tmp_path / "study", tmp_path / "folder.html")


def test_no_study_is_replaced(tmp_path: Path) -> None:
    finished_study(tmp_path, [CLEAN])
    with pytest.raises(WnError, match=r"suffixes \.html, \.htm"):
        write_report(tmp_path, tmp_path / "study.sqlite")
    assert "What was run" in report(tmp_path)


def test_names_are_taken_literally(tmp_path: Path) -> None:
    finished_study(tmp_path, [CLEAN, *(noisy(sigma=s, site_name="<b>$x") for s in WIDE)])
    found = Text(report(tmp_path))
    assert "b" not in found.tags
    assert "0 <b>$x" in found.words


# ---- the command, and a browser ----------------------------------------------------------------------------


def test_the_command_writes_beside_the_study(whole: Path, tmp_path: Path) -> None:
    wrote = wn("study", "report", whole, "--out", tmp_path / "page.html")
    assert (wrote.code, wrote.out) == (0, f"Wrote {tmp_path / 'page.html'}\n")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Report of the study study" in html
    assert "train_limit = 300" in html  # its file


@pytest.mark.skipif(browser() is None, reason="needs Chromium")
def test_a_browser_finds_nothing_wrong(tmp_path: Path) -> None:
    specs = [mixed(0.1), mixed(0.9), NoiseSpec(kind="additive")]
    units = [CLEAN, *(unit for spec in specs for unit in study(repeats=1, noise=spec)[1:])]
    units += study(repeats=1, sigma=(1e10,), noise=NoiseSpec(kind="multiplicative"))[1:]
    finished_study(tmp_path, units, seen)
    page = write_report(tmp_path, tmp_path / "report.html")
    assert problems(page, browser() or "") == []


@pytest.mark.skipif(browser() is None, reason="needs Chromium")
@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        ("<div style='width: 2000px'>wide</div>", "wider than the screen"),
        ("<img src='data:image/png;base64,AAAA' alt='broken'>", "a picture is not there: broken"),
        (
            "<img src='data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4='>",
            "no words",
        ),
        ("<link rel='stylesheet' href='other.css'>", "asks for http"),
        ("<script>1</script>", "has scripts"),
        ("<a href='#nowhere'>there</a>", "there leads nowhere"),
    ],
)
def test_the_browser_would_find_it(tmp_path: Path, planted: str, complaint: str) -> None:
    finished_study(tmp_path, [CLEAN])
    page = tmp_path / "report.html"
    page.write_text(report(tmp_path).replace("</body>", f"{planted}</body>"), encoding="utf-8")
    assert any(complaint in line for line in problems(page, browser() or "", (400,)))
