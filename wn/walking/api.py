"""Walks and trainings by settings instead of objects; `wn.front` has them with keywords."""

import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple

import msgspec
import numpy as np
import scipy
from msgspec import UNSET

from wn.basics.errors import WnError
from wn.basics.installed import DISTRIBUTION, __version__
from wn.data.dataset import Dataset, checksum
from wn.engine import backends, training
from wn.engine.backends.plain.base import Backend
from wn.engine.backends.threads import processors
from wn.engine.halving import alone
from wn.engine.network import Network
from wn.engine.training import Population, TrainSettings
from wn.files import outputs
from wn.files.claims import Claimed
from wn.files.outputs import AlreadyThere
from wn.files.whole import StrPath, as_path
from wn.random import member_seed
from wn.walking import tables
from wn.walking.asked import (
    CHANGE_NOTHING,
    EvaluationSettings,
    NetworkSettings,
    SingleSettings,
    WalkSettings,
)
from wn.walking.jobs import JobMonitor, run_jobs
from wn.walking.measurement import members_at_once
from wn.walking.places import INFERENCE, Spread, check_range
from wn.walking.predicted.tables import crossings, predicted_table, with_crossings
from wn.walking.results import FILES, WalkResult, holds_only
from wn.walking.saved.network import SavedNetwork, of_settings
from wn.walking.settings import (
    noise_factory,
    phases,
    places_of,
    predicted_images,
    prepare,
    single_noise,
    walk_sigma,
)
from wn.walking.setup import Setup
from wn.walking.shown.progress import ProgressCallback
from wn.walking.shown.statement import statement
from wn.walking.walk import Walk

log = logging.getLogger("wn")


