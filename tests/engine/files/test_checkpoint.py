"""Networks on disk: every number survives, and whatever is wrong with a file is one clear error."""

import contextlib
import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import wn
from tests.engine.networks.test_graphs import BRANCHED
from tests.engine.own_layers import Tanh
from tests.engine.populations import CLASSES, assert_same, check_error, example, random_population, shape_for
from wn import layers
from wn.basics.errors import WnError
from wn.engine import models
from wn.engine.files import checkpoint, exchange
from wn.engine.models import BATCH_NORM
from wn.engine.network import Network
from wn.engine.optim import arrays
from wn.engine.training import Population

SMALL = ["mlp-8", "lenet5"]  # quick to write many times


# ---- what is saved comes back -----------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    model=st.sampled_from(SMALL),
    batch_norm=st.sampled_from(BATCH_NORM),
    members=st.integers(1, 4),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_bit_survives(model: str, batch_norm: str, members: int, dtype: Any, seed: int) -> None:
    network, population = example(model, batch_norm, members, dtype, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        checkpoint.save(path, network, population, {"seed": seed, "σ": [0.1, 1e300]})
        loaded = checkpoint.load(path)
        assert loaded.network == network
        assert_same(loaded.population, population)
        assert loaded.record == {"seed": seed, "σ": [0.1, 1e300]}
        assert [found.name for found in Path(folder).iterdir()] == [path.name]


def test_equal_networks_give_equal_bytes(tmp_path: Path) -> None:
    network, population = example()
    for name in "ab":
        checkpoint.save(tmp_path / name, network, population, {"b": 1, "a": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_arrays_that_are_not_contiguous_are_written_in_order(tmp_path: Path) -> None:
    network, population = example("mlp-8", "none", members=4)
    every_other = Population(
        tuple(type(tree)(*(array[::2] for array in tree)) if tree else () for tree in population.params),
        population.states,
        population.seeds[::2],
    )
    checkpoint.save(tmp_path / "x", network, every_other, {})
    assert_same(checkpoint.load(tmp_path / "x").population, every_other)


def test_loaded_arrays_can_be_trained_on(tmp_path: Path) -> None:
    network, population = example()
    checkpoint.save(tmp_path / "x", network, population, {})
    for array in arrays(checkpoint.load(tmp_path / "x").population.params):
        array += 1  # raises if it is read-only
        assert array.flags.aligned


NETWORKS = {
    "renamed": lambda: Network("mine", models.build("mlp-8", (1, 28, 28), 10).nodes, (1, 28, 28)),
    "a built-in name": lambda: wn.network((1, 4, 4), [layers.Flatten(), layers.Linear(3)], name="lenet5"),
    "vectors": lambda: wn.network(7, [layers.Linear(5), layers.BatchNorm(), layers.Linear(3)]),
    "branched": lambda: BRANCHED,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_ones_own_come_back(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]()
    population = random_population(network, 2, np.float32, seed=0)
    checkpoint.save(tmp_path / "x", network, population, {"a": 1})
    loaded = checkpoint.load(tmp_path / "x")
    assert loaded.network == network
    assert loaded.record == {"a": 1}
    assert_same(loaded.population, population)


def test_a_description_that_contradicts_its_file_is_an_error(tmp_path: Path) -> None:
    network = NETWORKS["vectors"]()
    path = tmp_path / "x"
    checkpoint.save(path, network, random_population(network, 2, np.float32, seed=0), {})
    kept = path.read_bytes()

    def classes(_tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
        metadata["classes"] = 4

    def wider(_tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
        metadata["network"]["nodes"][0]["settings"]["features"] = 6

    def huge(_tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
        metadata["network"]["nodes"][0]["settings"]["features"] = 1 << 60

    def unknown(_tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
        metadata["network"]["nodes"][1]["layer"] = "Sequential"

    for change, message in (
        (classes, "contradict themselves"),
        (wider, r"wrong shape: fc1.weight \(2, 5, 7\), expected \(2, 6, 7\)"),
        (huge, "too large|wrong shape"),
        (unknown, "is a 'Sequential': allowed are"),
    ):
        path.write_bytes(kept)
        rewritten(path, change)
        with pytest.raises(WnError, match=message) as caught:
            checkpoint.load(path)
        assert "\n" not in str(caught.value)


# ---- what cannot be saved ---------------------------------------------------------------------------------


def test_populations_that_do_not_fit_are_not_saved(tmp_path: Path) -> None:
    network, population = example("mlp-8", "none")
    path = tmp_path / "x"
    (tmp_path / "file").touch()  # no folder
    other, _ = example("mlp-8", "sites")
    params = list(population.params)
    params[1] = params[1]._replace(b=params[1].b[:, :-1])
    cut = population._replace(params=tuple(params))
    half = random_population(network, 2, np.float16, seed=0)
    population.params[1].w[0, 0, 0] = np.nan
    own = wn.network((1, 28, 28), [layers.Flatten(), ("own", Tanh()), layers.Linear(3)])
    with_own = random_population(own, 2, np.float32, seed=0)
    fine = random_population(network, 2, np.float32, seed=0)
    attempts: list[tuple[Callable[[], None], tuple[str, ...]]] = [
        (lambda: checkpoint.save(path, network, population, {}), ("NaN or infinite", "fc1.weight")),
        (lambda: checkpoint.save(path, network, cut, {}), ("fc1.bias (2, 7), expected (2, 8)",)),
        (lambda: checkpoint.save(path, network, half, {}), ("wrong type", "fc1.weight float16")),
        (lambda: checkpoint.save(path, other, fine, {}), ("layers", "mlp-8")),
        (lambda: checkpoint.save(path, own, with_own, {}), ("layer 'own' is", "a layer of your own")),
        (lambda: checkpoint.save(path, network, fine, {"x": object()}), ("record", "JSON")),
        (lambda: checkpoint.save(tmp_path / "file" / "x", network, fine, {}), ("can't be written",)),
    ]
    for attempt, parts in attempts:
        check_error(attempt, *parts)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    network, population = example()
    path = tmp_path / "x"
    checkpoint.save(path, network, population, {})
    before = path.read_bytes()
    with pytest.raises(WnError):
        checkpoint.save(path, network, population, {"x": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ---- what cannot be loaded --------------------------------------------------------------------------------


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """Change the tensors and the wn metadata of a file in place."""
    tensors: dict[str, Any] = dict(load_file(path))
    with safe_open(path, framework="np") as file:
        metadata = json.loads(file.metadata()["wn"])
    change(tensors, metadata)
    save_file(tensors, path, {"wn": json.dumps(metadata)})
    return path


def set_nan(tensors: dict[str, Any], name: str, value: float) -> None:
    tensors[name].reshape(-1)[0] = value


TENSOR_CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], tuple[str, ...]]] = {
    "missing": (lambda t: [t.pop("fc1.bias"), t.pop("bn2.weight")], ("missing", "fc1.bias (2, 8)", "bn2.w")),
    "extra": (lambda t: t.update({"a\nb": t["fc1.bias"]}), ("not part of it", r"'a\nb'")),
    "counter": (lambda t: t.update({"bn1.num_batches_tracked": np.zeros((), np.int64)}), ("not part of it",)),
    "shape": (
        lambda t: t.update({"fc1.weight": t["fc1.weight"][:, :, :-1]}),
        ("(2, 8, 5), expected (2, 8, 6)",),
    ),
    "members": (lambda t: t.update({"fc2.bias": t["fc2.bias"][:1]}), ("fc2.bias (1, 8), expected (2, 8)",)),
    "type": (
        lambda t: t.update({"fc1.bias": t["fc1.bias"].astype(np.float64)}),
        ("fc1.bias float64", "float32"),
    ),
    "half": (lambda t: t.update({"fc1.bias": np.zeros((2, 8), np.float16)}), ("fc1.bias F16", "float32")),
    "integer": (lambda t: t.update({"fc1.bias": np.zeros((2, 8), np.int32)}), ("fc1.bias I32",)),
    "nan": (lambda t: set_nan(t, "fc3.weight", np.nan), ("NaN", "fc3.weight")),
    "infinite": (lambda t: set_nan(t, "bn1.running_mean", -np.inf), ("infinite", "bn1.running_mean")),
    "variance": (lambda t: set_nan(t, "bn3.running_var", -1.0), ("negative", "bn3.running_var")),
    "nothing": (lambda t: t.clear(), ("missing", "more")),
}


@pytest.mark.parametrize("change", TENSOR_CHANGES)
def test_wrong_tensors_are_named(tmp_path: Path, change: str) -> None:
    path = tmp_path / "x"
    checkpoint.save(path, *example(), {})
    apply, parts = TENSOR_CHANGES[change]
    rewritten(path, lambda tensors, _: apply(tensors))
    check_error(lambda: checkpoint.load(path), str(path), *parts)


METADATA_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "format": ({"format": "other"}, "'other'"),
    "member": ({"format": "wn-member"}, "import"),
    "version": ({"version": 4, "new": 1}, "version 4"),
    "model": ({"model": "resnet"}, "unknown model 'resnet'"),
    "batch norm": ({"batch_norm": "all"}, "batch_norm 'all'"),
    "shape": ({"input_shape": [1, 2]}, "input shape"),
    "undescribed": ({"version": 3}, "describe the network"),
    "described": ({"network": {}}, "describe the network"),
    "zero": ({"input_shape": [1, 0, 3]}, "input shape"),
    "huge": ({"input_shape": [1, 2**62, 2**62]}, "too large"),
    "more than huge": ({"input_shape": [1, 10**200, 10**200]}, "too large"),
    "classes": ({"classes": 4}, "logits.bias (2, 3), expected (2, 4)"),
    "endless classes": ({"classes": 10**40}, "too large"),
    "no layer fits": ({"model": "vgg11"}, "does not fit"),
    "seeds": ({"seeds": []}, "no members"),
    "seed": ({"seeds": [1, -1]}, "seed"),
    "more seeds": ({"seeds": [1, 2, 3]}, "expected (3, 8)"),
    "dtype": ({"dtype": "float64"}, "expected float64"),
    "int": ({"dtype": "int64"}, "dtype"),
    "record": ({"record": 3}, "record"),
    "unknown": ({"comment": ""}, "comment"),
}


@pytest.mark.parametrize("change", METADATA_CHANGES)
def test_wrong_metadata(tmp_path: Path, change: str) -> None:
    path = tmp_path / "x"
    checkpoint.save(path, *example(), {})
    update, part = METADATA_CHANGES[change]
    rewritten(path, lambda _, metadata: metadata.update(update))
    check_error(lambda: checkpoint.load(path), str(path), part)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "x"
    check_error(lambda: checkpoint.load(path), str(path), "no such file")
    check_error(lambda: checkpoint.load(tmp_path), str(tmp_path), "folder")
    nested = json.dumps({"__metadata__": {"wn": "[" * 10**5}}).encode()
    contents = {
        b"": "empty",
        b"PK\x03\x04 an archive": "not a whole safetensors file",
        b"\x80\x04K\x01.": "not a whole safetensors file",
        struct.pack("<Q", 1 << 60): "not a whole safetensors file",
        struct.pack("<Q", len(nested)) + nested: "metadata are broken",
    }
    for content, part in contents.items():
        path.write_bytes(content)
        check_error(lambda: checkpoint.load(path), str(path), part)
        check_error(lambda: exchange.import_members([path], "mlp-8", (1, 2, 3), 3), str(path))
    save_file({"fc1.weight": np.zeros((2, 2), np.float32)}, path)
    check_error(lambda: checkpoint.load(path), str(path), "no population saved by wn")


def check_loads_or_refuses(content: bytes, read: Callable[[Path], Population]) -> bool:
    """Read a file of that content: True if it loads, with finite numbers; False for a WnError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(content)
        with contextlib.suppress(WnError):
            population = read(path)
            assert all(np.isfinite(array).all() for array in arrays(population.params + population.states))
            return True
    return False


def fuzz_files() -> tuple[bytes, bytes]:
    """Return a population's and a member's file."""
    with tempfile.TemporaryDirectory() as folder:
        whole, member = Path(folder) / "whole", Path(folder) / "member"
        network, population = example(members=2)
        checkpoint.save(whole, network, population, {"command": "test"})
        exchange.export_member(whole, 0, member)
        return whole.read_bytes(), member.read_bytes()


WHOLE, MEMBER = fuzz_files()


@given(data=st.data(), member=st.booleans())
def test_flipped_bytes_never_give_another_exception(data: st.DataObject, member: bool) -> None:
    content = bytearray(MEMBER if member else WHOLE)
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):  # the header is short, and every byte of it matters
        place = data.draw(st.integers(0, 7) | st.integers(8, header - 1) | st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))

    def read(path: Path) -> Population:
        if not member:
            return checkpoint.load(path).population
        return exchange.import_members([path], "mlp-8", shape_for("mlp-8"), CLASSES, "sites")[1]

    check_loads_or_refuses(bytes(content), read)


@given(length=st.integers(0, len(WHOLE) - 1))
def test_truncated_files_are_refused(length: int) -> None:
    assert not check_loads_or_refuses(WHOLE[:length], lambda path: checkpoint.load(path).population)


def test_the_whole_file_of_the_fuzz_tests_loads() -> None:
    assert check_loads_or_refuses(WHOLE, lambda path: checkpoint.load(path).population)
    assert not check_loads_or_refuses(WHOLE + b"\0", lambda path: checkpoint.load(path).population)


def test_example_of_the_book_walks_noise_through_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    code = page.split("<!-- example -->\n```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    wn.train(epochs=1, train_limit=1000).save(Path("network.safetensors"))
    exec(compile(code, "docs/checkpoints.md", "exec"), {})
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == list(models.build("mlp", (1, 28, 28), 10).site_names)
    first = [int(count) for count in rows[0].partition("[")[2].rstrip("]").split()]
    assert len(first) == 7
    assert first[0] > 2 * first[-1]  # 100 at the input leaves nothing but chance
