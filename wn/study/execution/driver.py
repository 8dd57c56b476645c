"""The driver of a study: gives tasks to workers and writes their results. It alone writes the store."""

import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from wn.basics.errors import WnError
from wn.engine.backends.plain.base import Room
from wn.study.execution.checkpoints import tidy
from wn.study.execution.clean_networks import CleanNetworks
from wn.study.execution.executors import MakeWorkers, Workers
from wn.study.execution.greeting import greet
from wn.study.execution.tasks import cost, cost_of, tasks
from wn.study.execution.worker import Outcome, Task, Units, run_task
from wn.study.store.writer import Store
from wn.study.unit import CLEAN, MATRIX, NUMERICS, Unit
from wn.walking.places import INFERENCE

ATTEMPTS = 3  # for a task whose worker died; the last time it is alone, so that no other can be to blame
AHEAD = 2  # tasks per worker that are handed out: one is being computed, one waits
LOOK_AHEAD = 4  # tasks per worker that are known beyond these, so that the last ones can be sorted
LOOK_EVERY = 10.0  # seconds, for workers that have joined

CHECKPOINTS = "checkpoints"
BACKEND = "backend"  # the entry of the store's record that says which one its units are computed with
STILLBORN = (
    "the worker processes end before they begin: is there memory for them? "
    'A Python script that runs studies also needs an `if __name__ == "__main__":`'
)


class Progress(NamedTuple):
    """The progress of a run: finished and failed units of all it began with, and their share of the work."""

    finished: int
    failed: int
    total: int
    share: float


class _Attempt(NamedTuple):
    """An attempt at a task: its units, the number of the attempt, and whether only a network is wanted."""

    units: Units
    number: int = 1
    again: bool = False

    @property
    def alone(self) -> bool:
        """Whether nothing else may be computed meanwhile."""
        return self.number == ATTEMPTS

    @property
    def urgency(self) -> tuple[bool, float]:
        """The sorting key of the last tasks: networks that others wait for, then the longest."""
        return self.units[0].phase == CLEAN, cost_of(self.units)


