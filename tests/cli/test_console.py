"""What is printed of a walk is legible at 80 columns, on a terminal and in a file."""

import io
import math
import re
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from wn.cli import console, midpoints_console
from wn.fit.midpoint import ALREADY_BELOW, NEVER_FALLS, NO_NOISE, NOT_LEARNT, root_sum_square_rule
from wn.walking.results import CURVE_COLUMNS, MIDPOINT_COLUMNS, WalkResult

SIGMA = (0.01, 1.0, 1e10)


def result(
    sites: dict[int, str],
    phases: tuple[str, ...] = ("inference", "training"),
    reasons: tuple[str, ...] = ("", NEVER_FALLS, ALREADY_BELOW),
    noise: str = "additive",
) -> WalkResult:
    """A walk in which every third midpoint is reached; the others lie below or above the grid."""
    names = ("speech-commands", "cnn-l", "hidden", noise, 2**63, "numpy")
    curves = [
        (*names, phase, site, name, sigma, 0, 50, 100, 0.5)
        for phase in phases
        for site, name in sites.items()
        for sigma in SIGMA
    ]
    midpoints, why = [], []
    for phase in phases:
        for site, name in sites.items():
            reason = reasons[site % len(reasons)]
            numbers = (1234.5 + site, 0.000123456, math.inf, 2.0) if not reason else (math.nan,) * 4
            crossing = (999.5 + site, 0.00000765, math.inf) if not reason else (math.nan,) * 3
            midpoints.append((*names, phase, site, name, *numbers, not reason, 0.9, *crossing))
            why.append(reason)
    settings = {"epochs": 150, "repeats": 3, "seed": 2**63}
    return WalkResult(
        np.array(curves, CURVE_COLUMNS),
        np.array(midpoints, MIDPOINT_COLUMNS),
        tuple(why),
        {"settings": settings},
    )


def printed(walk: WalkResult, **options: Any) -> str:
    text = io.StringIO()
    midpoints_console.print_midpoints(Console(file=text, width=80, **options), walk)
    return text.getvalue()


SITES = {site: f"relu{site}" for site in range(32)}


def test_midpoints_fit_80_columns() -> None:
    text = printed(result(SITES))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    assert "\x1b" not in text
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    midpoints, crossings = rows[:32], rows[32:]
    for table in (midpoints, crossings):
        assert [row[:2] for row in table] == [[str(site), name] for site, name in SITES.items()]
    assert midpoints[0][2:] == ["1.23e+03 [0.000123, ∞]"] * 2
    assert midpoints[1][2:] == ["not reached up to 1e+10"] * 2
    assert midpoints[2][2:] == ["below 0.01"] * 2
    assert [row[2:] for row in crossings[:3]] == [["1e+03 [7.65e-06, ∞]"] * 2, ["", ""], ["", ""]]
    assert "Crossings σ [95 % interval]: where the measured accuracies" in " ".join(text.split())
    for part in (
        "speech-commands",
        "cnn-l",
        "hidden",
        "additive",
        "95 %",
        "0.9000",
        "150",
        "seed",
        str(2**63),
    ):
        assert part in text


def test_crossings_of_one_phase_stand_beside_the_midpoints() -> None:
    lines = printed(result(SITES, ("inference",), ("",))).splitlines()
    assert max(map(len, lines)) <= 80
    (head,) = (line for line in lines if "crossing" in line)
    assert re.search(r"name +┃ +inference +┃ +crossing", head)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert rows[0] == ["0", "relu0", "1.23e+03 [0.000123, ∞]", "1e+03 [7.65e-06, ∞]"]
    assert len(rows) == len(SITES)


def test_the_rule_for_global_noise_takes_the_midpoints_of_single_sites() -> None:
    predicted = root_sum_square_rule([1234.5 + site for site in SITES])
    text = " ".join(printed(result(SITES, reasons=("",))).split())
    assert f"at these 32 sites at once, by the root-sum-square rule: midpoint ≈ {predicted:.3g}" in text
    assert f"at inference ({midpoints_console.RULE_ERRORS})." in text
    assert "rule" not in printed(result(SITES, ("training",), ("",)))
    for noise in ("multiplicative", "mixed", "mixed-add-mul"):  # where it is wrong by half and more
        assert "rule" not in printed(result(SITES, reasons=("",), noise=noise))
    assert "rule" not in printed(result({-1: "global"}, reasons=("",)))
    assert "rule" not in printed(result({3: "relu3"}, reasons=("",)))


