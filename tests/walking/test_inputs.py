"""Data of the user's own in walks, trainings, evaluations, gains and predictions: values and files alike."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import wn
from tests.cli.command_line import one_line, run
from tests.walking.own import SMALL, own_data, part
from wn.basics.errors import WnError
from wn.data.dataset import Dataset, identity
from wn.data.own import save_dataset
from wn.fit.intervals import Counts, fit_repeats
from wn.walking.api import Trained
from wn.walking.results import WalkResult

DATA = own_data()


@pytest.fixture(scope="module")
def walked() -> WalkResult:
    return wn.walk(data=DATA, **SMALL)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "patterns.npz"
    save_dataset(DATA, path)
    return path


@pytest.fixture(scope="module")
def trained(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network on disk that was trained on the file."""
    settings = {name: SMALL[name] for name in ("model", "epochs", "batch_size", "lr")}
    return wn.train(data=file, **settings).save(tmp_path_factory.mktemp("net") / "net.safetensors")


def test_a_value_and_a_file_give_the_same_numbers(walked: WalkResult, file: Path) -> None:
    again = wn.walk(data=file, **SMALL)
    assert again.curves.tobytes() == walked.curves.tobytes()
    assert again.midpoints.tobytes() == walked.midpoints.tobytes()
    assert set(walked.midpoints["dataset"]) == {"patterns"}
    digests = [result.run["asked"]["data_sha256"] for result in (walked, again)]
    assert digests == [identity(DATA)] * 2


def test_its_own_recipe_is_the_default() -> None:
    quick = {name: value for name, value in SMALL.items() if name not in ("epochs", "batch_size", "lr")}
    data = own_data(epochs=2, batch_size=50, lr=0.02)
    run = wn.walk(data=data, **(quick | {"phase": "inference"})).run
    assert [run["settings"][name] for name in ("epochs", "batch_size", "learning_rate")] == [2, 50, 0.02]


def test_a_record_says_the_data_and_repeats_the_run(walked: WalkResult, file: Path) -> None:
    run = json.loads(msgspec.json.encode(walked.run))
    assert run["data"]["name"] == "patterns"
    assert run["data"]["samples"] == {"train": 300, "test": 200}
    assert (run["data"]["scale"], run["data"]["mean"], run["data"]["std"]) == (255.0, [0.0], [1.0])
    with pytest.raises(WnError, match=r"no file patterns; give a value of Python again: data=wn\.dataset"):
        wn.walk(**run["asked"])
    for again in (DATA, file):
        assert wn.walk(**(run["asked"] | {"data": again})).curves.tobytes() == walked.curves.tobytes()


def test_another_file_under_the_same_name_is_refused(walked: WalkResult, tmp_path: Path) -> None:
    path = tmp_path / "patterns.npz"
    save_dataset(own_data(mean=0.5), path)
    for other in (path, own_data(mean=0.5)):
        with pytest.raises(WnError, match=identity(DATA)[:16]):
            wn.walk(**(walked.run["asked"] | {"data": other}))


# ---- chance ---------------------------------------------------------------------------------------------


def test_midpoints_are_half_way_to_the_largest_class(walked: WalkResult) -> None:
    """In both phases, with a free floor, as docs/midpoint.md derives it."""
    shares = np.bincount(DATA.test.labels) / len(DATA.test)
    assert walked.run["chance"] == shares.max() > 1 / 3
    clean = walked.midpoints["clean_accuracy"][0]
    assert clean > shares.max() + 0.2
    for phase, place in zip(walked.midpoints["phase"], walked.midpoints, strict=True):
        rows = walked.curves[walked.curves["phase"] == phase]
        counts = Counts(rows["sigma"], rows["correct"], rows["total"])
        expected = fit_repeats([counts], clean, shares.max(), "free", own_networks=phase == "training")
        assert place["reached"]
        assert place["midpoint"] == pytest.approx(expected.midpoint, rel=1e-6)
        assert place["measured_crossing"] == pytest.approx(expected.measured_crossing, rel=1e-9)


def test_a_prediction_takes_the_same_chance(walked: WalkResult, trained: Path) -> None:
    found = wn.predict(network=trained, sigma="0.03:1000:9", where=["fc1"])
    assert found.run["chance"] == walked.run["chance"]
    accuracy, half = found.curves["accuracy"], (found.crossings["clean_accuracy"][0] + DATA.chance) / 2
    crossed = found.crossings["predicted_crossing"][0]
    before = int(np.flatnonzero(accuracy > half)[-1])
    assert found.curves["sigma"][before] <= crossed <= found.curves["sigma"][before + 1]


