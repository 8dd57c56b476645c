"""wn.walk and wn.train: repeatable to the last bit, plain arrays, and bad settings refused at once."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import wn
from tests.engine.populations import with_linear_of_numpy
from tests.walking.test_results import CURVE_HEADER, MIDPOINT_HEADER
from wn import front
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.files import checkpoint
from wn.files import outputs
from wn.walking import api, results
from wn.walking.pictures import plots
from wn.walking.settings import WalkSettings, read_walk

SMALL: dict[str, Any] = {
    "train_limit": 1000,
    "test_limit": 600,
    "epochs": 1,
    "sigma": "0.3,3,30",
    "where": [0, 7],
    "repeats": 2,
    "seed": 4,
}


@pytest.fixture(scope="module")
def walked() -> results.WalkResult:
    return wn.walk(**SMALL, threads=1)


def csv_files(result: results.WalkResult, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    for name in ("plot_curves", "plot_midpoints"):  # pictures have tests of their own
        monkeypatch.setattr(plots, name, lambda _result, path: path.write_bytes(b""))
    return {path.name: path.read_bytes() for path in result.save(folder) if path.suffix == ".csv"}


# ---- repeatable -----------------------------------------------------------------------------------------


def test_three_runs_write_the_same_bits(
    walked: results.WalkResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with other threads and batches of test images, and by the settings that run.json holds."""
    first = csv_files(walked, tmp_path / "first", monkeypatch)
    assert set(first) == {"curves.csv", "midpoints.csv", "signal.csv", "weights.csv"}
    other = wn.walk(**SMALL, threads=2, evaluation_batch=256)
    assert csv_files(other, tmp_path / "other", monkeypatch) == first
    asked = json.loads((tmp_path / "other" / "run.json").read_text())["asked"]
    assert asked["evaluation_batch"] == 256
    again = wn.walk(**(asked | {"evaluation_batch": 10_000}))
    assert csv_files(again, tmp_path / "again", monkeypatch) == first
    assert again.curves.tobytes() == walked.curves.tobytes()
    assert again.midpoints.tobytes() == walked.midpoints.tobytes()


def test_another_seed_gives_other_numbers(walked: results.WalkResult) -> None:
    other = wn.walk(**(SMALL | {"seed": 5, "repeats": 1, "phase": "inference"}))
    mine = walked.curves[(walked.curves["phase"] == "inference") & (walked.curves["repeat"] == 0)]
    assert mine["sigma"].tolist() == other.curves["sigma"].tolist()
    assert mine["correct"].tolist() != other.curves["correct"].tolist()


def test_a_record_holds_what_a_repetition_needs(walked: results.WalkResult) -> None:
    run = walked.run
    assert run["command"] == "walk"
    assert {key: run["asked"][key] for key in SMALL} == SMALL
    for table in (
        walked.curves,
        walked.midpoints,
    ):  # a table that has lost its record still says of which run
        assert set(table["seed"].tolist()) == {SMALL["seed"]}
        assert set(table["backend"].tolist()) == {run["backend"]}
    # at their defaults
    quiet = {"distribution", "network", "network_sha256", "predict", "predict_images"}
    quiet |= {"data", "data_sha256", "architecture"}
    assert set(run["asked"]) == set(WalkSettings.__struct_fields__) - quiet
    assert run["settings"]["batch_size"] == 128
    assert run["settings"]["learning_rate"] == 1e-3
    assert run["settings"]["sigma"] == [0.3, 3.0, 30.0]
    assert run["data"]["samples"] == {"train": 1000, "test": 600}
    assert len(run["data"]["sha256"]) == 64
    assert run["chance"] == 0.1
    assert run["backend"] == backends.get("auto").name
    assert run["versions"]["walking-noise"] == wn.__version__
    assert run["clean_correct"] == [[correct, 600] for correct, _ in run["clean_correct"]]
    assert json.loads(msgspec.json.encode(run)) == run


def test_a_mapped_walk_is_repeated_from_its_record() -> None:
    given = SMALL | {"where": "mapped", "factors": {0: 0.5, 7: 2.0}, "phase": "inference", "repeats": 1}
    first = wn.walk(**given)
    assert first.curves["site"].tolist() == [-2] * 3
    assert set(first.curves["site_name"]) == {"mapped"}
    asked = json.loads(msgspec.json.encode(first.run["asked"]))
    assert asked["factors"] == {"0": 0.5, "7": 2.0}
    assert wn.walk(**asked).curves.tobytes() == first.curves.tobytes()


