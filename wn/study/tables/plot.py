"""Pictures of a study: accuracy against σ and midpoints, a pair per setting: network and noise."""

import re
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from wn.files.outputs import claimed_for_writing
from wn.files.whole import StrPath, as_path, whole_files
from wn.study.store.writer import Store
from wn.study.tables.fit import FittedCurve, StudyCurve, fitted, study_curves
from wn.study.tables.matrix import matrices, matrix_figure
from wn.study.unit import MATRIX
from wn.walking import plots
from wn.walking.pictures.drawing import save
from wn.walking.places import Spread
from wn.walking.results import FIT, PLACE, POINT, columns


class Picture(NamedTuple):
    """The curves of one pair of pictures, and the stem of their names."""

    name: str
    curves: list[StudyCurve]


def plot(folder: StrPath, out: StrPath) -> list[Path]:
    """Draw OUT/<name>-curves.png and -midpoints.png for each setting of the study; return their paths.

    The phase "matrix" has OUT/<name>-matrix.png instead, a heat map for each place. The names say data set,
    network and noise, and what else is special. What is not finished is left out, and settings of which
    nothing is finished have no pictures. Raises WnError if a file can't be written.
    """
    out, drawn = as_path(out), []
    with Store.read(folder) as store, store.snapshot(), claimed_for_writing(out):
        for picture in pictures(study_curves(store)):
            fits = [fitted(store, curve) for curve in picture.curves]
            walked = [found for found in fits if found.curve.phase != MATRIX]
            if any(found.points for found in walked):
                drawn += _draw(tables_of(walked), out, picture.name)
            names = [name for _, name in _sites(picture.curves)]
            if (found := matrices(fits, names)) is not None:
                drawn.append(out / f"{picture.name}-matrix.png")
                save(matrix_figure(found), drawn[-1])
    return drawn


def pictures(curves: list[StudyCurve]) -> list[Picture]:
    """The pictures of a study, with their curves, in its order."""
    first: dict[int, int] = {}
    for place, curve in enumerate(curves):
        first.setdefault(curve.settings, place)
    together = sorted(curves, key=lambda curve: first[curve.settings])
    groups = [list(group) for _, group in groupby(together, key=lambda curve: curve.settings)]
    names = [_name(group[0]) for group in groups]
    shared = {name for name, number in Counter(names).items() if number > 1}
    return [
        Picture(f"{name}-{group[0].digest}" if name in shared else name, group)
        for name, group in zip(names, groups, strict=True)
    ]


def tables_of(fits: list[FittedCurve]) -> plots.Tables:
    """The tables of the curves of one setting; the model's name is followed by its unusual settings."""
    done = [found for found in fits if found.points]
    sites = _sites([found.curve for found in done])
    points, midpoints = [], []
    for found, site in zip(done, sites, strict=True):
        head = (found.curve.phase, *site)
        points += [(*head, *point) for point in found.points]
        midpoints.append((*head, *(getattr(found.midpoint, name) for name in FIT)))
    first = done[0].curve
    model = " · ".join([first.model, *_special(first)])
    return plots.Tables(
        curves=np.array(points, columns(PLACE, POINT)),
        midpoints=np.array(midpoints, columns(PLACE, FIT)),
        reasons=tuple(found.midpoint.reason for found in done),
        failures=np.zeros(0, columns(PLACE, POINT)),
        chance=1 / first.classes,
        words=plots.in_words(first.dataset, model, first.batch_norm, first.noise),
    )


def _special(curve: StudyCurve) -> list[str]:
    """Unusual settings, in words."""
    words = ["weights clamped"] if curve.clamp_weights else []
    words += [f"ratio {curve.ratio:g}"] if curve.ratio is not None else []
    words += [f"executions {curve.repetitions}"] if curve.repetitions != "1" else []
    return words


def _name(curve: StudyCurve) -> str:
    words = (curve.dataset, curve.model, f"bn-{curve.batch_norm}", curve.noise, *_special(curve))
    return re.sub(r"[^\w.]+", "-", "-".join(words))[:150]


def _map(curve: StudyCurve) -> str:
    """Return the factors of mapped noise, in a form to be compared."""
    return str(msgspec.json.decode(curve.spec).get("factors"))


def _sites(curves: list[StudyCurve]) -> list[tuple[int, str]]:
    """Number and name of each curve's site; several maps in one picture are numbered by name."""
    maps = list(dict.fromkeys(_map(curve) for curve in curves if curve.site == Spread.MAPPED))
    names = {key: f"mapped {index}" for index, key in enumerate(maps, 1)}
    return [
        (curve.site, names[_map(curve)] if len(maps) > 1 and curve.site == Spread.MAPPED else curve.site_name)
        for curve in curves
    ]


def _draw(tables: plots.Tables, out: Path, name: str) -> list[Path]:
    """Draw both pictures, or none."""
    paths = [out / f"{name}-curves.png", out / f"{name}-midpoints.png"]
    with whole_files(paths) as (curves, midpoints):
        plots.plot_curves(tables, curves)
        plots.plot_midpoints(tables, midpoints)
    return paths
