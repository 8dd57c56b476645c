"""Pictures of a study: accuracy against σ and midpoints, a pair per setting: network and noise."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from wn.files.outputs import claimed_for_writing
from wn.files.whole import StrPath, as_path, whole_files
from wn.study.execution.driver import BACKEND
from wn.study.store.reader import Reader
from wn.study.store.writer import Store
from wn.study.tables.fit import FittedCurve, StudyCurve, fit_curve, study_curves
from wn.walking import plots
from wn.walking.measurement import MAPPED
from wn.walking.results import CURVE_COLUMNS, MIDPOINT_COLUMNS, WalkResult

WIDE = {"dataset": "U64", "model": "U200"}  # the model's field says also what else is special

FITTED = ("midpoint", "ci_low", "ci_high", "slope", "reached", "clean_accuracy")
_POINTS = """
SELECT units.sigma, units.repeat, units.correct, units.total, units.correct * 1.0 / units.total
FROM units JOIN study ON study.unit = units.id
WHERE units.curve = ? AND units.status = 'done' ORDER BY units.sigma, units.repeat
"""


class Picture(NamedTuple):
    """The curves of one pair of pictures, and the stem of their names."""

    name: str
    curves: list[StudyCurve]


def plot(folder: StrPath, out: StrPath) -> list[Path]:
    """Draw OUT/<name>-curves.png and -midpoints.png for each setting of the study; return their paths.

    The names say data set, network and noise, and what else is special. What is not finished is left out, and
    settings of which nothing is finished have no pictures. Raises WnError if a file can't be written.
    """
    out, drawn = as_path(out), []
    with Store.read(folder) as store, store.snapshot(), claimed_for_writing(out):
        for picture in pictures(study_curves(store)):
            fits = [fit_curve(store, curve) for curve in picture.curves]
            if any(found.units for found in fits):
                drawn += _draw(walk_result(store, fits), out, picture.name)
    return drawn


def pictures(curves: list[StudyCurve]) -> list[Picture]:
    """Return which curves go into which pictures, in the order of the study."""
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


def walk_result(store: Reader, fits: list[FittedCurve]) -> WalkResult:
    """Return curves of one setting as the result of a walk, which `wn.walking.plots` can draw."""
    done = [found for found in fits if found.units]
    sites = _sites([found.curve for found in done])
    curves = [
        row for found, site in zip(done, sites, strict=True) for row in _points(store, found.curve, site)
    ]
    rows = [
        (*_head(store, found.curve, site), *(getattr(found.midpoint, name) for name in FITTED))
        for found, site in zip(done, sites, strict=True)
    ]
    return WalkResult(
        curves=np.array(curves, _wide(CURVE_COLUMNS)),
        midpoints=np.array(rows, _wide(MIDPOINT_COLUMNS)),
        reasons=tuple(found.midpoint.reason for found in done),
        run={"chance": 1 / done[0].curve.classes},
    )


def _points(store: Reader, curve: StudyCurve, site: tuple[int, str]) -> Iterator[tuple[Any, ...]]:
    rows, head = store.rows(_POINTS, (curve.id,)), _head(store, curve, site)
    return ((*head, *row) for row in rows)


def _head(store: Reader, curve: StudyCurve, site: tuple[int, str]) -> tuple[Any, ...]:
    """Return the columns that curves and midpoints begin with; the model's says also what else is special."""
    words = [curve.model, *_special(curve)]
    ((seed,),) = store.rows("SELECT seed FROM settings WHERE id = ?", (curve.settings,))
    run = (seed, store.meta.get(BACKEND, ""))
    return (curve.dataset, " · ".join(words), curve.batch_norm, curve.noise, *run, curve.phase, *site)


def _special(curve: StudyCurve) -> list[str]:
    """Return in words what is not as usual."""
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
    """Return number and name of each curve's site; several maps in one picture are numbered."""
    maps = list(dict.fromkeys(_map(curve) for curve in curves if curve.site == MAPPED))
    if len(maps) < 2:
        return [(curve.site, curve.site_name) for curve in curves]
    numbered = {key: (MAPPED - index, f"mapped {index + 1}") for index, key in enumerate(maps)}
    return [
        numbered[_map(curve)] if curve.site == MAPPED else (curve.site, curve.site_name) for curve in curves
    ]


def _wide(columns: np.dtype[Any]) -> np.dtype[Any]:
    names = columns.names or ()
    return np.dtype([(name, WIDE.get(name, columns[name])) for name in names])


def _draw(result: WalkResult, out: Path, name: str) -> list[Path]:
    """Draw both pictures, or none."""
    paths = [out / f"{name}-curves.png", out / f"{name}-midpoints.png"]
    with whole_files(paths) as (curves, midpoints):
        plots.plot_curves(result, curves)
        plots.plot_midpoints(result, midpoints)
    return paths
