"""What the figures were measured on."""

import os
import platform
from importlib import metadata
from pathlib import Path

from threadpoolctl import threadpool_info

LIBRARIES = ("numpy", "numba", "scipy", "torch", "jax")


def processor() -> str:
    """Return the processor's name as the system knows it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python and of those libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def blas() -> str:
    """Return name, version and kernels of the BLAS libraries that are loaded: "openblas 0.3.30 Zen"."""
    libraries = {
        " ".join(filter(None, (i["internal_api"], i.get("version"), i.get("architecture"))))
        for i in threadpool_info()
        if i["user_api"] == "blas"
    }
    return ", ".join(sorted(libraries)) or "unknown"


def load() -> str:
    """The number of processes that want to run at the moment: figures of a busy machine are rough."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
