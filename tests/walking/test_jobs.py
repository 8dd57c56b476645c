"""The jobs of a walk: results do not depend on how the work is cut, and jobs end when they are told to."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures as futures_module
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.walking.small_walks import BE, SIGMA, changed, run, small_data, told, trained, walk_for
from wn.basics.errors import WnError
from wn.engine import models, noise
from wn.engine.training import Monitor, TrainSettings
from wn.walking.jobs import Job, Stopped, run_jobs
from wn.walking.measurement import members_at_once
from wn.walking.places import check_range

# ---- how the work is cut --------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["mlp-8", "lenet5"])
def test_results_do_not_depend_on_how_the_work_is_cut(model: str) -> None:
    plan = walk_for(model, "sites", sigma=np.array([0.0, 0.2, 1.0, 5.0]), evaluation_batch=256)
    plan = changed(
        plan,
        dataset=small_data(70, 300, flip=True),  # 70: the last batch is a partial one
        places=plan.places[1::5],
        repeats=2 if model == "mlp-8" else 1,
    )
    expected = run(plan)
    assert run(changed(plan, members=1), threads=2, backwards=True) == expected
    assert run(changed(plan, members=3, evaluation_batch=700)) == expected
    if plan.repeats == 2:  # what follows is fast with the small network only
        assert run(plan, threads=2) == expected
        assert run(plan, backwards=True) == expected
        assert run(changed(plan, evaluation_batch=1)) == expected
        assert run(changed(plan, seed=plan.seed + 1)) != expected
        assert run(changed(plan, repeats=1))[0] == expected[0][:1]


def test_results_come_by_repeat_and_by_phase_place_repeat() -> None:
    plan = walk_for(repeats=2, members=2)
    plan = changed(plan, places=(plan.places[7], plan.places[0]), phases=("training", "inference"))
    clean, rows = run(plan, threads=2, backwards=True)
    assert len(clean) == 2
    assert [(phase, place.site, repeat) for phase, place, repeat, *_ in rows] == [
        (phase, site, repeat) for phase in ("training", "inference") for site in (7, 0) for repeat in (0, 1)
    ]
    assert all(sigma == SIGMA.tolist() for *_, sigma, _ in rows)


def test_jobs_count_the_networks_they_train() -> None:
    plan = walk_for(sigma=np.linspace(0, 1, 7), members=3, repeats=2)
    work = plan.jobs()
    assert sum(members for members, _ in work) == 2 * (8 * 7 + 1)
    assert max(members for members, _ in work) <= 3
    assert [members for members, _ in changed(plan, phases=("inference",)).jobs()] == [1, 1]
    short = changed(plan, places=plan.places[:1], repeats=1, train=replace(plan.setup.train, epochs=2))
    assert sum(told(short, threads=2)[1]) == 2 * (7 + 1)


@pytest.mark.parametrize(
    ("model", "batch", "members"), [("mlp-8", 32, 16), ("vgg11", 128, (1, 15)), ("vgg11", 10**6, 1)]
)
def test_members_at_once_fit_memory(model: str, batch: int, members: int | tuple[int, int]) -> None:
    network = models.build(model, *models.default_input(model))
    found = members_at_once(network, TrainSettings(epochs=1, batch_size=batch), np.float32)
    low, high = (members, members) if isinstance(members, int) else members
    assert low <= found <= high
    assert members_at_once(network, TrainSettings(epochs=1, batch_size=batch), "float64") <= found


@pytest.mark.parametrize("name", ["sigma_add", "sigma_mul", "mean_add", "mean_mul"])
def test_values_beyond_the_dtype_are_found_before_they_are_used(name: str) -> None:
    operator = noise.Noise("mixed", **{name: np.array([1.0, 1e39])})
    with pytest.raises(WnError, match=f"{name} is 1e\\+39 at site 3: float32"):
        check_range({3: operator}, np.float32)
    check_range({3: operator}, np.float64)


# ---- errors and interruption ----------------------------------------------------------------------------


class _Jobs:
    """Jobs that work until they are told to stop, and one that ends the peace when two are running.

    It does so when all jobs are submitted and the main thread waits for results: no lock is half taken then.
    """

    def __init__(self, disturb: Callable[[], None]) -> None:
        self.disturb = disturb
        self.submitted = threading.Event()
        self.running = threading.Semaphore(0)
        self.stopped: list[str] = []
        self.started: list[str] = []

    def endless(self, name: str) -> Job:
        def job(be: Any, monitor: Monitor) -> None:
            self.started.append(name)
            self.running.release()
            try:
                for _ in range(60_000):
                    monitor.step()
                    time.sleep(0.001)
            except Stopped:
                self.stopped.append(name)
                raise
            raise AssertionError(f"{name} was never stopped")

        return job

    def disturbing(self, be: Any, monitor: Monitor) -> None:
        for _ in range(2):
            assert self.running.acquire(timeout=60)
        assert self.submitted.wait(timeout=60)
        while _code_of_main_thread() is not threading.Condition.wait.__code__:
            time.sleep(0.001)
        self.disturb()

    def run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def as_completed(futures: list[Future[Any]]) -> Iterator[Future[Any]]:
            self.submitted.set()
            return original(futures)

        original = futures_module.as_completed
        monkeypatch.setattr("wn.walking.jobs.as_completed", as_completed)
        work = [(1, self.endless(name)) for name in "ab"] + [(1, self.disturbing)]
        work += [(1, self.endless(f"late {index}")) for index in range(5)]
        with ThreadPoolExecutor(3) as executor:
            run_jobs(BE, work, executor, lambda members: None, 1)


def _code_of_main_thread() -> Any:
    return sys._current_frames()[threading.main_thread().ident or 0].f_code


def test_an_error_in_a_job_stops_the_others_and_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise WnError("no such luck")

    jobs = _Jobs(fail)
    before = threading.active_count()
    with pytest.raises(WnError, match="no such luck"):
        jobs.run(monkeypatch)
    assert sorted(jobs.stopped) == sorted(jobs.started)
    assert {"a", "b"} <= set(jobs.started)
    assert len(jobs.started) < 7  # what had not begun did not begin
    assert threading.active_count() == before


def test_interruption_stops_running_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C: no thread goes on."""
    jobs = _Jobs(lambda: os.kill(os.getpid(), signal.SIGINT))
    before, handler = threading.active_count(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            jobs.run(monkeypatch)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert sorted(jobs.stopped) == sorted(jobs.started)
    assert {"a", "b"} <= set(jobs.started)
    assert threading.active_count() == before


def test_interruption_between_two_submissions_cancels_what_is_queued() -> None:
    class Interrupted(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Future[Any]:
            if len(submitted) == 3:
                raise KeyboardInterrupt
            submitted.append(super().submit(*arguments, **options))
            return submitted[-1]

    def job(be: Any, monitor: Monitor) -> None:
        while True:
            monitor.step()
            time.sleep(0.001)

    submitted: list[Future[Any]] = []
    with Interrupted(1) as executor, pytest.raises(KeyboardInterrupt):
        run_jobs(BE, [(1, job)] * 5, executor, lambda members: None, 1)
    assert [future.cancelled() for future in submitted][1:] == [True, True]
    assert submitted[0].cancelled() or isinstance(submitted[0].exception(), Stopped)


def test_a_training_is_stopped_between_two_batches() -> None:
    plan = walk_for(places=(), phases=("inference",), train=TrainSettings(epochs=1000, batch_size=1))
    steps = 0

    class Stop(Monitor):
        def step(self) -> None:
            nonlocal steps
            steps += 1
            if steps == 5:
                raise Stopped

    ((_, job),) = plan.jobs()
    with pytest.raises(Stopped):
        job(BE, Stop())
    assert steps == 5


def test_an_inference_walk_is_stopped_between_two_points() -> None:
    plan = walk_for()
    population = trained(plan)
    steps = 0

    class Stop(Monitor):
        def step(self) -> None:
            nonlocal steps
            steps += 1
            if steps == 2:
                raise Stopped

    with pytest.raises(Stopped):
        plan.count_at_inference(BE, population, 0, Stop())
    assert steps == 2
