"""The gains of a study's clean networks: what the allocation "gains" goes by, from their files alone."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from wn.basics.errors import WnError
from wn.engine import backends, noise
from wn.engine.noise_spec import NoiseSpec
from wn.study.declare.resolve import StudyNetwork
from wn.study.declare.schema import StudySpec
from wn.study.execution.clean_networks import CleanNetworks
from wn.study.execution.executors import MakeWorkers
from wn.study.execution.inputs import data_of, network_of
from wn.study.execution.worker import Task, population_of, run_task
from wn.study.unit import CLEAN, Unit
from wn.study.units import Facts, sigma_grids
from wn.theory.gains import Gains, of_noise, sensitivities, site_gains, together

GAINS = "gains"  # the entry of the store's record

_Key = tuple[str, str, str, bool]  # data set, model, batch norm, clamping


class CleanGains:
    """Gains of the clean networks of a study, those of all repeats together.

    They are computed once for each network, by NumPy whatever the backend of the study, and are the same in
    every run. `retrained` makes the arrays of a clean unit whose file is gone or damaged.
    """

    def __init__(
        self,
        spec: StudySpec,
        facts: dict[str, Facts],
        networks: CleanNetworks,
        data_dir: str | None,
        files: dict[str, str],
        retrained: Callable[[Unit], tuple[Any, ...]],
    ) -> None:
        self.networks, self.data_dir, self.retrained = networks, data_dir, retrained
        self.files = files
        self.units: dict[_Key, list[Unit]] = {}
        self.found: dict[_Key, Gains] = {}
        for grid in sigma_grids(spec, facts):
            if grid.first.phase == CLEAN:
                self.units.setdefault(_key(grid.first), []).append(grid.first)

    def __call__(self, network: StudyNetwork, clamp: bool, operator: NoiseSpec) -> dict[str, float]:
        """Return 1/c by site, in place of midpoints; inf where no noise reaches the margin.

        Raises WnError for an operator that gains do not know.
        """
        key = (network.dataset, network.model, network.batch_norm, clamp)
        if key not in self.found:
            self.found[key] = self._of(self.units[key])
        names = network.network.site_names
        everywhere = noise.everywhere(len(names), noise.of_spec(operator, 1.0))
        with np.errstate(divide="ignore"):
            values = 1 / sensitivities(of_noise(self.found[key], network.network, everywhere))
        return dict(zip(names, values.tolist(), strict=True))

    def _of(self, units: list[Unit]) -> Gains:
        """The gains of the networks of all repeats, (P, S)."""
        be, parts = backends.get("numpy"), []
        with be.working(1):
            for unit in units:
                network = network_of(unit)
                arrays = self.networks.arrays(unit.key) or self.retrained(unit)
                population = population_of(be, network, arrays, unit)
                data = data_of(unit, self.data_dir, self.files)
                parts.append(site_gains(be, network, population, data, dtype=unit.dtype))
        return together(parts)

    @property
    def record(self) -> dict[str, str]:
        """The entry of the store's record, if gains were asked for: each network's c² by repeat and site."""
        if not self.found:
            return {}
        names = ("dataset", "model", "batch_norm", "clamp_weights")
        records = []
        for key, gains in self.found.items():
            network = network_of(self.units[key][0])
            values = {kind: getattr(gains, kind).tolist() for kind in ("additive", "multiplicative")}
            sites = {"sites": network.site_names, "images": gains.images}
            records.append(dict(zip(names, key, strict=True)) | sites | values)
        return {GAINS: msgspec.json.encode(records).decode()}


def retrained_by(
    make_workers: MakeWorkers,
    backend: str,
    data_dir: str | None,
    files: dict[str, str],
    networks: CleanNetworks,
) -> Callable[[Unit], tuple[Any, ...]]:
    """A function that has workers train a clean network again, and keeps its file."""

    def arrays(unit: Unit) -> tuple[Any, ...]:
        workers = make_workers(backend)
        try:
            outcome = workers.executor.submit(
                run_task, Task((unit,), backend, data_dir, files=files)
            ).result()
        finally:
            workers.stop()
        if not outcome.arrays:
            reason = "".join(text for _, text in outcome.failures).strip().rpartition("\n")[2]
            raise WnError(f"the clean network {unit.key} is gone and can't be trained again: {reason}")
        networks.keep(unit, outcome.arrays)
        return outcome.arrays

    return arrays


def _key(unit: Unit) -> _Key:
    return (unit.dataset, unit.model, unit.batch_norm, unit.clamp_weights)
