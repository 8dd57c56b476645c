"""The report of a walk: the page that stands beside its tables.

Like the tables and pictures it holds no time: the same run writes the same page. Time is in run.json.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from wn.analysis.intervals import accuracy
from wn.engine.models import ALIASES
from wn.fit.midpoint import Midpoint
from wn.walking.asked import CHANGE_NOTHING
from wn.walking.pictures.plots import Tables, in_words, midpoints_figure
from wn.walking.places import INFERENCE
from wn.walking.report import predicted, published
from wn.walking.report.curves import (
    CROSSINGS,
    HOW_TO_READ,
    INTERVALS,
    INTERVALS_ON_DISK,
    ON_DISK,
    PHASES,
    Curve,
    curves_picture,
    label,
    midpoint_table,
    points_section,
)
from wn.walking.report.numbers import share
from wn.walking.report.page import Picture, Section, Table, page
from wn.walking.saved.origin import origin_of

_MIDPOINTS = (
    "The midpoint is the σ at which accuracy has fallen half-way from clean to chance: the higher, the more "
    "noise a place tolerates. Bars and brackets are 95 % intervals. The gain is the midpoint of networks "
    "trained under noise over that of clean ones."
)
_FITTED = ("midpoint", "ci_low", "ci_high", "slope", "reached", "clean_accuracy")
_CROSSING = ("measured_crossing", "crossing_low", "crossing_high")
_AGAIN = "Settings of the run: `wn.walk(**asked)` repeats it. Times and the counts of images are in run.json."


def write_report(tables: Tables, run: Mapping[str, Any], path: Path) -> None:
    """Write the page of a walk, given its tables as pictures draw them and its record."""
    path.write_text(report(tables, run), encoding="utf-8")


def plot_predicted(tables: Tables, run: Mapping[str, Any], path: Path) -> None:
    """Draw measured and predicted curves into a file, given the tables of a walk and its record."""
    assert tables.chance is not None
    predicted.plot_predicted(curves_of(tables, run), tables.chance, path)


def report(tables: Tables, run: Mapping[str, Any]) -> str:
    """The page of a walk as HTML; sections for which the record has nothing are left out."""
    curves = curves_of(tables, run)
    words = ", ".join(tables.words)
    parts = [
        _run_section(run, tables),
        _published_section(run, curves),
        _clean_section(run),
        *_curve_sections(curves, tables, _intervals(run)),
        predicted.section(curves, tables, run),
        _failures_section(tables, run),
        Section("Settings", [_AGAIN], verbatim=_settings(run)),
    ]
    lead = f"Accuracy under noise, place by place: {words}."
    return page("Report of a walk", lead, [part for part in parts if part is not None])


def _phase(phase: str, run: Mapping[str, Any]) -> str:
    """A phase as reports name it; a network on disk may be trained under noise."""
    return ON_DISK if "network" in run else phase


def _intervals(run: Mapping[str, Any]) -> str:
    return INTERVALS_ON_DISK if "network" in run else INTERVALS


def curves_of(tables: Tables, run: Mapping[str, Any]) -> list[Curve]:
    """The curves of a walk with their fits."""
    fits = run.get("fits") or [{}] * len(tables.midpoints)
    found = []
    for row, reason, fit in zip(tables.midpoints, tables.reasons, fits, strict=True):
        same = (tables.curves["phase"] == row["phase"]) & (tables.curves["site"] == row["site"])
        points = tables.curves[["sigma", "repeat", "correct", "total"]][same].tolist()
        where = int(row["site"]), str(row["site_name"])
        expected = None
        if tables.predicted.size:
            expected = predicted.line_at(tables.predicted, str(row["phase"]), where[0])
        phase = _phase(str(row["phase"]), run)
        found.append(Curve(phase, *where, points, _fit(row, reason, fit), expected))
    return found


def _fit(row: Any, reason: str, record: Mapping[str, Any]) -> Midpoint:
    """The midpoint of a row and its record; what neither has is NaN."""
    names = ("location", "floor", "dispersion", "standard_error")
    values: dict[str, Any] = {name: record.get(name) for name in names}
    values = {name: np.nan if value is None else float(value) for name, value in values.items()}
    values |= {name: row[name].item() for name in (*_FITTED, *_CROSSING)}
    return Midpoint(**values, reason=reason, interval=record.get("interval") or "")


def _run_section(run: Mapping[str, Any], tables: Tables) -> Section:
    settings, data = run.get("settings", {}), run.get("data", {})
    samples = data.get("samples", {})
    cells = {
        "network": ", ".join(tables.words),
        "mapped noise": run.get("mapped"),
        **_training_rows(run),
        "test images": f"{samples['test']:,}" if "test" in samples else None,
        **{name: settings.get(name) for name in ("epochs", "batch_size", "learning_rate", "repeats", "seed")},
        "backend": run.get("backend"),
        "versions": "; ".join(f"{name} {number}" for name, number in run.get("versions", {}).items()),
        "machine": "; ".join(map(str, run.get("machine", {}).values())),
    }
    rows = [[name.replace("_", " "), str(value)] for name, value in cells.items() if value not in (None, "")]
    return Section("What was run", parts=[Table("The run", ("", ""), rows)])


def _training_rows(run: Mapping[str, Any]) -> dict[str, Any]:
    """Rows about the training: that of a network on disk is what its file says, and nothing of this run."""
    if "network" in run:
        return {"on disk": run["settings"]["network"], **origin_of(run["network"]["record"]).rows}
    count = run.get("data", {}).get("samples", {}).get("train")
    return {"training images": None if count is None else f"{count:,}"}


def _published_section(run: Mapping[str, Any], curves: Sequence[Curve]) -> Section | None:
    """Published midpoints beside those of this walk, if they are of the same network and noise."""
    asked, training = run.get("asked", {}), _compared_training(run)
    dataset, model, batch_norm, noise = (
        str(asked.get(name)) for name in ("dataset", "model", "batch_norm", "noise")
    )
    special = ("mean", "normalize_to_input_size")
    usual = asked.get("repetitions", 1) == 1 and asked.get("distribution", "normal") == "normal"
    is_known = published.is_published(dataset, ALIASES.get(model, model), batch_norm, noise, INFERENCE)
    if not usual or any(asked.get(name) for name in special) or not is_known or training is None:
        return None
    epochs, images = training
    phase = _phase(INFERENCE, run)
    fits = {one.place: one.fit for one in curves if one.phase == phase and one.levels > 1}
    of_all = f"{images or 'all'} / {asked.get('test_limit') or 'all'}"
    network = ", ".join(in_words(dataset, model, batch_norm, noise)[:3])
    return published.section([published.Reproduced(network, batch_norm, epochs, of_all, fits)])


def _compared_training(run: Mapping[str, Any]) -> tuple[int, int | None] | None:
    """Epochs and training images (None for all) of networks trained as the published ones were, else None.

    Published networks were trained without noise and clamping; of one on disk this has to be known.
    """
    asked = run.get("asked", {})
    if "network" not in run:
        trained = run.get("settings", {}).get("epochs", 0), asked.get("train_limit")
        return None if asked.get("clamp_weights") else trained
    origin = origin_of(run["network"]["record"])
    alike = (origin.dataset, origin.noise, origin.clamped) == (asked.get("dataset"), "none", False)
    return (origin.epochs, origin.images) if alike and origin.epochs is not None else None


def _clean_section(run: Mapping[str, Any]) -> Section | None:
    counts = run.get("clean_correct")
    if not counts:
        return None
    text = "Networks trained and evaluated without noise: half-way is between this accuracy and chance."
    if "network" in run:
        text = "The file's networks, evaluated without noise: half-way is between this accuracy and chance."
        counts = counts[: len(run["network"]["seeds"])]  # other repeats are of the same networks
    correct, total = zip(*counts, strict=True)
    shares = [k / n for k, n in counts]
    row = [share(*accuracy(correct, total)), min(shares), max(shares), len(counts), total[0]]
    several = "networks" if "network" in run else "repeats"
    columns = ("accuracy [95 %]", "lowest", "highest", several, "test images")
    return Section("Clean accuracy", [text, INTERVALS], [Table("Clean accuracy", columns, [row])])


def _curve_sections(curves: Sequence[Curve], tables: Tables, intervals: str) -> Iterator[Section]:
    """Midpoints and curves, or accuracies where there is one σ."""
    chance, measured = tables.chance, [curve for curve in curves if curve.points]
    if chance is not None and measured and all(curve.levels == 1 for curve in measured):
        yield _points_section(measured, chance, tables, intervals)
        return
    figure = Picture(midpoints_figure(tables), "Midpoints by place.")
    yield Section("Midpoints", [_MIDPOINTS, CROSSINGS], [figure, midpoint_table(curves, "Midpoints")])
    picture = None if chance is None else curves_picture(measured, chance, ", ".join(tables.words))
    if picture is not None:
        yield Section("Accuracy against σ", [HOW_TO_READ, intervals], [picture])


def _points_section(curves: Sequence[Curve], chance: float, tables: Tables, intervals: str) -> Section:
    series = {words: [c for c in curves if c.phase == phase] for phase, words in PHASES.items()}
    panels = {tables.words[-1]: {words: found for words, found in series.items() if found}}
    sigma = curves[0].points[0][0]
    text = f"There is a single σ, {sigma:g}, and no curve to fit; these are the accuracies at it."
    return points_section(panels, chance, "Accuracy at one σ", [text], intervals)


def _failures_section(tables: Tables, run: Mapping[str, Any]) -> Section | None:
    if not len(tables.failures):
        return None
    names = ("phase", "site", "site_name", "sigma", "repeat", "reason")
    rows = [
        [PHASES.get(_phase(phase, run), phase), label(site, name), sigma, repeat, reason]
        for phase, site, name, sigma, repeat, reason in tables.failures[list(names)].tolist()
    ]
    text = "At these points numbers left the range of their type; they are in no curve and no midpoint."
    table = Table("Points without a result", ("phase", "place", "σ", "repeat", "reason"), rows)
    return Section("Points without a result", [text], [table])


def _settings(run: Mapping[str, Any]) -> str:
    asked = run.get("asked") or {}
    said = {name: asked[name] for name in asked if name not in CHANGE_NOTHING and asked[name] is not None}
    return msgspec.json.format(msgspec.json.encode({"asked": said}), indent=2).decode()
