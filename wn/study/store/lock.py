"""The lock of a study's folder: one driver at a time writes it, on this machine or another.

The lock is that of DIR/lock (see `wn.files.locks`); the file itself stays.
"""

import os
import platform
from pathlib import Path

from wn.basics.errors import WnError
from wn.files import locks
from wn.files.locks import Holder

if not locks.AVAILABLE:  # on Windows, whose own locks would not hold between machines
    raise WnError(
        f"studies need the file locks of Linux or macOS, which {platform.system()} has not: run them under "
        "WSL 2 there; `wn walk` and `wn train` need none"
    )

LOCK = "lock"
PATIENCE = 1.0  # seconds: a reader that looks who holds the lock has it for a moment


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
            if not locks.take(self._descriptor, PATIENCE):
                holder = locks.signature(self._descriptor) or "another process"
                raise WnError(
                    f"{folder}: another driver runs this study: {holder}; one at a time can write it"
                )
            locks.sign(self._descriptor)
        except OSError as error:
            os.close(self._descriptor)
            raise WnError(
                f"{path}: can't be locked: {error.strerror}; choose a folder on a local disk"
            ) from None
        except BaseException:
            os.close(self._descriptor)
            raise
        locks.keep(self._descriptor)

    def release(self) -> None:
        """Let go of the lock; a second call, or one in a forked child, does nothing."""
        locks.release(self._descriptor)


def holder(folder: Path) -> Holder | None:
    """The holder of the lock of a folder; None if nobody holds it or it can't be found out."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if locks.take(descriptor, shared=True) else locks.signature(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
