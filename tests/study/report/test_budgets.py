"""Accuracy against budget: schemes, labels of shared maps, and differences to uniform paired by repeat."""

from pathlib import Path

import pytest

from tests.study.store.stores import TOTAL, finish, rows
from wn.analysis.intervals import student
from wn.study import Unit, parse_study, planned_facts, to_toml, units
from wn.study.report.budgets import budget_section
from wn.study.report.found import found_in
from wn.study.report.published import published_section
from wn.study.report.whole import report
from wn.study.store.rows import SPEC, Result
from wn.study.store.writer import Store
from wn.walking.report.page import Picture, Section, Table

MAPS = """
repeats = 4
phases = "inference"
[data]
names = "mnist"
[[models]]
name = "mlp"
[[noise]]
kind = "additive"
sigma = 0.47
where = "global"
label = "uniform"
repetitions = [2, 3]
[[noise]]
kind = "additive"
sigma = 0.47
where = "global"
label = "tailored"
repetition_maps = [[5, 2, 2, 1, 2, 1, 2, 1], [10, 2, 2, 2, 2, 2, 2, 2]]
[[noise]]
kind = "additive"
sigma = 0.47
where = "global"
label = "other"
repetition_maps = [[5, 2, 2, 1, 2, 1, 2, 1]]
"""


def correct(unit: Unit) -> int:
    """More for the tailored maps, by another number in each repeat, and with scatter that repeats share."""
    shared = 500 + 100 * (unit.repeat % 2)
    maps = unit.noise is not None and isinstance(unit.noise.repetitions, tuple)
    return shared + (10 + unit.repeat if maps else 0)


def found(unit: Unit) -> Result:
    return Result(unit.key, correct(unit), TOTAL, 0.1)


def made(folder: Path, text: str, only: slice = slice(None)) -> None:
    spec = parse_study(text)
    every = list(units(spec, planned_facts(spec)))
    with Store.create_or_open(folder) as store:
        store.add_units(rows(every), {SPEC: to_toml(spec)})
        finish(store, every[only], found=found)


def budget_of(folder: Path) -> tuple[Section | None, set[int]]:
    with Store.read(folder) as store:
        return budget_section(found_in(store))


def test_differences_are_paired_by_repeat(tmp_path: Path) -> None:
    made(tmp_path, MAPS)
    section, told = budget_of(tmp_path)
    assert section is not None
    assert len(told) == 4
    *pictures, table = section.parts
    assert [type(part) for part in pictures] == [Picture, Picture]
    assert isinstance(table, Table)
    by_schemes = {(row[3], row[2]): row[1:] for row in table.rows}
    assert {row[0] for row in table.rows} == {0.47}
    assert set(by_schemes) == {("uniform", 16), ("uniform", 24), ("tailored, other", 16), ("tailored", 24)}
    assert by_schemes["uniform", 16][4] is None
    mean, low, high = student([1.0, 1.1, 1.2, 1.3])  # points: what they share is gone
    text = f"{mean:+.2f} [{low:+.2f},\u00a0{high:+.2f}]"
    assert by_schemes["tailored, other", 16][4] == text
    assert by_schemes["tailored", 24][4:6] == [text, 4]
    assert by_schemes["tailored", 24][6] == "10 2 2 2 2 2 2 2"
    assert [row[1] for row in table.rows] == [2, 2, 3, 3]


def test_maps_are_told_once(tmp_path: Path) -> None:
    made(tmp_path, MAPS)
    html = report(tmp_path)
    assert "Accuracy against budget" in html
    assert "Accuracy at one σ" not in html


def test_maps_are_compared_at_each_sigma_of_their_curves(tmp_path: Path) -> None:
    """Uniform repetitions as a curve in σ, tailored ones at two of its σ and one more."""
    uniform, tailored = MAPS.split("[[noise]]")[1:3]
    uniform = uniform.replace("sigma = 0.47", "sigma = [0.2, 0.47, 1.0]")
    tailored = tailored.replace("sigma = 0.47", "sigma = [0.2, 0.47, 2.0]")
    made(tmp_path, "[[noise]]".join([MAPS.split("[[noise]]")[0], uniform, tailored]))
    section, told = budget_of(tmp_path)
    assert section is not None
    assert told == set()
    *_, table = section.parts
    assert isinstance(table, Table)
    mean, low, high = student([1.0, 1.1, 1.2, 1.3])
    text = f"{mean:+.2f} [{low:+.2f},\u00a0{high:+.2f}]"
    assert [(row[0], row[2], row[3], row[5]) for row in table.rows] == [
        (sigma, budget, scheme, text if scheme == "tailored" and sigma < 2 else None)
        for sigma in (0.2, 0.47, 1.0, 2.0) for budget in (16, 24) for scheme in ("uniform", "tailored")
        if (sigma, scheme) not in ((1.0, "tailored"), (2.0, "uniform"))
    ]  # fmt: skip


