"""A point at which numbers leave the range of the type fails alone; the others keep their bits.

The kind: σ that overflows in training or at inference, at one place or at several sites at once, beside other
σ in one population or alone; a clean network that diverges; walks, studies and single trainings; with batch
norm, which finds in the middle of a step that it was given what is not finite.
"""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import wn
from tests.cli.command_line import run
from tests.study.runs import TINY
from tests.walking.small_walks import changed, small_data, walk_for
from wn.basics.errors import WnError
from wn.engine import backends, models, training
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.ranges import OutOfRange
from wn.engine.training import TrainSettings
from wn.fit.intervals import NO_POINTS
from wn.fit.midpoint import NEVER_FALLS
from wn.random import member_seed
from wn.study import parse_study, units
from wn.study.execution.run import load_facts
from wn.study.execution.worker import Task, run_task
from wn.walking import measurement
from wn.walking.jobs import run_jobs
from wn.walking.pictures import plots
from wn.walking.places import PHASES, Place, places
from wn.walking.results import WalkResult, to_draw
from wn.walking.walk import Walk

BACKENDS = ("numpy", "numba")
HUGE = 3e38  # a standard normal draw times this leaves float32 sooner or later
SMALL: dict[str, Any] = {"train_limit": 200, "test_limit": 100, "epochs": 2, "seed": 4, "where": [0, 7]}


class Failure(NamedTuple):
    phase: str
    place: Place
    repeat: int
    sigma: float
    reason: str


Points = dict[tuple[str, str, int, float], int]


def results_of(walk: Walk, name: str = "numpy", threads: int = 1) -> tuple[Points, list[Failure]]:
    """The number of correct answers by phase, place, repeat and σ, and the failures in order."""
    walk = changed(walk)
    with single_threaded_blas(), ThreadPoolExecutor(threads) as executor:
        run_jobs(backends.get(name), walk.jobs(), executor, lambda members: None, walk.setup.train.epochs)
    points = {
        (phase, place.name, repeat, float(sigma)): int(correct.sum())
        for phase, place, repeat, counts in walk.curves()
        for sigma, correct in zip(counts.sigma, counts.correct, strict=True)
    }
    failures = [
        Failure(walk.phases[phase], walk.places[place], repeat, float(walk.sigma[sigma]), reason)
        for (phase, place, repeat, sigma), reason in sorted(walk.failures.items())
    ]
    return points, failures


def three_epochs(**changes: Any) -> Walk:
    plan = walk_for(train=TrainSettings(epochs=3, batch_size=32, learning_rate=1e-2), repeats=2)
    return changed(plan, places=(plan.places[0], plan.places[-1]), **changes)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("members", [1, 3, 16])
def test_a_point_fails_and_the_others_have_the_same_bits(name: str, members: int) -> None:
    """In both phases, whatever is computed side by side, and also where the σ that fail are not the last."""
    fine = np.array([0.0, 0.3, 2.0, 40.0])
    alone, none = results_of(three_epochs(sigma=fine), name)
    assert none == []
    sigma = np.array([0.0, 0.3, 1e37, HUGE, 2.0, 40.0])
    found, failures = results_of(three_epochs(sigma=sigma, members=members), name)
    assert {key: found[key] for key in alone} == alone
    failed = {(*failure[:1], failure.place.name, failure.repeat, failure.sigma) for failure in failures}
    assert len(failed) == len(failures)
    assert failed.isdisjoint(found)
    assert len(found) + len(failed) == 2 * 2 * 2 * len(sigma)
    for phase in PHASES:
        assert {(phase, place, repeat, HUGE) for place in ("input", "logits") for repeat in (0, 1)} <= failed
    assert {key[3] for key in failed} <= {1e37, HUGE}
    for failure in failures:
        start = "logits are out of" if failure.phase == "inference" else "training left"
        assert failure.reason.startswith(f"{start} the range of float32")
        assert "member" not in failure.reason


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("where", ["global", "mapped"])
@pytest.mark.parametrize("model", ["mlp-8", "lenet5"])
def test_noise_at_several_sites_at_once(name: str, where: str, model: str) -> None:
    network = models.build(model, (1, 28, 28), 10)
    chosen = places(network, where, {0: 1.0, 2: 0.5} if where == "mapped" else None)
    plan = walk_for(model, dataset=small_data(64, 40), sigma=np.array([0.5, HUGE]), places=chosen)
    found, failures = results_of(plan, name)
    assert [(failure.phase, failure.sigma) for failure in failures] == [(p, HUGE) for p in PHASES]
    only, none = results_of(changed(plan, sigma=np.array([0.5])), name)
    assert (found, none) == (only, [])


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("batch_norm", ["sites", "hidden"])
def test_batch_norm_refuses_the_members_concerned_alone(name: str, batch_norm: str) -> None:
    """It ends a step before anything is changed: those beside them have the bits that they have alone."""
    fine = np.array([0.3, 2.0])
    plan = walk_for("mlp-8", batch_norm, sigma=fine, phases=("training",))
    plan = changed(plan, places=places(plan.setup.network, [0, 1]))
    alone, none = results_of(plan, name)
    found, failures = results_of(changed(plan, sigma=np.array([HUGE, 0.3, 3.2e38, 2.0])), name)
    assert (found, none) == (alone, [])
    reason = "batch norm: an activation is not finite in float32"
    assert [(f.place.site, f.sigma, f.reason) for f in failures] == [
        (site, sigma, reason) for site in (0, 1) for sigma in (HUGE, 3.2e38)
    ]


