"""Walks and trainings by names and numbers instead of objects; `wn.front` has them with keywords."""

import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import msgspec
import numpy as np
import scipy

from wn.data.dataset import Dataset, checksum
from wn.engine import backends, training
from wn.engine.backends.plain.base import Backend
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.groups import totals
from wn.engine.halving import alone
from wn.engine.network import Network
from wn.engine.training import Monitor, Population, TrainSettings
from wn.errors import WnError
from wn.files import outputs
from wn.files.claims import Claimed
from wn.files.outputs import AlreadyThere
from wn.files.whole import StrPath, as_path
from wn.fit.intervals import Counts, fit_repeats, floor_of, without_points
from wn.fit.midpoint import Midpoint
from wn.installed import DISTRIBUTION, __version__
from wn.random import member_seed
from wn.walking import measurement as walking
from wn.walking import tables as walk_tables
from wn.walking.asked import NetworkSettings, WalkSettings
from wn.walking.results import CHANGE_NOTHING, FILES, WalkResult, holds_only
from wn.walking.settings import (
    noise_factory,
    phases,
    places,
    prepare,
    read_single,
    read_walk,
    single_noise,
    walk_sigma,
)

log = logging.getLogger("wn")

Progress = Callable[[int, int], None]  # (finished, all) member-epochs