def walk(chosen: WalkSettings, progress: ProgressCallback | None = None) -> WalkResult:
    """Walk noise through the sites of a network and fit each site's midpoint, by settings from `read_walk`.

    A point at which numbers leave the range of the type has no result but a row in `failures`, and the others
    stand. Raises WnError if the settings do not fit data and network, and if no point has a result.
    """
    check_progress(progress)
    started = time.perf_counter()
    be = backends.get(chosen.backend)
    dataset, network, train_settings = prepare(chosen)
    setup = Setup(network, dataset, train_settings, chosen.dtype, chosen.evaluation_batch)
    saved = None if chosen.network is UNSET else of_settings(chosen)
    walked = walk_of(chosen, setup, be, saved)
    measure(walked, be, chosen.threads, progress)
    fits = walked.midpoints(chosen.noise)
    of_run = (dataset.name, chosen.model, chosen.batch_norm, chosen.noise, chosen.seed, be.name)
    run = run_record("walk", chosen, None if saved else train_settings, dataset, be)
    if saved:
        run["network"] = saved.run
    run["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    run["seconds"] = round(time.perf_counter() - started, 3)
    run["settings"]["sigma"] = walked.sigma.tolist()
    for place in walked.places:
        if place.site == Spread.MAPPED:
            run["mapped"] = place.sites(network.site_names)
    run["chance"] = walked.chance
    run["clean_correct"] = [[sum(counts), walked.images] for counts in walked.clean_counts.correct.tolist()]
    run["correct_by_group"] = tables.by_group(walked)
    run["fits"] = [tables.fit_record(*fit) for fit in fits]
    midpoints, predicted = tables.midpoint_table(of_run, fits), {}
    if walked.predicted is not None:
        wanted = [(phase, place) for phase, place, _ in fits]
        found = crossings(walked.predicted, wanted, midpoints["clean_accuracy"].tolist(), walked.chance)
        midpoints = with_crossings(midpoints, found)
        predicted["predicted"] = predicted_table(of_run, walked.predicted)
        run["predicted"] = {
            "images": min(walked.predict, walked.images),
            "seconds": round(walked.predicted.seconds(INFERENCE), 3),
            "seconds_of_counting": round(sum(walked.seconds.values()), 3),
        }
    return WalkResult(
        curves=tables.curve_table(of_run, walked),
        midpoints=midpoints,
        reasons=tuple(fit.reason for _, _, fit in fits),
        run=run,
        failures=tables.failure_table(of_run, walked),
        weights=tables.weight_table(of_run, walked),
        signal=tables.signal_table(of_run, walked),
        **predicted,
    )


def measure(walked: Walk, be: Backend, threads: int | None, progress: ProgressCallback | None) -> None:
    """Do all jobs of a walk on `threads` processors; WnError if nothing has a result.

    `progress` is told of (finished, all) member-epochs, or of saved networks.
    """
    jobs = walked.jobs()
    epochs = walked.setup.train.epochs if walked.saved is None else 1
    report = counted(progress, sum(members for members, _ in jobs) * epochs)
    threads = threads or processors()
    at_once = min(threads, len(jobs)) if be.takes_jobs_side_by_side else 1
    with ThreadPoolExecutor(at_once) as executor:
        run_jobs(be, jobs, executor, report, epochs, threads // at_once)
    walked.check()


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {right} of {self.total}" for name, right in self.correct.items())
        return f"Trained({self.network.name} on {self.record['data']['name']}: correct {counts})"

    def statement(self) -> str:
        """The paragraph on reproducibility for a paper: versions, data, network, seeds."""
        return statement(self.record)

    def save(self, path: StrPath, *, overwrite: bool = False) -> Path:
        """Write the network as safetensors, whole or not at all, and return its path.

        The folder is made if need be. Where the file is there already, NAME-2, NAME-3, … beside it is taken
        instead and a warning logged; with `overwrite` it is replaced. Raises WnError as `checkpoint.save`.
        """
        from wn.engine.files import checkpoint

        asked = as_path(path)
        for place in chain([asked], outputs.beside(asked, asked.suffix)):
            with suppress(AlreadyThere):
                again = overwrite and place == asked
                checkpoint.save(place, self.network, self.population, self.record, overwrite=again)
                break
        if place != asked:
            log.warning("%s exists: saved to %s instead", asked, place)
        return place


def train(chosen: SingleSettings, progress: ProgressCallback | None = None) -> Trained:
    """Train one network, clean or under noise, by settings from `read_single`, and evaluate it.

    Raises WnError if the settings do not fit data and network.
    """
    check_progress(progress)
    operator = single_noise(chosen)
    be = backends.get(chosen.backend)
    dataset, network, train_settings = prepare(chosen)
    noise = {
        site: operator_at_site
        for place in places_of(chosen, network)
        for site, operator_at_site in place.noise(operator).items()
    }
    dtype, epochs = np.dtype(chosen.dtype), train_settings.epochs
    check_range(noise, dtype)
    with be.working(chosen.threads or processors()), alone():
        population = training.train(
            be,
            network,
            dataset,
            train_settings,
            seeds=(member_seed(chosen.seed, 0),),
            noise=noise,
            dtype=dtype,
            monitor=JobMonitor(counted(progress, epochs), epochs, Event()),
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


def check_progress(progress: Any) -> None:
    """Raise WnError unless it is a function or None."""
    if progress is not None and not callable(progress):
        raise WnError(f"progress is {progress!r}: it must be a function of (finished, all)")


def counted(progress: ProgressCallback | None, total: int) -> Callable[[int], None]:
    """What jobs report to: `progress` is told how many of all member-epochs are done."""
    finished, lock = 0, Lock()

    def report(members: int) -> None:
        nonlocal finished
        with lock:  # jobs report from threads of their own
            finished += members
            if progress is not None:
                progress(finished, total)

    return report


def check_out_folder(folder: StrPath, chosen: WalkSettings, overwrite: bool) -> None:
    """Raise WnError if the folder can't take results, or holds those of another run.

    Files of the same names without a record of these settings count as another run's. What a run with the
    same settings left may be replaced: it would write the same numbers.
    """
    folder = as_path(folder, "the folder")
    outputs.check_folder(folder)
    for name in FILES:
        if (folder / name).is_dir():
            raise WnError(f"{folder / name} is a folder, not a file: choose another --out")
    if not overwrite and not holds_only(folder, {"asked": msgspec.to_builtins(chosen)}):
        raise WnError(f"{folder} holds the results of another run: choose another --out, or --overwrite")


class ClaimedFolder(NamedTuple):
    """The folder that a walk is going to write, claimed, and whether the claim still stands.

    `why` says why it is not the one asked for, "" if it is.
    """

    folder: Path
    why: str
    standing: Callable[[], bool]


@contextmanager
def out_folder(folder: Path, chosen: WalkSettings, overwrite: bool) -> Iterator[ClaimedFolder]:
    """Claim the folder that a walk is going to write; where another run is writing it, one beside it.

    Folders that were made go again if nothing is written to them. Raises WnError as `check_out_folder` does.
    """
    outputs.check_folder(folder)
    with ExitStack() as stack:
        try:
            standing = stack.enter_context(outputs.claimed_folder(folder))
        except Claimed as error:
            try:
                place, standing = stack.enter_context(outputs.folder_beside(folder))
            except OSError:  # no room beside it
                raise error from None
            yield ClaimedFolder(place, str(error), standing)
        else:
            check_out_folder(folder, chosen, overwrite)
            yield ClaimedFolder(folder, "", standing)


def walk_of(chosen: WalkSettings, setup: Setup, be: Backend, saved: SavedNetwork | None = None) -> Walk:
    """The walk of settings; all its parts are checked here, before anything is trained.

    Each member of a saved population is walked `repeats` times.
    """
    walked = Walk(
        setup=setup,
        operator=noise_factory(chosen),
        places=places_of(chosen, setup.network),
        phases=phases(chosen),
        sigma=walk_sigma(chosen),
        repeats=chosen.repeats * (len(saved.population.seeds) if saved else 1),
        seed=chosen.seed,
        members=members_at_once(setup.network, setup.train, setup.dtype, be.room),
        saved=saved.on(be) if saved else None,
        predict=predicted_images(chosen),
    )
    for place in walked.places:
        check_range(place.noise(walked.operator(walked.sigma)), chosen.dtype)
    return walked


def run_record(
    command: str,
    chosen: NetworkSettings | EvaluationSettings,
    train_settings: TrainSettings | None,
    dataset: Dataset,
    be: Backend,
) -> dict[str, Any]:
    """Return everything needed to repeat a run: settings, completed from the recipe, data and versions.

    Where nothing is trained the settings are not completed, and no training samples are counted. It holds no
    time: files with the same numbers from the same machine and libraries are the same bytes.
    """
    asked = msgspec.to_builtins(chosen)
    completed = ("epochs", "batch_size", "learning_rate", "class_weights") if train_settings else ()
    settings = asked | {name: getattr(train_settings, name) for name in completed}
    samples = {"train": len(dataset.train)} if train_settings else {}
    own = {} if chosen.data is UNSET else _how_read(dataset)
    return {
        "command": command,
        "asked": asked,
        "settings": settings,
        "data": {
            "name": dataset.name,
            "sha256": checksum(dataset),
            "samples": samples | {"test": len(dataset.test)},
        }
        | own,
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


def _how_read(dataset: Dataset) -> dict[str, Any]:
    """The reading of the user's own data, which no name in a catalogue says."""
    how = dataset.recipe.preprocessing
    return {
        "classes": len(dataset.classes),
        "scale": how.scale,
        "mean": list(how.mean),
        "std": list(how.std),
        "crop_padding": how.crop_padding,
        "flip": how.flip,
    }
