"""Workers: processes on this machine, or a Dask cluster; both are `concurrent.futures` executors."""

import logging
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.backends.cuda import device as cuda_device
from wn.engine.backends.threads import processors

MISSING = "a Dask cluster needs the package distributed: pip install 'walking-noise[cluster]'"
PATIENCE = 30.0  # seconds: for a cluster that is being started, or whose scheduler does not answer
LAST_WORDS = 5.0  # seconds that a worker process has to end
TALKATIVE = ("distributed", "dask", "tornado", "asyncio")  # loggers of Dask and of what it is built on

log = logging.getLogger("wn")


class Workers(NamedTuple):
    """An executor, with the questions and commands that a driver has for it.

    `at_once` returns the number of tasks that it works on at once, now; `stop` ends it without waiting for
    its tasks; `check` returns once it takes tasks, and raises WnError if it never will again.
    """

    executor: Executor
    at_once: Callable[[], int]
    stop: Callable[[], None]
    check: Callable[[], None] = lambda: None


MakeWorkers = Callable[[str], Workers]  # given the name of the backend that they are to use


def resolved_backend(backend: str) -> str:
    """Return the name of a backend: for "auto" cupy if this machine has CuPy and a GPU, else numba.

    CuPy is not imported: a driver takes no memory of the GPU. Unlike a walk, a study does not fall back to
    numba on a GPU that can't be used: its folder would keep what an accident chose.
    """
    if backend != "auto":
        return backend
    return "cupy" if cuda_device.missing() is None else "numba"


def suitable(backend: str) -> int:
    """The number of processes for a backend: one per processor, a single one if they share a GPU."""
    return 1 if backends.on_gpu(resolved_backend(backend)) else processors()


# ---- processes on this machine ----------------------------------------------------------------------------


class _Pool(ProcessPoolExecutor):
    """Worker processes that Ctrl-C never reaches: it is the driver's to handle."""

    def submit(self, /, *arguments: Any, **options: Any) -> "Future[Any]":
        """Hand out a call, and start a process for it if need be."""
        with _without_interrupts():
            return super().submit(*arguments, **options)


def processes(count: int) -> Workers:
    """Return `count` worker processes on this machine, each computing in one thread."""
    # Not forked: a copy of a process that computes in threads has locks that nobody will ever open.
    context = multiprocessing.get_context("spawn")
    pool = _Pool(count, context, _prepare, (context.Semaphore(1),))

    def stop() -> None:
        started = list((pool._processes or {}).values())  # Python 3.14 has terminate_workers for all this
        pool.shutdown(wait=False, cancel_futures=True)
        for process in started:
            process.terminate()
        give_up = time.monotonic() + LAST_WORDS
        for process in started:
            if not wait([process.sentinel], max(give_up - time.monotonic(), 0.0)):
                process.kill()

    return Workers(pool, lambda: count, stop)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done; processes that are started in it never see it.

    What is blocked here the system may give to another thread of this process, and Python then interrupts the
    main thread all the same: half of what a new process has to be told would be all that it gets.
    """
    held: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    if handler is not None:
        signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # what has come meanwhile is seen here
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)


def _prepare(first: Semaphore) -> None:
    """Prepare a worker process: without its driver it ends. The first one prints wn's log."""
    printer = logging.StreamHandler()
    printer.setFormatter(logging.Formatter("wn: %(message)s"))
    log.addHandler(printer)
    log.setLevel(logging.INFO if first.acquire(block=False) else logging.WARNING)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


# ---- a Dask cluster ---------------------------------------------------------------------------------------


def cluster(address: str | None = None, scheduler_file: Path | None = None) -> Workers:
    """Return the workers of a Dask cluster, by the scheduler's address or the file it writes.

    The cluster may still be starting, and workers may come and go while a study runs. Raises WnError if Dask
    is not installed, and if the scheduler can't be reached or still has no workers after a while.
    """
    try:
        import distributed
    except ImportError:
        raise WnError(MISSING) from None
    name = str(scheduler_file or address)
    log.info("%s: waiting for the scheduler and its workers", name)
    if scheduler_file is not None:
        address = _address_in(scheduler_file)
    connect: Any = distributed.Client  # Any: Dask has types for some of its functions
    _silence_dask()
    try:
        client = connect(address, set_as_default=False, timeout=PATIENCE)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WnError(f"{name}: the scheduler can't be reached: {reason}") from None
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except (OSError, TimeoutError):
        client.close()
        raise WnError(f"{name}: the scheduler has no workers: start some with `dask worker`") from None

    there = True

    def at_once() -> int:
        nonlocal there
        try:
            threads = sum(map(int, client.nthreads().values()))
        except OSError:  # `check` says whether it is gone
            return 1
        if there and not threads:
            log.warning("%s: all workers are gone: waiting for new ones", name)
        there = threads > 0
        return max(threads, 1)

    def check() -> None:
        give_up = time.monotonic() + PATIENCE
        while client.status == "connecting" and time.monotonic() < give_up:
            time.sleep(0.1)
        if client.status != "running":
            raise WnError(
                f"{name}: the connection to the scheduler is lost; nothing that was finished is lost: "
                "the same command goes on when it is there again"
            )

    # pure=False: Dask would take two tasks with the same content for one
    return Workers(client.get_executor(pure=False), at_once, client.close, check)


def _silence_dask() -> None:
    """Keep Dask's messages out of this process's output: `cluster` says those that matter.

    When a scheduler goes, Dask and its event loop log a traceback for each of the connections to it. A large
    network goes to the workers with its tasks, and Dask advises against it.
    """
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] in TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", "Sending large graph", UserWarning)


class _SchedulerFile(msgspec.Struct):
    """The part of a scheduler's file that says where it is."""

    address: str


def _address_in(path: Path) -> str:
    """Return the address in a scheduler's file, once it is written; WnError if it does not come."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            return msgspec.json.decode(path.read_bytes(), type=_SchedulerFile).address
        except OSError as error:
            reason = error.strerror or str(error)
        except msgspec.DecodeError as error:
            reason = f"it is not what a scheduler writes: {error}"
        if time.monotonic() >= give_up:
            raise WnError(f"{path}: the scheduler's file can't be read: {reason}")
        time.sleep(0.1)