def walk(*, progress: Progress | None = None, **settings: Any) -> WalkResult:
    """Walk noise through the sites of a network and fit each site's midpoint.

    Settings are the fields of `WalkSettings` (the same as the flags of `wn walk`), for example
    `wn.walk(dataset="mnist", model="mlp", noise="additive", phase="inference", sigma="0.01:100:17")`.
    Returns the curves and midpoints as plain arrays. A point at which numbers leave the range of the type has
    no result but a row in `failures`, and the others stand. Raises WnError for anything unknown or out of
    range, and if no point has a result.
    """
    _check_progress(progress)
    chosen = read_walk(settings)
    started = time.perf_counter()
    be = backends.get(chosen.backend)
    dataset, network, train_settings = prepare(chosen)
    plan = walk_plan(chosen, dataset, network, train_settings, be)
    work = walking.jobs(plan)
    total = sum(members for members, _ in work) * plan.train.epochs
    finished, lock = 0, Lock()

    def report(members: int) -> None:
        nonlocal finished
        with lock:  # jobs report from threads of their own
            finished += members
            if progress is not None:
                progress(finished, total)

    threads = thread_count(chosen.threads)
    at_once = min(threads, len(work)) if be.takes_jobs_side_by_side else 1
    with single_threaded_blas(), ThreadPoolExecutor(at_once) as executor:
        results = walking.run_jobs(be, work, executor, report, threads // at_once)
        clean, curves = walking.merge(plan, results)
    fits = _fits(chosen, plan, clean, curves)
    prefix = (dataset.name, chosen.model, chosen.batch_norm, chosen.noise, chosen.seed, be.name)
    run = run_record("walk", chosen, plan.train, dataset, be)
    run["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    run["seconds"] = round(time.perf_counter() - started, 3)
    run["settings"]["sigma"] = plan.sigma.tolist()
    run["chance"] = walking.chance(dataset)
    run["clean_correct"] = [[result.correct, result.total] for result in clean]
    run["correct_by_group"] = walk_tables.by_group(clean, curves)
    run["fits"] = [walk_tables.fit_record(*fit) for fit in fits]
    return WalkResult(
        curves=walk_tables.curve_table(prefix, curves),
        midpoints=walk_tables.midpoint_table(prefix, fits),
        reasons=tuple(fit.reason for _, _, fit in fits),
        run=run,
        failures=walk_tables.failure_table(prefix, walking.failures(plan, results)),
    )


@dataclass(frozen=True, eq=False)
class Trained:
    """One trained network: the number of test images it gets right, without noise and under its own.

    `correct` maps "clean" (and "noisy", if it was trained under noise) to a count out of `total`;
    `record` holds everything needed to repeat the training.
    """

    network: Network
    population: Population
    correct: dict[str, int]
    total: int
    record: dict[str, Any]

    def save(self, path: StrPath, *, overwrite: bool = False) -> Path:
        """Write the network as safetensors, whole or not at all, and return its path.

        The folder is made if need be. Where the file is there already, NAME-2, NAME-3, … beside it is taken
        instead and a warning logged; with `overwrite` it is replaced. Raises WnError as `checkpoint.save`.
        """
        from wn.engine import checkpoint

        asked = as_path(path)
        for place in chain([asked], outputs.beside(asked, asked.suffix)):
            with suppress(AlreadyThere):
                again = overwrite and place == asked
                checkpoint.save(place, self.network, self.population, self.record, overwrite=again)
                break
        if place != asked:
            log.warning("%s exists: saved to %s instead", asked, place)
        return place


def train(*, progress: Progress | None = None, **settings: Any) -> Trained:
    """Train one network, clean or under noise, and evaluate it.

    Settings are the fields of `SingleSettings` (the same as the flags of `wn train`). Raises WnError for
    anything unknown or out of range.
    """
    _check_progress(progress)
    chosen = read_single(settings)
    operator = single_noise(chosen)
    be = backends.get(chosen.backend)
    dataset, network, train_settings = prepare(chosen)
    noise = {
        site: operator_at_site
        for place in places(network, chosen)
        for site, operator_at_site in place.noise(operator).items()
    }
    dtype = np.dtype(chosen.dtype)
    walking.check_range(noise, dtype)
    with single_threaded_blas(), be.working(thread_count(chosen.threads)), alone():
        population = training.train(
            be,
            network,
            dataset,
            train_settings,
            seeds=(member_seed(chosen.seed, 0),),
            noise=noise,
            dtype=dtype,
            monitor=_EpochMonitor(train_settings.epochs, progress),
        )
        kinds = {"clean": {}} if chosen.noise == "none" else {"clean": {}, "noisy": noise}
        correct = {
            name: int(training.evaluate(be, network, population, dataset, noise=at, dtype=dtype)[0])
            for name, at in kinds.items()
        }
    record = run_record("train", chosen, train_settings, dataset, be)
    for part in ("asked", "settings"):  # the file is the same with any number of threads
        record[part] = {name: value for name, value in record[part].items() if name not in CHANGE_NOTHING}
    return Trained(network, population, correct, len(dataset.test), record)


def _check_progress(progress: Any) -> None:
    if progress is not None and not callable(progress):
        raise WnError(f"progress is {progress!r}: it must be a function of (finished, all)")


class _EpochMonitor(Monitor):
    """Tells `progress` after each epoch."""

    def __init__(self, epochs: int, progress: Progress | None) -> None:
        self.epochs, self.progress = epochs, progress

    def epoch(self, epoch: int, loss: Any) -> None:
        """Report the epoch."""
        if self.progress is not None:
            self.progress(epoch + 1, self.epochs)


def check_out_folder(folder: StrPath, settings: Mapping[str, Any], overwrite: bool) -> None:
    """Raise WnError for bad settings, and if the folder can't take results or holds those of another run.

    Files of the same names without a record of these settings count as another run's. What a run with the
    same settings left may be replaced: it would write the same numbers.
    """
    chosen, folder = read_walk(settings), as_path(folder, "the folder")
    outputs.check_folder(folder)
    for name in FILES:
        if (folder / name).is_dir():
            raise WnError(f"{folder / name} is a folder, not a file: choose another --out")
    if not overwrite and not holds_only(folder, {"asked": msgspec.to_builtins(chosen)}):
        raise WnError(f"{folder} holds the results of another run: choose another --out, or --overwrite")


class Out(NamedTuple):
    """The folder that a walk is going to write, claimed, and whether the claim still stands.

    `why` says why it is not the one asked for, "" if it is.
    """

    folder: Path
    why: str
    standing: Callable[[], bool]


@contextmanager
def out_folder(folder: Path, settings: Mapping[str, Any], overwrite: bool) -> Iterator[Out]:
    """Claim the folder that a walk is going to write; where another run is writing it, one beside it.

    Folders that were made go again if nothing is written to them. Raises WnError as `check_out_folder` does.
    """
    read_walk(settings)
    outputs.check_folder(folder)
    with ExitStack() as stack:
        try:
            standing = stack.enter_context(outputs.claimed_folder(folder))
        except Claimed as error:
            try:
                place, standing = stack.enter_context(outputs.folder_beside(folder))
            except OSError:  # no room beside it
                raise error from None
            yield Out(place, str(error), standing)
        else:
            check_out_folder(folder, settings, overwrite)
            yield Out(folder, "", standing)


def check_out_file(path: StrPath, overwrite: bool) -> None:
    """Raise WnError if the file can't be written, or is there already and may not be replaced."""
    outputs.check_file(as_path(path), overwrite)


def walk_plan(
    chosen: WalkSettings, dataset: Dataset, network: Network, train_settings: TrainSettings, be: Backend
) -> walking.WalkPlan:
    """Return the plan of a walk; all its parts are checked here, before anything is trained."""
    noise_at, sigma = noise_factory(chosen), walk_sigma(chosen)
    chosen_places = places(network, chosen)
    for place in chosen_places:
        walking.check_range(place.noise(noise_at(sigma)), chosen.dtype)
    return walking.WalkPlan(
        network=network,
        dataset=dataset,
        noise=noise_at,
        places=chosen_places,
        phases=phases(chosen),
        sigma=sigma,
        train=train_settings,
        repeats=chosen.repeats,
        seed=chosen.seed,
        dtype=np.dtype(chosen.dtype),
        evaluation_batch=chosen.evaluation_batch,
        members=walking.members_at_once(network, train_settings, chosen.dtype, be.room),
    )


def thread_count(threads: int | None) -> int:
    """Return how many jobs run at once: as asked for, else one per processor this process may use."""
    if threads is not None:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_record(
    command: str, chosen: NetworkSettings, train_settings: TrainSettings, dataset: Dataset, be: Backend
) -> dict[str, Any]:
    """Return everything needed to repeat a run: settings, completed from the recipe, data and versions.

    It holds no time: files with the same numbers from the same machine and libraries are the same bytes.
    """
    asked = msgspec.to_builtins(chosen)
    settings = asked | {
        "epochs": train_settings.epochs,
        "batch_size": train_settings.batch_size,
        "learning_rate": train_settings.learning_rate,
        "class_weights": train_settings.class_weights,
    }
    return {
        "command": command,
        "asked": asked,
        "settings": settings,
        "data": {"name": dataset.name, "sha256": checksum(dataset), "samples": _samples(dataset)},
        "backend": be.name,
        "versions": {
            DISTRIBUTION: __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            **{library: version(library) for library in be.libraries},
        },
        "machine": {
            "platform": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
    }


def _samples(dataset: Dataset) -> dict[str, int]:
    return {"train": len(dataset.train), "test": len(dataset.test)}


def _fits(
    chosen: WalkSettings,
    plan: walking.WalkPlan,
    clean: list[walking.CleanResult],
    curves: list[walking.Curve],
) -> list[tuple[str, walking.Place, Midpoint]]:
    """Fit one midpoint per phase and place, from all repeats together."""
    accuracy = sum(result.correct for result in clean) / sum(result.total for result in clean)
    clean_by_group = np.sum([result.by_group for result in clean], axis=0)
    fits = []
    for phase in plan.phases:
        for place in plan.places:
            repeats = [
                _counts(curve)
                for curve in curves
                if curve.phase == phase and curve.place == place and len(curve.sigma)
            ]
            if not repeats:
                fits.append((phase, place, without_points(accuracy, walking.chance(plan.dataset))))
                continue
            fit = fit_repeats(
                repeats,
                accuracy,
                walking.chance(plan.dataset),
                floor_of(phase, chosen.noise),
                clean_by_group=clean_by_group if clean_by_group.size else None,
                own_networks=phase == "training",
            )
            fits.append((phase, place, fit))
    return fits


def _counts(curve: walking.Curve) -> Counts:
    """The points of a curve, by group of images if they were counted so."""
    if curve.by_group is None:
        return Counts(curve.sigma, curve.correct, np.full(len(curve.sigma), curve.total))
    return Counts(curve.sigma, curve.by_group, totals(curve.total, len(curve.sigma)))
