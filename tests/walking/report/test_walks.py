"""The page of a walk: what it says follows from the result, and looks right in a browser."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wn
from tests.checks.book import browser
from tests.checks.report import problems
from tests.study.runs import TINY, networks, run
from tests.walking.report.test_page import Text
from tests.walking.saved.networks import made, trained
from wn.analysis.intervals import wilson
from wn.engine.files import checkpoint
from wn.fit.midpoint import Midpoint
from wn.walking.report import walks
from wn.walking.report.curves import Curve, by_place, line_of, midpoint_table
from wn.walking.report.numbers import share
from wn.walking.report.page import Section, Table
from wn.walking.report.walks import curves_of, report
from wn.walking.results import WalkResult, to_draw
from wn.walking.saved.origin import origin_of

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


# ---- networks on disk -------------------------------------------------------------------------------------


def on_disk(network: Path, **settings: Any) -> WalkResult:
    return wn.walk(network=network, test_limit=300, sigma="0.1:1000:6", where=[0, 2], **settings)


def rows_of_run(result: WalkResult) -> dict[str, str]:
    """What the section "What was run" says, by the words before it."""
    (section,) = [part for part in sections(result) if part.title == "What was run"]
    (table,) = section.parts
    assert isinstance(table, Table)
    return {str(name): str(value) for name, value in table.rows}


def sections(result: WalkResult, **run: Any) -> list[Section]:
    with pytest.MonkeyPatch.context() as patch:
        found: list[Section] = []
        patch.setattr(walks, "page", lambda title, lead, parts: found.extend(parts) or "")
        report(to_draw(result), result.run | run)
    return found


def test_a_network_on_disk_is_what_its_file_says(tmp_path: Path) -> None:
    """Also where this walk's data set has other numbers: the training is none of this run."""
    noise = {"noise": "additive", "sigma": 0.5, "where": "0:2,relu1:1"}
    path = trained(tmp_path, train_limit=500, epochs=1, clamp=True, **noise)
    found = on_disk(path)
    rows = rows_of_run(found)
    assert rows["on disk"] == str(path)
    assert rows["trained on"] == "500 images of fashion-mini"
    assert rows["trained with"] == ("1 epoch, batch size 128, learning rate 0.01, weights clamped to [−1, 1]")
    assert rows["trained under"] == "additive noise, σ 0.5, at sites 0 (σ × 2.0), 2 (σ × 1.0)"
    assert "training images" not in rows
    assert "10,000" not in words(found)
    assert "trained clean" not in words(found)
    assert "trained and evaluated without noise" not in words(found)


def test_a_file_may_say_nothing_of_its_training(tmp_path: Path) -> None:
    rows = rows_of_run(on_disk(made(tmp_path, {"command": "import", "seed": 0}), dataset="fashion-mini"))
    assert {rows[f"trained {word}"] for word in ("on", "with", "under")} == {"its file does not say"}


def test_a_network_of_a_study_is_what_its_unit_says(tmp_path: Path) -> None:
    run(tmp_path / "study", TINY)
    path, *_ = networks(tmp_path / "study")
    unit = checkpoint.load(path).record["unit"]
    rows = rows_of_run(on_disk(path))
    assert rows["trained on"] == f"{unit['train_limit']:,} images of fashion-mini"
    assert rows["trained with"].startswith(f"{unit['epochs']} epoch")
    assert rows["trained under"] == "no noise"
    assert origin_of({"unit": unit | {"train_limit": None}}).images == 10_000


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just([0, 1])
PARTS = ("settings", "unit", "data", "samples", "train", "name", "epochs", "where", "factors", "noise")
RECORDS = st.recursive(
    VALUES, lambda inner: st.dictionaries(st.sampled_from(PARTS), inner, max_size=4), max_leaves=12
)


@given(record=RECORDS, command=st.sampled_from(["train", "import"]))
def test_any_record_has_words(record: Any, command: str) -> None:
    """A record is what somebody wrote into a file."""
    record = record | {"command": command} if isinstance(record, dict) else record
    assert all(isinstance(value, str) for value in origin_of(record).rows.values())


def test_repeats_of_one_network_have_one_clean_accuracy(tmp_path: Path) -> None:
    """Three evaluations of the same network are no scatter: the interval is that of its images."""
    found = on_disk(trained(tmp_path), repeats=3)
    (table,) = next(part.parts for part in sections(found) if part.title == "Clean accuracy")
    assert isinstance(table, Table)
    correct, total = found.run["clean_correct"][0]
    assert found.run["clean_correct"] == [[correct, total]] * 3
    expected = wilson(correct, total)
    assert table.rows[0][0] == share(*expected)
    assert table.rows[0][3] == 1
    assert expected.low < expected.high


LIKE_PUBLISHED = {"noise": "none", "epochs": 7, "clamp_weights": False}
ON_MNIST = {"name": "mnist", "samples": {"train": 60_000}}


@pytest.mark.parametrize(
    ("record", "compared"),
    [
        ({"settings": LIKE_PUBLISHED}, True),
        ({"settings": LIKE_PUBLISHED | {"noise": "additive"}}, False),
        ({"settings": LIKE_PUBLISHED | {"clamp_weights": True}}, False),
        ({"settings": LIKE_PUBLISHED, "data": ON_MNIST | {"name": "fashion-mnist"}}, False),
        ({"command": "import"}, False),
    ],
)
def test_published_midpoints_stand_beside_networks_trained_alike(
    walked: WalkResult, record: dict[str, Any], compared: bool
) -> None:
    asked = {"dataset": "mnist", "model": "mlp", "batch_norm": "none", "noise": "additive"}
    disk = {"record": {"command": "train", "data": ON_MNIST} | record, "seeds": [1, 2]}
    settings = {"network": "file", "epochs": None}
    parts = sections(walked, asked=asked, settings=settings, network=disk)
    found = [part for part in parts if part.title == "Published against reproduced"]
    assert bool(found) == compared
    for part in found:
        (table,) = (one for one in part.parts if isinstance(one, Table))
        assert [row[-2:] for row in table.rows] == [[7, "60000 / all"]] * 2


def test_mapped_noise_names_its_sites() -> None:
    result = wn.walk(**SMALL, sigma="0.1,1,10", where="0:0.5,relu1:2", phase="inference")
    assert rows_of_run(result)["mapped noise"] == "0 input × 0.5, 2 relu1 × 2"


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
