"""Intervals from joint counts: images and draws shared by all σ, the clean accuracy's own error, networks."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wn
from reference.naive_midpoint import jackknife_error, log_midpoint
from tests.fit.accuracy_curves import Floats, logistic
from wn.basics.errors import WnError
from wn.basics.groups import GROUPS, group_sizes, totals, variance_of_sum
from wn.fit.intervals import Counts, fit_repeats, floor_of
from wn.fit.midpoint import Midpoint, fit_midpoint
from wn.walking.results import WalkResult

COARSE, FINE = np.logspace(-1, 2, 7), np.logspace(-1, 2, 25)


def images(n: int, seed: int, floor: float = 0.1, sigma: Floats = COARSE) -> tuple[Any, Any]:
    """Which images are right at each σ (S, n), and without noise (n,): each falls at a σ of its own.

    The image is lost for good beyond its σ, or right by luck: counts of neighbouring σ err together.
    """
    rng = np.random.default_rng(seed)
    clean = rng.random(n) < 0.9
    falls_at = np.exp(rng.logistic(math.log(3), 1 / 2, n))
    lucky = rng.random(n) < floor / 0.9
    return clean & ((sigma[:, None] < falls_at) | lucky), clean


def by_group(right: Any) -> Any:
    """Counts by group: image i belongs to group i mod 64."""
    groups = len(group_sizes(right.shape[-1]))
    return np.stack([right[..., g::groups].sum(axis=-1) for g in range(groups)], axis=-1)


def fit(right: Any, clean: Any, sigma: Floats = COARSE, **options: Any) -> Midpoint:
    n = clean.size
    options = {"clean_accuracy": clean.mean(), "chance": 0.1, "clean_by_group": by_group(clean)} | options
    return fit_midpoint(sigma, by_group(right), totals(n, sigma.size), **options)


# ---- groups ---------------------------------------------------------------------------------------------


@given(st.integers(1, 1000))
def test_groups_hold_all_images_and_none_is_empty(n: int) -> None:
    sizes = group_sizes(n)
    assert sizes.sum() == n
    assert sizes.size == min(n, GROUPS)
    assert 1 <= sizes.min() <= sizes.max() <= sizes.min() + 1
    assert sizes.tolist() == by_group(np.ones(n, bool)).tolist()


def test_variance_of_a_sum_of_independent_parts() -> None:
    rng = np.random.default_rng(0)
    found = [variance_of_sum(rng.normal(5, 2, 64)) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(64 * 4, rel=0.02)


# ---- standard error -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("floor", "end"), [("chance", 0.1), ("free", 0.25)])
def test_the_standard_error_is_that_of_refits_without_one_group(floor: str, end: float) -> None:
    right, clean = images(3000, 1, end)
    found = fit(right, clean, floor=floor)
    sizes = group_sizes(clean.size).astype(float)

    def refitted(k: Floats, n: Floats, a0: float) -> float:
        return log_midpoint(COARSE, k, n, a0, 0.1, floor)

    naive = jackknife_error(refitted, by_group(right), sizes, by_group(clean))
    print(f"standard error {found.standard_error:.5f}, by brute force {naive:.5f}")
    assert found.standard_error == pytest.approx(naive, rel=0.03)
    assert found.interval == "joint"
    without = fit(right, clean, floor=floor, clean_by_group=None).standard_error
    assert without != pytest.approx(naive, rel=0.03)  # the planted bug: a0 taken as exact


def test_counts_alone_are_taken_for_independent() -> None:
    right, clean = images(3000, 1, sigma=FINE)
    counts, total = right.sum(axis=1), np.full(FINE.size, clean.size)
    alone = fit_midpoint(FINE, counts, total, clean_accuracy=clean.mean(), chance=0.1)
    joint = fit(right, clean, FINE)
    assert (alone.interval, joint.interval) == ("independent", "joint")
    for name in ("midpoint", "slope", "location", "floor", "dispersion"):
        assert getattr(alone, name) == getattr(joint, name)
    assert joint.standard_error > 1.4 * alone.standard_error
    one_group = (counts[:, None], total[:, None])
    same = fit_midpoint(FINE, *one_group, clean_accuracy=clean.mean(), chance=0.1)
    assert (same.ci_low, same.ci_high, same.interval) == (alone.ci_low, alone.ci_high, "independent")


@pytest.mark.parametrize("sigma", [COARSE, FINE], ids=["coarse", "fine"])
@pytest.mark.parametrize(("floor", "end"), [("chance", 0.1), ("free", 0.25)])
def test_coverage_with_shared_draws(sigma: Floats, floor: str, end: float) -> None:
    """95 % intervals of curves whose σ share images and draws; independent ones hold it too seldom."""
    runs, n = 150, 1000
    p = logistic(sigma, 3.0, 2.0, 0.9, end)
    exact = np.rint(p * 1e9)
    truth = fit_midpoint(
        sigma, exact, np.full(sigma.size, 1e9), clean_accuracy=0.9, chance=0.1, floor=floor
    ).midpoint
    joint = alone = 0
    for seed in range(runs):
        right, clean = images(n, 100 + seed, end, sigma)
        found = fit(right, clean, sigma, floor=floor)
        joint += found.ci_low <= truth <= found.ci_high
        old = fit_midpoint(
            *(sigma, right.sum(axis=1), np.full(sigma.size, n)),
            clean_accuracy=clean.mean(),
            chance=0.1,
            floor=floor,
        )
        alone += old.ci_low <= truth <= old.ci_high
    z, z_alone = ((hits - 0.95 * runs) / math.sqrt(0.95 * 0.05 * runs) for hits in (joint, alone))
    print(f"joint {joint}/{runs}, z = {z:.2f}; independent {alone}/{runs}, z = {z_alone:.2f}")
    assert abs(z) < 3
    assert z_alone < -6 or sigma is COARSE  # the more levels there are, the more often each image is counted


def test_more_groups_than_images_are_not_asked_for() -> None:
    """Ten images are ten groups, with Student's quantile for 9 degrees of freedom."""
    right, clean = images(10, 3)
    found = fit(right, clean)
    assert not found.reached or found.interval == "joint"
    right, clean = images(40, 5)
    found = fit(right, clean)
    assert found.reached
    assert found.ci_low < 3 < found.ci_high


