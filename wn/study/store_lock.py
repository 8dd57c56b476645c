"""The lock of a study's folder: one driver at a time writes it, on this machine or another.

The lock is `flock` on DIR/lock, which the system takes back when the process ends, however it ends; the file
itself stays. On NFS the server keeps the lock, so it holds between machines (not on mounts with `nolock`). A
forked child would inherit the lock and hold it beyond the death of its parent: it lets go of it at once.
"""

import errno
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from wn.errors import WnError

try:
    import fcntl
except ImportError:  # Windows has no flock, and what it has would not hold between machines
    raise WnError(
        f"studies need the file locks of Linux or macOS, which {platform.system()} has not: run them under "
        "WSL 2 there; `wn walk` and `wn train` need none"
    ) from None

LOCK = "lock"
PATIENCE = 1.0  # seconds: a reader that looks who holds the lock has it for a moment
TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)

_held: set[int] = set()  # file descriptors of the locks that this process holds


def _let_go() -> None:
    """Close the locks in a forked child; those of the parent stay."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock: process, host, and since when."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class Lock:
    """The lock of a folder, held until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """Take the lock; WnError if another process holds it, saying who, or if it can't be taken."""
        path = folder / LOCK
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise WnError(f"{path}: can't be written: {error.strerror}") from None
        try:
            if not _taken(self._descriptor, fcntl.LOCK_EX, PATIENCE):
                holder = _read(self._descriptor) or "another process"
                raise WnError(
                    f"{folder}: another driver runs this study: {holder}; one at a time can write it"
                )
            _write(self._descriptor, _this_process())
        except OSError as error:
            os.close(self._descriptor)
            raise WnError(
                f"{path}: can't be locked: {error.strerror}; choose a folder on a local disk"
            ) from None
        except BaseException:
            os.close(self._descriptor)
            raise
        _held.add(self._descriptor)

    def release(self) -> None:
        """Let go of the lock; a second call, or one in a forked child, does nothing."""
        if self._descriptor in _held:
            _held.discard(self._descriptor)
            os.close(self._descriptor)


def holder(folder: Path) -> Holder | None:
    """Return who holds the lock of a folder; None if nobody does or it can't be found out."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _taken(descriptor, fcntl.LOCK_SH) else _read(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _taken(descriptor: int, kind: int, patience: float = 0.0) -> bool:
    """Take a lock; False if others hold it all the while. OSError where files can't be locked."""
    give_up = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in TAKEN:
                raise
        if time.monotonic() >= give_up:
            return False
        time.sleep(0.05)


def _this_process() -> Holder:
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Holder(os.getpid(), platform.node(), since)


def _write(descriptor: int, record: Holder) -> None:
    """Write who holds the lock; a full disk does not matter for it."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(record), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _read(descriptor: int) -> Holder | None:
    """Return the record in a lock's file; None while it is being written."""
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder)
    except msgspec.DecodeError:
        return None
