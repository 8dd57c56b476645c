"""Studies of networks that are trained already: nothing is trained, and keys have the file's digest."""

from pathlib import Path

import numpy as np
import pytest

import wn
from tests.study.runs import Immediate
from tests.walking.own import own_data
from wn import layers
from wn.basics.errors import WnError
from wn.data.own import save_dataset
from wn.study import StudySpec, parse_study, planned_facts, read_study, units
from wn.study.declare.spec import narrowed, to_toml
from wn.study.execution.run import run_study
from wn.study.tables.fit import fit
from wn.study.units import count

TEXT = """
network = "net.safetensors"
data = "tests.npz"
phases = "inference"
repeats = 2
[[noise]]
kind = "additive"
sigma = "0.1:100:6"
where = ["conv1", "block1.add"]
"""
DATA = own_data()
NET = wn.network(
    (1, 8, 8),
    [
        layers.Convolution(6, 3, padding=1),
        layers.BatchNorm(),
        layers.Relu(),
        layers.Residual([layers.Convolution(6, 3, padding=1)]),
        layers.Flatten(),
        layers.Linear(3),
    ],
    name="mine",
)


def train(path: Path, epochs: int = 3, dtype: str = "float32") -> None:
    trained = wn.train(network=NET, data=DATA, epochs=epochs, batch_size=16, lr=0.01, dtype=dtype)
    trained.save(path, overwrite=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    train(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, trained: Path) -> Path:
    alone = wn.dataset(x_test=DATA.test.images, y_test=DATA.test.labels, name="tests")
    save_dataset(alone, tmp_path / "tests.npz")
    (tmp_path / "net.safetensors").write_bytes(trained.read_bytes())
    (tmp_path / "study.toml").write_text(TEXT)
    return tmp_path


def read(folder: Path) -> StudySpec:
    return read_study(folder / "study.toml")


def keys(spec: StudySpec) -> set[str]:
    return {unit.key for unit in units(spec, planned_facts(spec))}


def test_a_study_gives_the_counts_of_a_walk_and_trains_nothing(folder: Path) -> None:
    out, executor = folder / "out", Immediate()
    progress = run_study(read(folder), out, executor.workers, backend="numpy")
    assert (progress.failed, progress.finished) == (0, 2 * (1 + 2 * 6))
    walked = wn.walk(
        network=folder / "net.safetensors",
        data=folder / "tests.npz",
        sigma="0.1:100:6",
        where=["conv1", "block1.add"],
        repeats=2,
        backend="numpy",
        threads=1,
    )
    for name in ("net.safetensors", "tests.npz"):
        (folder / name).unlink()  # results are read without
    fits = np.sort(fit(out), order="site")
    for row, mine in zip(fits, walked.midpoints, strict=True):
        assert (row["site_name"], row["model"]) == (mine["site_name"], "mine")
        np.testing.assert_allclose(row["midpoint"], mine["midpoint"], rtol=1e-6)
        assert row["clean_accuracy"] == mine["clean_accuracy"]
    paths = {path for task in executor.tasks for path in (task.files or {}).values()}
    assert paths == {str(folder / "net.safetensors"), str(folder / "tests.npz")}


def test_the_plan_has_no_epochs(folder: Path) -> None:
    spec = read(folder)
    (counted,) = count(spec, planned_facts(spec))
    assert (counted.model, counted.network_epochs, counted.units) == ("mine", 0, 26)


def test_what_is_written_needs_no_file(folder: Path) -> None:
    spec = read(folder)
    text = to_toml(spec)
    (folder / "net.safetensors").unlink()
    again = parse_study(text)
    assert again == spec
    assert keys(again) == keys(spec)
    assert narrowed(spec, model="mine").models == spec.models
    with pytest.raises(WnError, match=r"models\[0\]\.network: .*net\.safetensors"):
        read(folder)


def test_units_are_those_of_the_weights(folder: Path) -> None:
    """Not of the place of the file, nor of settings of a training."""
    first = keys(read(folder))
    moved = folder / "elsewhere"
    moved.mkdir()
    for name in ("net.safetensors", "tests.npz", "study.toml"):
        (folder / name).rename(moved / name)
    text = (moved / "study.toml").read_text() + "\n[recipe]\nepochs = 7\n"
    assert keys(parse_study(text, folder=moved)) == first
    train(moved / "net.safetensors", epochs=1)
    assert not keys(read(moved)) & first


def test_a_changed_file_is_refused_by_workers(folder: Path) -> None:
    spec = read(folder)
    train(folder / "net.safetensors", epochs=1)
    progress = run_study(spec, folder / "out", Immediate().workers, backend="numpy")
    assert progress.finished == 0
    assert progress.failed > 0


def test_the_type_is_that_of_the_file(folder: Path) -> None:
    train(folder / "net.safetensors", epochs=1, dtype="float64")
    spec = read(folder)
    assert {unit.dtype for unit in units(spec, planned_facts(spec))} == {"float64"}


BAD = {
    "training": (('phases = "inference"\n', ""), r"noise\[0\]: mine is trained already: phases must be"),
    "clamping": (("[[noise]]", "[recipe]\nclamp_weights = true\n[[noise]]"), "clamp_weights must be false"),
    "no file": (("net.safetensors", "none.safetensors"), r"models\[0\]\.network: .*none\.safetensors"),
    "no network": (("net.safetensors", "tests.npz"), r"models\[0\]\.network: .*tests\.npz"),
    "other data": (('"tests.npz"', '"fashion-mini"'), r"mine is for 3 classes .*the data have 10 of"),
    "no name": (('network = "net.safetensors"', "models = [{}]"), r"models\[0\]\.name: this key is missing"),
    "another name": (
        ('network = "net.safetensors"', 'models = [{ name = "mlp", network = "net.safetensors" }]'),
        "has the network mine, not mlp",
    ),
    "two ways": (
        ('network = "net.safetensors"', 'network = "net.safetensors"\nmodels = [{ name = "mlp" }]'),
        "network: unknown key",
    ),
    "no training part": (
        ('network = "net.safetensors"', 'models = [{ name = "mlp" }]'),
        "there are no training samples",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_go_together_is_one_line(kind: str, folder: Path) -> None:
    (old, new), words = BAD[kind]
    with pytest.raises(WnError, match=words) as caught:
        parse_study(TEXT.replace(old, new), folder=folder)
    assert "\n" not in str(caught.value)