# ---- a network that was trained on them ------------------------------------------------------------------


def test_a_network_on_disk_finds_its_data(trained: Path, file: Path) -> None:
    for found in (wn.evaluate(network=trained), wn.evaluate(network=trained, data=DATA)):
        assert found.clean[0][1] == 200
        assert found.clean[0][0] > 150
    assert wn.gains(network=trained).run["data"]["name"] == "patterns"
    walk = wn.walk(network=trained, sigma="1:10:2", where="fc1")
    assert walk.run["asked"]["data"] == str(file)


def test_test_data_alone_are_enough_at_inference(trained: Path) -> None:
    alone = wn.dataset(x_test=DATA.test.images, y_test=DATA.test.labels, name="tests")
    assert wn.evaluate(network=trained, data=alone).clean == wn.evaluate(network=trained).clean
    with pytest.raises(WnError, match="tests has no training images"):
        wn.walk(data=alone, **SMALL)
    with pytest.raises(WnError, match="tests has no training images"):
        wn.train(data=alone, model="mlp-8")


def test_data_that_do_not_fit_the_network(trained: Path) -> None:
    x, y = part(30, 4)
    with pytest.raises(WnError, match=r"is for 3 classes of images \(1, 8, 8\): data has 3 of \(1, 7, 8\)"):
        wn.evaluate(network=trained, data=wn.dataset(x_test=x[:, :7], y_test=y))
    with pytest.raises(WnError, match=r"data has 4 of \(1, 8, 8\)"):
        wn.evaluate(network=trained, data=wn.dataset(x_test=x, y_test=y, classes=4))


def test_a_network_of_a_value_asks_for_it(tmp_path: Path) -> None:
    found: Trained = wn.train(data=own_data(epochs=1), model="mlp-8")
    path = found.save(tmp_path / "net.safetensors")
    with pytest.raises(WnError, match="was trained on data of your own, patterns: give data"):
        wn.evaluate(network=path)


# ---- refused --------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two data sets": ({"data": DATA, "dataset": "mnist"}, "are two data sets: give one of them"),
    "a folder": ({"data": DATA, "data_dir": "/tmp"}, "data_dir goes with dataset"),
    "arrays": ({"data": (DATA.test.images, DATA.test.labels)}, "data is tuple: it must be wn.dataset"),
    "arrays as a name": ({"dataset": (DATA.test.images, DATA.test.labels)}, "arrays are data=wn.dataset("),
    "no file": ({"data": "/nowhere/mine.npz"}, "/nowhere/mine.npz: no such file"),
    "a digest alone": ({"data_sha256": "00"}, "data_sha256 goes with data"),
    "a network for other images": ({"data": DATA, "model": "lenet5"}, "lenet5: layer 'conv2' does not fit"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_contradictions_are_one_line(kind: str) -> None:
    settings, words = REFUSED[kind]
    with pytest.raises(WnError) as caught:
        wn.walk(**settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_name_of_the_data_may_be_repeated() -> None:
    settings: dict[str, Any] = {"data": DATA, "dataset": "patterns", "phase": "inference", "epochs": 1}
    assert isinstance(wn.walk(**(SMALL | settings)), WalkResult)


def test_nothing_is_held_after_a_run(file: Path) -> None:
    with pytest.raises(WnError, match="no file patterns"):
        wn.train(data="patterns", data_sha256=identity(DATA), model="mlp-8")


# ---- commands -------------------------------------------------------------------------------------------


def test_commands_take_files(file: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ("--model", "mlp-8", "--epochs", "1", "--phase", "inference", "--sigma", "1:10:2", "--where", "0")
    assert run("walk", "--data", file, *flags, "--out", out).code == 0
    assert json.loads((out / "run.json").read_text())["asked"]["data_sha256"] == identity(DATA)
    found = run("evaluate", trained, "--data", file)
    assert found.code == 0
    assert "patterns" in found.out
    assert "are two data sets" in one_line(run("walk", "--data", file, "--dataset", "mnist"))
    assert "no such file" in one_line(run("train", "--data", tmp_path / "none.npz"))


def test_a_data_set_is_a_line() -> None:
    assert isinstance(DATA, Dataset)
    assert repr(DATA) == (
        "Dataset(patterns: 3 classes, chance 0.485, 300 training and 200 test samples of 1 × 8 × 8 uint8, "
        "scale 255, mean 0, std 1)"
    )
