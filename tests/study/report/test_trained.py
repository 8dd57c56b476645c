"""Weights and activations of networks trained under noise, those of a matrix among them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.study.store.stores import CLEAN, changed, finished_study, noisy, result, statistics, study
from wn.analysis.binarisation import Binarisation
from wn.study.report.binary import MOST_LEVELS, binarisation_section
from wn.study.report.found import Found, found_in
from wn.study.report.growth import growth_sections
from wn.study.store.rows import PlaceBinarisation, Result, WeightStatistics
from wn.study.store.writer import Store
from wn.study.unit import Unit
from wn.walking.report.page import Picture, Section, Table

SIGMA = (0.1, 1.0, 10.0, 100.0)


def own_sigma(unit: Unit) -> float:
    return unit.sigma_train if unit.phase == "matrix" else unit.sigma  # type: ignore[return-value]  # both are there


def observed(unit: Unit, stands_at: Sequence[float] = ()) -> Result:
    """The result of a unit; statistics of a matrix's network are at its own σ, or as `stands_at` says."""
    alike = changed(unit, phase="training") if unit.phase == "matrix" else unit
    found = msgspec.structs.replace(result(alike), key=unit.key)
    own = own_sigma(unit)
    if unit.phase == "inference" or (unit.phase == "matrix" and unit.sigma not in (stands_at or (own,))):
        return msgspec.structs.replace(found, weights=None, binarisation=())
    trained = changed(unit, sigma=own, phase="training")
    share = 0.5 if unit.phase == "clean" else own / (1 + own) + 0.01 * unit.repeat
    sites = ["site0", "site1"] if unit.phase == "clean" else [unit.site_name]
    at_sites = [PlaceBinarisation(site, Binarisation(share, 1.0, 0.3, 0.4), 0.5, 0.6) for site in sites]
    weights = PlaceBinarisation("fc1.weight", Binarisation(0.0, float("nan"), share / 2, 0.33))
    return msgspec.structs.replace(
        found,
        weights=WeightStatistics(("fc1", "logits"), statistics(trained)),
        binarisation=(*at_sites, weights),
    )


def matrix(sigma_train: Sequence[float], sigma: Sequence[float], repeats: int = 2) -> list[Unit]:
    return [
        noisy(0, s, phase="matrix", sigma_train=trained, repeat=repeat)
        for repeat in range(repeats) for trained in sigma_train for s in sigma
    ]  # fmt: skip


def sections(
    folder: Path, units: list[Unit], found: Callable[[Unit], Result] = observed
) -> tuple[list[Section], Section | None]:
    finished_study(folder, units, found)
    with Store.read(folder) as store:
        read: Found = found_in(store)
        return list(growth_sections(read)), binarisation_section(read)


def tables(section: Section | None) -> list[Table]:
    assert section is not None
    return [part for part in section.parts if isinstance(part, Table)]


def pictures(section: Section | None) -> int:
    assert section is not None
    return sum(isinstance(part, Picture) for part in section.parts)


def clean(repeats: int = 2) -> list[Unit]:
    return [changed(CLEAN, repeat=repeat) for repeat in range(repeats)]


def test_a_matrix_has_growth_and_binarisation_by_its_sigma_of_training(tmp_path: Path) -> None:
    growth, binary = sections(tmp_path, [*clean(), *matrix(SIGMA, (0.0, *SIGMA))])
    assert [section.title for section in growth] == ["Growth of weights", "Weights at ±1"]
    (table,) = tables(growth[0])
    place, sigma, accuracy, *norms = table.rows[0]
    assert (place, sigma) == ("0 site0", 100.0)
    assert accuracy == pytest.approx(0.1, abs=0.01)
    assert norms == pytest.approx([101, 101], rel=1e-5)
    activations, spread, bimodality = tables(binary)
    assert [row[:2] for row in activations.rows] == [["0 site0", sigma] for sigma in (0.0, *SIGMA)]
    assert [row[3] for row in activations.rows] == pytest.approx([0.5, *(s / (1 + s) + 0.005 for s in SIGMA)])
    assert all(isinstance(row[2], float) for row in activations.rows)
    assert [row[1] for row in spread.rows] == [0.0, 100.0]
    assert [row[3] for row in spread.rows] == pytest.approx([0.25, (100 / 101 + 0.005) / 2])
    assert bimodality.rows[0][3] == 0.33
    assert (pictures(growth[0]), pictures(binary)) == (1, 3)


def test_networks_of_both_phases_count_once(tmp_path: Path) -> None:
    """The matrix has only the first repeat, whose numbers would otherwise weigh twice."""
    training = study(sites=1, sigma=SIGMA, phases=["training"])
    both = sections(tmp_path / "both", [*training, *matrix(SIGMA, SIGMA, repeats=1)])
    alone = sections(tmp_path / "alone", training)
    assert [tables(section) for section in both[0]] == [tables(section) for section in alone[0]]
    assert tables(both[1]) == tables(alone[1])


def test_without_a_diagonal_there_is_no_accuracy(tmp_path: Path) -> None:
    units = [*clean(), *matrix((1.0, 10.0), (0.5, 20.0))]
    growth, binary = sections(tmp_path, units, lambda unit: observed(unit, stands_at=(0.5,)))
    (row,) = tables(growth[0])[0].rows
    assert row[:3] == ["0 site0", 10.0, None]
    activations = tables(binary)[0]
    assert [row[2] is None for row in activations.rows] == [False, True, True]
    assert binary is not None
    assert "first σ" in binary.text[1]


def test_one_sigma_is_shown_by_place(tmp_path: Path) -> None:
    _, binary = sections(tmp_path, study(sigma=(1e10,), phases=["training"]))
    activations, spread, _ = tables(binary)
    assert [row[:2] for row in activations.rows] == [
        [place, sigma] for place in ("0 site0", "1 site1") for sigma in (0.0, 1e10)
    ]
    assert [row[:2] for row in spread.rows] == [row[:2] for row in activations.rows]
    assert binary is not None
    assert len(binary.text) == 1
    (picture,) = (part for part in binary.parts if isinstance(part, Picture))
    titles = [axes.get_title() for axes in picture.figure.axes if axes.get_visible()]
    assert titles[:2] == ["accuracy", "share of zeros"]


def test_a_table_has_some_of_many_sigma(tmp_path: Path) -> None:
    many = tuple(float(s) for s in range(1, 20))
    _, binary = sections(tmp_path, study(repeats=1, sites=1, sigma=many, phases=["training"]))
    activations = tables(binary)[0]
    shown: list[Any] = [row[1] for row in activations.rows]
    assert len(shown) == 1 + MOST_LEVELS
    assert (shown[0], shown[1], shown[-1]) == (0.0, 1.0, 19.0)
    assert "some σ of training" in activations.caption
