"""The environment of a computation: the record that every result carries."""

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from wn.basics import installed
from wn.basics.installed import DISTRIBUTION, __version__
from wn.engine import backends
from wn.engine.backends.plain.base import Backend
from wn.study.store.rows import Environment

PATIENCE = 10.0  # seconds for git


@lru_cache
def environment(backend: str) -> Environment:
    """Return the record of this process: `backend`, machine with its GPU if it computes, versions, commit.

    To be called by the worker that computes, not by the driver.
    """
    be = backends.get(backend)
    machine = (platform.node(), platform.platform(), platform.machine(), f"{os.cpu_count()} cores", *_gpu(be))
    versions = {DISTRIBUTION: __version__, "python": platform.python_version()}
    versions |= {library: version(library) for library in ("numpy", *be.libraries)}
    texts = ("; ".join(machine), "; ".join(f"{name} {number}" for name, number in versions.items()))
    return Environment(backend, *texts, commit(Path(installed.__file__).parents[2]))


def _gpu(be: Backend) -> tuple[str, ...]:
    """Return the name of the GPU that a backend computes on; nothing on a CPU."""
    cuda = getattr(be.xp, "cuda", None)
    if cuda is None:
        return ()
    return (cuda.runtime.getDeviceProperties(cuda.Device().id)["name"].decode(),)


def commit(root: Path) -> str:
    """Return the git commit of a checkout, "+" at its end if files are changed; else wn's version.

    A folder inside the checkout of something else, as where a virtual environment lies, is none itself.
    """
    if (root / ".git").exists():
        try:
            head = _git(root, "rev-parse", "HEAD")
            return head + "+" * bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
        except (OSError, subprocess.SubprocessError):  # no git, or not this user's checkout
            pass
    return f"{DISTRIBUTION} {__version__}"


def _git(root: Path, *words: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    return done.stdout.strip()
