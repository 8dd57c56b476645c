"""Tasks that wait at a gate: what a test does comes in their midst, however fast or slow the machine is.

Workers compute `held` instead of `run_task`. The gate of a study in the folder DIR is the folder DIR-gate: it
lets FREE tasks pass; those that come later wait until there is a file "open".
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from wn.study.execution import checkpoints
from wn.study.execution.checkpoints import Checkpoint
from wn.study.execution.worker import Outcome, Task, run_task

FREE = 3
LOOK_EVERY = 0.01  # seconds


def held(task: Task) -> Outcome:
    """Compute a task once the gate lets it pass."""
    assert task.checkpoints is not None
    gate = gate_of(Path(task.checkpoints).parent)
    gate.mkdir(exist_ok=True)
    if not any(_taken(gate / f"free-{number}") for number in range(FREE)):
        (gate / f"waiting-{os.getpid()}").touch()
        while not (gate / "open").exists():
            time.sleep(LOOK_EVERY)
    return run_task(task)


def gate_of(folder: Path) -> Path:
    """The gate of the study in a folder."""
    return folder.with_name(f"{folder.name}-gate")


def open_gate(folder: Path) -> None:
    """Let all tasks pass, now and later."""
    gate_of(folder).mkdir(exist_ok=True)
    (gate_of(folder) / "open").touch()


def waiting(folder: Path, workers: int) -> Callable[[], bool]:
    """Whether this number of workers waits, or has waited, at the gate."""
    return lambda: len(list(gate_of(folder).glob("waiting-*"))) >= workers


def _taken(path: Path) -> bool:
    """Make a file, unless another task did."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def deadly(task: Task) -> Outcome:
    """Kill the worker that gets a certain unit, as running out of memory does."""
    if any((unit.phase, unit.sigma) == ("training", 10) for unit in task.units):
        os.kill(os.getpid(), signal.SIGKILL)
    return run_task(task)


def worker_killed(task: Task) -> Outcome:
    """Kill the worker of each training once, right after its third checkpoint."""
    return _killed_at_checkpoints(task, os.getpid())


def driver_killed(task: Task) -> Outcome:
    """Kill the driver then."""
    return _killed_at_checkpoints(task, os.getppid())


def _killed_at_checkpoints(task: Task, process: int) -> Outcome:
    """Write checkpoints after all steps; note in DIR-gate/resumed where a training goes on."""
    assert task.checkpoints is not None
    gate = gate_of(Path(task.checkpoints).parent)
    gate.mkdir(exist_ok=True)
    save, load = Checkpoint.save, Checkpoint.load
    saved = 0

    def saving(checkpoint: Checkpoint, *arguments: Any) -> None:
        nonlocal saved
        save(checkpoint, *arguments)
        saved += 1
        if saved == 3 and _taken(gate / checkpoint.identity):
            os.kill(process, signal.SIGKILL)
            time.sleep(60)  # a worker ends with its driver

    def loading(checkpoint: Checkpoint, start: Any) -> Any:
        found = load(checkpoint, start)
        if found is not None:
            with (gate / "resumed").open("a") as file:
                file.write(f"{found[0].steps}\n")
        return found

    with (
        patch.object(checkpoints, "EVERY", 0.0),
        patch.object(Checkpoint, "save", saving),
        patch.object(Checkpoint, "load", loading),
    ):
        return run_task(task)


def hurry_dask() -> None:
    """Have Dask give up a scheduler that is gone after a second, not after half a minute."""
    try:
        from distributed import Client
    except ImportError:
        return
    patient = Client._reconnect

    async def reconnect(client: Client) -> None:
        client._timeout = 1.0
        await patient(client)

    Client._reconnect = reconnect


def command_line() -> None:
    """Run `wn` with tasks that wait at the gate."""
    from wn.cli.main import main  # not at the top: workers, who import this module, need none of it
    from wn.study.execution import driver

    signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal
    driver.run_task = held
    hurry_dask()
    main()
