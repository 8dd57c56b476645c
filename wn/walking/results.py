"""The result of a walk: plain tables, and the files that carry them."""

import csv
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from wn.analysis.weights import STATISTICS
from wn.basics.errors import WnError
from wn.files import outputs
from wn.files.claims import Claimed
from wn.files.whole import StrPath, as_path, naming, sweep, whole_files
from wn.walking.asked import CHANGE_NOTHING
from wn.walking.shown import frames, html
from wn.walking.shown.statement import statement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from wn.walking.pictures.plots import Tables

# Columns of tables, those of studies too, with their NumPy types
WORDS = {"dataset": "U32", "model": "U32", "batch_norm": "U16", "noise": "U16"}
PLACE = {"phase": "U16", "site": "i8", "site_name": "U32"}  # site −1 is "global", −2 "mapped"
POINT = {"sigma": "f8", "repeat": "i8", "correct": "i8", "total": "i8", "accuracy": "f8"}
FIT = {  # of a `Midpoint`
    "midpoint": "f8",
    "ci_low": "f8",
    "ci_high": "f8",
    "slope": "f8",
    "reached": "?",
    "clean_accuracy": "f8",
}
CROSSING = dict.fromkeys(("measured_crossing", "crossing_low", "crossing_high"), "f8")  # of a `Midpoint` too


def columns(*parts: Mapping[str, str]) -> np.dtype[Any]:
    """The type of the rows of a table that has the columns of these parts."""
    return np.dtype([column for part in parts for column in part.items()])


def structured(rows: Sequence[tuple[Any, ...]], kind: np.dtype[Any]) -> NDArray[Any]:
    """Rows as a structured array; columns of text are as wide as their longest, where names are longer."""
    wide = []
    for number, name in enumerate(kind.names or ()):
        column = kind[name]
        if column.kind == "U":
            longest = max((len(row[number]) for row in rows), default=0)
            column = np.dtype(f"U{max(longest, column.itemsize // 4)}")
        wide.append((name, column))
    return np.array(rows, wide)


RUN = WORDS | {"seed": "u8", "backend": "U16"} | PLACE
CURVE_COLUMNS = columns(RUN, POINT)
MIDPOINT_COLUMNS = columns(RUN, FIT, CROSSING)
_POINT = RUN | {"sigma": "f8", "repeat": "i8"}
WEIGHT_COLUMNS = columns(
    _POINT, {"layer": "U32", "epoch": "i8"}, dict.fromkeys((*STATISTICS, "relative_norm"), "f8")
)
SIGNAL_COLUMNS = columns(_POINT, {"at_site": "i8", "at_name": "U32", "power": "f8"})
PREDICTED_COLUMNS = columns(_POINT, {"accuracy": "f8", "error": "f8", "predicted_by": "U32"})


def failure_columns(longest: int) -> np.dtype[Any]:
    """The columns of failures, whose reasons have at most `longest` letters."""
    return columns(_POINT, {"reason": f"U{longest}"})


TABLES = ("curves.csv", "midpoints.csv", "weights.csv", "signal.csv", "run.json")
PICTURES = ("curves.png", "midpoints.png", "report.html")
PREDICTED = ("predicted.csv", "predicted.png")  # where curves are predicted too
FILES = (*TABLES, *PICTURES, *PREDICTED)

log = logging.getLogger("wn")

Writer = Callable[[Path], object]