def test_a_mean_leaves_no_rule() -> None:
    """What is added to every value of all sites adds up as it is, not as variances do."""
    for mean, told in ((0.0, True), (None, True), (0.5, False)):
        walk = result(SITES, reasons=("",))
        walk.run["asked"] = {"mean": mean}
        assert ("rule" in printed(walk)) == told


def test_sites_that_never_fall_make_the_rule_a_bound() -> None:
    predicted = root_sum_square_rule([1234.5 + site for site in SITES if site % 2 == 0])
    text = " ".join(printed(result(SITES, reasons=("", NEVER_FALLS))).split())
    assert f"root-sum-square rule: midpoint at most {predicted:.3g} at inference" in text
    assert "rule" not in printed(result(SITES, reasons=(NEVER_FALLS,)))  # of nothing


@pytest.mark.parametrize("reason", [ALREADY_BELOW, NOT_LEARNT, NO_NOISE])
def test_a_site_without_a_known_bound_leaves_no_rule(reason: str) -> None:
    assert "rule" not in printed(result(SITES, reasons=("", reason)))
    assert "rule" not in printed(result(SITES, reasons=("", NEVER_FALLS, reason)))
    walk = result(SITES, reasons=("",))  # at inference; training does not matter
    told = WalkResult(walk.curves, walk.midpoints, ("",) * 32 + (reason,) * 32, walk.run)
    assert "rule" in printed(told)


def test_a_walk_without_noise_says_so() -> None:
    assert "hidden, no noise" in " ".join(printed(result({0: "input"}, noise="none")).split())


@pytest.mark.parametrize(("site", "name"), [(-1, "global"), (-2, "mapped")])
def test_places_of_several_sites_have_no_number(site: int, name: str) -> None:
    assert re.search(rf"│ +│ {name} │", printed(result({site: name})))


def test_other_reasons_are_told() -> None:
    walk = result({0: "input"})
    walk.midpoints["reached"] = False
    told = WalkResult(walk.curves, walk.midpoints, (NO_NOISE,) * 2, walk.run)
    assert NO_NOISE in " ".join(printed(told).replace("│", " ").split())


def test_progress_in_a_file_is_a_line_per_tenth() -> None:
    text = io.StringIO()
    with console.progress(Console(file=text, width=80), "walking") as report:
        for finished in range(1, 1001):
            report(finished, 1000)
    lines = text.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[0] == "walking: 0 % (1 of 1000 network-epochs)"
    assert lines[-1] == "walking: 100 % (1000 of 1000 network-epochs); evaluating"
    assert "\x1b" not in text.getvalue()


def test_progress_on_a_terminal_is_a_bar() -> None:
    text = io.StringIO()
    with console.progress(Console(file=text, width=80, force_terminal=True), "walking") as report:
        report(3, 4)
    assert "3/4 network-epochs" in text.getvalue()
    assert "75%" in text.getvalue()


def test_downloads_on_a_terminal_are_bars() -> None:
    text = io.StringIO()
    with console.downloads(Console(file=text, width=80, force_terminal=True)) as start:
        bar = start("file.gz")
        bar.total = 2000
        bar.update(1000)
        assert bar.total == 2000
        bar.close()
    assert "file.gz" in text.getvalue()
    assert "1.0/2.0 kB" in text.getvalue()


def test_curves_that_do_not_fit_are_said() -> None:
    """The kind: an interval about a fitted curve, read as one about where the accuracies cross half-way."""
    walk = result({0: "input", 3: "relu1", 6: "relu2"}, phases=("training",))
    crossings = (1e-5, 1500.0, math.nan)  # the intervals reach from 0.000123 to infinity
    walk.run["fits"] = [{"measured_crossing": crossing} for crossing in crossings]
    text = " ".join(printed(walk).split())
    said = "training, input: the accuracies fall through half-way at 1e-05, outside of the interval"
    assert said in text
    assert text.count("outside of the interval") == 1