def test_members_that_fail_in_different_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each leaves the population when it fails; the rest go on from the step that they have done."""
    steps: list[int] = []
    original = training.check_finite

    def check(what: str, values: Any, epoch: int, dtype: Any) -> None:
        if what == "loss":
            steps.append(len(values))
            reasons = {
                m: f"planned, {epoch}" for m, loss in enumerate(values) if planned.get(len(values)) == m
            }
            if reasons:
                del planned[len(values)]
                raise OutOfRange("planned", reasons)
        original(what, values, epoch, dtype)

    sigma = np.array([0.1, 0.2, 0.4, 0.8])
    plan = three_epochs(sigma=sigma, phases=("training",), repeats=1)
    plan = changed(plan, places=plan.places[:1])
    alone, _ = results_of(plan)
    planned = {4: 1}  # of four members the second fails after the first epoch, then of three the first
    monkeypatch.setattr(training, "check_finite", check)
    steps.clear()
    planned[3] = 0
    found, failures = results_of(plan)
    assert [(failure.sigma, failure.reason) for failure in failures] == [
        (0.1, "planned, 0"),
        (0.2, "planned, 0"),
    ]
    wanted = {key: correct for key, correct in alone.items() if key[3] > 0.2}
    assert found == wanted
    assert [count for count in steps if count > 1] == [4, 3, 2, 2, 2]


def test_memory_that_ends_beside_a_member_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves of those that are left go on, and each point is the point of its own σ."""
    sigma = np.array([0.1, HUGE, 0.2, 0.4, 0.8, 1.6])
    plan = three_epochs(sigma=sigma, phases=("training",), repeats=1)
    wanted, _ = results_of(plan)
    original = measurement.evaluate

    def evaluate(be: Any, network: Any, population: Any, *arguments: Any, **options: Any) -> Any:
        if len(population.seeds) > 2:
            raise MemoryError
        return original(be, network, population, *arguments, **options)

    monkeypatch.setattr(measurement, "evaluate", evaluate)
    found, failures = results_of(plan)
    assert found == wanted
    assert [(failure.place.name, failure.sigma) for failure in failures] == [
        ("input", HUGE),
        ("logits", HUGE),
    ]


def test_a_clean_network_that_fails_fails_its_points_at_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = three_epochs(sigma=np.array([0.5, 2.0]))
    wanted, _ = results_of(plan)
    original, second = measurement.train, (member_seed(plan.seed, 1),)

    def train(*arguments: Any, seeds: tuple[int, ...], noise: Any, **options: Any) -> Any:
        if seeds == second and not noise:
            raise OutOfRange("planned", {0: "planned"})
        return original(*arguments, seeds=seeds, noise=noise, **options)

    monkeypatch.setattr(measurement, "train", train)
    found, failures = results_of(plan)
    kept = {key: n for key, n in wanted.items() if key[0] == "training" or key[2] == 0}
    assert found == kept
    assert {(f.phase, f.repeat, f.reason) for f in failures} == {
        ("inference", 1, "the clean network: planned")
    }
    assert len(failures) == 2 * 2


def test_where_nothing_has_a_result_the_walk_ends_with_one_line() -> None:
    with pytest.raises(
        WnError, match=r"^input, σ 1e\+38: .* range of float32.*; use a smaller σ or float64$"
    ):
        wn.walk(**SMALL, sigma="1e38,3e38", learning_rate=1e30, backend="numpy")
    with pytest.raises(WnError, match=r"^input, σ 3e\+38: logits are out of the range of float32; use"):
        wn.walk(**SMALL, sigma="3e38", phase="inference", backend="numpy")


# ---- what the user sees -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walked() -> WalkResult:
    return wn.walk(**SMALL, sigma="0.5,5.0,1e10,3e38", backend="numpy", repeats=2)


def test_results_tell_measured_points_from_failures(walked: WalkResult) -> None:
    assert np.isfinite(walked.curves["accuracy"]).all()
    assert set(walked.curves["sigma"]) == {0.5, 5.0, 1e10}
    assert set(walked.failures["sigma"]) == {HUGE}
    assert walked.failures[["phase", "site", "site_name", "repeat"]].tolist() == [
        (phase, site, name, repeat)
        for phase in PHASES
        for site, name in ((0, "input"), (7, "logits"))
        for repeat in (0, 1)
    ]
    assert all("range of float32" in reason for reason in walked.failures["reason"].tolist())
    without = wn.walk(**SMALL, sigma="0.5,5.0,1e10", backend="numpy", repeats=2)
    assert not len(without.failures)
    assert without.curves.tolist() == walked.curves.tolist()
    assert without.midpoints.tobytes() == walked.midpoints.tobytes()
    assert without.reasons == walked.reasons