@dataclass(frozen=True, eq=False, repr=False)
class WalkResult:
    """The result of a walk as NumPy structured arrays: one field per column of the csv files.

    `curves`: one row per phase, site, σ and repeat; accuracy = correct/total. `midpoints`: one row per phase
    and site; midpoint, ci_low and ci_high (95 %) in units of σ, NaN where the midpoint is not reached;
    clean_accuracy is the pooled accuracy of the networks trained without noise; measured_crossing, with
    crossing_low and crossing_high, is where the accuracies themselves fall half-way, without the logistic
    curve of the fit. `reasons`: for each row of
    `midpoints` why it is not reached, "" if it is. `run`: everything needed to repeat the run. `failures`:
    one row per point without a result, which `curves` does not have, and the reason: its numbers left the
    range of the type. `weights`: statistics of the weights, one row per trained network (phase "clean":
    without noise), layer and epoch (from 1): mean |w|, standard deviation, norm, share of |w| ≥ 1, and the
    norm relative to that of the clean network of the same repeat. `signal`: the mean of y² before the noise,
    one row per point and noisy site.

    With `predict`, `predicted` has one row per phase, site, σ and repeat: the accuracy that theory expects
    on the first test images, the estimate of its error, and the method; NaN where theory can't go.
    `midpoints` then has columns more: predicted_crossing, predicted_low and predicted_high, predicted_by,
    and the reason not_predicted.
    """

    curves: NDArray[Any]
    midpoints: NDArray[Any]
    reasons: tuple[str, ...]
    run: dict[str, Any] = field(repr=False)
    failures: NDArray[Any] = field(default_factory=lambda: np.zeros(0, failure_columns(1)))
    weights: NDArray[Any] = field(default_factory=lambda: np.zeros(0, WEIGHT_COLUMNS))
    signal: NDArray[Any] = field(default_factory=lambda: np.zeros(0, SIGNAL_COLUMNS))
    predicted: NDArray[Any] = field(default_factory=lambda: np.zeros(0, PREDICTED_COLUMNS))

    def __repr__(self) -> str:
        rows = self.midpoints
        words = ", ".join(to_draw(self).words)
        sigma = len(np.unique(self.curves["sigma"]))
        phases = " and ".join(dict.fromkeys(rows["phase"].tolist()))
        places = len(np.unique(rows["site"]))
        reached = f"{int(rows['reached'].sum())} of {len(rows)} midpoints reached"
        return f"WalkResult({words}: {places} places × {sigma} σ, {phases}; {reached})"

    def _repr_html_(self) -> str:
        return html.of_walk(to_draw(self))

    def plot(self, kind: str = "midpoints", *, phase: str | None = None, ax: "Axes | None" = None) -> "Axes":
        """Draw the midpoints by site, or the curves of a phase, and return the axes.

        kind: "midpoints" or "curves". phase: of the curves, the first that there is by default. ax: axes of
        Matplotlib to draw on; new ones of pyplot by default, which notebooks show. Raises WnError for other
        kinds and phases.
        """
        from wn.walking.shown.axes import draw  # matplotlib is slow to import and needed here only

        drawn: Axes = draw(to_draw(self), kind, phase, ax)
        return drawn

    def to_pandas(self, table: str = "midpoints") -> Any:
        """A table as a pandas.DataFrame: "midpoints", "curves", "failures", "weights", "signal", "predicted".

        Raises WnError for another name, and if pandas is not installed.
        """
        names = ("midpoints", "curves", "failures", "weights", "signal", "predicted")
        if table not in names:
            raise WnError(f"table is {table!r}: allowed are {', '.join(names)}")
        return frames.to_pandas(getattr(self, table))

    def to_xarray(self) -> Any:
        """Curves and midpoints as an xarray.Dataset over phase, site, repeat and sigma.

        Raises WnError if xarray is not installed.
        """
        words = {name: str(self.midpoints[name][0]) for name in WORDS}
        attributes = words | {"chance": self.run["chance"], "total": int(self.curves["total"][0])}
        return frames.to_xarray(self.curves, self.midpoints, self.failures, attributes)

    def statement(self) -> str:
        """The paragraph on reproducibility for a paper: versions, data, network, noise, seeds."""
        return statement(self.run)

    def save(self, folder: StrPath, *, overwrite: bool = False) -> list[Path]:
        """Write the tables, then the pictures; the folder is made if need be. Returns the paths.

        What the same run left there before is replaced. Where the folder holds the results of another run, or
        another run is writing to it, FOLDER-2, FOLDER-3, … beside it is taken instead and a warning logged;
        with `overwrite` what is there is replaced. Raises OSError, which names the file, if one can't be
        written; tables do not depend on the pictures.
        """
        with place_for(self, as_path(folder), overwrite) as place:
            return write_tables(self, place) + write_pictures(self, place)

    def save_tables(self, folder: StrPath, *, overwrite: bool = False) -> list[Path]:
        """Write the csv files and run.json as `save` does."""
        with place_for(self, as_path(folder), overwrite) as place:
            return write_tables(self, place)

    def save_pictures(self, folder: StrPath, *, overwrite: bool = False) -> list[Path]:
        """Draw curves.png and midpoints.png, and write report.html, as `save` does."""
        with place_for(self, as_path(folder), overwrite) as place:
            return write_pictures(self, place)


@contextmanager
def place_for(
    result: WalkResult, folder: Path, overwrite: bool = False, claimed: bool = False
) -> Iterator[Path]:
    """Claim the folder for a result, unless that is done, or one beside it; give its path."""
    with ExitStack() as stack:
        try:
            if not claimed:
                stack.enter_context(outputs.claimed_folder(folder, outputs.PATIENCE))
            other = not (overwrite or holds_only(folder, result.run))
            why = f"{folder} holds the results of another run" if other else ""
        except Claimed as error:
            why = str(error)
        if why:
            mine = partial(holds_only, run=result.run)
            place, _ = stack.enter_context(outputs.folder_beside(folder, mine))
            log.warning("%s; written to %s instead", why, place)
            folder = place
        yield folder


