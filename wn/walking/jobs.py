"""Run the jobs of a walk on a pool of threads, and stop them together."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, as_completed
from threading import Event
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wn.engine.backends.plain.base import Backend
from wn.engine.training import Monitor

T = TypeVar("T")
Job = Callable[[Backend, Monitor], list[T]]


class Stopped(Exception):
    """Ends the jobs that are running when a walk is interrupted."""


class _JobMonitor(Monitor):
    """Counts the members whose epoch is done, and ends the job when told to stop."""

    def __init__(self, report: Callable[[int], None], stop: Event) -> None:
        self.report, self.stop = report, stop

    def step(self) -> None:
        """End the job if the walk is being stopped."""
        if self.stop.is_set():
            raise Stopped

    def epoch(self, epoch: int, loss: NDArray[np.float64]) -> None:
        """Report the epoch."""
        self.report(len(loss))

    def given_up(self, epochs: int) -> None:
        """Report them as done: so the share of the work stays right."""
        if epochs:
            self.report(epochs)


def run_jobs(
    be: Backend,
    work: Sequence[tuple[int, Job[T]]],
    executor: Executor,
    report: Callable[[int], None],
    threads: int = 1,
) -> list[T]:
    """Run jobs on an executor, each with so many processors.

    `report` is told after each epoch how many members have finished one.

    An error in a job, or Ctrl-C, stops the others at their next step and is raised.
    """
    stop = Event()
    futures: list[Future[list[T]]] = []
    try:
        for _, job in work:  # one by one: Ctrl-C meanwhile finds those that are queued already
            monitor = _JobMonitor(report, stop)
            futures.append(executor.submit(_working, job, be, monitor, threads))
        return [result for future in as_completed(futures) for result in future.result()]
    finally:
        stop.set()
        for future in futures:
            future.cancel()


def _working(job: Job[T], be: Backend, monitor: Monitor, threads: int) -> list[T]:
    with be.working(threads):
        return job(be, monitor)