def test_executions_as_single_draws_are_compared_among_themselves(tmp_path: Path) -> None:
    head, *entries = MAPS.split("[[noise]]")
    drawn = [entry + 'execution = "each"\n' for entry in entries[:1]]
    made(tmp_path, "[[noise]]".join([head, *drawn, *entries]))
    section, _ = budget_of(tmp_path)
    assert section is not None
    tables = {part.caption: part for part in section.parts if isinstance(part, Table)}
    assert [len(table.rows) for table in tables.values()] == [2, 4]
    assert next(iter(tables)).endswith("executions as single draws")


def test_labels_of_other_places_are_no_schemes(tmp_path: Path) -> None:
    """The same operator at single sites, under another label."""
    head, *entries = MAPS.split("[[noise]]")
    entries[2] = entries[0].replace('"uniform"', '"elsewhere"').replace('"global"', "[0]")
    made(tmp_path, "[[noise]]".join([head, *entries]))
    section, _ = budget_of(tmp_path)
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, Table))
    assert {row[3] for row in table.rows} == {"uniform", "tailored"}


def test_part_of_the_repeats_is_compared_where_both_are(tmp_path: Path) -> None:
    """Repeat by repeat: the first two, and uniform of the third."""
    spec = parse_study(MAPS)
    per_repeat = len(list(units(spec, planned_facts(spec)))) // 4
    made(tmp_path, MAPS, slice(2 * per_repeat + 3))
    section, _ = budget_of(tmp_path)
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, Table))
    by_schemes = {(row[3], row[2]): row[1:] for row in table.rows}
    assert by_schemes["uniform", 16][5] == 3
    mean, low, high = student([1.0, 1.1])
    assert by_schemes["tailored", 24][4] == f"{mean:+.2f} [{low:+.2f},\u00a0{high:+.2f}]"


@pytest.mark.parametrize("where", ['"each"', '"0"'])
def test_other_noise_is_no_budget(tmp_path: Path, where: str) -> None:
    text = MAPS.split("[[noise]]")[:2]
    made(tmp_path, "[[noise]]".join(text).replace('"global"', where))
    assert budget_of(tmp_path) == (None, set())


def test_networks_trained_under_noise_are_told_beside_budgets(tmp_path: Path) -> None:
    made(tmp_path, MAPS.replace('phases = "inference"', ""))
    section, told = budget_of(tmp_path)
    assert section is not None
    assert told == set()
    html = report(tmp_path)
    assert "Accuracy against budget" in html
    assert "Accuracy at one σ" in html


def test_one_map_is_no_comparison(tmp_path: Path) -> None:
    text = "[[noise]]".join(MAPS.split("[[noise]]")[:2]).replace("[2, 3]", "3")
    made(tmp_path, text)
    assert budget_of(tmp_path)[0] is None


# ---- published figures ------------------------------------------------------------------------------------

WALK = """
[data]
names = "mnist"
[[models]]
name = "mlp"
[[noise]]
kind = "additive"
sigma = "0.1:100:5"
phases = "inference"
"""


@pytest.mark.parametrize(
    ("change", "is_there"),
    [
        (("", ""), True),
        (('"mnist"', '"fashion-mnist"'), False),
        (('"mlp"', '"mlp-8"'), False),
        (('"additive"', '"multiplicative"'), False),
        (('"inference"', '"training"'), False),
        (('phases = "inference"', "clamp_weights = true"), False),
        (('phases = "inference"', "mean = 0.5"), False),
        (('phases = "inference"', "repetitions = 2"), False),
        (('phases = "inference"', 'distribution = "laplace"'), False),
    ],
)
def test_published_figures_stand_beside_the_same_network_and_noise(
    tmp_path: Path, change: tuple[str, str], is_there: bool
) -> None:
    made(tmp_path, WALK.replace(*change))
    with Store.read(tmp_path) as store:
        section = published_section(found_in(store))
    assert (section is not None) == is_there
    if section is not None:
        (table,) = (part for part in section.parts if isinstance(part, Table))
        assert [row[1] for row in table.rows] == [
            "input",
            "fc1",
            "relu1",
            "fc2",
            "relu2",
            "fc3",
            "relu3",
            "logits",
        ]
        assert {row[6] for row in table.rows} == {100}
        assert {row[7] for row in table.rows} == {"all / all"}
