"""Run a study in a folder: its missing units, none twice, and all of them with one backend."""

import logging
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from wn.basics.errors import WnError
from wn.basics.installed import __version__
from wn.data import catalogue
from wn.engine import backends
from wn.files.whole import StrPath
from wn.study.declare.data import load_own, own_of
from wn.study.declare.derived import explicit, has_derived
from wn.study.declare.schema import StudySpec, as_axis
from wn.study.declare.spec import parse_study, to_toml
from wn.study.execution.clean_gains import GAINS, CleanGains, retrained_by
from wn.study.execution.clean_networks import CleanNetworks
from wn.study.execution.driver import BACKEND, Driver, Progress
from wn.study.execution.executors import MakeWorkers, resolved_backend
from wn.study.store.reader import Reader
from wn.study.store.rows import EXPLICIT, LEFT_OUT, SPEC, UnitRow
from wn.study.store.writer import Store
from wn.study.tables.fit import midpoints_of
from wn.study.unit import NUMERICS
from wn.study.units import Facts, facts_of, facts_of_own, sigma_grids

log = logging.getLogger("wn")

# Entries of the store's record
DECLARED = "declared"  # the fingerprint of the study as it is declared
UNITS = "units"  # the fingerprint of the units
NUMBERS = "numerics"  # the version of the numerics


