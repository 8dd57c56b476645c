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
from tests.walking.small_walks import plan_for
from wn.fit.midpoint import NEVER_FALLS
from wn.study.store.writer import Store
from wn.study.tables.fit import NO_CLEAN, NO_UNIT, fit, fit_curve, study_curves
from wn.study.tables.plot import pictures, plot, walk_result
from wn.study.unit import NoiseSpec, Unit
from wn.walking import api
from wn.walking.measurement import CleanResult, Curve
from wn.walking.plots import curves_figure, midpoints_figure
from wn.walking.settings import WalkSettings

MULTIPLICATIVE = NoiseSpec(kind="multiplicative")


# ---- midpoints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize("repeats", [1, 3])
def test_the_midpoints_are_those_of_a_walk(tmp_path: Path, kind: str, repeats: int) -> None:
    finished_study(tmp_path, study(repeats=repeats, sites=2, noise=NoiseSpec(kind=kind)))
    found = fit(tmp_path)
    plan = plan_for(repeats=repeats, sigma=np.array(SIGMA))
    plan = plan._replace(places=plan.places[:2])
    curves = [
        Curve(
            phase,
            place,
            repeat,
            plan.sigma,
            np.array([of(phase, place.site, repeat, s) for s in SIGMA]),
            TOTAL,
        )
        for phase in plan.phases
        for place in plan.places
        for repeat in range(repeats)
    ]
    clean = [
        CleanResult(repeat, result(changed(CLEAN, repeat=repeat)).correct, TOTAL) for repeat in range(repeats)
    ]
    walked = api._fits(WalkSettings(noise=kind), plan, clean, curves)
    assert len(found) == len(walked) == 4
    for row, (phase, place, midpoint) in zip(found, walked, strict=True):
        assert (row["phase"], row["site"], row["noise"]) == (phase, place.site, kind)
        assert row["reached"] == midpoint.reached
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
    assert plot(tmp_path, tmp_path / "out") == []
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
    paths = plot(tmp_path, tmp_path / "new" / "folder")
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
        names = [picture.name for picture in pictures(study_curves(store))]
    assert len(set(names)) == len(CHANGES)
    assert names[1] == "mnist-mlp-bn-none-additive-weights-clamped"
    assert names[2] == "mnist-mlp-bn-sites-additive"
    assert names[0].startswith("mnist-mlp-bn-none-additive-")  # another learning rate has the same name
    assert names[5].startswith("mnist-mlp-bn-none-mixed-ratio-0.1-")


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
        (picture,) = pictures(study_curves(store))
        found = walk_result(store, [fit_curve(store, curve) for curve in picture.curves])
    sites = {(int(row["site"]), str(row["site_name"])) for row in found.curves}
    assert sites == {(0, "site0"), (1, "site1"), (-1, "global"), (-2, "mapped 1"), (-3, "mapped 2")}
    assert len(found.curves) == 5 * 2 * len(SIGMA)
    assert len(found.midpoints) == 10
    assert found.run["chance"] == 0.1
    axes = curves_figure(found).axes
    assert len(axes) == 2
    assert {line.get_gid() for line in axes[0].lines} >= {"site0", "site1", "site-1", "site-2", "site-3"}
    assert len(midpoints_figure(found).axes) == 1


def test_pictures_say_what_is_special(tmp_path: Path) -> None:
    noise = NoiseSpec(kind="mixed", ratio=0.1, repetitions=3)
    units: list[Unit] = study(repeats=1, noise=noise, clamp_weights=True)
    finished_study(tmp_path, units)
    with Store.read(tmp_path) as store:
        found = walk_result(store, [fit_curve(store, curve) for curve in study_curves(store)])
    assert set(found.curves["model"].tolist()) == {"mlp · weights clamped · ratio 0.1 · executions 3"}
    assert found.curves["accuracy"].tolist() == [
        result(unit).correct / TOTAL for unit in units if unit.phase != "clean"
    ]
