"""Weights and signal of a walk are those of a study of the same networks."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wn
from tests.study.runs import run
from wn.study.tables.export import export
from wn.walking.results import WalkResult

STATISTICS = ("mean_abs", "std", "norm", "at_bound", "relative_norm")
STUDY = """
repeats = 2
seed = 5
[data]
names = "fashion-mini"
train_limit = 300
test_limit = 300
[[models]]
name = "mlp-8"
[recipe]
epochs = 2
learning_rate = 1.0
clamp_weights = true
[[noise]]
kind = "additive"
sigma = [0.0, 1.0, 30.0]
where = "fc1,logits"
"""


@pytest.fixture(scope="module")
def walked() -> WalkResult:
    return wn.walk(
        dataset="fashion-mini", model="mlp-8", train_limit=300, test_limit=300, epochs=2, lr=1.0, clamp=True,
        sigma=[0.0, 1.0, 30.0], where="fc1,logits", repeats=2, seed=5, backend="numpy",
    )  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    folder = tmp_path_factory.mktemp("study")
    run(folder, STUDY)
    found = {}
    for path in export(folder, folder, tables=["results", "weights", "signal"]):
        with path.open(newline="") as file:
            found[path.stem] = list(csv.DictReader(file))
    return found


def place(unit: dict[str, str]) -> tuple[Any, ...]:
    return unit["phase"], unit["site_name"] or "clean", float(unit["sigma"]), int(unit["repeat"])


def test_weights_are_those_of_the_study(walked: WalkResult, tables: dict[str, list[dict[str, str]]]) -> None:
    units = {unit["key"]: place(unit) for unit in tables["results"]}
    expected = {
        (*units[row["key"]], row["layer"], int(row["epoch"])): [float(row[name]) for name in STATISTICS]
        for row in tables["weights"]
    }
    rows = walked.weights
    keys = zip(
        *(rows[name].tolist() for name in ("phase", "site_name", "sigma", "repeat", "layer", "epoch")),
        strict=True,
    )
    found = dict(zip(keys, np.stack([rows[name] for name in STATISTICS], axis=1).tolist(), strict=True))
    assert set(found) == {key for key in expected if key[0] != "clean"} | {
        ("clean", "clean", 0.0, repeat, layer, epoch)
        for repeat in (0, 1) for layer in ("fc1", "fc2", "fc3", "logits") for epoch in (1, 2)
    }  # fmt: skip
    assert len(found) == 2 * (1 + 2 * 3) * 4 * 2
    for key, values in found.items():
        np.testing.assert_allclose(values, expected[key], rtol=1e-6)  # the study keeps float32
    assert 0 < rows["at_bound"].max() < 1  # steps of 1 carry some weights to the bound
    assert (rows["relative_norm"][rows["phase"] == "clean"] == 1).all()


def test_signal_is_that_of_the_study(walked: WalkResult, tables: dict[str, list[dict[str, str]]]) -> None:
    units = {unit["key"]: place(unit) for unit in tables["results"]}
    expected = {(*units[row["key"]], int(row["site"])): float(row["power"]) for row in tables["signal"]}
    rows = walked.signal
    names = ("phase", "site_name", "sigma", "repeat", "at_site", "power")
    found = {row[:5]: row[5] for row in zip(*(rows[name].tolist() for name in names), strict=True)}
    assert found == expected
    assert {key[2] for key in found} == {1.0, 30.0}  # nothing is noisy at σ = 0
    assert rows["at_name"].tolist() == rows["site_name"].tolist()


def test_files_have_both(walked: WalkResult, tmp_path: Path) -> None:
    walked.save_tables(tmp_path)
    for name, table in (("weights", walked.weights), ("signal", walked.signal)):
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == list(table.dtype.names or ())
        assert len(rows) == len(table)
