"""The store and other processes: kills, a second driver, readers while it is written."""

import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.study.execution.processes import output, started
from tests.study.store.stores import (
    HERE,
    counts,
    done_keys,
    finish,
    finished_study,
    result,
    rows,
    study,
    table,
    waiting,
    whole,
)
from wn.basics.errors import WnError
from wn.study.store.file import FILE
from wn.study.store.lock import LOCK, holder
from wn.study.store.writer import Store


def log_size(folder: Path) -> int:
    return (folder / f"{FILE}-wal").stat().st_size


# ---- kill -9 --------------------------------------------------------------------------------------------


def test_killed_in_the_middle_of_finishing(tmp_path: Path) -> None:
    """With a small cache, SQLite has written half of the transaction to its log by then."""
    units = study(repeats=20, phases=["training"])
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(units))
        finish(store, units[:3])
    text = """
store = Store.create_or_open(folder)
store._db.execute("PRAGMA cache_size = 2")
def results():
    yield from map(result, waiting(store)[:150])
    say((folder / "study.sqlite-wal").stat().st_size)
    die()
store.finish(results(), HERE)
"""
    (written,) = output(text, tmp_path, code=-signal.SIGKILL)
    assert int(written) > 20_000  # half a transaction is there, and must not be seen
    assert log_size(tmp_path) >= int(written)
    assert counts(tmp_path) == (len(units) - 3, 3, 0)
    with Store.create_or_open(tmp_path) as store:
        assert waiting(store) == units[3:]
        assert list(store.rows("SELECT count(*) FROM weights")) == [(3,)]
        finish(store, units)
    assert whole(tmp_path)
    assert counts(tmp_path) == (0, len(units), 0)


def test_killed_in_the_middle_of_adding(tmp_path: Path) -> None:
    units, more = study(repeats=1), study(repeats=500)
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(units))
        finish(store, units[:4])
    text = """
store = Store.create_or_open(folder)
store._db.execute("PRAGMA cache_size = 2")
def more():
    yield from rows(study(repeats=500))
    say((folder / "study.sqlite-wal").stat().st_size)
    die()
store.add_units(more())
"""
    (written,) = output(text, tmp_path, code=-signal.SIGKILL)
    assert int(written) > 500_000
    assert counts(tmp_path) == (len(units) - 4, 4, 0)
    with Store.create_or_open(tmp_path) as store:
        assert store.add_units(rows(more)) == len(more) - len(units)
    assert counts(tmp_path) == (len(more) - 4, 4, 0)


def test_killed_while_it_is_made(tmp_path: Path) -> None:
    text = """
from wn.study.store import file as store_file
store_file._TABLES = chain(store_file._TABLES[:4], (die() for _ in "x"))
Store.create_or_open(folder)
"""
    assert output(text, tmp_path, code=-signal.SIGKILL) == []
    assert not (tmp_path / FILE).exists()
    with pytest.raises(WnError, match=f"no study is here: {FILE} is missing"):
        Store.read(tmp_path)
    finished_study(tmp_path, study(repeats=1))
    assert counts(tmp_path)[0] == 0


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """What was said to be finished is finished, tasks are whole, and the end is as without kills."""
    units = study(repeats=30)
    with Store.create_or_open(tmp_path / "killed") as store:
        store.add_units(rows(units))
    text = """
store = Store.create_or_open(folder)
store.add_units(rows(study(repeats=30)))
say("ready")
units = waiting(store)
while units:
    task, units = units[:5], units[5:]
    store.finish(map(result, task), HERE)
    say(" ".join(unit.key for unit in task))
"""
    moments, said = random.Random(3), set[str]()
    for _ in range(3):
        with started(text, tmp_path / "killed") as process:
            assert process.stdout is not None
            for _ in range(moments.randrange(1, 10)):
                said |= set(process.stdout.readline().split())
            time.sleep(moments.random() / 100)
            process.kill()
            said |= set(process.stdout.read().rpartition("\n")[0].split())
        with Store.read(tmp_path / "killed") as reader:
            done = set(done_keys(reader))
            assert said <= done
            assert len(done) % 5 == 0  # whole tasks
            weights = {key.hex() for (key,) in reader.rows("SELECT key FROM units JOIN weights ON unit = id")}
        trained = {unit.key for unit in units if unit.phase != "inference"}
        assert weights == done & trained
    assert 0 < len(said) < len(units)
    assert output(text, tmp_path / "killed")[0] == "ready"
    finished_study(tmp_path / "whole", units)
    assert table(tmp_path / "killed") == table(tmp_path / "whole")


