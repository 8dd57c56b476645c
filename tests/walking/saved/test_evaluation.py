"""Networks on disk, evaluated under noise at one place."""

import csv
from pathlib import Path
from typing import Any

import pytest

import wn
from tests.cli.command_line import one_line
from tests.cli.command_line import run as command
from tests.walking.saved.networks import GRID, HERE, TRAINED, made, trained
from wn.analysis.intervals import wilson
from wn.basics.errors import WnError

ON_MINI = {"data": {"name": "fashion-mini"}}


def evaluated(path: Path, **settings: Any) -> Any:
    return wn.evaluate(network=path, **(GRID | HERE | settings))


# ---- the numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["global", "0", "relu2", "1:0.5,fc2:2"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_counts_are_those_of_a_walk(tmp_path: Path, where: str, backend: str) -> None:
    path = trained(tmp_path, seed=2)
    found = evaluated(path, where=where, repeats=2, backend=backend)
    walk = wn.walk(network=path, **(GRID | HERE | {"where": where, "repeats": 2, "backend": backend}))
    ordinary = wn.walk(
        **(GRID | HERE | TRAINED | {"where": where, "phase": "inference", "seed": 2, "backend": "numpy"})
    )
    names = list(walk.curves.dtype.names)
    assert found.curves[names].tolist() == walk.curves.tolist()
    assert found.clean == tuple(map(tuple, walk.run["clean_correct"]))
    if backend == "numpy":
        assert found.curves["correct"][:3].tolist() == ordinary.curves["correct"].tolist()


def test_several_sites_are_noisy_at_once_as_in_a_training(tmp_path: Path) -> None:
    noise = {"noise": "additive", "sigma": 0.7, "where": [0, "relu1"], "repetitions": [2, 1]}
    network = wn.train(**(TRAINED | HERE | noise))
    path = network.save(tmp_path / "noisy.safetensors")
    (row,) = evaluated(path, **noise).curves
    assert row["correct"] == network.correct["noisy"]
    assert (row["site"], row["site_name"]) == (-2, "mapped")
    assert row["sites"] == "0 input, 2 relu1"
    assert evaluated(path, noise="none", sigma=None).curves["correct"].tolist() == [network.correct["clean"]]


@pytest.mark.parametrize(
    ("where", "sites"),
    [
        ("0,fc1", "0 input, 1 fc1"),
        ([3, 0], "3 fc2, 0 input"),
        ("logits:1,0:0.5,1:0.25", "7 logits, 0 input × 0.5, 1 fc1 × 0.25"),
        ("relu2", "4 relu2"),
        ("global", "global"),
        (list(range(8)), "0 input, 1 fc1, 2 relu1, 3 fc2, 4 relu2, 5 fc3, 6 relu3, 7 logits"),
    ],
)
def test_noisy_sites_are_named(tmp_path: Path, where: Any, sites: str) -> None:
    """In every row of the table, also in those without a result, and in what is printed."""
    found = evaluated(made(tmp_path, ON_MINI), where=where, sigma="1.0,3e38")
    out = found.save(tmp_path / "out.csv")
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["sites"] for row in rows] == [sites] * 2
    assert len(found.failures) == 1
    written = where if isinstance(where, str) else ",".join(map(str, where))
    words = ("--noise", "additive", "--where", written, "--sigma", "1.0,3e38", "--test-limit", "300")
    _, printed, told = command("evaluate", made(tmp_path, ON_MINI), *words)
    assert f"additive noise: {sites}" in " ".join(printed.split())
    assert f"inference, {sites}, repeat 0, σ 3e+38" in " ".join(told.split())


def test_a_row_has_its_interval(tmp_path: Path) -> None:
    rows = evaluated(trained(tmp_path), where="0").curves
    for row in rows:
        found = wilson(int(row["correct"]), int(row["total"]))
        assert (row["accuracy"], row["ci_low"], row["ci_high"]) == found
        assert found.low < found.mean < found.high


# ---- records and files ------------------------------------------------------------------------------------


def test_the_record_repeats_it(tmp_path: Path) -> None:
    found = evaluated(trained(tmp_path), where="1:0.5,fc2:2")
    assert found.run["command"] == "evaluate"
    assert len(found.run["network"]["sha256"]) == 64
    assert "epochs" not in found.run["settings"]
    again = wn.evaluate(**found.run["asked"])
    assert again.curves.tolist() == found.curves.tolist()


def test_the_file_has_the_rows_and_is_not_replaced(tmp_path: Path) -> None:
    found = evaluated(trained(tmp_path), where="0", sigma="1.0,3e38")
    path = found.save(tmp_path / "new" / "table.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sigma"] for row in rows] == ["1.0", "3e+38"]
    assert float(rows[0]["ci_low"]) == found.curves["ci_low"][0]
    assert (rows[1]["correct"], rows[1]["ci_low"]) == ("", "")
    assert "range of float32" in rows[1]["failure"]
    with pytest.raises(WnError, match="exists: choose another --out, or --overwrite"):
        found.save(path)
    assert found.save(path, overwrite=True) == path


# ---- the command ------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes_a_table(tmp_path: Path) -> None:
    path, out = trained(tmp_path), tmp_path / "out.csv"
    words = ("--noise", "additive", "--where", "0", "--sigma", "0.1,1", "--test-limit", "300")
    code, printed, _ = command("evaluate", path, *words, "--backend", "numpy", "-o", out)
    rows = evaluated(path, where="0", sigma="0.1,1").curves
    assert code == 0
    for row in rows:
        assert f"{row['correct']} " in printed
        assert f"{row['accuracy']:.4f} [{row['ci_low']:.4f}, {row['ci_high']:.4f}]" in printed
    assert f"Wrote {out}" in printed
    assert len(out.read_text().splitlines()) == 3
    again = command("evaluate", path, *words, "-o", out)
    assert one_line(again) == f"wn: {out} exists: choose another --out, or --overwrite\n"


def test_points_without_a_result_are_exit_code_1(tmp_path: Path) -> None:
    words = ("--noise", "additive", "--where", "0", "--sigma", "1.0,3e38", "--test-limit", "300")
    code, printed, told = command("evaluate", trained(tmp_path), *words)
    assert code == 1
    assert "1 of 2 points have no result" in told
    assert "Wrote" not in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sigma", "1"], "sigma goes with noise, and noise is none"),
        (["--noise", "additive"], "additive noise needs a sigma"),
        (["--noise", "additive", "--sigma", "1", "--where", "each"], "'each' is for walks"),
        (["--noise", "additive", "--sigma", "1", "-R", "1,2"], "allowed are one for all sites, or 8"),
        (["--noise", "additive", "--sigma", "1", "--repeats", "0"], "repeats is 0"),
        (["--dataset", "cifar10"], "cifar10 has 10 of (3, 32, 32)"),
        (["--noise", "additive", "--sigma", "1e39"], "float32 ends at"),
        (["--noise", "additive", "--sigma", "0.1:1:10000", "--repeats", "101"], "at most 1,000,000"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    outcome = command("evaluate", made(tmp_path, ON_MINI), *words)
    assert outcome.code == 2
    assert message in one_line(outcome)
