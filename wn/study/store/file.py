"""The file of a study, DIR/study.sqlite: its tables, how it is opened, and its errors in one line.

    settings   what the curves of one figure share: data, network, training, noise
    curves     what the units of one curve share: settings, phase and place
    units      one row per measured accuracy: its σ and repeat, and the result once it is there
    study      which units the study has now, in its order: a unit whose study changed stays in `units` only
    signal     mean of y² before the noise, per unit and noisy site
    weights    statistics of the weights, per unit with a training of its own
    groups     correct answers by group of test images, per unit; files of older versions have none
    binarisation  of activations and weights, per unit with a training of its own, if it was asked for
    results    (a view) all of it by name, for every program that reads SQLite

Every change is one transaction in a write-ahead log (WAL). A commit is on disk before work goes on
(synchronous = FULL): what is finished survives kill -9 as well as loss of power. A transaction that is cut
off is undone by whoever opens the file next.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wn.basics.errors import WnError
from wn.files.whole import whole_file
from wn.study.store.views import renew

FILE = "study.sqlite"
APPLICATION = 0x776E7374  # "wnst": marks an SQLite file as a study's
VERSION = 1  # of the tables
CACHE = 32 * 2**20  # bytes of the file in memory
LOG = 64 * 2**20  # bytes of the write-ahead log that stay after a larger transaction
PATIENCE = 30.0  # seconds: for another program's transaction, or the recovery after a crash, to end

_GROUPS = """CREATE TABLE IF NOT EXISTS groups (
    unit INTEGER PRIMARY KEY REFERENCES units, correct BLOB NOT NULL)"""

_BINARISATION = """CREATE TABLE IF NOT EXISTS binarisation (
    unit INTEGER REFERENCES units, place TEXT, zeros REAL, decided REAL, spread REAL, bimodality REAL,
    pattern REAL, signs REAL, PRIMARY KEY (unit, place)) WITHOUT ROWID"""

_TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # seed is TEXT since SQLite's integers end at 2⁶³; repetitions are one number, or one per noisy site
    """CREATE TABLE settings (
        id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE,
        dataset TEXT NOT NULL, classes INTEGER NOT NULL, model TEXT NOT NULL, batch_norm TEXT NOT NULL,
        clamp_weights INTEGER NOT NULL, epochs INTEGER NOT NULL, seed TEXT NOT NULL,
        noise TEXT NOT NULL, ratio REAL, repetitions TEXT NOT NULL, spec TEXT NOT NULL)""",
    """CREATE TABLE curves (
        id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, settings INTEGER NOT NULL REFERENCES settings,
        phase TEXT NOT NULL, site INTEGER NOT NULL, site_name TEXT NOT NULL, spec TEXT NOT NULL,
        sigma_train REAL)""",
    """CREATE TABLE environments (
        id INTEGER PRIMARY KEY, backend TEXT NOT NULL, machine TEXT NOT NULL, versions TEXT NOT NULL,
        "commit" TEXT NOT NULL, UNIQUE (backend, machine, versions, "commit"))""",
    "CREATE TABLE failures (id INTEGER PRIMARY KEY, failed INTEGER NOT NULL, traceback TEXT NOT NULL)",
    """CREATE TABLE units (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, clean_key BLOB,
        curve INTEGER NOT NULL REFERENCES curves, sigma REAL NOT NULL, repeat INTEGER NOT NULL,
        status TEXT NOT NULL DEFAULT 'pending',
        correct INTEGER, total INTEGER, seconds REAL, finished INTEGER,
        environment INTEGER REFERENCES environments, failure INTEGER REFERENCES failures,
        CHECK (CASE status WHEN 'pending' THEN correct IS NULL AND failure IS NULL
                           WHEN 'failed' THEN correct IS NULL AND failure IS NOT NULL
                           WHEN 'done' THEN correct >= 0 AND correct <= total AND total > 0
                                            AND finished IS NOT NULL AND environment IS NOT NULL
                           ELSE 0 END))""",
    "CREATE INDEX units_of_curve ON units (curve)",
    "CREATE TABLE study (position INTEGER PRIMARY KEY, unit INTEGER NOT NULL UNIQUE REFERENCES units)",
    """CREATE TABLE signal (
        unit INTEGER REFERENCES units, site INTEGER, power REAL, PRIMARY KEY (unit, site)) WITHOUT ROWID""",
    """CREATE TABLE weights (
        unit INTEGER PRIMARY KEY REFERENCES units, layers TEXT NOT NULL, statistics BLOB NOT NULL)""",
    _GROUPS,
    _BINARISATION,
)

_SAFE = "; nothing that was finished is lost"
_DAMAGED = "the file is damaged ({error}): restore it from a copy, or choose another folder"
_OTHER = "{error}: this is no study as this wn makes them, or it is damaged"
_LOCKED = f"another program keeps the file locked{_SAFE}: end that program, then run it again"
_NO_LOCKS = (
    f"files can't be locked on this disk, as on many network disks ({{error}}){_SAFE}: choose a folder on a "
    "local disk, or copy this one there"
)
_REASONS = {
    sqlite3.SQLITE_FULL: f"the disk is full{_SAFE}: make room, then run it again",
    sqlite3.SQLITE_IOERR: f"the disk can't be read or written ({{error}}){_SAFE} that is on it",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: "is no study: not a file of SQLite",
    sqlite3.SQLITE_READONLY: "can't be written",
    sqlite3.SQLITE_PERM: "can't be written",
    sqlite3.SQLITE_CANTOPEN: "can't be opened",
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _NO_LOCKS,
    sqlite3.SQLITE_NOLFS: f"is larger than files may be on this disk{_SAFE}: copy the folder to another one",
    sqlite3.SQLITE_NOMEM: f"there is too little memory{_SAFE}: make room, then run it again",
}
# A disk that can't be locked or mapped has other details of "can't be read or written"
_NO_LOCKS_AT = (
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_UNLOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMLOCK,
    sqlite3.SQLITE_IOERR_SHMMAP,
)
_NO_LOG = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
# Mistakes of this program, which are to be seen whole
_BUGS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.NotSupportedError)


@contextmanager
def one_line(path: Path) -> Iterator[None]:
    """Turn errors about a file into a WnError of one line."""
    try:
        yield
    except _BUGS:
        raise
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        reason = _NO_LOCKS if code in _NO_LOCKS_AT else _REASONS.get(code & 0xFF, _OTHER)  # without details
        raise WnError(f"{path}: {reason.format(error=error)}") from error


def open_to_write(folder: Path) -> sqlite3.Connection:
    """Open the file of a study for its one writer, who holds the folder's lock; make it if need be."""
    path = folder / FILE
    if not path.exists():
        _make(path)
    with one_line(path):
        db = _connect(path, "rw")
        try:
            db.execute(f"PRAGMA cache_size = -{CACHE // 1024}")
            _check(db, path)
            mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise WnError(
                    f"{path}: this file system has no shared memory: choose a folder on a local disk"
                )
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA journal_size_limit = {LOG}")
            # Says now, not after hours, if the file can't be written
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO meta VALUES ('', '')")
            db.execute("ROLLBACK")
            db.execute("BEGIN IMMEDIATE")
            for table in (_GROUPS, _BINARISATION):  # files of older versions have none
                db.execute(table)
            if not _has_sigma_train(db):
                db.execute("ALTER TABLE curves ADD COLUMN sigma_train REAL")
            renew(db)
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
    return db


