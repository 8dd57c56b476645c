"""The store when files or disks fail: damaged and foreign files, full disks, read-only folders."""

import os
import random
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.study.execution.processes import output
from tests.study.store.stores import (
    HERE,
    counts,
    done_keys,
    finish,
    finished_study,
    result,
    rows,
    study,
    whole,
)
from wn.basics.errors import WnError
from wn.study.store.file import FILE, one_line
from wn.study.store.lock import LOCK
from wn.study.store.writer import Store

# ---- damaged and foreign files --------------------------------------------------------------------------


def check_refused(folder: Path, message: str) -> None:
    """Both ways to open are refused, with one line that names the file, and the file stays as it is."""
    before = (folder / FILE).read_bytes()
    for opened in (Store.create_or_open, Store.read):
        with pytest.raises(WnError, match=message) as refused, opened(folder) as store:
            store.status()
        assert str(refused.value).startswith(str(folder / FILE))
        assert "\n" not in str(refused.value)
    assert (folder / FILE).read_bytes() == before


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 2\0" + bytes(4096), bytes(range(256)) * 20])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    check_refused(tmp_path, "is no study: not a file of SQLite")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"")
    check_refused(tmp_path, "is no study: it is empty")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    finished_study(tmp_path, study(repeats=10))
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: int(share * len(content))])
    check_refused(tmp_path, "the file is damaged|not a file of SQLite")


def test_pages_of_rubbish(tmp_path: Path) -> None:
    units = study(repeats=10)
    finished_study(tmp_path, units)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[20 * 4096 : -2 * 4096] = random.Random(1).randbytes(len(content) - 22 * 4096)
    (tmp_path / FILE).write_bytes(content)
    check_refused(tmp_path, "the file is damaged")


def test_a_database_of_another_program(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("CREATE TABLE units (a)")
    db.close()
    check_refused(tmp_path, "is no study: it is empty, or was made by another program")


def test_another_version(tmp_path: Path) -> None:
    finished_study(tmp_path, study(repeats=1))
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("PRAGMA user_version = 2")
    db.close()
    check_refused(tmp_path, "its format has version 2; this wn reads version 1")


def test_a_log_without_its_file(tmp_path: Path) -> None:
    (tmp_path / f"{FILE}-wal").write_bytes(b"x")
    with pytest.raises(WnError, match=f"is missing, but its log {FILE}-wal is there"):
        Store.create_or_open(tmp_path)


def test_no_study_and_no_folder(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(WnError, match="no study is here"):
            Store.read(folder)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WnError, match="can't be a study's folder: "):
            Store.create_or_open(folder)


# ---- what SQLite says -----------------------------------------------------------------------------------

SAYS = {
    sqlite3.SQLITE_PROTOCOL: "files can't be locked on this disk, as on many network disks (SQLite's words)",
    sqlite3.SQLITE_IOERR_LOCK: "choose a folder on a local disk, or copy this one there",
    sqlite3.SQLITE_IOERR_SHMMAP: "files can't be locked on this disk",
    sqlite3.SQLITE_IOERR_READ: "the disk can't be read or written (SQLite's words); nothing that was",
    sqlite3.SQLITE_BUSY: "another program keeps the file locked; nothing that was finished is lost: end that",
    sqlite3.SQLITE_BUSY_RECOVERY: "another program keeps the file locked",
    sqlite3.SQLITE_LOCKED: "another program keeps the file locked",
    sqlite3.SQLITE_FULL: "the disk is full; nothing that was finished is lost: make room, then run it again",
    sqlite3.SQLITE_READONLY_DIRECTORY: "can't be written",
    sqlite3.SQLITE_PERM: "can't be written",
    sqlite3.SQLITE_CANTOPEN_ISDIR: "can't be opened",
    sqlite3.SQLITE_NOLFS: "is larger than files may be on this disk",
    sqlite3.SQLITE_CORRUPT_INDEX: "the file is damaged (SQLite's words): restore it from a copy",
    sqlite3.SQLITE_NOTADB: "is no study: not a file of SQLite",
    sqlite3.SQLITE_ERROR: "SQLite's words: this is no study as this wn makes them, or it is damaged",
}


@pytest.mark.parametrize("code", SAYS)
def test_every_failure_of_sqlite_is_one_line_that_says_what_to_do(tmp_path: Path, code: int) -> None:
    """The kind: codes of the library underneath, which mean nothing to who meets them."""
    error = sqlite3.OperationalError("SQLite's words")
    error.sqlite_errorcode = code
    with pytest.raises(WnError) as caught, one_line(tmp_path / FILE):
        raise error
    assert str(caught.value).startswith(f"{tmp_path / FILE}: ")
    assert SAYS[code] in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- disks ----------------------------------------------------------------------------------------------


def test_a_full_disk(tmp_path: Path) -> None:
    units = study(repeats=40)
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(units[:100]))
        finish(store, units[:20])
        ((pages,),) = store.rows("PRAGMA page_count")
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(WnError, match=f"{FILE}: the disk is full; nothing that was finished is lost"):
            store.add_units(rows(units))
        with pytest.raises(WnError, match="the disk is full"):
            store.finish(map(result, units[20:100]), HERE)
        assert counts(tmp_path) == (80, 20, 0)
        store._db.execute("PRAGMA max_page_count = 1000000")  # room is made
        assert store.add_units(rows(units)) == len(units) - 100
        finish(store, units)
    assert whole(tmp_path)
    assert counts(tmp_path) == (0, len(units), 0)


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    """Writes beyond a size fail, of whatever file: of the log, and of the file itself."""
    units = study(repeats=40)
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(units))
        finish(store, units[:20])
    text = """
store = Store.create_or_open(folder)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
done = []
try:
    for unit in waiting(store):
        store.finish([result(unit)], HERE)
        done.append(unit.key)
except WnError as error:
    say(error)
say(" ".join(done))
os._exit(0)
"""
    error, done = output(text, tmp_path)
    assert "nothing that was finished is lost" in error
    assert 0 < len(done.split()) < len(units) - 20
    with Store.create_or_open(tmp_path) as store:
        assert set(done.split()) <= set(done_keys(store))
        finish(store, units)
    assert whole(tmp_path)
    assert counts(tmp_path) == (0, len(units), 0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


AS_ANYBODY = """
from wn.study.tables.results import read_table
if os.geteuid() == 0:
    os.seteuid(65534)  # root may write everywhere
for opened in (Store.create_or_open, Store.read):
    try:
        with opened(folder) as store:
            say(sum(counts.done for counts in store.status()))
    except WnError as error:
        say(error)
"""


def test_a_folder_that_is_read_only(open_folder: Path) -> None:
    """A study that is at rest can be read there, and nothing is written."""
    finished_study(open_folder, study(repeats=1))
    (open_folder / FILE).chmod(0o444)
    open_folder.chmod(0o555)
    try:
        refused, done = output(AS_ANYBODY, open_folder)
        assert refused.startswith(f"{open_folder / LOCK}: can't be written: ")
        assert int(done) == len(study(repeats=1))
        assert sorted(path.name for path in open_folder.iterdir()) == [LOCK, FILE]
    finally:
        open_folder.chmod(0o755)


def test_a_file_that_is_read_only(open_folder: Path) -> None:
    finished_study(open_folder, study(repeats=1))
    (open_folder / FILE).chmod(0o444)
    (open_folder / LOCK).chmod(0o666)
    open_folder.chmod(0o777)
    refused, done = output(AS_ANYBODY, open_folder)
    assert refused == f"{open_folder / FILE}: can't be written"
    assert int(done) == len(study(repeats=1))