# ---- one driver -----------------------------------------------------------------------------------------

DRIVER = """
with Store.create_or_open(folder) as store:
    store.add_units(rows(study(repeats=2)))
    say("ready")
    time.sleep(60)
"""


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    with started(DRIVER, tmp_path) as process:
        who = f"process {process.pid} on {socket.gethostname()} since 2"
        with pytest.raises(WnError, match=f"{tmp_path}: another driver runs this study: {who}") as refused:
            Store.create_or_open(tmp_path)
        assert "\n" not in str(refused.value)
        found = holder(tmp_path)
        assert found is not None
        assert found.pid == process.pid
        assert counts(tmp_path)[1] == 0  # readers are welcome
        process.kill()
        process.wait()
        Store.create_or_open(tmp_path).close()
    assert holder(tmp_path) is None


def test_a_second_driver_in_the_same_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wn.study.store.lock.PATIENCE", 0.1)
    with Store.create_or_open(tmp_path) as store:
        with pytest.raises(WnError, match=f"process {os.getpid()} on"):
            Store.create_or_open(tmp_path)
        with Store.read(tmp_path) as reader:
            assert reader.meta == store.meta
        with pytest.raises(WnError, match="another driver"):  # reading did not open the lock
            Store.create_or_open(tmp_path)
    Store.create_or_open(tmp_path).close()


def test_forked_workers_do_not_hold_the_lock_of_a_dead_driver(tmp_path: Path) -> None:
    text = """
store = Store.create_or_open(folder)
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(60)
    os._exit(0)
say("ready")
say(child)
time.sleep(60)
"""
    with started(text, tmp_path) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            with pytest.raises(WnError, match=f"process {process.pid} on"):
                Store.create_or_open(tmp_path)
            process.kill()
            process.wait()
            os.kill(child, 0)  # it lives
            Store.create_or_open(tmp_path).close()
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_store_that_can_not_be_opened_holds_no_lock(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database, but long enough for a header" * 100)
    with pytest.raises(WnError):
        Store.create_or_open(tmp_path)
    (tmp_path / FILE).unlink()
    Store.create_or_open(tmp_path).close()


def test_a_driver_elsewhere_keeps_readers_out(tmp_path: Path) -> None:
    with Store.create_or_open(tmp_path):
        record = json.loads((tmp_path / LOCK).read_text())
        (tmp_path / LOCK).write_text(json.dumps(record | {"host": "node17"}))
        with pytest.raises(
            WnError, match=rf"process {os.getpid()} on node17 since .* is writing this study: read"
        ):
            Store.read(tmp_path)
    Store.read(tmp_path).close()


# ---- reading while writing ------------------------------------------------------------------------------


def test_readers_see_what_is_committed(tmp_path: Path) -> None:
    units = study(repeats=2)
    with Store.create_or_open(tmp_path) as store, Store.read(tmp_path) as reader:
        assert list(reader.status()) == []
        store.add_units(rows(units))
        seen = []

        def results() -> Iterator[Any]:
            for unit in units[:9]:
                yield result(unit)
                seen.append(sum(s.done for s in reader.status()))

        store.finish(results(), HERE)
        assert seen == [0] * 9
        assert sum(s.done for s in reader.status()) == 9
        with reader.snapshot():
            before = done_keys(reader)
            finish(store, units)
            assert done_keys(reader) == before
        assert len(done_keys(reader)) == len(units)
        with pytest.raises(WnError, match="can't be written"):
            list(reader.rows("DELETE FROM units"))


def test_reading_after_a_kill_without_another_driver(tmp_path: Path) -> None:
    text = """
store = Store.create_or_open(folder)
store.add_units(rows(study(repeats=2)))
finish(store, study(repeats=2)[:11])
die()
"""
    output(text, tmp_path, code=-signal.SIGKILL)
    assert log_size(tmp_path) > 0
    assert counts(tmp_path)[1] == 11