def test_progress_grows_to_its_end_where_points_fail() -> None:
    told: list[tuple[int, int]] = []
    settings = SMALL | {"epochs": 3, "where": [0]}
    wn.walk(**settings, sigma="0.5,1e10,3e38", backend="numpy", progress=lambda *state: told.append(state))
    assert told[-1] == (3 * 4, 3 * 4)


def test_tables_have_a_row_for_each_failure(walked: WalkResult, tmp_path: Path) -> None:
    walked.save_tables(tmp_path)
    with (tmp_path / "curves.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    measured = [row for row in rows if not row["failure"]]
    failed = [row for row in rows if row["failure"]]
    assert rows == measured + failed
    assert [int(row["correct"]) for row in measured] == walked.curves["correct"].tolist()
    assert [row["failure"] for row in failed] == walked.failures["reason"].tolist()
    assert {row[name] for row in failed for name in ("correct", "total", "accuracy")} == {""}
    assert [float(row["sigma"]) for row in failed] == walked.failures["sigma"].tolist()
    assert None not in {value for row in rows for value in row.values()}


def test_pictures_show_failures_and_leave_them_out_of_curves(walked: WalkResult, tmp_path: Path) -> None:
    figure = plots.curves_figure(to_draw(walked))
    for axes in figure.axes:
        lines = {str(line.get_gid()): line for line in axes.lines}
        for site in (0, 7):
            assert list(lines[f"failed{site}"].get_xdata()) == [HUGE]
            assert HUGE not in list(lines[f"site{site}"].get_xdata())
        assert axes.get_xlim()[1] > HUGE
    assert "no result" in [text.get_text() for text in figure.legends[0].get_texts()]
    walked.save_pictures(tmp_path)


def test_a_curve_without_any_point_is_drawn_and_not_reached(tmp_path: Path) -> None:
    """Here in the phase training, where σ is too large for the gradients."""
    found = wn.walk(**SMALL, sigma="1e36,3e36", backend="numpy")
    reasons = dict(zip(found.midpoints[["phase", "site"]].tolist(), found.reasons, strict=True))
    assert reasons["training", 0] == NO_POINTS
    assert reasons["inference", 0] not in ("", NO_POINTS)
    found.save(tmp_path)


@pytest.mark.parametrize("phase", PHASES)
def test_the_command_says_which_points_failed(phase: str, tmp_path: Path) -> None:
    limits = (
        "--train-limit 200 --test-limit 100 --epochs 1 --where 7 --backend numpy --sigma 0.001,0.002,3e38"
    )
    code, out, err = run("walk", *limits.split(), "--phase", phase, "--out", tmp_path)
    assert code == 1
    lines = err.splitlines()
    assert "wn: 1 of 3 points have no result; smaller σ or float64 would have one:" in lines
    assert any(line.startswith(f"  {phase}, logits, repeat 0, σ 3e+38: ") for line in lines)
    assert "not reached up to 0.002" in " ".join(out.split()) or NEVER_FALLS not in out
    assert (tmp_path / "curves.csv").read_text().splitlines()[0].endswith(",accuracy,failure")


def test_a_single_training_that_diverges_is_an_error(tmp_path: Path) -> None:
    out = tmp_path / "net"
    limits = "--train-limit 200 --test-limit 100 --epochs 1 --noise additive --sigma 3e38"
    outcome = run("train", *limits.split(), "--out", out)
    assert outcome.code == 2
    assert "training left the range of float32 in epoch 1" in outcome.err
    assert not out.exists()


# ---- studies ----------------------------------------------------------------------------------------------


def test_units_of_a_study_fail_alone() -> None:
    """Those beside them have the results that they have without them."""
    text = TINY[: TINY.index("[[noise]]")] + '[[noise]]\nkind = "additive"\nsigma = [0.1, 3e38, 1, 10]\n'
    spec = parse_study(text + 'where = ["input"]\n')
    trained = [unit for unit in units(spec, load_facts(spec, None)) if unit.phase == "training"]
    together = [unit for unit in trained if unit.repeat == 0]
    assert len(together) == 4
    outcome = run_task(Task(tuple(together), "numpy"))
    (huge,) = (unit for unit in together if unit.sigma == HUGE)
    assert [key for key, _ in outcome.failures] == [huge.key]
    assert "training left the range of float32" in outcome.failures[0][1]
    fine = run_task(Task(tuple(unit for unit in together if unit != huge), "numpy"))
    assert not fine.failures
    found = {result.key: result.correct for result in outcome.results}
    assert found == {result.key: result.correct for result in fine.results}
    assert len(found) == 3
