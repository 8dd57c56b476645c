"""Locks between processes: `flock` on a file, which the system takes back however its process ends.

On NFS the server keeps the lock, so it holds between machines (not on mounts with `nolock`). Two openings of
the same file exclude each other also within one process. A forked child would inherit a lock and hold it
beyond the death of its parent: it lets go of it at once.
"""

import errno
import os
import platform
import sys
import time
from datetime import UTC, datetime

import msgspec

AVAILABLE = sys.platform != "win32"
if sys.platform != "win32":
    try:
        import fcntl
    except ImportError:
        AVAILABLE = False

TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)

_held: set[int] = set()  # file descriptors of the locks that this process holds


def _let_go() -> None:
    """Close the locks in a forked child; those of the parent stay."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):  # where there are forks
    os.register_at_fork(after_in_child=_let_go)


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock: process, host, and since when."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


def take(descriptor: int, patience: float = 0.0, shared: bool = False) -> bool:
    """Take the lock of an open file; False if others hold it for all of `patience` seconds.

    Raises OSError where files can't be locked.
    """
    give_up = time.monotonic() + patience
    while True:
        try:
            _flock(descriptor, shared)
            return True
        except OSError as error:
            if error.errno not in TAKEN:
                raise
        if time.monotonic() >= give_up:
            return False
        time.sleep(0.02)


def keep(descriptor: int) -> None:
    """Take note that this process holds a lock, until `release`."""
    _held.add(descriptor)


def release(descriptor: int) -> None:
    """Let go of a lock; nothing is done if this process does not hold it (any more)."""
    if descriptor in _held:
        _held.discard(descriptor)
        os.close(descriptor)


def held(descriptor: int) -> bool:
    """Whether this process holds a lock: a forked child does not."""
    return descriptor in _held


def sign(descriptor: int) -> None:
    """Write who holds a lock into its file; a full disk does not matter for it."""
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    record = Holder(os.getpid(), platform.node(), since)
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, msgspec.json.encode(record))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def signature(descriptor: int) -> Holder | None:
    """Return the record in a lock's file; None while it is being written."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return msgspec.json.decode(os.read(descriptor, 4096), type=Holder)
    except msgspec.DecodeError:
        return None


def _flock(descriptor: int, shared: bool) -> None:
    if sys.platform == "win32" or not AVAILABLE:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
