"""Where numbers are computed: the record that every result carries."""

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import wn
from wn.study.store_rows import Environment

LIBRARIES = {"numba": ("numba",), "cupy": ("cupy-cuda12x", "cupy-cuda13x")}  # by backend, besides NumPy
PATIENCE = 10.0  # seconds for git


@lru_cache
def environment(backend: str) -> Environment:
    """Return the record of this process: `backend`, machine, versions, and commit.

    To be called by the worker that computes, not by the driver.
    """
    machine = (platform.node(), platform.platform(), platform.machine(), f"{os.cpu_count()} cores")
    versions = {"wn": wn.__version__, "python": platform.python_version()}
    for library in ("numpy", *LIBRARIES.get(backend, ())):
        try:
            versions[library] = version(library)
        except PackageNotFoundError:  # the one of two names that is not installed
            continue
    texts = ("; ".join(machine), "; ".join(f"{name} {number}" for name, number in versions.items()))
    return Environment(backend, *texts, commit(Path(wn.__file__).parent.parent))


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
    return f"wn {wn.__version__}"


def _git(root: Path, *words: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    return done.stdout.strip()