# ---- arrays ---------------------------------------------------------------------------------------------


def test_curves_have_a_row_per_phase_site_repeat_and_sigma(walked: results.WalkResult) -> None:
    rows = walked.curves
    assert ",".join(rows.dtype.names or ()) == CURVE_HEADER
    assert rows[["phase", "site", "repeat", "sigma"]].tolist() == [
        (phase, site, repeat, sigma)
        for phase in ("inference", "training")
        for site in (0, 7)
        for repeat in (0, 1)
        for sigma in (0.3, 3.0, 30.0)
    ]
    assert rows[["dataset", "model", "batch_norm", "noise"]][0].tolist() == (
        "fashion-mini",
        "mlp",
        "none",
        "additive",
    )
    assert {(site, str(name)) for site, name in rows[["site", "site_name"]].tolist()} == {
        (0, "input"),
        (7, "logits"),
    }
    assert set(rows["total"]) == {600}
    assert ((rows["correct"] >= 0) & (rows["correct"] <= 600)).all()
    assert rows["accuracy"].tolist() == (rows["correct"] / rows["total"]).tolist()


def test_midpoints_have_a_row_per_phase_and_site(walked: results.WalkResult) -> None:
    rows = walked.midpoints
    assert ",".join(rows.dtype.names or ()) == MIDPOINT_HEADER
    assert rows[["phase", "site"]].tolist() == [
        (phase, site) for phase in ("inference", "training") for site in (0, 7)
    ]
    assert len(walked.reasons) == len(rows)
    assert rows["reached"].any()
    for row, reason in zip(rows, walked.reasons, strict=True):
        assert bool(row["reached"]) == (reason == "")
        assert math.isfinite(row["midpoint"]) == bool(row["reached"])
        if row["reached"]:
            assert 0 <= row["ci_low"] <= row["midpoint"] <= row["ci_high"]
            assert 0.3 <= row["midpoint"] <= 30
    correct = [correct for correct, _ in walked.run["clean_correct"]]
    assert rows["clean_accuracy"].tolist() == [sum(correct) / 1200] * 4


def test_progress_grows_to_the_number_of_network_epochs() -> None:
    told: list[tuple[int, int]] = []
    wn.walk(**(SMALL | {"repeats": 1, "epochs": 2}), threads=2, progress=lambda *state: told.append(state))
    total = 2 * (1 + 2 * 3)  # a clean network, and one per site and σ
    assert [all_ for _, all_ in told] == [total] * len(told)
    finished = [done for done, _ in told]
    assert finished == sorted(set(finished))
    assert finished[-1] == total


# ---- single networks ------------------------------------------------------------------------------------

SINGLE = {key: SMALL[key] for key in ("train_limit", "test_limit", "epochs", "seed")}


def test_a_single_training_is_the_first_repeat_of_a_walk(walked: results.WalkResult, tmp_path: Path) -> None:
    clean = wn.train(**SINGLE)
    assert clean.total == 600
    assert clean.correct == {"clean": walked.run["clean_correct"][0][0]}
    noisy = wn.train(**SINGLE, noise="additive", where=[7], sigma=3)
    rows = walked.curves[(walked.curves["phase"] == "training") & (walked.curves["site"] == 7)]
    assert noisy.correct["noisy"] == rows[(rows["sigma"] == 3) & (rows["repeat"] == 0)]["correct"][0]
    assert noisy.correct["clean"] >= noisy.correct["noisy"]
    assert noisy.record["asked"]["sigma"] == 3
    again = wn.train(**noisy.record["asked"])
    assert again.correct == noisy.correct
    path = tmp_path / "new" / "network.safetensors"
    noisy.save(path)
    loaded = checkpoint.load(path)
    assert loaded.record["asked"]["noise"] == "additive"
    assert loaded.population.params[1].w.tobytes() == noisy.population.params[1].w.tobytes()


@pytest.mark.parametrize("run", [wn.train, wn.walk])
def test_a_network_that_does_not_fit_into_memory(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: Any) -> Any:
        raise MemoryError

    with_linear_of_numpy(monkeypatch, refusing)
    with pytest.raises(WnError, match="a single network does not fit into memory: use a smaller batch"):
        run(backend="numpy", model="mlp-8", train_limit=64, test_limit=32, epochs=1)


