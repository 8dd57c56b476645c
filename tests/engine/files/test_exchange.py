"""Single networks for PyTorch and from it: names, shapes, numbers, and what is refused."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from tests.engine.populations import CLASSES, assert_same, check_error, example, random_population, shape_for
from wn.engine import models
from wn.engine.files import checkpoint, exchange
from wn.engine.files.checkpoint import Loaded
from wn.engine.models import BATCH_NORM
from wn.engine.training import Population

SMALL = ["mlp-8", "lenet5"]  # quick to write many times
LARGE = ["vgg11", "vgg11-28", "vgg16", "resnet-18", "resnet-18-imagenet"]  # about 40 MB each


def without_residuals(population: Population) -> Population:
    """The population with running means as PyTorch has them: one number each."""

    def plain(state: Any) -> Any:
        return state._replace(residual=np.zeros_like(state.mean)) if state else state

    return population._replace(states=tuple(map(plain, population.states)))


# ---- out and back -----------------------------------------------------------------------------------------


EVERY = [(name, batch_norm) for name in models.names() for batch_norm in BATCH_NORM if name not in LARGE]


@pytest.mark.parametrize(("model", "batch_norm"), [*EVERY, ("vgg11", "sites"), ("vgg11-28", "hidden")])
def test_every_network_survives_both_ways(tmp_path: Path, model: str, batch_norm: str) -> None:
    network, population = example(model, batch_norm, members=1, dtype=np.float32)
    path, member = tmp_path / "all.safetensors", tmp_path / "member.safetensors"
    checkpoint.save(path, network, population, {})
    assert_same(checkpoint.load(path).population, population)
    exchange.export_member(path, 0, member)
    again, imported = exchange.import_members([member], model, network.input_shape, CLASSES, batch_norm)
    assert again == network
    assert_same(imported._replace(seeds=population.seeds), without_residuals(population))


@settings(max_examples=30)
@given(
    model=st.sampled_from(SMALL),
    batch_norm=st.sampled_from(BATCH_NORM),
    members=st.integers(1, 3),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_members_leave_and_return(model: str, batch_norm: str, members: int, dtype: Any) -> None:
    network, population = example(model, batch_norm, members, dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.safetensors"
        checkpoint.save(path, network, population, {})
        files = exchange.export_members(path, Path(folder) / "members")
        assert len(files) == members
        _, imported = exchange.import_members(files, model, network.input_shape, CLASSES, batch_norm)
        assert_same(imported._replace(seeds=population.seeds), without_residuals(population))


def test_state_dict_names_shapes_and_counters(tmp_path: Path) -> None:
    network, population = example("lenet5", "hidden")
    checkpoint.save(tmp_path / "x", network, population, {})
    exchange.export_member(tmp_path / "x", 1, tmp_path / "member")
    tensors = load_file(tmp_path / "member")
    layers = ["conv1", "bn1", "conv2", "bn2", "fc1", "bn3", "fc2", "bn4", "logits"]
    running = ("running_mean", "running_var", "num_batches_tracked")
    assert set(tensors) == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")} | {
        f"bn{index}.{kind}" for index in (1, 2, 3, 4) for kind in running
    }
    assert tensors["conv1.weight"].shape == (6, 2, 5, 5)
    assert tensors["conv1.weight"].tobytes() == population.params[0].w[1].tobytes()
    assert tensors["bn1.running_var"].tobytes() == population.states[1].variance[1].tobytes()
    assert tensors["bn1.num_batches_tracked"].dtype == np.int64
    assert tensors["bn1.num_batches_tracked"].shape == ()


def test_import_takes_the_studys_input_by_default(tmp_path: Path) -> None:
    network = models.build("mlp-8", (1, 28, 28), 10)
    population = random_population(network, 1, np.float64, seed=1)
    checkpoint.save(tmp_path / "x", network, population, {})
    member = exchange.export_member(tmp_path / "x", 0, tmp_path / "member")
    result = exchange.import_files([member, member], tmp_path / "out", model="mlp-8", seed=5)
    assert result.network == network
    loaded = checkpoint.load(tmp_path / "out")
    assert loaded.record["files"] == ["member", "member"]
    assert len(set(loaded.population.seeds)) == 2
    assert_same(result.population, loaded.population)
    assert checkpoint.describe(*loaded[:2]) == (
        "mlp-8 (batch norm none, input 1×28×28, 10 classes), 2 members"
    )


# ---- members ----------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A saved population of two members."""
    path = tmp_path / "all.safetensors"
    checkpoint.save(path, *example(), {})
    return path


@pytest.mark.parametrize("member", [2, -1, True, 0.0])
def test_members_that_do_not_exist(saved: Path, member: Any) -> None:
    out = saved.parent / "out"
    check_error(lambda: exchange.export_member(saved, member, out), f"member {member}", "0 to 1")
    assert not out.exists()


def test_existing_files_are_kept_unless_asked(saved: Path) -> None:
    out = exchange.export_member(saved, 0, saved.parent / "out")
    before = out.read_bytes()
    check_error(lambda: exchange.export_member(saved, 1, out), "exists")
    assert out.read_bytes() == before
    exchange.export_member(saved, 1, out, overwrite=True)
    assert out.read_bytes() != before
    exchange.export_members(saved, saved.parent / "folder")
    check_error(lambda: exchange.export_members(saved, saved.parent / "folder"), "member-0", "exists")
    check_error(lambda: exchange.export_members(saved, out), "out is a file, not a folder")
    check_error(lambda: exchange.import_files([out], out, model="mlp-8"), "exists")


def test_what_import_refuses(saved: Path) -> None:
    member = exchange.export_member(saved, 0, saved.parent / "member")
    shape = shape_for("mlp-8")

    def read(paths: list[Path], batch_norm: str = "sites") -> Loaded:
        return Loaded(*exchange.import_members(paths, "mlp-8", shape, CLASSES, batch_norm), {})

    check_error(lambda: read([]), "no files")
    check_error(lambda: read([member], "none"), "not part of it", "bn1.running_mean")
    check_error(lambda: read([saved]), "fc1.weight (2, 8, 6), expected (8, 6)")
    tensors = load_file(member)
    wide = saved.parent / "wide"
    save_file({n: t if t.dtype == np.int64 else t.astype(np.float64) for n, t in tensors.items()}, wide)
    message = check_error(lambda: read([member, wide]), "float32", "float64")
    assert str(wide) in message
    save_file(tensors | {"fc1.bias": tensors["fc1.bias"].astype(np.float64)}, wide)
    check_error(lambda: read([wide]), "types are mixed", "fc1.bias float64")
    save_file(tensors | {"bn1.num_batches_tracked": np.zeros(1, np.float32)}, wide)
    check_error(lambda: read([wide]), "bn1.num_batches_tracked is float32 (1,), expected int64 ()")
    save_file(tensors | {"fc1.bias": tensors["fc1.bias"] * np.float32(np.inf)}, wide)
    check_error(lambda: read([wide]), "NaN or infinite", "fc1.bias")
    without = {name: tensor for name, tensor in tensors.items() if "num_batches" not in name}
    save_file(without, wide)
    assert read([wide]).population.params[1].w.shape == (1, 8, 6)


@pytest.mark.parametrize("text", ["", "28", "1,28", "1,28,28,1", "1x28x28", "a,b,c"])
def test_input_shapes_that_are_none(text: str) -> None:
    check_error(lambda: exchange.parse_input_shape(text), repr(text), "1,28,28")
    assert exchange.parse_input_shape("1, 28,28") == (1, 28, 28)
