"""How walks and trainings are put together: which fit each curve gets, and with how many BLAS threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import wn
from tests.walking.small_walks import plan_for
from wn.engine import training
from wn.engine.backends import threads
from wn.fit.intervals import measured_crossing, with_repeats
from wn.fit.midpoint import Midpoint, fit_midpoint
from wn.walking import api
from wn.walking import measurement as walking
from wn.walking.measurement import CleanResult, Curve, WalkPlan
from wn.walking.settings import WalkSettings

SIGMA = np.geomspace(0.1, 1000, 13)
TOTAL = 10_000
CLEAN = [CleanResult(repeat, 9000, TOTAL) for repeat in (0, 1)]  # clean accuracy 0.9, chance 0.1


def counts(midpoint: float, floor: float) -> Any:
    """A logistic curve from 0.9 to `floor`, not quite at its own half-way at `midpoint`."""
    return np.rint(TOTAL * (floor + (0.9 - floor) / (1 + (SIGMA / midpoint) ** 1.5))).astype(np.int64)


def walk_of(*correct: Any) -> tuple[WalkPlan, list[Curve]]:
    """A plan with one place in both phases, and the curves of its repeats, the same in both."""
    plan = plan_for(repeats=len(correct), sigma=SIGMA)
    plan = plan._replace(places=plan.places[:1])
    curves = [
        Curve(phase, plan.places[0], repeat, SIGMA, found, TOTAL)
        for phase in plan.phases
        for repeat, found in enumerate(correct)
    ]
    return plan, curves


def fits(kind: str, *correct: Any) -> dict[str, Midpoint]:
    """What a walk with this noise makes of these repeats, by phase."""
    plan, curves = walk_of(*correct)
    found = api._fits(WalkSettings(noise=kind), plan, CLEAN[: len(correct)], curves)
    assert [place for _, place, _ in found] == [plan.places[0]] * 2
    return {phase: fit for phase, _, fit in found}


def fitted(correct: Any, floor: Literal["chance", "free"]) -> Midpoint:
    return fit_midpoint(SIGMA, correct, [TOTAL] * len(SIGMA), clean_accuracy=0.9, chance=0.1, floor=floor)


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "mixed"])
def test_curves_go_down_to_chance_for_additive_noise_at_inference_only(kind: str) -> None:
    correct = counts(5.0, floor=0.25)
    assert fitted(correct, "free").floor == pytest.approx(0.25, abs=0.01)
    assert fitted(correct, "free").midpoint != pytest.approx(fitted(correct, "chance").midpoint, rel=0.01)
    for phase, fit in fits(kind, correct).items():
        floor: Literal["chance", "free"] = "chance" if (kind, phase) == ("additive", "inference") else "free"
        assert (fit.midpoint, fit.floor) == (fitted(correct, floor).midpoint, fitted(correct, floor).floor)


def test_repeats_that_differ_widen_the_interval() -> None:
    repeats = [counts(4.0, floor=0.1), counts(7.0, floor=0.1)]
    singles = [fitted(correct, "chance") for correct in repeats]
    found = fits("additive", *repeats)["inference"]
    expected = with_repeats(found, singles)
    assert (found.ci_low, found.ci_high) == (expected.ci_low, expected.ci_high)
    same = fits("additive", repeats[0], repeats[0])["inference"]
    # s of two logs is log(7/4)/√2, so the factor is exp(12.7 · log(7/4) / 2), far wider than any one fit
    assert found.ci_high / found.ci_low > 100 > same.ci_high / same.ci_low


def test_the_measured_crossing_is_in_the_interval() -> None:
    """Accuracies in two steps, which no logistic curve follows."""
    correct = np.where(SIGMA < 1, 9000, np.where(SIGMA < 300, 4900, 1000))
    bare, found = fitted(correct, "chance"), fits("additive", correct)["inference"]
    crossing = measured_crossing(SIGMA, correct, [TOTAL] * len(SIGMA), half=0.5)
    print(f"midpoint {bare.midpoint:g} [{bare.ci_low:g}, {bare.ci_high:g}], crossing {crossing:g}")
    assert found.midpoint == bare.midpoint
    assert not bare.ci_low <= crossing <= bare.ci_high  # or the next line would prove nothing
    assert found.ci_low <= crossing <= found.ci_high


# ---- BLAS threads ---------------------------------------------------------------------------------------

TINY: dict[str, Any] = {"train_limit": 60, "test_limit": 40, "epochs": 1, "model": "mlp-8"}


@pytest.mark.parametrize("command", [wn.walk, wn.train])
def test_all_computing_is_done_with_one_blas_thread(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held, seen = False, []

    @contextmanager
    def hold() -> Iterator[None]:
        nonlocal held
        held = True
        yield
        held = False

    def watched(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            seen.append((function.__name__, held))
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(api, "single_threaded_blas", hold)
    monkeypatch.setattr(walking, "run_jobs", watched(walking.run_jobs))
    for name in ("train", "evaluate"):
        function = watched(getattr(training, name))
        for module in (training, walking):
            monkeypatch.setattr(module, name, function)
    command(**TINY, **({"where": [7], "sigma": [1.0], "threads": 2} if command is wn.walk else {}))
    wanted = {"train", "evaluate"} | ({"run_jobs"} if command is wn.walk else set())
    assert set(seen) == {(name, True) for name in wanted}


def test_single_threaded_means_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_limit", threads._Limit())  # the tests' own holds BLAS already
    with threadpool_limits(2, user_api="blas"), api.single_threaded_blas():
        libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
        assert libraries
        assert {library["num_threads"] for library in libraries} == {1}
