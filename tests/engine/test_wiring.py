"""How walks and trainings are put together: which fit each curve gets, and with how many BLAS threads."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import wn
from wn.engine import training
from wn.engine.backends import threads
from wn.fit.intervals import Counts, fit_curve, with_repeats
from wn.fit.midpoint import Midpoint, fit_midpoint
from wn.walking import measurement
from wn.walking.places import PHASES

SIGMA = np.geomspace(0.1, 1000, 13)
TOTAL = 10_000


def counts(midpoint: float, floor: float) -> Any:
    """A logistic curve from 0.9 to `floor`, not quite at its own half-way at `midpoint`."""
    return np.rint(TOTAL * (floor + (0.9 - floor) / (1 + (SIGMA / midpoint) ** 1.5))).astype(np.int64)


def fits(kind: str, *repeats: Any) -> dict[str, Midpoint]:
    """The fit to repeats measured in each phase under this noise."""
    curves = [Counts(SIGMA, correct, np.full(len(SIGMA), TOTAL)) for correct in repeats]
    clean = Counts(np.zeros(len(repeats)), np.full(len(repeats), 9000), np.full(len(repeats), TOTAL))
    return {phase: fit_curve(curves, clean, 0.1, phase, kind) for phase in PHASES}


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
    crossing = bare.measured_crossing
    print(f"midpoint {bare.midpoint:g} [{bare.ci_low:g}, {bare.ci_high:g}], crossing {crossing:g}")
    assert found.midpoint == bare.midpoint
    assert not bare.ci_low <= crossing <= bare.ci_high  # or the next line would prove nothing
    assert found.ci_low <= crossing <= found.ci_high


# ---- BLAS threads ---------------------------------------------------------------------------------------

TINY: dict[str, Any] = {"train_limit": 60, "test_limit": 40, "epochs": 1, "model": "mlp-8"}


@pytest.mark.parametrize("command", [wn.walk, wn.train])
def test_all_computing_is_done_with_one_blas_thread(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            seen.append((function.__name__, threads.blas_is_held()))
            return function(*arguments, **options)

        return call

    for name in ("train", "evaluate"):
        function = watched(getattr(training, name))
        for module in (training, measurement):
            monkeypatch.setattr(module, name, function)
    options = {"where": [7], "sigma": [1.0], "threads": 2} if command is wn.walk else {}
    with ThreadPoolExecutor(1) as another:  # this thread holds BLAS already, as all tests do
        another.submit(command, **TINY, **options).result()
    assert set(seen) == {("train", True), ("evaluate", True)}


def test_single_threaded_means_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_limit", threads._Limit())  # the tests' own holds BLAS already
    with threadpool_limits(2, user_api="blas"), threads.single_threaded_blas():
        libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
        assert libraries
        assert {library["num_threads"] for library in libraries} == {1}