def run_study(
    spec: StudySpec,
    folder: StrPath,
    make_workers: MakeWorkers,
    *,
    backend: str = "auto",
    data_dir: StrPath | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Compute all units of a study that the folder does not have; return the progress of this run.

    The folder is made if need be. The same study may be run again at any time, and a changed one too: units
    that both have are not computed again. `backend`: see `chosen_backend`. `data_dir` goes before the
    study's own. Raises WnError for a study that does not fit its data, and for a folder that can't be used.
    """
    backends.check_name(backend)
    where = _absolute(data_dir or spec.data.dir)
    facts = load_facts(spec, where)
    with Store.create_or_open(folder) as store:
        name = chosen_backend(store, backend)
        declared = {"name": spec.name, SPEC: to_toml(spec), DECLARED: fingerprint(spec, facts)}
        begun = spec
        if store.meta.get(DECLARED) == declared[DECLARED] and EXPLICIT in store.meta:
            begun = parse_study(store.meta[EXPLICIT])
        _set_units(store, begun, facts, declared | {"data_dir": where or "", NUMBERS: str(NUMERICS)})
        run = _Run(store, make_workers, name, where, files_of(spec), report)
        return run.whole(spec, facts)


def retry_study(
    folder: StrPath,
    make_workers: MakeWorkers,
    *,
    backend: str = "auto",
    data_dir: StrPath | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Compute failed units once more, and all pending ones; return the progress of this run.

    Raises WnError if the folder has no study, and for one that can't be used.
    """
    backends.check_name(backend)
    Store.read(folder).close()  # does not make one
    with Store.create_or_open(folder) as store:
        if store.meta.get(NUMBERS) != str(NUMERICS):
            raise WnError(
                f"{folder} has units of another version of wn: run `wn study run FILE --out {folder}` instead"
            )
        name = chosen_backend(store, backend)
        where = _absolute(data_dir or store.meta.get("data_dir"))
        store.retry_failed()
        spec = parse_study(store.meta[SPEC])
        run = _Run(store, make_workers, name, where, files_of(spec), report)
        return run.whole(spec, load_facts(spec, where) if has_derived(spec) else {})


class _Run(NamedTuple):
    """A run of the units of a store, in two parts if some of them wait for midpoints."""

    store: Store
    make_workers: MakeWorkers
    backend: str
    data_dir: str | None
    files: dict[str, str]
    report: Callable[[Progress], None]

    def whole(self, spec: StudySpec, facts: dict[str, Facts]) -> Progress:
        """Compute what is pending, then what waits for midpoints of that, if the study has such entries."""
        first = self._pending()
        if not has_derived(spec) or EXPLICIT in self.store.meta:
            return first
        if first.failed or any(self.store.failures()):
            log.warning(
                "%s: maps of repetitions wait for units that failed: wn study retry", self.store.folder
            )
            return first
        gains = self._gains(spec, facts)
        made = explicit(spec, midpoints_of(self.store), gains)
        for line in made.left_out:
            log.warning("%s: left out: %s", self.store.folder, line)
        meta = {EXPLICIT: to_toml(made.study), LEFT_OUT: "\n".join(made.left_out)}
        _set_units(self.store, made.study, facts, meta | gains.record)
        second = self._pending()
        counts = (first.finished + second.finished, first.failed + second.failed, first.total + second.total)
        return Progress(*counts, second.share)

    def _gains(self, spec: StudySpec, facts: dict[str, Facts]) -> CleanGains:
        networks = CleanNetworks(self.store.folder)
        retrained = retrained_by(self.make_workers, self.backend, self.data_dir, self.files, networks)
        return CleanGains(spec, facts, networks, self.data_dir, self.files, retrained)

    def _pending(self) -> Progress:
        driver = Driver(
            self.store,
            self.make_workers,
            backend=self.backend,
            data_dir=self.data_dir,
            files=self.files,
            report=self.report,
        )
        return driver.run()


def _set_units(store: Store, spec: StudySpec, facts: dict[str, Facts], meta: dict[str, str]) -> None:
    """Make the units of a study those of the store, unless they are, and write its record."""
    units = {UNITS: fingerprint(spec, facts)}
    if meta.get(DECLARED, store.meta.get(DECLARED)) != store.meta.get(DECLARED):
        for name in (EXPLICIT, LEFT_OUT, GAINS):  # the maps of another study, and what they were made by
            store.forget_meta(name)
    if store.meta.get(UNITS) == units[UNITS]:
        store.write_meta(meta)
    else:
        store.add_units(unit_rows(spec, facts), meta | units)


def chosen_backend(store: Reader, asked: str) -> str:
    """Return the backend to compute the units of a folder with: the one that it was begun with.

    Where nothing was computed yet it is the one asked for; "auto" stands for what this machine has, and is
    never left to a worker. A folder from before backends were recorded was begun with that of its units; if
    these have several, one of them may be asked for, and "auto" is that of most. Raises WnError if another
    one is asked for: results would depend on when a run was interrupted.
    """
    recorded, here = store.meta.get(BACKEND), resolved_backend(asked)
    begun = [recorded] if recorded else store.backends()
    if not begun or here == begun[0]:
        return here
    if asked == "auto":
        log.info("%s: goes on with backend %s, as it was begun, not with %s", store.folder, begun[0], here)
        return begun[0]
    if asked not in begun:
        raise WnError(
            f"{store.folder}: was begun with backend {' and '.join(begun)}, which {asked} equals to rounding "
            f"only: go on with --backend {' or '.join(begun)}, or run the study in another folder"
        )
    return asked


def _absolute(folder: StrPath | None) -> str | None:
    """The folder of the data as workers in any folder name it; None for the usual places."""
    return str(Path(folder).absolute()) if folder else None


def load_facts(spec: StudySpec, data_dir: str | None) -> dict[str, Facts]:
    """The facts about the data sets of a study, from their files."""
    found = {}
    for name in as_axis("data.names", spec.data.names):
        own = own_of(spec, name)
        if own is None:
            found[name] = facts_of(catalogue.load(name, data_dir))
        else:
            found[name] = facts_of_own(load_own(own), spec.data.test_limit)
    return found


def files_of(spec: StudySpec) -> dict[str, str]:
    """The files of the user's own data, by name, and of networks that are trained already, by digest."""
    networks = {keys.sha256: keys.network for keys in spec.models if keys.sha256 and keys.network}
    return {own.name: own.file for own in spec.data.own or ()} | networks


def fingerprint(spec: StudySpec, facts: dict[str, Facts]) -> str:
    """Return a digest of all that the units of a study follow from: equal ones have the same units."""
    content = (NUMERICS, __version__, to_toml(spec), facts)
    return sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def unit_rows(spec: StudySpec, facts: dict[str, Facts]) -> Iterator[UnitRow]:
    """Yield the units of a study as the store takes them."""
    for grid in sigma_grids(spec, facts):
        text = msgspec.json.encode(grid.first)
        clean_key, classes = grid.first.clean_key, facts[grid.first.dataset].classes
        for unit in grid.units():
            yield UnitRow(unit.key, clean_key, unit.sigma, unit.repeat, classes, text)