def open_to_read(folder: Path) -> sqlite3.Connection:
    """Open the file of a study for reading, also while it is written on this machine."""
    path = folder / FILE
    if not path.is_file():
        raise WnError(f"{folder}: no study is here: {FILE} is missing; wn study run makes it")
    with one_line(path):
        db = _connect(path, "ro")
        try:
            try:
                _check(db, path)
            except sqlite3.OperationalError as error:
                # WAL needs a file beside the study's own, except for one that nobody changes
                if error.sqlite_errorcode & 0xFF not in _NO_LOG or not _at_rest(path):
                    raise
                db.close()
                db = _connect(path, "ro&immutable=1")
                _check(db, path)
            if not _has_sigma_train(db):  # while it is read
                db.execute("CREATE TEMP VIEW curves AS SELECT *, NULL AS sigma_train FROM main.curves")
        except BaseException:
            db.close()
            raise
    return db


def _has_sigma_train(db: sqlite3.Connection) -> bool:
    """Whether curves have the σ of training of a matrix: those of older versions have none."""
    return "sigma_train" in {name for _, name, *_ in db.execute("PRAGMA main.table_info(curves)")}


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, timeout=PATIENCE, isolation_level=None, uri=True)


def _at_rest(path: Path) -> bool:
    """Whether the log is empty or missing: the file is all there is, and nobody is writing it."""
    try:
        return _log(path).stat().st_size == 0
    except FileNotFoundError:
        return True


def _check_size(path: Path) -> None:
    """Raise WnError if the end of the file is missing: SQLite itself overlooks a part of the last page."""
    if not _at_rest(path):  # otherwise the log may have the missing pages
        return
    with path.open("rb") as file:
        header = file.read(32)
    bytes_per_page = int.from_bytes(header[16:18], "big") or 1
    expected = int.from_bytes(header[28:32], "big") * (65536 if bytes_per_page == 1 else bytes_per_page)
    if path.stat().st_size < expected and _at_rest(path):  # still so: nobody began meanwhile
        raise WnError(f"{path}: {_DAMAGED.format(error='its end is missing')}")


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Raise WnError if the file is no study, or one of another version."""
    names = ("application_id", "user_version")
    application, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    if application != APPLICATION:
        raise WnError(f"{path}: is no study: it is empty, or was made by another program")
    if version != VERSION:
        raise WnError(f"{path}: its format has version {version}; this wn reads version {VERSION}")
    _check_size(path)


def _make(path: Path) -> None:
    """Make the file with its tables, whole or not at all, so that an empty one is a damaged one."""
    if _log(path).exists():
        raise WnError(
            f"{path}: is missing, but its log {_log(path).name} is there: restore it, or delete both"
        )
    try:
        with whole_file(path) as temporary, one_line(path):
            db = _connect(temporary, "rw")
            try:
                for table in _TABLES:
                    db.execute(table)
                renew(db)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {VERSION}")
            finally:
                db.close()
    except OSError as error:
        raise WnError(f"{path}: can't be written: {error.strerror or error}") from None


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")