@pytest.mark.parametrize("floor", ["chance", "free"])
@pytest.mark.parametrize("n", [3, 64, 640])
def test_groups_that_do_not_scatter_have_an_interval(n: int, floor: str) -> None:
    """The variance is 0: every group is right up to the same σ, and wrong from the next."""
    sizes = totals(n, COARSE.size)
    correct = np.where(COARSE[:, None] < 3, sizes, sizes // 10)
    found = fit_midpoint(
        *(COARSE, correct, sizes), clean_accuracy=1.0, chance=0.1, floor=floor, clean_by_group=sizes[0]
    )
    if found.reached:
        assert found.ci_low <= found.midpoint <= found.ci_high
        assert math.isfinite(found.standard_error)
    assert found.reached or n < 64


# ---- falls ----------------------------------------------------------------------------------------------


def test_one_network_that_falls_in_jumps_has_a_midpoint() -> None:
    """The levels of one network scatter by nothing but images: a curve that is no logistic one is a fact."""
    rng, n = np.random.default_rng(2), 1000
    sigma, p = np.logspace(-1, 1.5, 6), np.array([0.9, 0.9, 0.3, 0.7, 0.1, 0.1])
    right, clean = rng.random(n) < p[:, None], rng.random(n) < 0.9
    found = fit(right, clean, sigma)
    assert found.reached
    assert found.ci_high / found.ci_low < 2
    own = fit(right, clean, sigma, own_networks=True)
    assert own.reached
    assert own.ci_high / own.ci_low > 100 * found.ci_high / found.ci_low


@pytest.mark.parametrize("own_networks", [False, True])
def test_level_curves_with_shared_draws_are_not_reached(own_networks: bool) -> None:
    """At all σ the same images are right, but for a few."""
    rng, n, reached = np.random.default_rng(7), 1000, 0
    for _ in range(60):
        base, flips = rng.random(n) < 0.5, rng.random((COARSE.size, n)) < 0.05
        clean = rng.random(n) < 0.9
        reached += fit(base ^ flips, clean, own_networks=own_networks).reached
    assert reached == 0


# ---- files ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walked() -> WalkResult:
    small = {"train_limit": 600, "test_limit": 500, "epochs": 2, "model": "mlp-16", "where": [0, 4]}
    return wn.walk(**small, sigma="0.1:1000:8", learning_rate=0.01)


@pytest.mark.parametrize("phase", ["inference", "training"])
def test_the_interval_of_a_walk_follows_from_its_files(
    walked: WalkResult, tmp_path: Path, phase: str
) -> None:
    """As docs/midpoint.md does it."""
    walked.save_tables(tmp_path)
    run = json.loads((tmp_path / "run.json").read_text())
    with (tmp_path / "curves.csv").open() as file:
        curves = list(csv.DictReader(file))
    counts = {
        name: np.array([text.split() for text in texts], int)
        for name, texts in run["correct_by_group"].items()
    }
    assert counts["curves"].sum(axis=1).tolist() == [int(row["correct"]) for row in curves]
    assert counts["clean"].sum(axis=1).tolist() == [right for right, _ in run["clean_correct"]]
    for place, row in enumerate(walked.midpoints):
        if row["phase"] != phase:
            continue
        rows = [n for n, c in enumerate(curves) if (c["phase"], int(c["site"])) == (phase, row["site"])]
        again = fit_midpoint(
            *([float(curves[n]["sigma"]) for n in rows], counts["curves"][rows], totals(500, len(rows))),
            clean_accuracy=run["clean_correct"][0][0] / 500,
            chance=run["chance"],
            floor=floor_of(phase, "additive"),
            clean_by_group=counts["clean"].sum(axis=0),
            own_networks=phase == "training",
        )
        assert (row["midpoint"], row["ci_low"], row["ci_high"]) == pytest.approx(
            (again.midpoint, again.ci_low, again.ci_high), rel=1e-12, nan_ok=True
        )
        assert run["fits"][place]["interval"] == again.interval == "joint"


# ---- bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("correct", "total", "clean", "message"),
    [
        ([[1, 1]], [[2, 2], [2, 2]], None, "must be equally long, not 1, 1 and 2"),
        ([[1, 1]], [[2, 2, 2]], None, r"correct and total must have one shape, not \(1, 2\) and \(1, 3\)"),
        ([[1, 1]], [4], None, r"correct and total must have one shape, not \(1, 2\) and \(1,\)"),
        ([[1, 3]], [[2, 2]], None, "correct must lie between 0 and total, not 3 of 2"),
        ([[1, 0]], [[2, 0]], None, "total must be at least 1, not 0"),
        ([[1, 1]], [[2, 2]], [1], "clean_by_group must have one count per group, 2, not 1"),
        ([[1, 1]], [[2, 2]], [1, -1], "clean_by_group must not be negative, not -1"),
        ([[1, 1]], [[2, 2]], [1, 0.5], "clean_by_group must hold whole numbers, not 0.5"),
        ([[1, 1]], [[2, 2]], [0, 0], "adds up to 0 correct answers, clean_accuracy is 0.9 of 4 images"),
        ([[9, 9]], [[10, 10]], [5, 4], "adds up to 9 correct answers, clean_accuracy is 0.9 of 20 images"),
        ([[[1]]], [[[2]]], None, "correct must be a non-empty 1-d or 2-d array of numbers"),
    ],
)
def test_bad_groups_are_refused(correct: Any, total: Any, clean: Any, message: str) -> None:
    with pytest.raises(WnError, match=message):
        fit_midpoint([1.0], correct, total, clean_accuracy=0.9, chance=0.1, clean_by_group=clean)


@pytest.mark.parametrize("networks", [1, 3])
def test_clean_answers_of_several_networks_are_taken(networks: int) -> None:
    fit = fit_midpoint(
        [1.0, 2.0], [[8, 8], [1, 1]], [[10, 10]] * 2,
        clean_accuracy=0.9, chance=0.1, clean_by_group=[9 * networks] * 2,
    )  # fmt: skip
    assert fit.reached


@pytest.mark.parametrize("name", ["clean_accuracy", "chance"])
@pytest.mark.parametrize("value", [None, "0.1", True, [0.1]])
def test_accuracies_are_numbers(name: str, value: Any) -> None:
    accuracies = {"clean_accuracy": 0.9, "chance": 0.1} | {name: value}
    with pytest.raises(WnError, match=f"{name} is .*: it must be a number"):
        fit_midpoint([1.0], [1], [2], **accuracies)


def test_repeats_are_counted_alike() -> None:
    alone, apart = Counts(*np.ones((3, 2))), Counts(np.ones(2), np.ones((2, 4)), np.ones((2, 4)))
    with pytest.raises(WnError, match="repeats must all be counted in the same groups"):
        fit_repeats([alone, apart], 0.9, 0.1, "chance")
