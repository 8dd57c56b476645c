"""Published midpoints beside ours, for the networks of which there are figures."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from wn.fit.midpoint import Midpoint
from wn.walking.pictures.panels import Line, by_category
from wn.walking.report.curves import midpoint_text
from wn.walking.report.page import Picture, Section, Table


class Published(NamedTuple):
    """A midpoint that was published, at a place by name; label: "published" or "derived"."""

    place: str
    value: float
    label: str


class Reproduced(NamedTuple):
    """Midpoints of a network by place, the network in words, its epochs and images."""

    network: str
    batch_norm: str
    epochs: int
    samples: str
    midpoints: Mapping[str, Midpoint]


@cache
def record() -> dict[str, Any]:
    """The published figures with their source."""
    return tomllib.loads((files(__package__) / "published.toml").read_text(encoding="utf-8"))


def midpoints(batch_norm: str) -> list[Published]:
    """The published midpoints of the MLP with a kind of batch norm, those at single sites first."""
    found = [
        Published(place, value, entry["label"])
        for entry in record()["midpoints"]
        if entry["batch_norm"] == batch_norm
        for place, value in entry["places"].items()
    ]
    return sorted(found, key=lambda figure: figure.place == "global")


def is_published(dataset: str, model: str, batch_norm: str, noise: str, phase: str) -> bool:
    """Whether there are figures for a setting."""
    setting = record()["setting"]
    asked = {"dataset": dataset, "model": model, "noise": noise, "phase": phase}
    return all(setting[name] == value for name, value in asked.items()) and bool(midpoints(batch_norm))


def section(cases: Sequence[Reproduced]) -> Section | None:
    """Published against reproduced midpoints; None if there is nothing to compare."""
    rows, panels = [], {}
    places = [p.place for p in max((midpoints(case.batch_norm) for case in cases), key=len, default=[])]
    for case in cases:
        theirs = [figure for figure in midpoints(case.batch_norm) if figure.place in case.midpoints]
        rows += [_row(case, figure) for figure in theirs]
        if theirs:
            panels[case.network] = _lines(case, theirs, places)
    if not rows:
        return None
    source, setting = record()["source"], record()["setting"]
    text = (
        f"Published: {', '.join(source['authors'])}, arXiv {source['arxiv']} ({source['venue']}), after "
        f"{setting['epochs']} epochs on all of MNIST; no interval was published. Global midpoints are those "
        "that the authors' experiment files set; site midpoints are derived: decoded from the repetition "
        "maps in those files. Reproduced: ours, of a logistic fit as theirs, with the 95 % interval. Expect "
        "agreement where epochs and images agree.",
    )
    table = Table(
        "Published and reproduced midpoints",
        ("network", "place", "published", "kind", "reproduced [95 %]", "ratio", "epochs", "images"),
        rows,
    )
    figure = by_category(panels, places, "midpoint noise level σ", log_y=True)
    caption = "Midpoints by site, published and ours with 95 % intervals; the same height is agreement."
    return Section("Published against reproduced", text, [Picture(figure, caption), table])


def _row(case: Reproduced, figure: Published) -> list[Any]:
    fit = case.midpoints[figure.place]
    ours = midpoint_text(fit)
    ratio = fit.midpoint / figure.value if fit.reached else math.nan
    return [
        case.network,
        figure.place,
        figure.value,
        figure.label,
        ours,
        ratio,
        case.epochs,
        case.samples,
    ]


def _lines(case: Reproduced, theirs: Sequence[Published], places: Sequence[str]) -> dict[str, Line]:
    x = np.array([float(places.index(figure.place)) for figure in theirs])
    fits = [case.midpoints[figure.place] for figure in theirs]
    ours = np.array([fit.midpoint for fit in fits])
    ends = np.array([[fit.ci_low, fit.ci_high] for fit in fits])
    return {
        "published": Line(x, np.array([figure.value for figure in theirs])),
        "reproduced": Line(x, ours, ends[:, 0], ends[:, 1]),
    }
