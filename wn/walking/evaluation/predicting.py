"""Curves of clean networks predicted on their own, without a walk beside them: `wn predict`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from matplotlib.figure import Figure
from msgspec import UNSET
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine import backends
from wn.files.whole import StrPath, as_path
from wn.walking.api import check_progress, run_record, walk_of
from wn.walking.asked import FLAGS, PredictionSettings, WalkSettings
from wn.walking.clean_networks import clean_networks
from wn.walking.inputs import with_data
from wn.walking.places import INFERENCE
from wn.walking.predicted.tables import (
    crossing_columns,
    crossings,
    predicted_table,
)
from wn.walking.results import RUN, columns, csv_of, structured
from wn.walking.saved.folder import check_folder, record_bytes, write_folder
from wn.walking.saved.network import of_settings
from wn.walking.settings import prepare, read_settings, read_walk
from wn.walking.setup import Setup
from wn.walking.shown import frames, html
from wn.walking.shown.progress import ProgressCallback
from wn.walking.shown.statement import statement

FILES = ("predicted.csv", "crossings.csv", "predicted.png", "predict.json")


@dataclass(frozen=True, eq=False, repr=False)
class PredictedWalk:
    """Predicted curves of clean networks, as NumPy structured arrays.

    `curves`: one row per site, σ and repeat: the accuracy that theory expects on the first test images, the
    estimate of its error, and the method; NaN where theory can't go. `crossings`: one row per site, where the
    mean curve of the networks falls half-way from the clean accuracy on the same images to chance, with the
    crossings of the curve less and plus its error, and the reason where there is none. `run`: all that is
    needed to repeat it, and the seconds that it took.
    """

    curves: NDArray[Any]
    crossings: NDArray[Any]
    run: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        there = int(np.isfinite(self.crossings["predicted_crossing"]).sum())
        return f"PredictedWalk({self._words()}: {there} of {len(self.crossings)} crossings)"

    def _words(self) -> str:
        settings = self.run["settings"]
        return f"{self.run['data']['name']}, {settings['model']}, {settings['noise']} noise"

    def _repr_html_(self) -> str:
        columns = (
            "site",
            "site_name",
            "predicted_crossing",
            "predicted_low",
            "predicted_high",
            "predicted_by",
        )
        caption = f"Predicted crossing σ: {self._words()}"
        table = html.table(caption, columns, self.crossings[list(columns)].tolist())
        return table + html.picture(_figure(self), "predicted curves")

    def to_pandas(self, table: str = "crossings") -> Any:
        """A table, "crossings" or "curves", as a pandas.DataFrame.

        Raises WnError for another name, and if pandas is not installed.
        """
        if table not in ("crossings", "curves"):
            raise WnError(f"table is {table!r}: allowed are crossings, curves")
        return frames.to_pandas(getattr(self, table))

    def statement(self) -> str:
        """The paragraph on reproducibility for a paper: versions, data, network, noise, seeds."""
        return statement(self.run)

    def save(self, folder: StrPath, *, overwrite: bool = False) -> list[Any]:
        """Write predicted.csv, crossings.csv, predicted.png and predict.json, all or none; return paths.

        The folder is made if need be. Raises WnError if it has the predictions of another run and they are
        not to be overwritten, and OSError, which names the file, if one can't be written.
        """
        from wn.walking.pictures.drawing import bytes_of  # matplotlib is slow to import and needed here only

        place = as_path(folder)
        if not overwrite:
            check_folder(place, FILES, self.run["asked"])
        tables = csv_of(self.curves).encode(), csv_of(self.crossings).encode()
        contents = (*tables, bytes_of(_figure(self), "png"), record_bytes(self.run))
        return write_folder(place, dict(zip(FILES, contents, strict=True)))


def read_prediction(settings: Mapping[str, Any]) -> tuple[PredictionSettings, WalkSettings]:
    """Return the settings of a prediction, and those of the walk that would measure it; both are checked.

    Raises WnError, which names the setting, for anything unknown or out of range.
    """
    given_names = {FLAGS.get(key, key) for key, value in settings.items() if value is not None}
    own: PredictionSettings = with_data(read_settings(PredictionSettings, settings), given_names)
    if own.noise == "none":
        raise WnError("noise is none: predictions are of noise")
    if own.images < 1:
        raise WnError(f"images is {own.images}: it must be at least 1")
    of_walk = {name: value for name, value in settings.items() if name != "images"}
    given = of_walk | {"phase": INFERENCE, "predict": True, "predict_images": own.images}
    return own, read_walk(given)


def predict(
    asked: tuple[PredictionSettings, WalkSettings], progress: ProgressCallback | None = None
) -> PredictedWalk:
    """Predict the curves of clean networks by settings from `read_prediction`; train them first if need be.

    `progress` is told of (finished, all) network-epochs. Raises WnError if the settings do not fit data and
    network.
    """
    check_progress(progress)
    own, walk = asked
    be = backends.get(walk.backend)
    dataset, network, train_settings = prepare(walk)
    setup = Setup(network, dataset, train_settings, walk.dtype, walk.evaluation_batch)
    saved = None if walk.network is UNSET else of_settings(walk)
    walked = walk_of(walk, setup, be, saved)
    members = clean_networks(be, setup, walk, saved, progress)
    for repeat, population in enumerate(members):
        walked.predict_at_inference(be, population, repeat)
    assert walked.predicted is not None
    cells = (dataset.name, walk.model, walk.batch_norm, walk.noise, walk.seed, be.name)
    run = run_record("predict", walk, None if saved else train_settings, dataset, be)
    run["asked"] = msgspec.to_builtins(own)
    run["images"] = min(own.images, walked.images)
    run["seconds"] = round(walked.predicted.seconds(INFERENCE), 3)
    run["chance"] = walked.chance
    run |= {} if saved is None else {"network": saved.run}
    wanted = [(INFERENCE, place) for place in walked.places]
    found = crossings(walked.predicted, wanted, [np.nan] * len(wanted), walked.chance)
    clean = [np.mean([one.clean for one in walked.predicted.of(*at)]) for at in wanted]
    rows = [
        (*cells, phase, place.site, place.name, accuracy, *crossing)
        for (phase, place), accuracy, crossing in zip(wanted, clean, found, strict=True)
    ]
    kind = columns(RUN, {"clean_accuracy": "f8"}, crossing_columns(found))
    return PredictedWalk(predicted_table(cells, walked.predicted), structured(rows, kind), run)


def _figure(found: PredictedWalk) -> Figure:
    """The predicted curves, a panel for each place."""
    from wn.walking.pictures.panels import Expected, predicted_curves
    from wn.walking.report.curves import label
    from wn.walking.report.predicted import line_at

    panels = {}
    for row in found.crossings:
        site = int(row["site"])
        line, clean = line_at(found.curves, INFERENCE, site), float(row["clean_accuracy"])
        panels[label(site, str(row["site_name"]))] = Expected(line, clean, str(row["not_predicted"]))
    return predicted_curves(panels, found.run["chance"])
