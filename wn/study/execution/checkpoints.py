"""Checkpoints of trainings that take long: a training that was interrupted ends in the same bits.

A file holds all that the steps to come depend on (`training.TrainingState`) and the statistics of the
weights after the epochs so far. It is written under another name, brought to disk, and renamed: whole or not
at all. What is read is checked against a digest of everything that the file says.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wn.engine import optim
from wn.engine.backends.plain.base import Backend
from wn.engine.training import TrainingState
from wn.files.whole import whole_file

EVERY = 60.0  # seconds between two checkpoints: shorter trainings have none
METADATA_KEY = "wn"
SUFFIX = ".safetensors"

log = logging.getLogger("wn")

Statistics = list[NDArray[np.float64]]  # of the weights after each epoch so far
Tensors = dict[str, NDArray[Any]]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Position of the training and layout of the tensors; `sha256` is of this and the tensors."""

    identity: str
    epoch: int
    batches: int
    steps: int
    arrays: int
    epochs: int
    sha256: str = ""

    def digest(self, tensors: Tensors) -> str:
        """Return the SHA-256 of all that the file says, but for the digest itself."""
        said = sha256(msgspec.json.encode(msgspec.structs.replace(self, sha256="")))
        said.update(digest(tensors).encode())
        return said.hexdigest()


class Checkpoint:
    """The checkpoint of one training: the keys of its units and the backend are its identity."""

    def __init__(self, folder: Path, keys: Sequence[str], be: Backend) -> None:
        self.be = be
        self.identity = sha256(" ".join((be.name, *keys)).encode()).hexdigest()
        self.path = folder / f"{self.identity}{SUFFIX}"
        self._next = time.monotonic() + EVERY

    @property
    def due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() >= self._next

    def save(self, state: TrainingState, statistics: Statistics) -> None:
        """Write a state and the statistics of the epochs so far.

        A folder that can't be written is worth a line in the log, not the training.
        """
        arrays = optim.arrays((state.params, state.states, state.adam))
        tensors: Tensors = {
            f"{number}": np.ascontiguousarray(self.be.to_numpy(array)) for number, array in enumerate(arrays)
        }
        tensors["losses"] = np.ascontiguousarray(self.be.to_numpy(state.losses))
        tensors |= {f"epoch {number}": values for number, values in enumerate(statistics)}
        counts = (state.epoch, state.batches, state.steps, len(arrays), len(statistics))
        header = _Header(self.identity, *counts)
        header = msgspec.structs.replace(header, sha256=header.digest(tensors))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self.path) as temporary:
                save_file(tensors, temporary, {METADATA_KEY: msgspec.json.encode(header).decode()})
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            log.warning("no checkpoint, the training goes on: %s: %s", self.path, reason)
        self._next = time.monotonic() + EVERY

    def load(self, start: TrainingState) -> tuple[TrainingState, Statistics] | None:
        """Return the state to go on from, in the structure of `start`, and the statistics of its epochs.

        None if there is no checkpoint, or one that can't be used: the training begins anew then.
        """
        if not self.path.exists():
            return None
        try:
            header, tensors = self._read()
        except (OSError, SafetensorError, msgspec.DecodeError, KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            log.warning("checkpoint %s can't be used (%s): the training begins anew", self.path, reason)
            return None
        arrays = (self.be.asarray(tensors[f"{number}"]) for number in range(header.arrays))
        params, states, adam = optim.with_arrays((start.params, start.states, start.adam), arrays)
        counts = (header.epoch, header.batches, header.steps)
        state = TrainingState(params, states, adam, *counts, self.be.asarray(tensors["losses"]))
        return state, [tensors[f"epoch {number}"] for number in range(header.epochs)]

    def _read(self) -> tuple[_Header, Tensors]:
        """The contents of the file; an error of many kinds if `save` has not written it."""
        with safe_open(self.path, framework="numpy") as file:
            header = msgspec.json.decode((file.metadata() or {})[METADATA_KEY], type=_Header)
            names: list[str] = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        if header.identity != self.identity:
            raise ValueError("it is of another training")
        if header.digest(tensors) != header.sha256:
            raise ValueError("its contents are damaged")
        return header, tensors


def digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of named arrays: names, types, shapes and contents."""
    found = sha256()
    for name, array in sorted(tensors.items()):
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def tidy(folder: Path, everything: bool = False) -> None:
    """Remove half-written files of a killed process from a folder; with `everything` the whole files too.

    To be called while nobody writes there; one who does all the same writes no file.
    """
    for path in folder.glob(f"*{SUFFIX}"):
        if everything or path.name.startswith("."):
            with suppress(OSError):
                path.unlink()
