"""Run jobs on a pool of threads, and stop them together."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, as_completed
from threading import Event

import numpy as np
from numpy.typing import NDArray

from wn.engine.backends.plain.base import Backend
from wn.engine.training import Monitor

Job = Callable[[Backend, Monitor], None]


class Stopped(Exception):
    """Ends the jobs that are running when a walk is interrupted."""


class JobMonitor(Monitor):
    """Counts the members whose epoch is done, or never will be; ends the job when told to stop."""

    def __init__(self, report: Callable[[int], None], epochs: int, stop: Event) -> None:
        self.report, self.stop, self.epochs = report, stop, epochs

    def step(self) -> None:
        """End the job if the walk is being stopped."""
        if self.stop.is_set():
            raise Stopped

    def epoch(self, epoch: int, loss: NDArray[np.float64]) -> None:
        """Report the epoch."""
        self.report(len(loss))

    def given_up(self, members: int, epoch: int) -> None:
        """Report their epochs as done: so the share of the work stays right."""
        if epoch < self.epochs:
            self.report(members * (self.epochs - epoch))


def run_jobs(
    be: Backend,
    work: Sequence[tuple[int, Job]],
    executor: Executor,
    report: Callable[[int], None],
    epochs: int,
    threads: int = 1,
) -> None:
    """Run jobs on an executor, each with a number of processors (`threads`).

    `report` is called with the number of members that have finished one of the `epochs` of their training.
    An error in a job, or Ctrl-C, stops the others at their next step and is raised.
    """
    stop = Event()
    futures: list[Future[None]] = []
    try:
        for _, job in work:  # one by one: Ctrl-C meanwhile finds those that are queued already
            monitor = JobMonitor(report, epochs, stop)
            futures.append(executor.submit(_working, job, be, monitor, threads))
        for future in as_completed(futures):
            future.result()
    finally:
        stop.set()
        for future in futures:
            future.cancel()


def _working(job: Job, be: Backend, monitor: Monitor, threads: int) -> None:
    with be.working(threads):
        job(be, monitor)
