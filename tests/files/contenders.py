"""Processes that run a command of `wn` at the same moment again and again, and what they must leave."""

import csv
import json
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from io import StringIO
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

from tests.walking.test_results import FILES
from wn.walking.results import PICTURES

LIMITS = "--train-limit 200 --test-limit 100 --epochs 1 --batch-size 20 --threads 1 --backend numpy"
WALK = f"walk {LIMITS} --sigma 0.5,1.0,2.0,5.0 --where 7 --phase inference".split()
TRAIN = f"train {LIMITS}".split()
PATIENCE = 300.0  # seconds for the others to come


class Contenders:
    """Some processes with the command line in them; each command begins in all of them at once."""

    def __init__(self, number: int) -> None:
        context = get_context("spawn")
        self.barrier = context.Barrier(number)  # it would end with the name
        self.ends: list[Connection] = []
        self.processes = []
        for _ in range(number):
            mine, other = context.Pipe()
            process = context.Process(target=_serve, args=(other, self.barrier), daemon=True)
            process.start()
            self.ends.append(mine)
            self.processes.append(process)

    def run(self, commands: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
        """Run one command in each process; return exit codes and what was complained of."""
        for end, command in zip(self.ends, commands, strict=True):
            end.send(list(command))
        return [end.recv() for end in self.ends]

    def close(self) -> None:
        """End the processes."""
        for end in self.ends:
            end.send(None)
        for process in self.processes:
            process.join()


def _serve(end: Connection, barrier: Any) -> None:
    from wn.cli import main as cli
    from wn.data import catalogue
    from wn.walking.pictures import plots
    from wn.walking.report import walks

    catalogue.load = lru_cache(catalogue.load)  # the same few files again and again
    for name in ("plot_curves", "plot_midpoints"):  # pictures that say whose they are, in no time
        setattr(
            plots,
            name,
            lambda tables, path: path.write_text(json.dumps({"seed": int(tables.curves["seed"][0])})),
        )

    def write_page(_tables: Any, run: Any, path: Path) -> None:
        path.write_text(json.dumps({"seed": run["asked"]["seed"]}))

    setattr(walks, "write_report", write_page)  # noqa: B010 (mypy: its type is another one)
    main: Callable[[list[str]], None] = cli.main
    while (command := end.recv()) is not None:
        complaint = StringIO()
        try:
            barrier.wait(PATIENCE)
            with redirect_stdout(StringIO()), redirect_stderr(complaint):
                main(command)
        except SystemExit as ended:
            end.send((ended.code, complaint.getvalue()))
        except BrokenBarrierError:
            end.send((-1, "the others did not come"))


def seed_of(folder: Path, pictures: bool = True) -> int:
    """Return the seed of the walk in a folder; AssertionError unless it is whole and of one run."""
    assert sorted(os.listdir(folder)) == FILES
    record = json.loads((folder / "run.json").read_text())
    with (folder / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["seed"] for row in rows} == {str(record["asked"]["seed"])}
    with (folder / "midpoints.csv").open(newline="") as file:
        clean = {row["clean_accuracy"] for row in csv.DictReader(file)}
    ((correct, total),) = record["clean_correct"]
    assert clean == {repr(correct / total)}
    if pictures:
        for name in PICTURES:
            assert json.loads((folder / name).read_text())["seed"] == record["asked"]["seed"]
    return int(record["asked"]["seed"])
