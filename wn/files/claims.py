"""Claims on outputs: who is going to write a file or folder says so before the work, and others keep away.

A claim is a locked file (`locks`): `.wn-claim` in a folder, `.‹name›.wn-claim` beside a file. It goes when
the block ends; that of a process that was killed may stay, but holds nobody up, as the system takes its lock
back. On disks without such locks (some network mounts, Windows) the existence of the file is the claim, and
one left behind by a killed process has to be removed by hand.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wn.basics.errors import WnError
from wn.files import locks

NAME = ".wn-claim"
LONGEST = 255  # bytes in the name of a file


class Claimed(WnError):
    """Another run is writing this output."""


@contextmanager
def claim(path: Path, is_folder: bool, patience: float = 0.0) -> Iterator[Callable[[], bool]]:
    """Hold the claim on a file or an existing folder; yield a function: is the claim's file still there?

    Raises Claimed if another run holds it for all of `patience` seconds, and OSError if nothing can be
    written there.
    """
    place = path / NAME if is_folder else path.with_name(_beside(path.name))
    try:
        descriptor = _taken(path, place, patience)
    except OSError as error:  # named after what it is about
        raise OSError(error.errno, error.strerror, str(path)) from None
    locks.keep(descriptor)
    try:
        yield lambda: _is_at(descriptor, place)
    finally:
        if locks.held(descriptor):  # a forked child has nothing to give back
            with suppress(OSError):
                if _is_at(descriptor, place):  # the folder may have been moved, and another made
                    place.unlink()
            locks.release(descriptor)


def _beside(name: str) -> str:
    """Return the name of the claim on a file, which may itself have the longest name there is."""
    if len(os.fsencode(name)) + len(NAME) + 1 > LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}{NAME}"


def _taken(path: Path, place: Path, patience: float) -> int:
    """Return the descriptor of the claim's file, locked and signed."""
    give_up = time.monotonic() + patience
    while True:
        descriptor, new = _opened(place)
        try:
            if not _locked(descriptor, new, give_up - time.monotonic()):
                if time.monotonic() < give_up:
                    time.sleep(0.02)
                    os.close(descriptor)
                    continue
                raise Claimed(f"{path} is being written by another run{_whose(descriptor, place)}")
            if _is_at(descriptor, place):  # else its holder, who has removed it, was done only now
                with suppress(OSError):  # opened for reading only: it is another user's, left behind
                    locks.sign(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(place: Path) -> tuple[int, bool]:
    """Return the descriptor of the claim's file, and whether this call has made it."""
    while True:
        with suppress(FileExistsError):
            return os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        with suppress(FileNotFoundError):  # removed just now
            try:
                return os.open(place, os.O_RDWR), False
            except PermissionError:
                return os.open(place, os.O_RDONLY), False


def _locked(descriptor: int, new: bool, patience: float) -> bool:
    """Lock the claim's file; where files can't be locked, who has made it has it."""
    try:
        return locks.take(descriptor, max(patience, 0.0))
    except OSError:
        return new


def _is_at(descriptor: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(place))
    except OSError:
        return False


def _whose(descriptor: int, place: Path) -> str:
    """The holder of a claim in words, with advice where only the file tells of it."""
    holder = locks.signature(descriptor)
    who = "" if holder is None else f" ({holder})"
    try:
        locks.take(descriptor, shared=True)
    except OSError:
        return f"{who}; if that run has ended, remove {place}"
    return who
