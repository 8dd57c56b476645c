"""Walks through networks on disk: the numbers of the walk that trains them, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wn
from tests.study.runs import TINY, networks, run
from tests.walking.saved.networks import GRID, HERE, TRAINED, made, trained
from wn.basics.errors import WnError
from wn.engine.files import checkpoint
from wn.random import member_seed
from wn.study.tables.results import read_table
from wn.walking.results import csv_of, csv_of_curves

ON_MINI = {"data": {"name": "fashion-mini"}}


def walked(**settings: Any) -> Any:
    return wn.walk(**(GRID | HERE | settings))


# ---- the numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "noise",
    [
        {},
        {"where": "global", "repetitions": "5,1,3,1,1,2,1,1"},
        {"noise": "mixed", "order": "add_mul", "where": "0:0.5,relu2:2"},
        {"noise": "none"},
    ],
)
@pytest.mark.parametrize("network", [{}, {"batch_norm": "sites", "dtype": "float64"}])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_it_is_the_inference_of_the_walk_that_trains_it(
    tmp_path: Path, noise: dict[str, Any], network: dict[str, Any], backend: str
) -> None:
    """Byte for byte, with intervals; the seed is that of the training."""
    if network and noise.get("where") == "global":
        noise = noise | {"repetitions": 3}
    here = {"backend": backend, "seed": 5} | network
    path = trained(tmp_path, **here)
    found = walked(network=path, **noise, backend=backend)
    expected = walked(**(TRAINED | noise | here), phase="inference")
    model = expected.curves["model"][0]
    assert csv_of_curves(found.curves, found.failures) == csv_of_curves(expected.curves, expected.failures)
    assert csv_of(found.midpoints) == csv_of(expected.midpoints)
    for name in ("clean_correct", "correct_by_group", "fits", "chance"):
        assert str(found.run[name]) == str(expected.run[name])
    assert model == "mlp-8"
    assert len(set(found.curves["correct"].tolist())) > 1 or noise == {"noise": "none"}


def test_members_are_repeats(tmp_path: Path) -> None:
    """Of two networks with the seeds of two repeats, as import gives them."""
    first, second = (
        checkpoint.load(trained(tmp_path / name, seed=seed)) for name, seed in (("a", 1), ("b", 2))
    )
    arrays = [
        {name: np.concatenate([a, b]) for (name, a), (_, b) in zip(*pairs, strict=True)}
        for pairs in [[checkpoint.named(p.network, p.population, True).items() for p in (first, second)]]
    ]
    both = checkpoint.from_tensors(first.network, arrays[0], (1, 2))
    path = tmp_path / "both.safetensors"
    checkpoint.save(path, first.network, both, {"command": "import", "seed": 9})
    found = walked(network=path, dataset="fashion-mini", where="0", repeats=2)
    assert found.curves["repeat"].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    for member, name in enumerate("ab"):
        alone = walked(network=tmp_path / name / "trained.safetensors", where="0", seed=9, repeats=4)
        for repeat in (member, member + 2):
            mine = found.curves[found.curves["repeat"] == repeat]
            other = alone.curves[alone.curves["repeat"] == repeat]
            assert mine["correct"].tolist() == other["correct"].tolist()


def test_repeats_and_seeds_draw_the_noise_anew(tmp_path: Path) -> None:
    path = trained(tmp_path)
    found = walked(network=path, where="0", repeats=3, sigma=1)
    other = walked(network=path, where="0", seed=1, sigma=1)
    assert len({*found.curves["correct"].tolist(), *other.curves["correct"].tolist()}) > 2
    assert found.run["clean_correct"] == other.run["clean_correct"] * 3


def test_a_network_of_a_study(tmp_path: Path) -> None:
    """Its record names data and seed; the noise of its first repeat is that of the study."""
    run(tmp_path / "study", TINY)
    table = read_table(tmp_path / "study", phase="inference", repeat=0)
    clean = read_table(tmp_path / "study", phase="clean", repeat=0)
    (path,) = (path for path in networks(tmp_path / "study") if clean["key"][0] in path.name)
    found = walked(network=path, where="0,relu2", test_limit=100)
    assert found.curves["correct"].tolist() == table["correct"].tolist()


# ---- records ----------------------------------------------------------------------------------------------


def test_the_record_repeats_the_walk_and_knows_the_file(tmp_path: Path) -> None:
    path = trained(tmp_path, seed=4)
    found = walked(network=path, where="0")
    asked, network = found.run["asked"], found.run["network"]
    assert (asked["phase"], asked["model"], asked["seed"]) == ("inference", "mlp-8", 4)
    assert found.run["settings"]["epochs"] is None
    assert network["seeds"] == [member_seed(4, 0)]
    assert network["record"]["command"] == "train"
    assert found.run["data"]["samples"] == {"test": 300}  # nothing is trained
    again = wn.walk(**asked)
    assert again.curves.tolist() == found.curves.tolist()
    shutil.copy(trained(tmp_path / "other", seed=3), path)
    with pytest.raises(WnError, match="is another file than it was: its SHA-256 is"):
        wn.walk(**asked)


def test_results_of_another_network_in_the_same_file_are_another_run(tmp_path: Path) -> None:
    path, out = trained(tmp_path), tmp_path / "out"
    walked(network=path, where="0").save(out)
    shutil.copy(trained(tmp_path / "other", epochs=1), path)
    (beside, *_) = walked(network=path, where="0").save_tables(out)
    assert beside.parent.name == "out-2"


# ---- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"phase": "training"}, "phase training trains networks, and .* is trained already: leave phase out"),
        ({"phase": "both"}, "phase both trains networks, and .* is trained already: leave phase out"),
        ({"phase": "never"}, "unknown phase 'never'"),
        ({"epochs": 1}, "is trained already: leave epochs out"),
        ({"lr": 1.0}, "is trained already: leave learning_rate out"),
        ({"clamp": True}, "is trained already: leave clamp_weights out"),
        ({"train_limit": 5}, "is trained already: leave train_limit out"),
        ({"model": "lenet5"}, "has model mlp-8, not lenet5: leave model out"),
        ({"batch_norm": "sites"}, "has batch_norm none, not sites: leave batch_norm out"),
        ({"dtype": "float64"}, "has dtype float32, not float64: leave dtype out"),
        ({"dataset": "cifar10"}, r"for 10 classes of images \(1, 28, 28\): cifar10 has 10 of \(3, 32, 32\)"),
        ({"where": "conv1"}, "mlp-8 has no site 'conv1'"),
        ({"network_sha256": "0"}, "is another file than it was"),
    ],
)
def test_settings_that_contradict_the_file(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WnError, match=message):
        walked(network=made(tmp_path, ON_MINI), **settings)


def test_settings_that_repeat_the_file_are_accepted(tmp_path: Path) -> None:
    path = made(tmp_path, ON_MINI, model="mlp-64")
    again = {"model": "mlp", "batch_norm": "none", "dtype": "float32", "phase": "inference", "epochs": None}
    found = walked(network=str(path), where="0", clamp=False, **again)
    assert found.curves["model"].tolist() == ["mlp-64"] * 3


@pytest.mark.parametrize(
    "record", [{}, {"command": "import", "seed": 0}, {"data": {"name": 5}}, {"unit": []}]
)
def test_data_have_to_be_known(tmp_path: Path, record: dict[str, Any]) -> None:
    """Never those of the default: another data set of the same shape would give numbers too."""
    path = made(tmp_path, record)
    with pytest.raises(WnError, match="does not say on which data it was trained: give the data set"):
        walked(network=path)
    assert walked(network=path, dataset="fashion-mini", where="0").curves["dataset"][0] == "fashion-mini"


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no network")
    with pytest.raises(WnError, match="nowhere: no such file"):
        walked(network=tmp_path / "nowhere")
    with pytest.raises(WnError, match="text: not a whole safetensors file"):
        walked(network=tmp_path / "text")
    with pytest.raises(WnError, match="network_sha256 goes with network"):
        walked(network_sha256="0")


def test_numbers_out_of_range(tmp_path: Path) -> None:
    """A σ fails alone; a network whose logits leave the range has no result at all."""
    path = trained(tmp_path)
    found = walked(network=path, where="0", sigma="1.0,3e38")
    assert found.failures["sigma"].tolist() == [3e38]
    assert found.curves["sigma"].tolist() == [1]
    loaded = checkpoint.load(path)
    for layer in loaded.population.params:
        if layer:
            layer.w[...] = 1e30
    checkpoint.save(path, loaded.network, loaded.population, loaded.record)
    with pytest.raises(WnError, match="the clean network: "):
        walked(network=path, where="0")


def test_progress_counts_networks(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    walked(network=made(tmp_path, ON_MINI, members=2), where="0", progress=lambda *now: told.append(now))
    assert told == [(1, 2), (2, 2)]
