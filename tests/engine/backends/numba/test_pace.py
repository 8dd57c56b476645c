"""Threads are taken where they pay; the clock of these tests is made up."""

from collections.abc import Callable

import pytest

from wn.engine.backends.numba.pace import BAD_STEPS, EVERY, FIRST, LATE, SOON, TRIAL, Pace


def run(pace: Pace, steps: int, seconds: Callable[[int, int], float]) -> list[int]:
    """Take steps; `seconds` gives the time of step i on a number of threads. The threads of each."""
    threads = []
    for i in range(steps):
        threads.append(pace.threads())
        pace.step(seconds(i, threads[-1]))
    return threads


def test_one_thread_stays_one() -> None:
    assert set(run(Pace(1), 1000, lambda i, n: 1.0)) == {1}


@pytest.mark.parametrize(("together", "chosen", "steps"), [(0.6, 4, EVERY), (1.2, 1, SOON)])
def test_the_faster_number_of_threads_is_taken_and_tried_again(
    together: float, chosen: int, steps: int
) -> None:
    threads = run(Pace(4), 600, lambda i, n: 1.0 if n == 1 else together)
    trial = [1] * TRIAL + [4] * TRIAL
    assert threads[: FIRST + 2 * TRIAL] == [4] * FIRST + trial
    assert threads[FIRST + 2 * TRIAL :][:steps] == [chosen] * steps
    assert threads[FIRST + 2 * TRIAL + steps :][: 2 * TRIAL] == trial


def test_threads_that_do_not_pay_are_tried_less_and_less_often() -> None:
    threads = run(Pace(2), 10 * LATE, lambda i, n: 1.0 if n == 1 else 2.0)
    assert threads[: 8 * SOON].count(2) == FIRST + 4 * TRIAL  # after SOON, 2·SOON and 4·SOON steps alone
    assert threads[-6 * LATE :].count(2) <= 6 * TRIAL


def test_compiling_in_the_first_steps_decides_nothing() -> None:
    threads = run(Pace(2), 100, lambda i, n: 60.0 if i < FIRST else (1.0 if n == 1 else 0.6))
    assert threads[-1] == 2


def test_a_single_very_slow_step_ends_a_trial() -> None:
    threads = run(Pace(2), SOON, lambda i, n: 1.0 if n == 1 else 30.0)
    assert threads.count(2) == FIRST + 1
    assert threads[-1] == 1


def test_a_machine_that_becomes_busy_is_noticed_within_a_few_steps() -> None:
    busy = 100
    threads = run(Pace(2), busy + SOON, lambda i, n: 1.0 if n == 1 else (0.6 if i < busy else 20.0))
    assert threads[busy - 1] == 2
    assert threads[busy:].count(2) == BAD_STEPS + 1
    assert threads[-1] == 1


def test_a_machine_that_becomes_idle_again_is_noticed_at_the_next_choice() -> None:
    threads = run(Pace(2), 3 * EVERY, lambda i, n: 1.0 if n == 1 else (20.0 if i < EVERY else 0.6))
    assert threads[EVERY - 1] == 1
    assert threads[-1] == 2