def test_a_single_training_tells_its_epochs() -> None:
    told: list[tuple[int, int]] = []
    wn.train(**(SINGLE | {"epochs": 2, "train_limit": 200}), progress=lambda *state: told.append(state))
    assert told == [(1, 2), (2, 2)]


# ---- folders, threads, the package ----------------------------------------------------------------------


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    record = {"asked": msgspec.to_builtins(WalkSettings(sigma="0.1:1:3", where="mapped", factors={1: 2.0}))}
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(record))
    same: dict[str, Any] = {"sigma": "0.1:1:3", "where": "mapped", "factors": {1: 2.0}}
    api.check_out_folder(tmp_path, read_walk(same), overwrite=False)
    again = same | {"threads": 3, "evaluation_batch": 7}
    api.check_out_folder(tmp_path, read_walk(again), overwrite=False)
    for other in (same | {"seed": 1}, same | {"factors": {1: 1.0}}, {}):
        with pytest.raises(WnError, match="holds the results of another run"):
            api.check_out_folder(tmp_path, read_walk(other), overwrite=False)
        api.check_out_folder(tmp_path, read_walk(other), overwrite=True)


@pytest.mark.parametrize("name", results.FILES)
def test_a_folder_with_files_of_unknown_origin_is_refused(tmp_path: Path, name: str) -> None:
    api.check_out_folder(tmp_path, WalkSettings(), overwrite=False)
    (tmp_path / name).write_text("mine")
    with pytest.raises(WnError, match="holds the results of another run"):
        api.check_out_folder(tmp_path, WalkSettings(), overwrite=False)
    api.check_out_folder(tmp_path, WalkSettings(), overwrite=True)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"asked": 3}', b'{"asked": {"old": 1}}', b"\xff"]
)
def test_a_record_that_tells_nothing_counts_as_another_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(WnError, match="another run"):
        api.check_out_folder(tmp_path, WalkSettings(), overwrite=False)
    api.check_out_folder(tmp_path, WalkSettings(), overwrite=True)


def test_places_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper" / "out"):
        with pytest.raises(WnError, match="file is a file, not a folder"):
            api.check_out_folder(folder, WalkSettings(), overwrite=True)
    with pytest.raises(WnError, match="is a folder: --out must name a file"):
        outputs.check_file(tmp_path, overwrite=True)
    with pytest.raises(WnError, match="exists: choose another --out, or --overwrite"):
        outputs.check_file(tmp_path / "file", overwrite=False)
    outputs.check_file(tmp_path / "file", overwrite=True)
    outputs.check_file(tmp_path / "new" / "file", overwrite=False)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WnError, match="is not writable"):
        api.check_out_folder(tmp_path / "out", WalkSettings(), overwrite=False)


def test_the_package_imports_its_names_when_they_are_used() -> None:
    assert (wn.walk, wn.train) == (front.walk, front.train)
    assert wn.WnError is WnError
    for name in ("run", "numpy"):
        with pytest.raises(AttributeError, match=f"'wn' has no attribute '{name}'"):
            getattr(wn, name)
    code = "import sys, wn, wn.cli.main; print({'numpy', 'scipy', 'matplotlib'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert found.stdout.strip() == "set()"


def test_a_walk_under_other_draws_says_so_and_is_another_walk() -> None:
    """The record of a walk under normal draws does not name them, as before there were others."""
    given = SMALL | {"phase": "inference", "sigma": "1.0,3.0", "where": "0", "test_limit": 200}
    walks = {name: wn.walk(**given, distribution=name) for name in ("normal", "uniform", "laplace")}
    for name, found in walks.items():
        for part in ("asked", "settings"):
            assert found.run[part].get("distribution", "normal") == name
    assert "distribution" not in walks["normal"].run["asked"]
    counts = {name: found.curves["correct"].tolist() for name, found in walks.items()}
    assert len(set(map(tuple, counts.values()))) == 3
    again = wn.walk(**walks["laplace"].run["asked"])
    assert again.curves.tolist() == walks["laplace"].curves.tolist()
    trained = wn.train(
        model="mlp-8", train_limit=128, epochs=1, noise="additive", sigma=0.5, distribution="laplace"
    )
    assert trained.record["asked"]["distribution"] == "laplace"
