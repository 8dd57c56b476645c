"""The page of a walk: what it says follows from the result, and looks right in a browser."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wn
from tests.checks.book import browser
from tests.checks.report import problems
from tests.walking.report.test_page import Text
from wn.fit.midpoint import Midpoint
from wn.walking.report.curves import Curve, by_place, line_of, midpoint_table
from wn.walking.report.walks import curves_of, report
from wn.walking.results import WalkResult, to_draw

SMALL: dict[str, Any] = {"train_limit": 600, "test_limit": 300, "epochs": 2, "seed": 3, "model": "mlp-8"}


@pytest.fixture(scope="module")
def walked() -> WalkResult:
    return wn.walk(**SMALL, sigma="0.1:1000:6", where=[0, 2], repeats=2)


def words(result: WalkResult) -> str:
    return " ".join(Text(report(to_draw(result), result.run)).words)


def test_a_page_has_what_the_walk_has(walked: WalkResult) -> None:
    found = words(walked)
    for title in ("What was run", "Clean accuracy", "Midpoints", "Accuracy against σ", "Settings"):
        assert title in found
    for row in walked.midpoints[walked.midpoints["reached"]]:
        assert f"{row['midpoint']:.3g} [" in found
    assert '"train_limit": 600' in found
    assert "Points without a result" not in found
    assert "Published" not in found


def test_curves_are_those_of_the_tables(walked: WalkResult) -> None:
    curves = curves_of(to_draw(walked), walked.run)
    assert [(c.phase, c.site) for c in curves] == [(r["phase"], r["site"]) for r in walked.midpoints]
    for curve, row, record in zip(curves, walked.midpoints, walked.run["fits"], strict=True):
        assert curve.levels == 6
        assert len(curve.points) == 12
        assert curve.fit.location == pytest.approx(record["location"], nan_ok=True)
        assert curve.fit.reached == row["reached"]
        line = line_of(curve.points)
        mine = walked.curves[
            (walked.curves["phase"] == row["phase"]) & (walked.curves["site"] == row["site"])
        ]
        means = [mine["accuracy"][mine["sigma"] == sigma].mean() for sigma in line.x]
        assert line.y == pytest.approx(means)


def test_a_page_holds_no_time_and_no_threads(walked: WalkResult) -> None:
    run = walked.run | {
        "finished": "yesterday",
        "seconds": 7.777,
        "asked": walked.run["asked"] | {"threads": 77},
    }
    assert report(to_draw(walked), run) == report(to_draw(walked), walked.run)


def test_one_sigma_has_accuracies_and_no_curve() -> None:
    found = words(wn.walk(**SMALL, sigma="2", where=[0, 2], phase="inference"))
    assert "Accuracy at one σ" in found
    assert "Midpoints" not in found


def test_points_without_a_result_are_said() -> None:
    result = wn.walk(**SMALL, sigma="1.0,3e38", where=[0], phase="inference")
    assert len(result.failures)
    found = words(result)
    assert "Points without a result" in found
    assert result.failures["reason"][0] in found


def test_records_with_less_have_a_page_too(walked: WalkResult) -> None:
    bare = WalkResult(walked.curves, walked.midpoints, walked.reasons, {"command": "walk"})
    found = words(bare)
    assert "Midpoints" in found
    assert "Clean accuracy" not in found


def test_places_stand_in_the_order_of_the_network() -> None:
    fit = Midpoint.not_reached("never", 0.1, 0.9)
    curves = [
        Curve("training", site, name, [], fit) for site, name in ((-1, "global"), (2, "relu1"), (0, "input"))
    ]
    assert list(by_place(curves)) == ["0 input", "2 relu1", "global"]
    table = midpoint_table(curves, "c")
    assert table.columns == ("place", "trained under noise [95 %]", "crossing, trained under noise [95 %]")
    assert table.rows[0] == ["0 input", "not reached: never", None]


def test_gains_are_ratios_of_midpoints(walked: WalkResult) -> None:
    table = midpoint_table(curves_of(to_draw(walked), walked.run), "c")
    rows = walked.midpoints
    for site, row in zip((0, 2), table.rows, strict=True):
        clean, noisy = (
            rows[(rows["site"] == site) & (rows["phase"] == p)]["midpoint"][0]
            for p in ("inference", "training")
        )
        if np.isfinite([clean, noisy]).all():
            assert row[3] == pytest.approx(noisy / clean)
        (found,) = rows[(rows["site"] == site) & (rows["phase"] == "inference")]
        if found["reached"]:
            assert str(row[4]).startswith(f"{found['measured_crossing']:.3g} [")


@pytest.mark.skipif(browser() is None, reason="needs Chromium")
def test_a_browser_finds_nothing_wrong(walked: WalkResult, tmp_path: Path) -> None:
    walked.save(tmp_path)
    assert problems(tmp_path / "report.html", browser() or "") == []
