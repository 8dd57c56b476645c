"""Midpoints and pictures of a study."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.study.store.stores import (
    CLEAN,
    SIGMA,
    TOTAL,
    changed,
    finish,
    finished_study,
    noisy,
    result,
    rows,
    study,
)
from wn.fit.intervals import Counts, fit_curve
from wn.fit.midpoint import NEVER_FALLS
from wn.study.store.writer import Store
from wn.study.tables.fit import NO_CLEAN, NO_UNIT, fit, fitted, study_curves
from wn.study.tables.plot import pictures, plot, tables_of
from wn.study.tables.words import Words
from wn.study.unit import NoiseSpec, Unit
from wn.walking.pictures.plots import curves_figure, midpoints_figure

MULTIPLICATIVE = NoiseSpec(kind="multiplicative")


# ---- midpoints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize("repeats", [1, 3])
def test_each_midpoint_is_fitted_to_all_repeats_of_its_curve(tmp_path: Path, kind: str, repeats: int) -> None:
    finished_study(tmp_path, study(repeats=repeats, sites=2, noise=NoiseSpec(kind=kind)))
    found = fit(tmp_path)
    clean = [result(changed(CLEAN, repeat=repeat)).correct for repeat in range(repeats)]
    total = np.full(len(SIGMA), TOTAL)
    assert [(row["phase"], row["site"]) for row in found] == [
        (phase, site) for phase in ("inference", "training") for site in (0, 1)
    ]
    for row in found:
        phase, site = str(row["phase"]), int(row["site"])
        correct = [np.array([of(phase, site, repeat, s) for s in SIGMA]) for repeat in range(repeats)]
        curves = [Counts(np.array(SIGMA), counts, total) for counts in correct]
        without = Counts(np.zeros(repeats), np.array(clean), np.full(repeats, TOTAL))
        midpoint = fit_curve(curves, without, 0.1, phase, kind)
        assert (row["noise"], row["reached"]) == (kind, midpoint.reached)
        for name in ("midpoint", "ci_low", "ci_high", "slope", "clean_accuracy"):
            assert row[name] == getattr(midpoint, name)
        assert (row["repeats"], row["units"], row["missing"]) == (repeats, 7 * repeats, 0)
        assert row["chance"] == 0.1
    assert found["midpoint"][0] == pytest.approx(np.mean([1, 1.1, 1.2][:repeats]), rel=0.05)


def of(phase: str, site: int, repeat: int, sigma: float) -> int:
    return result(noisy(site, sigma, phase=phase, repeat=repeat)).correct


def test_curves_that_differ_in_anything_are_fitted_apart(tmp_path: Path) -> None:
    studies = [study(repeats=1, sites=1, phases=["inference"], **changes) for changes in CHANGES]
    finished_study(tmp_path, [unit for units in studies for unit in units])
    found = fit(tmp_path)
    assert found["units"].tolist() == [7] * len(CHANGES)
    assert len(set(found["curve"].tolist())) == len(CHANGES)


CHANGES: list[dict[str, Any]] = [
    {},
    {"clamp_weights": True},
    {"batch_norm": "sites"},
    {"learning_rate": 0.1},
    {"noise": MULTIPLICATIVE},
    {"noise": NoiseSpec(kind="mixed", ratio=0.1)},
    {"noise": NoiseSpec(kind="mixed", ratio=0.1, order="add_mul")},
    {"noise": NoiseSpec(kind="additive", repetitions=3)},
    {"noise": NoiseSpec(kind="additive", repetitions=3, execution="each")},
]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    units = study(repeats=2, sites=2, phases=["inference"])
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(units))
        assert fit(tmp_path)["reason"].tolist() == [NO_CLEAN] * 2
        finish(store, [unit for unit in units if unit.phase == "clean"])
        assert fit(tmp_path)["reason"].tolist() == [NO_UNIT] * 2
        finish(store, [unit for unit in units if unit.repeat == 0 and unit.site == 0])
        found = fit(tmp_path)
        assert found["reached"].tolist() == [True, False]
        assert found["missing"].tolist() == [7, 14]
        assert found["units"].tolist() == [7, 0]
        assert math.isnan(found["midpoint"][1])
        finish(store, units)
    assert fit(tmp_path)["missing"].tolist() == [0, 0]
    assert fit(tmp_path)["reason"].tolist() == ["", ""]


def test_a_curve_that_never_falls(tmp_path: Path) -> None:
    finished_study(tmp_path, study(sites=1, sigma=(0.01, 0.02, 0.03)))
    found = fit(tmp_path)
    assert found["reason"].tolist() == [NEVER_FALLS] * 2
    assert np.isnan(found["ci_low"]).all()
    assert found["clean_accuracy"].tolist() == [0.9] * 2


def test_a_study_without_noise_has_no_midpoints(tmp_path: Path) -> None:
    finished_study(tmp_path, [CLEAN])
    assert len(fit(tmp_path)) == 0
    assert plot(tmp_path, tmp_path / "out") == ([], 0)
    assert not (tmp_path / "out").exists()


# ---- pictures -------------------------------------------------------------------------------------------


def test_a_pair_of_pictures_per_network_and_noise(tmp_path: Path) -> None:
    units = (
        study()
        + study(noise=MULTIPLICATIVE)[1:]
        + study(batch_norm="sites", clamp_weights=True, phases=["training"])
    )
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(units + study(model="lenet5")))
        finish(store, units)
    paths, points_alone = plot(tmp_path, tmp_path / "new" / "folder")
    assert points_alone == 0
    assert [path.name for path in paths] == [
        "mnist-mlp-bn-none-additive-curves.png",
        "mnist-mlp-bn-none-additive-midpoints.png",
        "mnist-mlp-bn-none-multiplicative-curves.png",
        "mnist-mlp-bn-none-multiplicative-midpoints.png",
        "mnist-mlp-bn-sites-additive-weights-clamped-curves.png",
        "mnist-mlp-bn-sites-additive-weights-clamped-midpoints.png",
    ]
    assert len({path.read_bytes() for path in paths}) == 6
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_names_of_pictures_differ(tmp_path: Path) -> None:
    studies = [study(repeats=1, sites=1, phases=["inference"], **changes) for changes in CHANGES]
    finished_study(tmp_path, [unit for units in studies for unit in units])
    with Store.read(tmp_path) as store:
        curves = study_curves(store)
        names = [picture.name for picture in pictures(curves, Words(curves))]
    assert len(set(names)) == len(CHANGES)
    assert names[1] == "mnist-mlp-bn-none-additive-weights-clamped"
    assert names[2] == "mnist-mlp-bn-sites-additive"
    assert names[0].startswith("mnist-mlp-bn-none-additive-")  # another learning rate has the same name
    assert names[5:] == [
        "mnist-mlp-bn-none-mixed-ratio-0.1",
        "mnist-mlp-bn-none-mixed-ratio-0.1-add-mul",
        "mnist-mlp-bn-none-additive-executions-3",
        "mnist-mlp-bn-none-additive-executions-3-as-single-draws",
    ]


def test_a_point_alone_has_no_picture(tmp_path: Path) -> None:
    units = study(sites=2) + study(sites=2, sigma=(1e10,), noise=MULTIPLICATIVE)[1:]
    finished_study(tmp_path, units)
    found = plot(tmp_path, tmp_path / "out")
    assert found.points_alone == 1
    assert [path.name for path in found.paths] == [
        "mnist-mlp-bn-none-additive-curves.png",
        "mnist-mlp-bn-none-additive-midpoints.png",
    ]


def test_maps_and_global_noise_stand_beside_the_walk(tmp_path: Path) -> None:
    places: list[dict[str, Any]] = [
        {"site": -1, "site_name": "global", "factors": ((0, 1.0), (1, 1.0))},
        {"site": -2, "site_name": "mapped", "factors": ((0, 0.5),)},
        {"site": -2, "site_name": "mapped", "factors": ((0, 0.5), (1, 2.0))},
    ]
    units = study(repeats=1) + [
        noisy(sigma=s, phase=phase, **place)
        for place in places
        for phase in ("inference", "training")
        for s in SIGMA
    ]
    finished_study(tmp_path, units)
    with Store.read(tmp_path) as store:
        words = Words(study_curves(store))
        (picture,) = pictures(study_curves(store), words)
        found = tables_of([fitted(store, curve) for curve in picture.curves], words)
    sites = {(int(row["site"]), str(row["site_name"])) for row in found.curves}
    assert sites == {(0, "site0"), (1, "site1"), (-1, "global"), (-2, "mapped 1"), (-2, "mapped 2")}
    assert len(found.curves) == 5 * 2 * len(SIGMA)
    assert len(found.midpoints) == 10
    assert found.chance == 0.1
    axes = curves_figure(found).axes
    assert len(axes) == 2
    drawn = [line.get_gid() for line in axes[0].lines]
    assert {gid: drawn.count(gid) for gid in drawn if str(gid).startswith("site")} == {
        "site0": 1,
        "site1": 1,
        "site-1": 1,
        "site-2": 2,
    }
    (axes,) = midpoints_figure(found).axes
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["0 site0", "1 site1", "global", "mapped 1", "mapped 2"]


def test_pictures_say_what_is_special(tmp_path: Path) -> None:
    noise = NoiseSpec(kind="mixed", ratio=0.1, repetitions=3)
    units: list[Unit] = study(repeats=1, noise=noise, clamp_weights=True)
    finished_study(tmp_path, units)
    with Store.read(tmp_path) as store:
        curves = study_curves(store)
        found = tables_of([fitted(store, curve) for curve in curves], Words(curves))
    assert "mlp · weights clamped · ratio 0.1 · executions 3" in found.words
    assert found.curves["accuracy"].tolist() == [
        result(unit).correct / TOTAL for unit in units if unit.phase != "clean"
    ]
