"""The clean networks of a study on disk: trained once, evaluated under all noise."""

import logging
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.files import checkpoint
from wn.study.execution.checkpoints import SUFFIX, digest, tidy
from wn.study.execution.inputs import network_of
from wn.study.execution.worker import population_arrays, population_of
from wn.study.unit import Unit

FOLDER = "networks"

log = logging.getLogger("wn")

Arrays = tuple[NDArray[Any], ...]


class CleanNetworks:
    """Files DIR/networks/KEY.safetensors, one for each clean unit; `wn export` reads them too."""

    def __init__(self, study: Path) -> None:
        self.folder = study / FOLDER

    def path(self, key: str) -> Path:
        """The file of a clean unit's network."""
        return self.folder / f"{key}{SUFFIX}"

    def __contains__(self, key: str) -> bool:
        return self.path(key).exists()

    def tidy(self) -> None:
        """Remove half-written files of a killed driver."""
        tidy(self.folder)

    def keep(self, unit: Unit, arrays: Arrays) -> None:
        """Write the arrays of the network that was trained for a clean unit; WnError if that fails."""
        network = network_of(unit)
        population = population_of(backends.get("numpy"), network, arrays, unit)
        record = {"key": unit.key, "unit": msgspec.to_builtins(unit), "sha256": _digest(arrays)}
        checkpoint.save(self.path(unit.key), network, population, record)

    def arrays(self, key: str) -> Arrays | None:
        """Return the arrays of a clean unit's network, bit for bit.

        None if they are not there, or damaged: the file is removed then, and they have to be trained again.
        """
        path = self.path(key)
        if not path.exists():
            return None
        try:
            loaded = checkpoint.load(path)
            arrays = tuple(population_arrays(loaded.population))
            if (loaded.record.get("key"), loaded.record.get("sha256")) != (key, _digest(arrays)):
                raise WnError(f"{path}: its contents are damaged, or of another unit")
        except WnError as error:
            log.warning("a clean network can't be used, and is trained again: %s", error)
            path.unlink(missing_ok=True)
            return None
        return arrays


def _digest(arrays: Arrays) -> str:
    return digest({f"{number}": array for number, array in enumerate(arrays)})
