"""The accuracy of a network on disk under noise at one place, at one σ or several."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.analysis.intervals import wilson
from wn.engine import backends
from wn.engine.training import TrainSettings
from wn.files.outputs import AlreadyThere, make_folder
from wn.files.whole import StrPath, as_path, write_text
from wn.walking import tables
from wn.walking.api import check_progress, measure, run_record
from wn.walking.asked import EvaluationSettings
from wn.walking.inputs import whole_data
from wn.walking.measurement import members_at_once
from wn.walking.places import INFERENCE, Place, Spread, check_range
from wn.walking.results import csv_of_curves, failure_columns
from wn.walking.saved.network import SavedNetwork, of_settings
from wn.walking.settings import evaluation_sigma, noise_factory, places_of
from wn.walking.setup import Setup
from wn.walking.shown import frames, html
from wn.walking.shown.progress import ProgressCallback
from wn.walking.shown.statement import statement
from wn.walking.walk import Walk


@dataclass(frozen=True, eq=False, repr=False)
class Evaluated:
    """The accuracies of a network on disk as a NumPy structured array, a field per column of the csv file.

    `curves`: a row per repeat and σ; accuracy = correct/total with its Wilson interval of 95 %, ci_low and
    ci_high; the noisy sites with their factors on σ. A file of P networks has P repeats for each that is
    asked for, one network after the other. `failures`: a row per point without a result, and the reason: its
    numbers left the range of the type.
    `clean`: (right, all) test images without noise, for each repeat. `run`: all that is needed to repeat it.
    """

    curves: NDArray[Any]
    run: dict[str, Any] = field(repr=False)
    clean: tuple[tuple[int, int], ...] = ()
    failures: NDArray[Any] = field(default_factory=lambda: np.zeros(0, failure_columns(1)))

    def __repr__(self) -> str:
        rows = len(self.curves)
        return f"Evaluated({self._words()}: accuracy at {rows} {'point' if rows == 1 else 'points'})"

    def _words(self) -> str:
        settings = self.run["settings"]
        return f"{self.run['data']['name']}, {settings['model']}, {settings['noise']} noise"

    def _repr_html_(self) -> str:
        columns = ("sigma", "repeat", "correct", "total", "accuracy", "ci_low", "ci_high")
        caption = f"Accuracy [95 % interval]: {self._words()}"
        return html.table(caption, columns, self.curves[list(columns)].tolist())

    def to_pandas(self) -> Any:
        """The rows as a pandas.DataFrame; WnError if pandas is not installed."""
        return frames.to_pandas(self.curves)

    def statement(self) -> str:
        """The paragraph on reproducibility for a paper: versions, data, network, noise, seeds."""
        return statement(self.run)

    def save(self, path: StrPath, *, overwrite: bool = False) -> Path:
        """Write the rows as csv, whole or not at all, and return the path; the folder is made if need be.

        Points without a result are at the end, as in the curves of a walk. Raises WnError if the file is
        there and not to be overwritten, and OSError, which names the file, if it can't be written.
        """
        place = as_path(path)
        make_folder(place.parent)
        try:
            write_text(place, csv_of_curves(self.curves, self.failures), overwrite)
        except FileExistsError:
            raise AlreadyThere(place) from None
        return place


def evaluate(chosen: EvaluationSettings, progress: ProgressCallback | None = None) -> Evaluated:
    """Evaluate a network on disk by settings from `read_evaluation`; draws are those of a walk at inference.

    Raises WnError if the settings do not fit data and network, and if no point has a result.
    """
    check_progress(progress)
    started = time.perf_counter()
    be, saved = backends.get(chosen.backend), of_settings(chosen)
    dataset = whole_data(chosen).limited(None, chosen.test_limit)
    nothing = TrainSettings(epochs=1, batch_size=dataset.recipe.batch_size, learning_rate=dataset.recipe.lr)
    setup = Setup(saved.network, dataset, nothing, saved.dtype, chosen.evaluation_batch)
    walked = Walk(
        setup=setup,
        operator=noise_factory(chosen),
        places=(_place(chosen, saved),),
        phases=(INFERENCE,),
        sigma=evaluation_sigma(chosen),
        repeats=chosen.repeats * len(saved.population.seeds),
        seed=chosen.seed,
        members=members_at_once(setup.network, setup.train, setup.dtype, be.room),
        saved=saved.on(be),
    )
    check_range(walked.places[0].noise(walked.operator(walked.sigma)), setup.dtype)
    measure(walked, be, chosen.threads, progress)
    of_run = (dataset.name, chosen.model, chosen.batch_norm, chosen.noise, chosen.seed, be.name)
    run = run_record("evaluate", chosen, None, dataset, be) | {"network": saved.run}
    run["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    run["seconds"] = round(time.perf_counter() - started, 3)
    sites = walked.places[0].sites(saved.network.site_names)
    clean = walked.clean_counts.correct.sum(axis=1).tolist()
    return Evaluated(
        curves=_with_sites(_with_intervals(tables.curve_table(of_run, walked)), sites),
        run=run,
        clean=tuple((correct, walked.images) for correct in clean),
        failures=_with_sites(tables.failure_table(of_run, walked), sites),
    )


def _place(chosen: EvaluationSettings, saved: SavedNetwork) -> Place:
    """All sites of the noise at once: several that are listed are a map with factors of 1."""
    found = places_of(chosen, saved.network)
    if len(found) == 1:
        return found[0]
    sites = {site: factor for place in found for site, factor in place.factors.items()}
    repetitions = tuple(number for place in found for number in place.repetitions)
    return Place(Spread.MAPPED, "mapped", sites, repetitions)


def _with_intervals(curves: NDArray[Any]) -> NDArray[Any]:
    counts = zip(curves["correct"].tolist(), curves["total"].tolist(), strict=True)
    ends = np.array([wilson(correct, total) for correct, total in counts])
    return _with_columns(curves, ci_low=ends[:, 1], ci_high=ends[:, 2])


def _with_sites(rows: NDArray[Any], sites: str) -> NDArray[Any]:
    return _with_columns(rows, sites=np.full(len(rows), sites))


def _with_columns(rows: NDArray[Any], **columns: NDArray[Any]) -> NDArray[Any]:
    kinds = [(name, values.dtype.str) for name, values in columns.items()]
    found = np.empty(len(rows), [*rows.dtype.descr, *kinds])
    for name in found.dtype.names or ():
        found[name] = columns[name] if name in columns else rows[name]
    return found
