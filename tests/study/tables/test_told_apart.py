"""Operators that differ in order, means, σ_mul, distribution or label are told apart in tables."""

import csv
import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.study.store.stores import finished_study, rows, study
from wn.study import Unit, parse_study, planned_facts, to_toml, units
from wn.study.store.file import FILE
from wn.study.store.rows import EXPLICIT, SPEC
from wn.study.store.writer import Store
from wn.study.tables.export import export
from wn.study.tables.labels import labels
from wn.study.tables.results import read_table
from wn.study.unit import NoiseSpec

MIXED = NoiseSpec(kind="mixed", ratio=0.5)
OPERATORS: list[tuple[NoiseSpec, dict[str, str]]] = [
    (MIXED, {"order": "mul_add", "mean_mul": "1.0", "mean_add": "0.0", "sigma_mul": ""}),
    (NoiseSpec(kind="mixed", ratio=0.5, order="add_mul"), {"order": "add_mul", "ratio": "0.5"}),
    (NoiseSpec(kind="mixed", ratio=0.5, mean_mul=2.0), {"mean_mul": "2.0"}),
    (NoiseSpec(kind="mixed-direct", sigma_mul=0.25), {"sigma_mul": "0.25", "ratio": ""}),
    (NoiseSpec(kind="additive", mean_add=-1.5), {"mean_add": "-1.5", "mean_mul": "", "order": ""}),
    (NoiseSpec(kind="multiplicative", mean_mul=3.0), {"mean_mul": "3.0", "mean_add": ""}),
    (NoiseSpec(kind="additive", distribution="laplace"), {"distribution": "laplace"}),
]


@pytest.mark.parametrize("table", ["results", "midpoints"])
def test_what_differs_has_a_column(tmp_path: Path, table: str) -> None:
    phases = ["inference"]
    parts = [study(repeats=1, sites=1, noise=noise, phases=phases) for noise, _ in OPERATORS]
    finished_study(tmp_path, [unit for part in parts for unit in part])
    (path,) = export(tmp_path, tmp_path, tables=[table])
    found = [row for row in csv.DictReader(io.StringIO(path.read_text("utf-8"))) if row["noise"] != "none"]
    per_operator = len(found) // len(OPERATORS)
    for index, (_, cells) in enumerate(OPERATORS):
        row = found[index * per_operator]
        assert {name: row[name] for name in cells} == cells
    names = list(found[0])
    assert names[names.index("repetitions") + 1 : names.index("phase")] == [
        "order",
        "sigma_mul",
        "mean_mul",
        "mean_add",
        "distribution",
        "label",
    ]


def test_rows_can_be_chosen_by_the_new_columns(tmp_path: Path) -> None:
    phases = ["inference"]
    parts = [study(repeats=1, sites=1, noise=noise, phases=phases) for noise, _ in OPERATORS]
    finished_study(tmp_path, [unit for part in parts for unit in part])
    found = read_table(tmp_path, ["order", "sigma_mul", "label"], order="add_mul")
    assert set(found["order"].tolist()) == {"add_mul"}
    assert len(read_table(tmp_path, sigma_mul=0.25)) == 7


def test_files_of_older_versions_have_the_columns(tmp_path: Path) -> None:
    finished_study(tmp_path, study(repeats=1, sites=1, noise=MIXED))
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        for view in ("results", "all_results"):
            db.execute(f"DROP VIEW {view}")
            db.execute(f"CREATE VIEW {view} AS SELECT key FROM units")
    assert set(read_table(tmp_path, noise="mixed")["order"].tolist()) == {"mul_add"}
    Store.create_or_open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:  # as another program sees it
        assert db.execute("SELECT DISTINCT \"order\" FROM results WHERE noise = 'mixed'").fetchall() == [
            ("mul_add",)
        ]


# ---- labels ---------------------------------------------------------------------------------------------

LABELLED = """
[data]
names = "mnist"
train_limit = 1000
[[models]]
name = "mlp"
batch_norm = ["none", "sites"]
[recipe]
epochs = 3
[[noise]]
kind = "additive"
sigma = [0.5, 1.0]
where = [0, 7]
[[noise]]
kind = "additive"
sigma = 0.7
where = "global"
label = "even"
repetitions = 3
phases = "inference"
[[noise]]
kind = "additive"
sigma = 0.7
where = "global"
label = "mine"
batch_norm = "none"
repetition_maps = [[3, 3, 3, 3, 3, 3, 3, 3], [9, 2, 2, 2, 2, 2, 2, 3]]
phases = "inference"
"""


def planned(text: str = LABELLED) -> tuple[list[Unit], dict[str, str]]:
    spec = parse_study(text)
    return list(units(spec, planned_facts(spec))), {SPEC: to_toml(spec)}


def labelled(folder: Path) -> dict[tuple[str, str, str], str]:
    """Labels by batch norm, place and repetitions."""
    with Store.read(folder) as store:
        found = labels(store)
        curves = store.rows(
            """SELECT curves.id, settings.batch_norm, curves.site_name, settings.repetitions
               FROM curves JOIN settings ON settings.id = curves.settings WHERE settings.noise != 'none'"""
        )
        return {(norm, site, executions): found.get(curve, "") for curve, norm, site, executions in curves}


def test_curves_have_the_labels_of_all_their_entries(tmp_path: Path) -> None:
    found, meta = planned()
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(found), meta)
    of = labelled(tmp_path)
    assert of["none", "global", "3"] == "even, mine"  # a map of equal numbers is uniform
    assert of["sites", "global", "3"] == "even"
    assert of["none", "global", "9 2 2 2 2 2 2 3"] == "mine"
    assert of["none", "input", "1"] == ""


def test_labels_of_allocations_are_those_of_the_explicit_study(tmp_path: Path) -> None:
    found, meta = planned()
    other = LABELLED.replace('"mine"', '"optimal"')
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(found), meta | {EXPLICIT: planned(other)[1][SPEC]})
    assert labelled(tmp_path)["none", "global", "9 2 2 2 2 2 2 3"] == "optimal"


@pytest.mark.parametrize("meta", [{}, {SPEC: "no TOML ="}, {SPEC: "novelty = 1"}])
def test_a_record_that_can_not_be_read_has_no_labels(tmp_path: Path, meta: dict[str, Any]) -> None:
    found, _ = planned()
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(found), meta)
    assert set(labelled(tmp_path).values()) == {""}