class Driver:
    """Runs the pending units of a store, with one backend.

    `make_workers` is called once, and again when all workers are gone because one of them died. Once the
    workers have shown that they can use the backend, the store has its name.
    """

    def __init__(
        self,
        store: Store,
        make_workers: MakeWorkers,
        *,
        backend: str,
        data_dir: str | None = None,
        files: Mapping[str, str] | None = None,
        report: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.store, self.make_workers, self.report = store, make_workers, report
        self.backend, self.data_dir, self.files = backend, data_dir, dict(files or {})
        self.networks = CleanNetworks(store.folder)
        self.checkpoints = store.folder.absolute() / CHECKPOINTS
        self.finished = self.failed = self.total = 0
        self.cost = self.done_cost = 0.0
        self.more = True  # whether there may be tasks beyond those that are ready
        self.ready: deque[_Attempt] = deque()
        self.waiting: dict[str, list[Units]] = {}  # for their clean network, by its key
        self.handed_out: dict[Future[Outcome], _Attempt] = {}

    def run(self) -> Progress:
        """Compute all pending units; Ctrl-C ends it, and finished units stay finished.

        Raises WnError if the store can't be written, and if there are no workers any more.
        """
        self.networks.tidy()
        tidy(self.checkpoints)
        for spec, number, repeats in self.store.pending_counts():
            unit = msgspec.convert(spec, Unit)
            self.total += number
            self.cost += cost(unit, number, repeats if unit.phase == MATRIX else number)
        self.report(self._progress())
        if self.total:
            self.workers, room = self._hired()
            try:
                self.store.write_meta({BACKEND: self.backend})
                pending = (msgspec.convert(waiting.spec, Unit) for waiting in self.store.pending())
                self._work(tasks(pending, room))
                self.workers.executor.shutdown()
            finally:
                self.workers.stop()
        tidy(self.checkpoints, everything=True)
        return self._progress()

    def _work(self, source: Iterator[Units]) -> None:
        while True:
            self._hand_out(source)
            if not self.handed_out:
                return
            done, _ = wait(self.handed_out, LOOK_EVERY, FIRST_COMPLETED)
            if not done:
                self.report(self._progress())
            broken = [self._collect(future) for future in done]
            if any(broken):
                self._replace_workers()

    def _hired(self) -> tuple[Workers, Room]:
        """New workers, and the room of the first that has shown that it can work.

        Raises WnError if it can't.
        """
        workers = self.make_workers(self.backend)
        try:
            # As many as there are: so processes start side by side
            greetings = [
                workers.executor.submit(greet, self.backend, NUMERICS) for _ in range(workers.at_once())
            ]
            room = wait(greetings, return_when=FIRST_COMPLETED).done.pop().result()
        except BaseException as error:
            workers.stop()
            if isinstance(error, BrokenProcessPool):
                raise WnError(STILLBORN) from None
            if isinstance(error, WnError) or not isinstance(error, Exception):
                raise
            raise WnError(f"the workers can't run wn: {type(error).__name__}: {error}") from error
        return workers, room

    # ---- handing out ------------------------------------------------------------------------------------

    def _hand_out(self, source: Iterator[Units]) -> None:
        """Keep the workers busy with the tasks that are ready."""
        most = AHEAD * self.workers.at_once()
        while len(self.handed_out) < most and not any(attempt.alone for attempt in self.handed_out.values()):
            self._look_ahead(source)
            attempt = self._first()
            if attempt is None or (attempt.alone and self.handed_out):
                return
            self.ready.remove(attempt)
            clean = _network_for(attempt.units)
            arrays = () if clean is None else self.networks.arrays(clean)
            if arrays is None:
                self._wait_for_network(attempt.units)
                continue
            folder = str(self.checkpoints)
            task = Task(attempt.units, self.backend, self.data_dir, folder, arrays, files=self.files)
            try:
                self.handed_out[self.workers.executor.submit(run_task, task)] = attempt
            except BrokenProcessPool:
                self.ready.appendleft(attempt)
                self._replace_workers()
            except Exception:
                self.workers.check()  # says it in one line if the scheduler is gone
                raise

    def _look_ahead(self, source: Iterator[Units]) -> None:
        """Have some tasks ready beyond the next, as long as there are any."""
        wanted = LOOK_AHEAD * self.workers.at_once()
        while self.more and len(self.ready) < wanted:
            units = next(source, None)
            if units is None:
                self.more = False
            elif (clean := _network_for(units)) is None or clean in self.networks:
                self.ready.append(_Attempt(units))
            else:
                self._wait_for_network(units)

    def _first(self) -> _Attempt | None:
        """Return the task to hand out next, None if none is ready.

        Tasks go in the order of the study; of the last ones the longest go first, so that no worker has a
        long one left when the others are done.
        """
        if self.more or not self.ready:
            return self.ready[0] if self.ready else None
        return max(self.ready, key=lambda attempt: attempt.urgency)

    def _wait_for_network(self, units: Units) -> None:
        """Let inference units wait for their clean network; train it if nobody does."""
        clean = units[0].clean
        first = clean.key not in self.waiting
        self.waiting.setdefault(clean.key, []).append(units)
        if not first:
            return
        status = self.store.status_of([clean.key]).get(clean.key)
        if status == "failed":
            self._release(clean.key)
        elif status == "done":  # its file is gone or damaged
            self.ready.append(_Attempt((clean,), again=True))

    def _release(self, key: str, why: str = "") -> None:
        """Release the units that wait for a clean network: as tasks if it is there, else as failed."""
        for units in self.waiting.pop(key, []):
            if key in self.networks:
                self.ready.append(_Attempt(units))
            else:
                text = why or f"the clean network of these units could not be trained: see unit {key}"
                self._count(units, self.store.fail([unit.key for unit in units], text), 0)

    # ---- collecting -------------------------------------------------------------------------------------

    def _collect(self, future: "Future[Outcome]") -> bool:
        """Write the outcome of a task; True if its workers are gone."""
        attempt = self.handed_out.pop(future)
        try:
            outcome = future.result()
        except BrokenProcessPool:
            self._try_again(attempt, "the worker process died")
            return True
        except CancelledError:  # the connection to a cluster was lost
            self.workers.check()
            self.ready.append(attempt)
        except WnError:  # the worker can't use the backend: no unit is to blame
            raise
        except Exception:
            self.workers.check()  # if the scheduler is gone, the units are not to blame
            # Dask has tried several workers, all of which died, or what they sent can't be read
            last = attempt._replace(number=max(attempt.number, ATTEMPTS - 1))
            self._try_again(last, traceback.format_exc())
        else:
            self._write(attempt, outcome)
        return False

    def _write(self, attempt: _Attempt, outcome: Outcome) -> None:
        if outcome.arrays:
            self.networks.keep(attempt.units[0], outcome.arrays)
        if not attempt.again:
            finished = self.store.finish(outcome.results, outcome.environment)
            self._count(attempt.units, self._fail(outcome.failures), finished)
        for path in outcome.checkpoints:
            with suppress(OSError):
                Path(path).unlink()
        why = "".join(text for _, text in outcome.failures) if attempt.again else ""
        self._release(attempt.units[0].key, why)

    def _fail(self, failures: tuple[tuple[str, str], ...]) -> int:
        """Record failures, those with the same traceback together; return their number."""
        by_text: dict[str, list[str]] = {}
        for key, text in failures:
            by_text.setdefault(text, []).append(key)
        return sum(self.store.fail(keys, text) for text, keys in by_text.items())

    def _try_again(self, attempt: _Attempt, text: str) -> None:
        """Hand a task out again whose worker died; one that does so again and again fails.

        Of several units each is tried on its own first: the one that is to blame fails alone.
        """
        if attempt.number < ATTEMPTS:
            self.ready.append(attempt._replace(number=attempt.number + 1))
        elif len(attempt.units) > 1:
            self.ready.extend(_Attempt((unit,), ATTEMPTS - 1) for unit in attempt.units)
        else:
            key, text = attempt.units[0].key, f"{text.rstrip()} (in each of {ATTEMPTS} attempts)"
            if not attempt.again:
                self._count(attempt.units, self.store.fail([key], text), 0)
            self._release(key, text if attempt.again else "")

    def _replace_workers(self) -> None:
        """Make new workers in place of those that are gone; their tasks are handed out again."""
        for future in list(self.handed_out):
            self._collect(future)
        self.workers.stop()
        self.workers, _ = self._hired()

    # ---- progress ---------------------------------------------------------------------------------------

    def _count(self, units: Units, failed: int, finished: int) -> None:
        self.failed += failed
        self.finished += finished
        self.done_cost += cost_of(units)
        self.report(self._progress())

    def _progress(self) -> Progress:
        share = self.done_cost / self.cost if self.cost else 1.0
        return Progress(self.finished, self.failed, self.total, min(share, 1.0))


def _network_for(units: Units) -> str | None:
    """The key of the clean network that has to be there for units of a task, None if they need none."""
    return units[0].clean_key if units[0].phase == INFERENCE else None
