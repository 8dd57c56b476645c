"""Pictures of a study: accuracy against σ and midpoints, a pair per setting: network and noise."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from wn.files.outputs import claimed_for_writing
from wn.files.whole import StrPath, as_path, whole_files
from wn.study.store.writer import Store
from wn.study.tables.fit import FittedCurve, StudyCurve, by_setting, fitted, study_curves
from wn.study.tables.matrix import matrices, matrix_figure
from wn.study.tables.words import Words, with_labels_of
from wn.study.unit import MATRIX
from wn.walking.pictures import plots
from wn.walking.pictures.drawing import save
from wn.walking.places import Spread
from wn.walking.results import FIT, PLACE, POINT, columns


class Picture(NamedTuple):
    """The curves of one pair of pictures, and the stem of their names."""

    name: str
    curves: list[StudyCurve]


class Plotted(NamedTuple):
    """The pictures that were drawn, and the number of settings that have points alone, a σ for each place."""

    paths: list[Path]
    points_alone: int


def plot(folder: StrPath, out: StrPath) -> Plotted:
    """Draw OUT/<name>-curves.png and -midpoints.png for each setting of the study that has curves.

    The names say data set, network and noise, and what else is special. What is not finished is left out, and
    settings of which nothing is finished have no pictures; nor have those with one σ for each place. The
    phase "matrix" has OUT/<name>-matrix.png instead, a heat map for each place. Raises WnError if a file
    can't be written.
    """
    out, drawn, points_alone = as_path(out), list[Path](), 0
    with Store.read(folder) as store, store.snapshot(), claimed_for_writing(out):
        curves = study_curves(store)
        words = Words(curves)
        for picture in pictures(curves, words):
            fits = [fitted(store, curve) for curve in picture.curves]
            walked = [found for found in fits if found.curve.phase != MATRIX]
            if any(has_curve(found) for found in walked):
                drawn += _draw(tables_of(walked, words), out, picture.name)
            else:
                points_alone += any(found.points for found in walked)
            names = [name for _, name in sites_of(picture.curves)]
            if (matrix := matrices(fits, names)) is not None:
                drawn.append(out / f"{picture.name}-matrix.png")
                save(matrix_figure(matrix), drawn[-1])
    return Plotted(drawn, points_alone)


def has_curve(found: FittedCurve) -> bool:
    """Whether several σ of a curve are finished."""
    return len({sigma for sigma, *_ in found.points}) > 1


def pictures(curves: list[StudyCurve], words: Words) -> list[Picture]:
    """The pictures of a study, with their curves, in its order."""
    groups = by_setting(curves)
    names = [words.file(group) for group in groups]
    shared = {name for name, number in Counter(names).items() if number > 1}  # long ones are cut
    return [
        Picture(f"{name}-{group[0].digest}" if name in shared else name, group)
        for name, group in zip(names, groups, strict=True)
    ]


def tables_of(fits: list[FittedCurve], words: Words) -> plots.Tables:
    """The tables of the curves of one setting; the model's name is followed by its unusual settings."""
    done = [found for found in fits if found.points]
    sites = sites_of([found.curve for found in done])
    points, midpoints = [], []
    for found, site in zip(done, sites, strict=True):
        head = (found.curve.phase, *site)
        points += [(*head, *point) for point in found.points]
        midpoints.append((*head, *(getattr(found.midpoint, name) for name in FIT)))
    first = with_labels_of([found.curve for found in done])
    special = ["weights clamped"] if first.clamp_weights else []
    special += [*words.options(first), *words.executions(first)]
    return plots.Tables(
        curves=np.array(points, columns(PLACE, POINT)),
        midpoints=np.array(midpoints, columns(PLACE, FIT)),
        reasons=tuple(found.midpoint.reason for found in done),
        failures=np.zeros(0, columns(PLACE, POINT)),
        chance=first.chance,
        words=plots.in_words(
            first.dataset, " · ".join([first.model, *special]), first.batch_norm, first.noise
        ),
    )


def sites_of(curves: list[StudyCurve]) -> list[tuple[int, str]]:
    """Number and name of each curve's site; several maps in one picture are numbered by name."""
    maps = list(dict.fromkeys(_map(curve) for curve in curves if curve.site == Spread.MAPPED))
    names = {key: f"mapped {index}" for index, key in enumerate(maps, 1)}
    return [
        (curve.site, names[_map(curve)] if len(maps) > 1 and curve.site == Spread.MAPPED else curve.site_name)
        for curve in curves
    ]


def _map(curve: StudyCurve) -> str:
    """Return the factors of mapped noise, in a form to be compared."""
    return str(msgspec.json.decode(curve.spec).get("factors"))


def _draw(tables: plots.Tables, out: Path, name: str) -> list[Path]:
    """Draw both pictures, or none."""
    paths = [out / f"{name}-curves.png", out / f"{name}-midpoints.png"]
    with whole_files(paths) as (curves, midpoints):
        plots.plot_curves(tables, curves)
        plots.plot_midpoints(tables, midpoints)
    return paths