def write_tables(result: WalkResult, folder: Path) -> list[Path]:
    """Write the tables to a claimed folder: all or none, short of a crash of the machine.

    The record and the pictures of an earlier run go before its tables are replaced, so that no picture
    stands beside the tables of another run and no record beside tables that are not its own.
    """
    writers: list[Writer] = [
        lambda path: path.write_text(csv_of_curves(result.curves, result.failures), encoding="utf-8"),
        lambda path: path.write_text(csv_of(result.midpoints), encoding="utf-8"),
        lambda path: path.write_text(csv_of(result.weights), encoding="utf-8"),
        lambda path: path.write_text(csv_of(result.signal), encoding="utf-8"),
        lambda path: _write_json(path, result.run),
    ]
    names = list(TABLES)
    if result.predicted.size:
        names.append(PREDICTED[0])
        writers.append(lambda path: path.write_text(csv_of(result.predicted), encoding="utf-8"))
    stale = [folder / name for name in FILES if name not in names or name == "run.json"]
    return _save([folder / name for name in names], writers, stale)


def write_pictures(result: WalkResult, folder: Path) -> list[Path]:
    """Draw the pictures, and the page with them, into a claimed folder: all or none, short of a crash."""
    from wn.walking.pictures import plots  # matplotlib is slow to import and needed here only
    from wn.walking.report import walks

    tables = to_draw(result)
    writers: list[Writer] = [
        partial(plots.plot_curves, tables),
        partial(plots.plot_midpoints, tables),
        partial(walks.write_report, tables, result.run),
    ]
    names = list(PICTURES)
    if result.predicted.size:
        names.append(PREDICTED[1])
        writers.append(partial(walks.plot_predicted, tables, result.run))
    return _save([folder / name for name in names], writers)


def to_draw(result: WalkResult) -> "Tables":
    """The tables of a walk as `wn.walking.pictures.plots` draws them."""
    from wn.walking.pictures import plots

    run = result.midpoints[list(WORDS)][:1].tolist()
    return plots.Tables(
        result.curves,
        result.midpoints,
        result.reasons,
        result.failures,
        result.run.get("chance"),
        plots.in_words(*run[0]) if run else (),
        result.predicted,
    )


def _save(paths: list[Path], writers: Iterable[Writer], stale: Sequence[Path] = ()) -> list[Path]:
    for path in paths:
        sweep(path)
    with whole_files(paths, stale) as temporaries:
        for path, temporary, write in zip(paths, temporaries, writers, strict=True):
            with naming(path, temporary):
                write(temporary)
    return paths


def holds_only(folder: Path, run: Mapping[str, Any]) -> bool:
    """Whether a folder has no results, or those of a run with the same settings, which has the same numbers.

    Files of the same names without a record count as another run's.
    """
    if not any(os.path.lexists(folder / name) for name in FILES):
        return True
    try:
        found = msgspec.json.decode((folder / "run.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return False  # unreadable, or none
    return bool(_identity(found) == _identity(msgspec.json.decode(msgspec.json.encode(run))))


def _identity(run: Mapping[str, Any]) -> Any:
    """The settings asked for on which numbers of a run depend."""
    asked = run.get("asked")
    if not isinstance(asked, dict):
        return run
    return {name: value for name, value in asked.items() if name not in CHANGE_NOTHING}


def csv_of_curves(curves: NDArray[Any], failures: NDArray[Any]) -> str:
    """Return curves as csv.

    If points failed there is a column more, `failure`, and at the end a row for each: where and at what σ and
    repeat, no count, and why.
    """
    names = curves.dtype.names or ()
    if not len(failures):
        return csv_of(curves)
    there = failures.dtype.names or ()
    rows = [(*row, "") for row in curves.tolist()]
    for row in failures.tolist():
        cells = dict(zip(there, row, strict=True))
        rows.append((*(cells.get(name, "") for name in names), cells["reason"]))
    return _csv((*names, "failure"), rows)


def csv_of(table: NDArray[Any]) -> str:
    """Return a table as csv: a header and a line per row."""
    return _csv(table.dtype.names or (), table.tolist())


def _csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Return a csv cell: the shortest text that gives the same float again, nothing for NaN, true/false."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "" if value != value else repr(value)
    return value


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
