"""Compiled kernels on disk: valid as long as everything is the same that they were made from.

Numba looks at the file of a kernel alone. Functions of other files are compiled into it, though, and numbers
that are imported, among them the constants of `wn.random`: the stamp of a kernel is of all these files.
"""

import hashlib
import logging
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

from wn import random
from wn.basics import numbers

FOLDER = Path(__file__).parent
# What kernels of other files are made from: test_kept.py looks for more.
SHARED = (
    FOLDER / "compile.py",
    FOLDER / "draws.py",
    FOLDER / "products.py",
    FOLDER / "rectifier.py",
    Path(random.__file__),
    Path(numbers.__file__),
)
# Settings of Numba that change what code it makes, besides the processor, which its own key names.
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX", "BOUNDSCHECK")

log = logging.getLogger("wn")


class _Cache(FunctionCache):  # type: ignore[misc]  # Numba has no types
    """Numba's cache of a kernel with a stamp of our own; a disk that fails costs time, not the run."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=stamp(Path(function.__code__.co_filename)),
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load a compiled kernel; None if it is not there, or not whole."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # whatever a damaged file makes pickle and LLVM raise
            log.debug("a compiled loop can't be read: %s", error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save a compiled kernel, where that is possible."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _tell(error.strerror or str(error))


def on_disk(kernel: Any) -> None:
    """Keep what is compiled of a kernel on disk, if there is a place for it."""
    try:
        kernel._cache = _Cache(kernel.py_func)
    except (RuntimeError, OSError):  # Numba finds no folder that can be written
        _tell("no folder can be written")


@cache
def stamp(path: Path) -> str:
    """Return a digest of all that kernels of a file are made from: sources, compiler, settings."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    digest.update(repr([getattr(numba.config, name, None) for name in SETTINGS]).encode())
    for source in dict.fromkeys((path, *SHARED)):
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()


@cache
def _tell(reason: str) -> None:
    """Say once that compiled loops are not kept."""
    log.warning(
        "compiled loops can't be kept on disk (%s): they are compiled anew in each run; NUMBA_CACHE_DIR "
        "can name a folder for them",
        reason,
    )
